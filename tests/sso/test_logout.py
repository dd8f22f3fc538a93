"""Signing out at an OpenID provider too (RP-Initiated Logout 1.0), where a connection wants it."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.contrib.sessions.models import Session

from accounts.models import User
from core import errors
from events import audit
from sso import connections
from sso.models import SsoConnection
from tests import factories
from tests.accounts.front_door import Browser, is_signed_in
from tests.fakes.oidc import OidcProvider
from tests.sso import company

pytestmark = pytest.mark.django_db


@pytest.fixture
def both(connection: SsoConnection, provider: OidcProvider) -> SsoConnection:
    """A connection whose people sign out at both places."""
    return connections.change(connection, {"provider_logout": True}, by=audit.SYSTEM)


def sign_out(browser: Browser, **form: str) -> Any:
    return browser.post("/accounts/logout/", form)


def address_in(answer: Any) -> str:
    """Where the page between leads, by itself and by its button."""
    page = answer.content.decode()
    by_itself = re.search(r'content="0;url=([^"]+)"', page)
    assert by_itself is not None, page
    assert f'href="{by_itself[1]}"' in page
    return html.unescape(by_itself[1])


def test_signing_out_goes_on_to_the_provider_and_comes_back(
    browser: Browser, both: SsoConnection, provider: OidcProvider
) -> None:
    company.sign_in(browser, both, provider)
    answer = sign_out(browser, next="/models")
    assert not is_signed_in(browser), "here it ends first, whatever becomes of the rest"
    back = provider.leave(address_in(answer))
    [given] = provider.departures
    assert given["id_token_hint"].count(".") == 2
    assert given["post_logout_redirect_uri"] == f"http://testserver/api/auth/sso/{both.provider_id}/logout"
    answer = browser.get(back)
    assert (answer.status_code, answer["Location"]) == (302, "/models")
    assert browser.get(back)["Location"] == "/", "a state counts once"


def test_who_did_not_leave_from_here_is_led_to_the_start_and_stays_signed_in(
    browser: Browser, both: SsoConnection, provider: OidcProvider
) -> None:
    company.sign_in(Browser(), both, provider)
    company.sign_in(browser, both, provider)
    forged = f"/api/auth/sso/{both.provider_id}/logout"
    for query in ({}, {"state": "x"}, {"state": ""}, {"state": "é", "next": "https://evil.example/"}):
        answer = browser.get(forged, query)
        assert (answer.status_code, answer["Location"]) == (302, "/")
    assert is_signed_in(browser)
    assert browser.post(forged).status_code == 405
    assert browser.get("/api/auth/sso/" + "a" * 22 + "/logout").status_code == 404
    answer = sign_out(browser, next="//evil.example/")
    assert browser.get(provider.leave(address_in(answer)))["Location"] == "/"


def test_the_session_keeps_the_token_sealed_and_only_where_it_is_wanted(
    connection: SsoConnection, provider: OidcProvider
) -> None:
    def kept() -> str:
        Session.objects.all().delete()
        company.sign_in(Browser(), connection, provider)
        return str(Session.objects.get().get_decoded().get("sso_sign_out_hint"))

    assert kept() == ""
    connections.change(connection, {"provider_logout": True}, by=audit.SYSTEM)
    sealed = kept()
    assert sealed
    assert not re.search(r"eyJ[\w-]+\.eyJ", sealed), "a token's two readable parts"
    provider.token["picture"] = "x" * 5_000  # what is too long for an address stays out of it
    assert kept() == ""


def test_without_a_token_the_provider_learns_who_asks(
    browser: Browser, connection: SsoConnection, provider: OidcProvider
) -> None:
    company.sign_in(browser, connection, provider)
    connections.change(connection, {"provider_logout": True}, by=audit.SYSTEM)
    provider.leave(address_in(sign_out(browser)))
    assert "id_token_hint" not in provider.departures[0]


@pytest.mark.parametrize("change", [{"provider_logout": False}, {"status": "disabled"}, {"discovery": {}}, None])
def test_signing_out_here_is_all_where_nothing_else_is_to_be_had(
    browser: Browser, both: SsoConnection, provider: OidcProvider, change: dict[str, Any] | None
) -> None:
    company.sign_in(browser, both, provider)
    if change is None:
        SsoConnection.objects.all().delete()
    else:
        SsoConnection.objects.update(**change)
    answer = sign_out(browser)
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert not is_signed_in(browser)


def test_a_session_with_a_password_ends_here_only(
    browser: Browser, both: SsoConnection, provider: OidcProvider
) -> None:
    company.sign_in(browser, both, provider)
    person = User.objects.get(email="sana@acme.example")
    sign_out(browser)
    browser.force_login(person, backend="allauth.account.auth_backends.AuthenticationBackend")
    assert sign_out(browser).status_code == 302


@pytest.mark.parametrize("endpoint", [None, "http://login.example/logout", "javascript:alert(1)", "https://x/#y", 7])
def test_a_provider_without_a_usable_address_signs_in_all_the_same(
    browser: Browser, provider: OidcProvider, endpoint: object
) -> None:
    provider.discovery["end_session_endpoint"] = endpoint
    connection = company.oidc(provider)
    with pytest.raises(errors.InvalidRequest, match="end_session_endpoint") as refused:
        connections.change(connection, {"provider_logout": True}, by=audit.SYSTEM)
    assert refused.value.param == "providerLogout"
    company.sign_in(browser, connection, provider)
    assert is_signed_in(browser)


def test_an_older_connection_asks_its_provider_once_more(connection: SsoConnection, provider: OidcProvider) -> None:
    del connection.discovery["end_session_endpoint"]
    connection.save()
    assert connections.change(connection, {"provider_logout": True}, by=audit.SYSTEM).provider_logout
    assert "end_session_endpoint" in SsoConnection.objects.get(pk=connection.pk).discovery


def test_saml_has_no_such_field(db: None) -> None:
    made = connections.create(factories.organization(), "saml", {}, by=audit.SYSTEM)
    with pytest.raises(errors.InvalidRequest) as refused:
        connections.change(made, {"provider_logout": True}, by=audit.SYSTEM)
    assert refused.value.param == "providerLogout"


def test_two_admins_at_once_undo_nothing_of_each_other(
    connection: SsoConnection, provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider takes its time for one change; what another admin changed meanwhile stays."""
    refresh = connections.refresh

    def meanwhile(row: SsoConnection) -> None:
        monkeypatch.setattr(connections, "refresh", refresh)
        other = {"status": "disabled", "default_role": "developer"}
        connections.change(SsoConnection.objects.get(pk=row.pk), other, by=audit.SYSTEM)
        refresh(row)

    monkeypatch.setattr(connections, "refresh", meanwhile)
    connections.change(connection, {"name": "New", "issuer": provider.issuer}, by=audit.SYSTEM)
    now = SsoConnection.objects.get(pk=connection.pk)
    assert (now.name, now.status, now.default_role) == ("New", "disabled", "developer")
