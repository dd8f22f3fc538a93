"""The public addresses of one connection: what is registered at the provider, and where browsers go."""

from __future__ import annotations

from urllib.parse import urlencode

from django.conf import settings
from django.urls import reverse

from sso.models import SsoConnection


def endpoint(connection: SsoConnection) -> str:
    """Assertion consumer service of SAML and redirect URI of OpenID Connect alike: one address a connection."""
    return _absolute("sso_endpoint", connection)


def signed_out(connection: SsoConnection) -> str:
    """Where an OpenID provider sends people back to who signed out there (``post_logout_redirect_uri``)."""
    return _absolute("sso_signed_out", connection)


def metadata(connection: SsoConnection) -> str:
    """Our SAML metadata; also our entity id, so that no two connections share one."""
    return _absolute("sso_metadata", connection)


def login(connection: SsoConnection) -> str:
    """Where a sign-in starts; for a tile in the provider's portal."""
    return _absolute("sso_login", connection)


def login_path(connection: SsoConnection, *, next_path: str = "", hint: str = "", from_form: bool = False) -> str:
    """Where the sign-in form sends a browser. ``hint``: the e-mail address, to save typing it again.

    ``from_form``: the way there is a form's answer. Browsers hold a form's policy against every redirect that follows,
    so a page of ours stands between.
    """
    given = {"next": next_path, "login_hint": hint, "from": "form" if from_form else ""}
    query = urlencode({name: value for name, value in given.items() if value})
    path = reverse("sso_login", args=[connection.provider_id])
    return f"{path}?{query}" if query else path


def finish_path(connection: SsoConnection, token: str) -> str:
    """Where the browser fetches an answer that was parked under ``token``."""
    return f"{reverse('sso_finish', args=[connection.provider_id])}?{urlencode({'token': token})}"


def _absolute(name: str, connection: SsoConnection) -> str:
    return settings.SITE_URL + reverse(name, args=[connection.provider_id])
