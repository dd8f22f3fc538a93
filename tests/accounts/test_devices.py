"""A sign-in from a browser that is new to somebody, and a key made in their name, reach them by mail."""

from __future__ import annotations

from typing import Any

import pytest
from django.core import mail

from accounts import devices
from accounts.models import User
from tests import factories
from tests.accounts.front_door import Browser, is_signed_in, last_link, sign_in, sign_up

pytestmark = pytest.mark.django_db

SANA, OMID = "sana@people.example", "omid@people.example"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def subjects() -> list[str]:
    return [str(each.subject) for each in mail.outbox]


@pytest.fixture
def sana() -> User:
    """Somebody who has signed in once, elsewhere."""
    user = factories.user(SANA)
    sign_in(Browser(), SANA)
    assert mail.outbox == []  # the first time of all
    return user


def test_a_new_browser_is_told_of_once(sana: User) -> None:
    browser = Browser(headers={"User-Agent": FIREFOX})
    sign_in(browser, SANA)
    assert subjects() == ["A sign-in from a new device"]
    (sent,) = mail.outbox
    assert sent.to == [SANA]
    assert "Firefox on Linux" in sent.body
    assert "127.0.0.1" in sent.body
    assert "/accounts/sessions/" in sent.body
    browser.post("/accounts/logout/")
    sign_in(browser, SANA)
    assert len(mail.outbox) == 1


def test_a_wrong_password_is_none(sana: User) -> None:
    browser = Browser()
    sign_in(browser, SANA, "not the password at all")
    assert not is_signed_in(browser)
    assert mail.outbox == []
    assert devices.COOKIE not in browser.cookies


def test_somebody_else_s_browser_is_new(sana: User) -> None:
    browser = Browser()
    factories.user(OMID)
    sign_in(browser, OMID)
    browser.post("/accounts/logout/")
    sign_in(browser, SANA)
    assert [each.to for each in mail.outbox] == [[SANA]]
    browser.post("/accounts/logout/")
    sign_in(browser, OMID)  # both are known there
    assert len(mail.outbox) == 1


def test_a_new_account_hears_of_its_address_only() -> None:
    browser = Browser()
    sign_up(browser, "new@people.example")
    browser.post(last_link())
    assert is_signed_in(browser)
    assert len(mail.outbox) == 1


@pytest.mark.parametrize("value", ["", ".", "0" * 32, "x" * 5000, "é" * 32], ids=["empty", "dot", "zero", "long", "é"])
def test_a_cookie_that_somebody_made_up_is_worth_nothing(sana: User, value: str) -> None:
    browser = Browser()
    browser.cookies[devices.COOKIE] = value
    sign_in(browser, SANA)
    assert subjects() == ["A sign-in from a new device"]


def test_the_cookie_names_nobody_and_stays_short(sana: User) -> None:
    browser = Browser()
    for number in range(devices.MOST + 2):
        factories.user(f"p{number}@people.example")
        sign_in(browser, f"p{number}@people.example")
        browser.post("/accounts/logout/")
    cookie = browser.cookies[devices.COOKIE]
    assert len(cookie.value.split(".")) == devices.MOST
    assert "p9" not in cookie.value
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"


def test_notices_can_be_switched_off(sana: User, settings: Any) -> None:
    settings.ACCOUNT_EMAIL_NOTIFICATIONS = False
    browser = Browser()
    sign_in(browser, SANA)
    browser.post("/api/api-keys", {"name": "laptop"}, content_type="application/json")
    assert mail.outbox == []


# ── Keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_new_key_is_told_of(sana: User) -> None:
    browser = Browser()
    sign_in(browser, SANA)
    mail.outbox.clear()
    made = browser.post("/api/api-keys", {"name": "laptop"}, content_type="application/json").json()
    (sent,) = mail.outbox
    assert (sent.to, sent.subject) == ([SANA], "A new API key: “laptop”")
    assert made["prefix"] in sent.body
    assert made["key"] not in sent.body
    assert "127.0.0.1" in sent.body
    assert "/manage-api-keys" in sent.body


def test_a_key_that_was_refused_is_not_told_of(sana: User) -> None:
    browser = Browser()
    sign_in(browser, SANA)
    mail.outbox.clear()
    answer = browser.post("/api/api-keys", {"name": "x", "spendingLimit": -1}, content_type="application/json")
    assert answer.status_code == 400
    assert mail.outbox == []


def test_a_key_made_by_a_command_for_somebody_is_not_told_of(sana: User) -> None:
    factories.api_key(sana.personal_workspace, created_by=sana)
    assert mail.outbox == []
