"""The sign-in page of people whose organization has an identity provider, and of everybody else."""

from __future__ import annotations

import re
from typing import Any

import pytest
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.core import mail

from accounts.models import User
from events.models import AuditEvent
from sso.models import OrgDomain, SsoConnection
from tests import factories
from tests.accounts.front_door import Browser, is_signed_in, last_link, sign_up, totp_code
from tests.fakes.oidc import OidcProvider
from tests.sso import company

pytestmark = pytest.mark.django_db

LOGIN = "/accounts/login/"


def ask(browser: Browser, email: str, **more: str) -> Any:
    return browser.post(LOGIN, {"login": email, **more})


def start_of(connection: SsoConnection) -> str:
    return f"/api/auth/sso/{connection.provider_id}/login"


def enforce() -> None:
    SsoConnection.objects.update(enforced=True)


# ── Where an address leads ───────────────────────────────────────────────────────────────────────────────────────────
def test_the_first_page_asks_for_the_address_alone(browser: Browser) -> None:
    page = browser.get(LOGIN).content.decode()
    assert 'type="email"' in page
    assert 'type="password"' not in page


@pytest.mark.parametrize("email", ["sana@acme.example", "nobody@ACME.example", "  x@acme.example."])
def test_a_proven_domain_goes_to_its_provider(browser: Browser, connection: SsoConnection, email: str) -> None:
    answer = ask(browser, email, next="/usage")
    assert answer.status_code == 302
    assert answer["Location"].startswith(start_of(connection) + "?next=%2Fusage")
    assert answer["Location"].endswith("&from=form")


def test_the_whole_way_in(browser: Browser, connection: SsoConnection, provider: OidcProvider) -> None:
    answer = ask(browser, "sana@acme.example", next="/usage")
    page = browser.get(answer["Location"]).content.decode()
    found = re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', page)
    assert found
    over = browser.get(start_of(connection) + found[1].replace("&amp;", "&"))
    assert provider.visit(over["Location"])
    assert provider.authorizations[-1]["login_hint"] == "sana@acme.example"


def test_next_leads_nowhere_else(browser: Browser, connection: SsoConnection) -> None:
    answer = ask(browser, "sana@acme.example", next="https://evil.example/")
    assert "evil" not in answer["Location"]


@pytest.mark.parametrize(
    "change",
    [
        lambda: OrgDomain.objects.update(verified_at=None),
        lambda: SsoConnection.objects.update(status="disabled"),
        lambda: SsoConnection.objects.update(status="draft"),
        lambda: OrgDomain.objects.get().workspace.__class__.objects.filter(kind="organization").update(active=False),
    ],
    ids=["unproven", "disabled", "draft", "suspended"],
)
def test_everything_else_gets_the_password_step(browser: Browser, connection: SsoConnection, change: Any) -> None:
    change()
    page = ask(browser, "sana@acme.example")
    assert page.status_code == 200
    assert 'type="password"' in page.content.decode()


def test_known_and_unknown_addresses_look_alike(browser: Browser) -> None:
    factories.user("sana@people.example")
    known, unknown = (ask(browser, f"{who}@people.example").content.decode() for who in ("sana", "nobody"))
    blank = re.compile(r"csrf[^>]*|hx-headers='[^']*'|nonce=\S+")
    assert blank.sub("", known).replace("sana", "nobody") == blank.sub("", unknown)


@pytest.mark.parametrize("email", ["", "nonsense", "a@b", "@acme.example", "x" * 400 + "@acme.example"])
def test_what_is_no_address_is_asked_for_again(browser: Browser, email: str) -> None:
    page = ask(browser, email)
    assert page.status_code == 200
    assert 'type="password"' not in page.content.decode()


def test_two_connections_and_a_domain_that_names_one(
    browser: Browser, connection: SsoConnection, provider: OidcProvider
) -> None:
    other = company.oidc(provider, connection.workspace)
    assert ask(browser, "sana@acme.example").status_code == 200, "ambiguous: nobody is sent anywhere"
    OrgDomain.objects.update(connection=other)
    assert ask(browser, "sana@acme.example")["Location"].startswith(start_of(other))
    SsoConnection.objects.filter(pk=other.pk).update(status="disabled")
    assert ask(browser, "sana@acme.example").status_code == 200, "not the other one behind its back"


def test_a_password_still_works_where_the_provider_is_not_required(browser: Browser, connection: SsoConnection) -> None:
    factories.user("sana@acme.example")
    ask(browser, "sana@acme.example", password=factories.PASSWORD, way="password")
    assert is_signed_in(browser)


