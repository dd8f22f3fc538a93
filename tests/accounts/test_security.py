"""Passwords, addresses, second factors and sessions, changed over HTTP by their owner."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
import redis
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.core import mail
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from events.models import AuditEvent
from tests import factories
from tests.accounts.front_door import Browser, is_signed_in, last_link, sign_in, totp_code
from tests.factories import PASSWORD

pytestmark = pytest.mark.django_db

NEW_PASSWORD = "another pile of staples"
SANA = "sana@people.example"


@pytest.fixture
def sana(browser: Browser) -> Browser:
    """A browser in which Sana has just signed in with her password."""
    factories.user(SANA)
    sign_in(browser, SANA)
    return browser


def prove_oneself(browser: Browser) -> None:
    """Say the password again, as every change of the account's security asks for."""
    assert browser.post("/accounts/reauthenticate/", {"password": PASSWORD}).status_code == 302


def enrol(browser: Browser) -> str:
    """Turn the authenticator app on and return its secret."""
    assert browser.get("/accounts/2fa/totp/activate/")["Location"].startswith("/accounts/reauthenticate/")
    prove_oneself(browser)
    page = browser.get("/accounts/2fa/totp/activate/")
    assert page.status_code == 200
    secret = str(browser.session["mfa.totp.secret"])
    assert secret in page.content.decode()
    answer = browser.post("/accounts/2fa/totp/activate/", {"code": totp_code(secret)})
    assert answer.status_code == 302
    return secret


# ── Passwords ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_reset_from_the_mail(browser: Browser) -> None:
    factories.user(SANA)
    answer = browser.post("/accounts/password/reset/", {"email": SANA})
    assert answer["Location"] == "/accounts/password/reset/done/"
    assert mail.outbox[0].subject == "Set a new password for Hypereal"
    form = browser.get(last_link())["Location"]  # the token moves from the address into the session
    answer = browser.post(form, {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD})
    assert answer.status_code == 302
    assert mail.outbox[-1].subject == "Your password was reset"
    sign_in(browser, SANA)
    assert not is_signed_in(browser)
    sign_in(browser, SANA, NEW_PASSWORD)
    assert is_signed_in(browser)


def test_a_reset_link_works_once(browser: Browser) -> None:
    factories.user(SANA)
    browser.post("/accounts/password/reset/", {"email": SANA})
    link = last_link()
    form = browser.get(link)["Location"]
    browser.post(form, {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD})
    page = Browser().get(link)
    assert page.status_code == 200
    assert "password1" not in page.content.decode()


def test_a_reset_ends_every_session_and_keeps_the_second_factor(sana: Browser) -> None:
    enrol(sana)
    other = Browser()
    other.post("/accounts/password/reset/", {"email": SANA})
    form = other.get(last_link())["Location"]
    other.post(form, {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD})
    assert not is_signed_in(sana)
    answer = sign_in(other, SANA, NEW_PASSWORD)
    assert answer["Location"].startswith("/accounts/2fa/authenticate/")
    assert not is_signed_in(other)


def test_asking_for_a_reset_tells_strangers_nothing(browser: Browser) -> None:
    factories.user(SANA)
    known = browser.post("/accounts/password/reset/", {"email": SANA})
    unknown = Browser().post("/accounts/password/reset/", {"email": "nobody@people.example"})
    assert (known.status_code, known["Location"]) == (unknown.status_code, unknown["Location"])
    assert mail.outbox[-1].subject == "There is no Hypereal account for this address"


def test_changing_the_password_ends_the_other_sessions(sana: Browser) -> None:
    other = Browser()
    sign_in(other, SANA)
    answer = sana.post(
        "/accounts/password/change/",
        {"oldpassword": PASSWORD, "password1": NEW_PASSWORD, "password2": NEW_PASSWORD},
    )
    assert answer.status_code == 302
    assert not is_signed_in(other)
    assert mail.outbox[-1].subject == "Your password was changed"
    assert "127.0.0.1" in str(mail.outbox[-1].body)
    assert AuditEvent.objects.filter(action="user.password_change").count() == 1


