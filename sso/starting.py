"""Sends a browser to a provider, whichever protocol it speaks."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts.models import User
from sso import flows
from sso.flows import Started
from sso.models import SsoConnection
from sso.oidc import authorize
from sso.saml import request as saml_request
from sso.saml import sides


def start(
    request: HttpRequest,
    connection: SsoConnection,
    *,
    next_path: str = "",
    login_hint: str = "",
    tester: User | None = None,
) -> tuple[str, Started]:
    """The provider's address for this sign-in, and the flow that its answer will name. Raises SignInRefused."""
    if connection.kind == SsoConnection.Kind.SAML:
        started = flows.start(request, connection, next_path=next_path, tester=tester, request_id=saml_request.new_id())
        return sides.address(connection, started), started
    started = flows.start(request, connection, next_path=next_path, tester=tester)
    return authorize.address(connection, started, login_hint=login_hint), started


def test(request: HttpRequest, connection: SsoConnection, tester: User) -> HttpResponse:
    """A sign-in whose outcome is only shown to ``tester``. The answer of a form: a page stands between."""
    address, started = start(request, connection, tester=tester)
    response = render(request, "sso/continue.html", {"connection": connection, "address": address})
    flows.remember(response, started)
    return response
