"""What gives a key power asks an old session for a proof, on both faces; what takes power away never does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from allauth.usersessions.models import UserSession
from django.core.cache import cache
from django.test import Client

from core import clock
from keys import widening
from keys.models import ApiKey
from tests import cast, factories
from tests.accounts.front_door import sign_in

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000
SOON, LATER = clock.now() + timedelta(days=3), clock.now() + timedelta(days=30)


@pytest.fixture(autouse=True)
def fresh_rate_limits() -> None:
    cache.clear()


@pytest.fixture
def company() -> cast.Cast:
    return cast.assemble()


@pytest.fixture
def key(company: cast.Cast) -> ApiKey:
    return narrow_key(company)


@pytest.fixture
def browser(company: cast.Cast) -> Client:
    """A developer's browser that was left open for 13 hours."""
    client = Client()
    sign_in(client, company["developer"].email)
    client.post("/workspace", {"workspace": str(company.organization.pk)})
    UserSession.objects.update(created_at=clock.now() - timedelta(hours=13))
    session = client.session
    session.pop("account_authentication_methods", None)
    session.save()
    return client


def narrow_key(company: cast.Cast, maker: str = "developer") -> ApiKey:
    issued = factories.api_key(
        company.organization,
        created_by=company[maker],
        spending_limit_microcredits=100 * CREDIT,
        auto_disable=True,
        expires_at=SOON,
        allowed_models=["a", "b"],
        allowed_networks=["10.0.0.0/8", "2001:db8::/32"],
    )
    return issued.key


WIDER: dict[str, dict[str, Any]] = {
    "limit up": {"spending_limit_microcredits": 100 * CREDIT + 1},
    "limit off": {"spending_limit_microcredits": None},
    "no disabling at the limit": {"auto_disable": False},
    "expiry later": {"expires_at": LATER},
    "expiry off": {"expires_at": None},
    "another model": {"allowed_models": ["a", "c"]},
    "every model": {"allowed_models": []},
    "another network": {"allowed_networks": ["10.0.0.0/8", "192.0.2.0/24"]},
    "a larger network": {"allowed_networks": ["10.0.0.0/7"]},
    "other addresses": {"allowed_networks": ["::/0"]},
    "every network": {"allowed_networks": []},
    "one wider among narrower": {"spending_limit_microcredits": 1, "expires_at": None},
}
NARROWER: dict[str, dict[str, Any]] = {
    "nothing": {},
    "name": {"name": "other"},
    "limit down": {"spending_limit_microcredits": 1},
    "limit as it is": {"spending_limit_microcredits": 100 * CREDIT},
    "expiry sooner": {"expires_at": SOON - timedelta(days=1)},
    "fewer models": {"allowed_models": ["b"]},
    "a network inside": {"allowed_networks": ["10.1.0.0/16", "2001:db8:1::/48"]},
}


@pytest.mark.parametrize("fields", WIDER.values(), ids=WIDER)
def test_wider(key: ApiKey, fields: dict[str, Any]) -> None:
    assert widening.widens(key, fields)


@pytest.mark.parametrize("fields", NARROWER.values(), ids=NARROWER)
def test_not_wider(key: ApiKey, fields: dict[str, Any]) -> None:
    assert not widening.widens(key, fields)
    assert not widening.widens(key, fields, enabled=False)
    assert not widening.widens(key, fields, enabled=True)  # it is


def test_a_key_without_bounds_can_only_get_some(company: cast.Cast) -> None:
    key = factories.api_key(company.organization, created_by=company["developer"]).key
    for fields in (*WIDER.values(), *NARROWER.values()):
        assert not widening.widens(key, fields)


def test_coming_back_to_life_is_wider(company: cast.Cast, key: ApiKey) -> None:
    orphan = narrow_key(company, "stranger")
    assert widening.widens(orphan, {}, enabled=True)
    assert not widening.widens(orphan, {}, enabled=False)
    key.enabled = False
    assert widening.widens(key, {}, enabled=True)


# ── Both faces ───────────────────────────────────────────────────────────────────────────────────────────────────────
BODIES: dict[str, dict[str, Any]] = {
    "limit": {"spendingLimit": 101},
    "no limit": {"spendingLimit": None},
    "expiry": {"expiresAt": LATER.isoformat()},
    "networks": {"allowedNetworks": []},
    "auto disable": {"autoDisable": False},
}