def test_changing_the_password_takes_the_old_one(sana: Browser) -> None:
    form = {"oldpassword": "a guess at it all", "password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    assert sana.post("/accounts/password/change/", form).status_code == 200
    assert sign_in(Browser(), SANA, NEW_PASSWORD).status_code == 200


# ── Addresses ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_second_address_is_confirmed_made_primary_and_the_first_removed(sana: Browser) -> None:
    prove_oneself(sana)
    sana.post("/accounts/email/", {"action_add": "1", "email": "work@people.example"})
    assert mail.outbox[-1].to == ["work@people.example"]
    sana.post(last_link())
    sana.post("/accounts/email/", {"action_primary": "1", "email": "work@people.example"})
    assert mail.outbox[-1].to == [SANA]
    assert "work@people.example" in str(mail.outbox[-1].body)
    sana.post("/accounts/email/", {"action_remove": "1", "email": SANA})
    assert list(EmailAddress.objects.values_list("email", "primary", "verified")) == [
        ("work@people.example", True, True)
    ]
    assert AuditEvent.objects.filter(action="user.email_primary").count() == 1
    sign_in(Browser(), "work@people.example")


def test_nobody_makes_an_unconfirmed_address_primary(sana: Browser) -> None:
    prove_oneself(sana)
    sana.post("/accounts/email/", {"action_add": "1", "email": "work@people.example"})
    sana.post("/accounts/email/", {"action_primary": "1", "email": "work@people.example"})
    assert EmailAddress.objects.get(primary=True).email == SANA


# ── Second factors ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_authenticator_app_is_asked_at_the_next_sign_in(sana: Browser) -> None:
    secret = enrol(sana)
    assert "An authenticator app was added" in [message.subject for message in mail.outbox]
    phone = Browser()
    answer = sign_in(phone, SANA, next="/usage")
    assert answer["Location"].startswith("/accounts/2fa/authenticate/")
    assert not is_signed_in(phone)
    assert phone.post("/accounts/2fa/authenticate/", {"code": "000000"}).status_code == 200
    assert not is_signed_in(phone)
    answer = phone.post("/accounts/2fa/authenticate/", {"code": totp_code(secret)})
    assert answer["Location"] == "/usage"
    assert is_signed_in(phone)


def test_a_code_is_good_once(sana: Browser) -> None:
    code = totp_code(enrol(sana))
    for signed_in in (True, False):
        phone = Browser()
        sign_in(phone, SANA)
        phone.post("/accounts/2fa/authenticate/", {"code": code})
        assert is_signed_in(phone) is signed_in


def test_a_phone_may_be_half_a_minute_off(sana: Browser) -> None:
    secret = enrol(sana)
    phone = Browser()
    sign_in(phone, SANA)
    phone.post("/accounts/2fa/authenticate/", {"code": totp_code(secret, at=time.time() - 30)})
    assert is_signed_in(phone)


def test_a_recovery_code_gets_in_once(sana: Browser) -> None:
    enrol(sana)
    sana.post("/accounts/2fa/recovery-codes/generate/")
    listing = sana.get("/accounts/2fa/recovery-codes/download/").content.decode()
    code = next(line.strip() for line in listing.splitlines() if re.fullmatch(r"[0-9a-f]{8,}", line.strip()))
    for signed_in in (True, False):
        phone = Browser()
        sign_in(phone, SANA)
        phone.post("/accounts/2fa/authenticate/", {"code": code})
        assert is_signed_in(phone) is signed_in


def test_seeds_and_recovery_codes_are_sealed_in_the_table(sana: Browser) -> None:
    secret = enrol(sana)
    sana.post("/accounts/2fa/recovery-codes/generate/")
    stored = {row.type: row.data for row in Authenticator.objects.all()}
    assert set(stored) == {"totp", "recovery_codes"}
    assert secret not in str(stored)
    assert stored["totp"]["secret"].startswith("gAAAA")
    assert stored["recovery_codes"]["seed"].startswith("gAAAA")


def test_turning_it_off_asks_who_it_is_again_after_a_while(sana: Browser) -> None:
    enrol(sana)
    session = sana.session
    for record in session["account_authentication_methods"]:
        record["at"] -= 3600
    session.save()
    answer = sana.post("/accounts/2fa/totp/deactivate/")
    assert answer.status_code == 302
    assert "reauthenticate" in answer["Location"]
    assert Authenticator.objects.filter(type="totp").exists()
    prove_oneself(sana)
    sana.post("/accounts/2fa/totp/deactivate/")
    assert not Authenticator.objects.filter(type="totp").exists()


def test_passkeys_can_be_added_from_their_page(sana: Browser) -> None:
    prove_oneself(sana)
    page = sana.get("/accounts/2fa/webauthn/add/")
    assert page.status_code == 200
    found = re.search(r'id="js_data"[^>]*>(.*?)</script>', page.content.decode(), re.S)
    assert found
    options = json.loads(found[1])["creation_options"]["publicKey"]
    assert options["rp"] == {"id": "testserver", "name": "Hypereal"}
    assert options["user"]["name"] == SANA


# ── Sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_one_session_ends_another(sana: Browser) -> None:
    phone = Browser(HTTP_USER_AGENT="Mozilla/5.0 (iPhone) Safari/605")
    sign_in(phone, SANA)
    phone.get("/usage")
    sana.get("/accounts/sessions/")
    session = UserSession.objects.get(user_agent__contains="iPhone")
    assert "iPhone" in sana.get("/accounts/sessions/").content.decode()
    answer = sana.post(f"/accounts/sessions/{session.pk}/end/")
    assert answer["Location"] == "/accounts/sessions/"
    assert not is_signed_in(phone)
    assert is_signed_in(sana)
    assert AuditEvent.objects.filter(action="user.session_end").count() == 1


def test_all_others_end_at_once(sana: Browser) -> None:
    others = [Browser(), Browser()]
    for other in others:
        sign_in(other, SANA)
        other.get("/usage")
    sana.post("/accounts/sessions/")
    assert not any(is_signed_in(other) for other in others)
    assert is_signed_in(sana)


def test_a_session_is_written_down_once_a_minute(sana: Browser) -> None:
    def writes() -> int:
        with CaptureQueriesContext(connection) as seen:
            sana.get("/healthz")
        return sum("usersessions_usersession" in query["sql"] for query in seen)

    sana.get("/healthz")
    session = UserSession.objects.get()
    assert session.ip == "127.0.0.1"
    assert writes() == 0
    cache.clear()
    assert writes() > 0
    session.refresh_from_db()
    sana.get("/healthz", REMOTE_ADDR="203.0.113.7")
    session.refresh_from_db()
    assert session.ip == "203.0.113.7"


def test_sessions_go_on_without_redis(sana: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise redis.ConnectionError

    monkeypatch.setattr("accounts.middleware.cache.add", refuse)
    assert sana.get("/api/me").status_code == 200
    assert UserSession.objects.count() == 1


def test_nobody_ends_somebody_elses_session(sana: Browser) -> None:
    sana.get("/usage")
    session = UserSession.objects.get()
    factories.user("omar@people.example")
    omar = Browser()
    sign_in(omar, "omar@people.example")
    assert omar.post(f"/accounts/sessions/{session.pk}/end/").status_code == 404
    assert is_signed_in(sana)
    assert not AuditEvent.objects.filter(action="user.session_end").exists()


# ── One's own settings ───────────────────────────────────────────────────────────────────────────────────────────────
def test_a_person_names_themselves_and_their_workspace_follows(sana: Browser) -> None:
    answer = sana.post("/settings/account", {"name": "  Sana Khan "})
    assert answer["Location"] == "/settings/account"
    page = sana.get("/settings/account").content.decode()
    assert 'value="Sana Khan"' in page
    me = sana.get("/api/me").json()
    assert me["user"]["name"] == me["workspace"]["name"] == "Sana Khan"
    assert AuditEvent.objects.get(action="user.rename").details == {"from": "", "to": "Sana Khan"}


def test_a_name_is_shown_as_text(sana: Browser) -> None:
    sana.post("/settings/account", {"name": "<script>alert(1)</script>"})
    assert "<script>alert" not in sana.get("/settings/account").content.decode()