# ── Where the provider is required ───────────────────────────────────────────────────────────────────────────────────
def test_a_password_is_not_even_looked_at(browser: Browser, connection: SsoConnection) -> None:
    enforce()
    factories.user("sana@acme.example")
    answer = ask(browser, "sana@acme.example", password=factories.PASSWORD)
    assert answer["Location"].startswith(start_of(connection))
    assert not is_signed_in(browser)


def test_the_way_around_is_closed(browser: Browser, connection: SsoConnection) -> None:
    enforce()
    factories.member(connection.workspace, "admin", factories.user("sana@acme.example"))
    answer = ask(browser, "sana@acme.example", password=factories.PASSWORD, way="password")
    assert answer.status_code == 403
    assert "Acme requires its people" in answer.content.decode()
    assert not is_signed_in(browser)
    assert AuditEvent.objects.filter(action="sso.refuse", details__reason="sso_required").exists()


def test_any_confirmed_address_of_the_account_counts(browser: Browser, connection: SsoConnection) -> None:
    from allauth.account.models import EmailAddress

    enforce()
    person = factories.user("sana@people.example")
    EmailAddress.objects.create(user=person, email="sana@acme.example", verified=True)
    answer = ask(browser, "sana@people.example", password=factories.PASSWORD)
    assert answer.status_code == 403
    assert not is_signed_in(browser)


def test_the_provider_itself_opens(browser: Browser, connection: SsoConnection, provider: OidcProvider) -> None:
    enforce()
    company.sign_in(browser, connection, provider)
    assert is_signed_in(browser)


def test_a_provider_of_another_organization_does_not(
    browser: Browser, connection: SsoConnection, provider: OidcProvider
) -> None:
    from allauth.account.models import EmailAddress

    enforce()
    person = factories.user("sana@acme.example")
    EmailAddress.objects.create(user=person, email="sana@other.example", verified=True)
    other = company.oidc(provider, factories.organization("Other"))
    company.domain(other.workspace, "other.example")
    provider.person["email"] = "sana@other.example"
    assert company.sign_in(browser, other, provider).status_code == 403
    assert not is_signed_in(browser)


def test_an_owner_with_a_second_factor_breaks_the_glass(browser: Browser, connection: SsoConnection) -> None:
    enforce()
    owner = factories.member(connection.workspace, "owner", factories.user("boss@acme.example"))
    form = {"password": factories.PASSWORD, "way": "password"}
    assert ask(browser, "boss@acme.example", **form).status_code == 403, "not without the factor"
    secret = generate_totp_secret()
    TOTP.activate(owner, secret)
    answer = ask(browser, "boss@acme.example", **form)
    assert answer["Location"] == "/accounts/2fa/authenticate/"
    browser.post("/accounts/2fa/authenticate/", {"code": totp_code(secret)})
    assert is_signed_in(browser)
    assert AuditEvent.objects.filter(action="sso.break_glass", workspace_id=connection.workspace_id).exists()


def test_sign_up_is_closed(browser: Browser, connection: SsoConnection) -> None:
    enforce()
    answer = sign_up(browser, "new@acme.example")
    assert answer.status_code == 200
    assert "identity provider" in answer.content.decode()
    assert not User.objects.filter(email="new@acme.example").exists()


def test_no_such_address_is_added_to_an_account(browser: Browser, connection: SsoConnection) -> None:
    enforce()
    browser.force_login(factories.user())
    answer = browser.post("/accounts/email/", {"email": "new@acme.example", "action_add": ""})
    assert "identity provider" in answer.content.decode()
    assert not mail.outbox


def test_a_reset_only_says_where_to_sign_in(browser: Browser, connection: SsoConnection) -> None:
    factories.user("sana@acme.example")
    browser.post("/accounts/password/reset/", {"email": "sana@acme.example"})
    assert "/password/reset/key/" in last_link()
    link = last_link()
    enforce()
    answer = browser.post("/accounts/password/reset/", {"email": "sana@acme.example"})
    assert answer["Location"] == "/accounts/password/reset/done/"
    assert mail.outbox[-1].subject == "You sign in to Hypereal with your identity provider"
    assert "/password/reset/key/" not in str(mail.outbox[-1].body)
    # The link of before sets a password that opens nothing.
    key = browser.get(link)["Location"]
    browser.post(key, {"password1": "another horse of batteries", "password2": "another horse of batteries"})
    ask(browser, "sana@acme.example", password="another horse of batteries", way="password")
    assert not is_signed_in(browser)


def test_confirming_an_address_signs_nobody_in(browser: Browser, connection: SsoConnection) -> None:
    sign_up(browser, "sana@acme.example")
    enforce()
    browser.post(last_link())
    assert not is_signed_in(browser)
