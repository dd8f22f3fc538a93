"""The way to an OpenID provider."""

from __future__ import annotations

from urllib.parse import urlencode

from sso import addresses
from sso.flows import Started
from sso.models import SsoConnection

SCOPES = "openid email profile"


def address(connection: SsoConnection, started: Started, *, login_hint: str = "") -> str:
    """The authorization request as an address: code flow with state, nonce and PKCE (S256)."""
    given = {
        "response_type": "code",
        "client_id": connection.client_id,
        "redirect_uri": addresses.endpoint(connection),
        "scope": SCOPES,
        "state": started.state,
        "nonce": started.nonce,
        "code_challenge": started.challenge,
        "code_challenge_method": "S256",
    }
    if login_hint:
        given["login_hint"] = login_hint
    endpoint = connection.discovery["authorization_endpoint"]
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(given)}"
