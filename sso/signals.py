"""What a sign-in over a provider leaves in the session, and what other changes mean for connections."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from allauth.account.signals import user_logged_in
from django.conf import settings
from django.dispatch import receiver
from django.http import HttpRequest

from accounts.models import User
from core import clock
from events import audit
from orgs import access
from orgs.models import Workspace
from orgs.signals import organization_deleted
from sso import connections, domains
from sso.models import SsoConnection
from sso.oidc import leaving
from sso.oidc.leaving import SESSION_KEY


@receiver(user_logged_in)
def mark_session(
    request: HttpRequest,
    user: User,
    sso_connection: str = "",
    sso_session_ends_at: str = "",
    sso_sign_out_hint: str = "",
    **_: Any,
) -> None:
    """The session knows its connection, opens in its organization, and ends no later than the provider wants."""
    connection = SsoConnection.objects.filter(pk=sso_connection).first() if sso_connection else None
    if connection is None:
        for name in (SESSION_KEY, leaving.HINT_KEY):
            request.session.pop(name, None)
        request.session.pop(access.SSO_SESSION_KEY, None)
        return
    request.session[SESSION_KEY] = str(connection.pk)
    request.session[leaving.HINT_KEY] = sso_sign_out_hint
    request.session[access.SESSION_KEY] = request.session[access.SSO_SESSION_KEY] = str(connection.workspace_id)
    if sso_session_ends_at:
        left = datetime.fromisoformat(sso_session_ends_at) - clock.now()
        request.session.set_expiry(max(60, min(int(left.total_seconds()), settings.SESSION_COOKIE_AGE)))


@receiver(organization_deleted)
def release(workspace: Workspace, by: audit.Actor, **_: Any) -> None:
    """A deleted organization speaks for nobody: its connections end, and its domains are free for others to prove."""
    for connection in connections.of_workspace(workspace):
        connections.delete(connection, by=by)
    for row in domains.of_workspace(workspace):
        domains.remove(row, by=by)