def patch(client: Client, key: ApiKey, body: dict[str, Any]) -> Any:
    return client.patch(f"/api/api-keys/{key.pk}", body, content_type="application/json")


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_the_api_asks_an_old_session(browser: Client, company: cast.Cast, key: ApiKey, body: dict[str, Any]) -> None:
    before = ApiKey.objects.values().get()
    answer = patch(browser, key, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "reauthentication_required")
    assert ApiKey.objects.values().get() == before
    browser.post("/accounts/reauthenticate/", {"password": factories.PASSWORD})
    assert patch(browser, key, body).status_code == 200
    assert ApiKey.objects.values().get() != before


def test_the_api_stops_a_key_at_once(browser: Client, key: ApiKey) -> None:
    assert patch(browser, key, {"spendingLimit": 1, "name": "less"}).status_code == 200
    assert patch(browser, key, {"enabled": False}).status_code == 200
    assert patch(browser, key, {"enabled": True}).status_code == 403
    assert not ApiKey.objects.get().enabled
    assert browser.delete(f"/api/api-keys/{key.pk}").status_code == 204


def test_the_page_asks_an_old_session_and_goes_on(browser: Client, company: cast.Cast) -> None:
    key = factories.api_key(
        company.organization, created_by=company["developer"], spending_limit_microcredits=100 * CREDIT
    ).key
    here = f"/manage-api-keys/{key.pk}"
    form = {"name": "prod", "spending_limit": "200"}
    answer = browser.post(here, form, headers={"HX-Request": "true"})
    assert answer["HX-Redirect"].startswith("/accounts/reauthenticate/?next=%2Fmanage-api-keys%2F")
    answer = browser.post(here, form)
    assert answer["Location"].startswith("/accounts/reauthenticate/")
    assert ApiKey.objects.get().spending_limit_microcredits == 100 * CREDIT
    browser.post(answer["Location"], {"password": factories.PASSWORD, "next": here})
    assert ApiKey.objects.get().spending_limit_microcredits == 200 * CREDIT


def test_the_page_narrows_and_stops_at_once(browser: Client, company: cast.Cast) -> None:
    key = factories.api_key(
        company.organization, created_by=company["developer"], spending_limit_microcredits=100 * CREDIT
    ).key
    here = f"/manage-api-keys/{key.pk}"
    assert browser.post(here, {"name": "prod", "spending_limit": "50"})["Location"] == "/manage-api-keys"
    assert ApiKey.objects.get().spending_limit_microcredits == 50 * CREDIT
    assert browser.post(f"{here}/state", {"enabled": "0"})["Location"] == "/manage-api-keys"
    assert browser.post(f"{here}/delete")["Location"] == "/manage-api-keys"
    key.refresh_from_db()
    assert not key.enabled
    assert key.deleted_at is not None


@pytest.mark.parametrize("act", ["state", "take-over"])
def test_the_page_asks_before_a_key_lives_again(browser: Client, company: cast.Cast, act: str) -> None:
    key = narrow_key(company, "stranger")
    ApiKey.objects.update(enabled=False, disabled_reason=ApiKey.DisabledReason.MEMBER_LEFT)
    here = f"/manage-api-keys/{key.pk}/{act}"
    answer = browser.post(here, {"enabled": "1"}, headers={"HX-Request": "true"})
    assert answer["HX-Redirect"] == "/accounts/reauthenticate/?next=%2Fmanage-api-keys"
    answer = browser.post(here, {"enabled": "1"})
    assert not ApiKey.objects.get().enabled
    browser.post(answer["Location"], {"password": factories.PASSWORD, "next": here})
    key.refresh_from_db()
    assert (key.enabled, key.created_by) == (True, company["developer"])


def test_a_young_session_is_not_asked(company: cast.Cast, key: ApiKey) -> None:
    client = company.client("developer")
    session = client.session
    session.pop("account_authentication_methods", None)
    session.save()
    assert patch(client, key, {"spendingLimit": None, "expiresAt": None}).status_code == 200


def test_a_stranger_learns_nothing(company: cast.Cast, key: ApiKey) -> None:
    answer = company.client("stranger").post(f"/manage-api-keys/{key.pk}/take-over", {"form": str(uuid4())})
    assert answer.status_code in (302, 404)
    assert ApiKey.objects.get().created_by == company["developer"]
