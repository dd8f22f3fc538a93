"""Signing out over there too: OpenID Connect RP-Initiated Logout 1.0, where a connection wants it.

The session here ends first, whatever becomes of the rest: a provider that is down must not keep anybody signed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from django.http import HttpRequest
from django.utils.crypto import constant_time_compare

from core import secrets
from sso import addresses, identifiers
from sso.models import SsoConnection

#: In the session: the connection it came over.
SESSION_KEY: Final = "sso_connection"
#: In the session: its ID token, sealed.
HINT_KEY: Final = "sso_sign_out_hint"
#: In the session of nobody that follows: what was sent along, and where to go on from here.
_LEAVING_KEY: Final = "sso_leaving"
_STATE_CHARACTERS: Final = 43
#: It travels in an address: what is longer stays here, and the provider asks the person instead.
_MOST_HINT_CHARACTERS: Final = 4_000


@dataclass(frozen=True, slots=True)
class Leaving:
    """Somebody on the way out: over which connection they came, and the ID token of that day."""

    connection: SsoConnection
    id_token: str


def is_offered(connection: SsoConnection) -> bool:
    """Whether the provider has published where people sign out."""
    return bool(connection.discovery.get("end_session_endpoint"))


def sealed_hint(connection: SsoConnection, id_token: str) -> str:
    """What a new session keeps of its ID token; nothing where it will never be asked for."""
    wanted = connection.provider_logout and is_offered(connection)
    if not wanted or not id_token or len(id_token) > _MOST_HINT_CHARACTERS:
        return ""
    return secrets.encrypt(id_token).decode()


def of_session(request: HttpRequest) -> Leaving | None:
    """Who is about to sign out at a provider too; None: signing out here is all. Ask before the session ends."""
    identifier = request.session.get(SESSION_KEY)
    if not identifier or not request.user.is_authenticated:
        return None
    rows = SsoConnection.objects.filter(pk=identifier, provider_logout=True, status=SsoConnection.Status.ACTIVE)
    connection = rows.first()
    if connection is None or not is_offered(connection):
        return None
    sealed = request.session.get(HINT_KEY) or ""
    return Leaving(connection, secrets.decrypt(sealed.encode()) if sealed else "")


def address(request: HttpRequest, leaving: Leaving, next_path: str) -> str:
    """The provider's sign-out as an address, and in the session (of nobody, by now) what it will come back with.

    ``next_path`` is a checked path of this site.
    """
    state = identifiers.base62(_STATE_CHARACTERS)
    connection = leaving.connection
    request.session[_LEAVING_KEY] = {"connection": str(connection.pk), "state": state, "next": next_path}
    given = {
        "id_token_hint": leaving.id_token,
        "client_id": connection.client_id,
        "post_logout_redirect_uri": addresses.signed_out(connection),
        "state": state,
    }
    endpoint = connection.discovery["end_session_endpoint"]
    query = urlencode({name: value for name, value in given.items() if value})
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"


def came_back(request: HttpRequest, connection: SsoConnection) -> str:
    """Where somebody goes on who comes from the provider's sign-out; who did not leave from here goes to the start."""
    left = request.session.pop(_LEAVING_KEY, None) or {}
    same = constant_time_compare(left.get("state", ""), request.GET.get("state", ""))
    if left and same and left["connection"] == str(connection.pk):
        return str(left["next"])
    return "/"
