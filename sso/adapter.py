"""Local accounts where an organization requires its identity provider: every other way in is closed to its people.

All of allauth's ways pass its stages: password, reset, code, passkey, the link that confirms an address.
"""

from __future__ import annotations

from typing import Any

from allauth.account.stages import LoginStage
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts import adapter
from accounts.models import User
from events import audit
from sso import addresses, routing
from sso.models import SsoConnection
from sso.refusals import target


class AccountAdapter(adapter.AccountAdapter):
    """The product's adapter, which knows of required providers."""

    def get_login_stages(self) -> list[str]:
        return [*super().get_login_stages(), "sso.adapter.RequiredProvider"]

    def send_password_reset_mail(self, user: User, email: str, context: dict[str, Any]) -> None:
        """A password would be of no use to somebody who must sign in elsewhere: the mail says where."""
        required = routing.enforced_on(user)
        if required is None or routing.may_break_glass(user, required):
            super().send_password_reset_mail(user, email, context)
            return
        given = {"organization": required.workspace.name, "login_url": addresses.login(required)}
        self.send_mail("account/email/sso_required", email, given)


class RequiredProvider(LoginStage):  # type: ignore[misc]
    """The last stage of a sign-in: it must have come over the provider that the person's organization requires."""

    key = "sso_required"

    def handle(self) -> tuple[HttpResponse | None, bool]:
        user, marks = self.login.user, self.login.signal_kwargs or {}
        required = routing.enforced_on(user) if isinstance(user, User) else None
        if required is None or _came_over(required, marks):
            return None, True
        if routing.may_break_glass(user, required):
            _note("sso.break_glass", self.request, required, email=user.email)
            return None, True
        _note("sso.refuse", self.request, required, email=user.email, reason="sso_required")
        return render(self.request, "sso/required.html", {"connection": required}, status=403), False


def _came_over(required: SsoConnection, marks: dict[str, Any]) -> bool:
    """Whether this sign-in came over a connection of the very organization that requires one."""
    identifier = marks.get("sso_connection")
    came_over = SsoConnection.objects.filter(pk=identifier).first() if identifier else None
    return came_over is not None and came_over.workspace_id == required.workspace_id


def _note(action: str, request: HttpRequest, connection: SsoConnection, **details: str) -> None:
    audit.record(
        action,
        actor=audit.actor_of(request),
        target=target(connection),
        workspace_id=connection.workspace_id,
        details=details,
    )
