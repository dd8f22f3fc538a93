"""Sign-ins that are refused: one exception, one page, one row in the audit trail of the organization concerned."""

from __future__ import annotations

import logging

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from events import audit
from sso import identifiers
from sso.models import SsoConnection

logger = logging.getLogger(__name__)

_DETAIL_LENGTH = 300


class SignInRefused(Exception):
    """Somebody is not let in. ``reason`` is one word for the trail; the message is shown to the person.

    ``detail`` is for the organization's admins: what was wrong exactly. It holds no token, code or secret.
    """

    def __init__(self, reason: str, message: str, *, detail: str = "", email: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.detail = detail
        self.email = email


def answer(request: HttpRequest, connection: SsoConnection, refused: SignInRefused) -> HttpResponse:
    """Write the refusal down and tell the person. Call it outside the transaction that was undone."""
    record(request, connection, refused)
    return render(request, "sso/refused.html", {"refused": refused, "connection": connection}, status=403)


def record(request: HttpRequest, connection: SsoConnection, refused: SignInRefused) -> None:
    """One row for a refused sign-in. Texts of strangers are cut: they may come as long as they like."""
    details = {"reason": refused.reason}
    if refused.detail:
        details["detail"] = identifiers.printable(refused.detail, _DETAIL_LENGTH)
    if refused.email:
        details["email"] = identifiers.printable(refused.email, _DETAIL_LENGTH)
    logger.info("a sign-in was refused", extra={"reason": refused.reason, "connection": str(connection.pk)})
    audit.record(
        "sso.refuse",
        actor=audit.actor_of(request),
        target=target(connection),
        workspace_id=connection.workspace_id,
        details=details,
    )


def target(connection: SsoConnection) -> audit.Target:
    """How the trail names a connection."""
    return audit.Target("sso_connection", connection.pk, str(connection))
