"""The front door, the frame around pages, and whether the house stands."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from django.contrib.auth.models import AnonymousUser
from django.db import DatabaseError, connection
from django.test import Client, RequestFactory

from billing.models import CreditLot, Wallet
from console import context
from tests import cast, factories

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000


@pytest.fixture
def company() -> cast.Cast:
    return cast.assemble()


def text_of(answer: Any) -> str:
    return str(answer.content.decode())


# ── Home ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_strangers_see_what_it_is(client: Client) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert "/accounts/signup/" in text_of(answer)


def test_a_new_person_sees_three_steps(client: Client) -> None:
    person = factories.user()
    client.force_login(person)
    page = text_of(client.get("/"))
    assert "0 of 3 done" in page
    assert "No calls yet" in page


def test_steps_are_ticked_off(client: Client) -> None:
    person = factories.user()
    workspace = person.personal_workspace
    client.force_login(person)
    CreditLot.objects.create(wallet_id=workspace.pk, kind="demo", granted_microcredits=1, remaining_microcredits=0)
    assert "1 of 3 done" in text_of(client.get("/"))
    factories.api_key(workspace, created_by=person)
    assert "2 of 3 done" in text_of(client.get("/"))
    factories.call(workspace)
    assert "of 3 done" not in text_of(client.get("/"))


def test_figures_are_the_workspace_s_own(company: cast.Cast) -> None:
    Wallet.objects.filter(pk=company.organization.pk).update(balance_microcredits=18_420_500_000)
    factories.call(company.organization, model="claude-sonnet-4-6", charged_microcredits=12_340_000, key_name="prod-eu")
    page = text_of(company.client("viewer").get("/"))
    assert "18,420" in page
    assert "claude-sonnet-4-6" in page and "prod-eu" in page and "12.34" in page
    other = text_of(company.client("stranger").get("/"))
    assert "18,420" not in other and "claude-sonnet-4-6" not in other


def test_links_go_only_where_the_role_may_go(company: cast.Cast) -> None:
    page = text_of(company.client("billing").get("/"))
    assert "Create key" not in page
    assert "Manage keys" not in page
    assert "Create key" in text_of(company.client("developer").get("/"))


# ── Which workspace ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_switching_and_coming_back(company: cast.Cast) -> None:
    person = company["admin"]
    client = Client()
    client.force_login(person)
    assert client.get("/api/me").json()["workspace"]["kind"] == "personal"
    answer = client.post("/workspace", {"workspace": str(company.organization.pk), "next": "/usage"})
    assert answer["Location"] == "/usage"
    assert client.get("/api/me").json()["workspace"]["id"] == str(company.organization.pk)
    client.post("/workspace", {"workspace": str(person.personal_workspace.pk)})
    assert client.get("/api/me").json()["workspace"]["kind"] == "personal"


@pytest.mark.parametrize("workspace", ["", "nonsense", "9f3a628e-a784-4856-8088-7d97b594bb6f"])
def test_switching_to_what_is_not_there(company: cast.Cast, workspace: str) -> None:
    client = company.client("admin")
    assert client.post("/workspace", {"workspace": workspace}).status_code == 404
    assert client.get("/api/me").json()["workspace"]["id"] == str(company.organization.pk)


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"])
def test_switching_leads_nowhere_else(company: cast.Cast, target: str) -> None:
    client = company.client("admin")
    answer = client.post("/workspace", {"workspace": str(company.organization.pk), "next": target})
    assert answer["Location"] == "/"


def test_a_suspended_workspace_is_left_for_the_personal_one(company: cast.Cast) -> None:
    company.organization.active = False
    company.organization.save()
    assert company.client("owner").get("/api/me").json()["workspace"]["kind"] == "personal"


# ── The frame ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_frame_asks_for_nothing_before_it_is_shown(django_assert_num_queries: Any) -> None:
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    with django_assert_num_queries(0):
        frame = context.shell(request)["shell"]
        assert (frame.workspace, frame.balance_microcredits, frame.memberships) == (None, None, [])


def test_a_person_without_any_workspace_still_gets_pages(client: Client) -> None:
    person = factories.user()
    person.memberships.all().delete()
    client.force_login(person)
    answer = client.get("/manage-api-keys")
    assert answer.status_code == 403
    assert "no active workspace" in text_of(answer)


# ── Health ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_all_is_well(client: Client) -> None:
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "database": "ok", "redis": "ok"}
    assert "no-store" in answer["Cache-Control"]
    assert "All parts answer" in text_of(client.get("/status"))


def test_without_redis_it_limps(client: Client, settings: Any) -> None:
    settings.REDIS_URL = "redis://:secret@127.0.0.1:1/0"
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "degraded", "database": "ok", "redis": "unreachable"}
    assert "secret" not in text_of(answer) + text_of(client.get("/status"))


def test_without_a_database_it_is_down(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise DatabaseError("host=db password=hunter2")

    monkeypatch.setattr(connection, "cursor", refuse)
    for path in ("/healthz", "/status"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert "hunter2" not in text_of(answer)
    assert client.get("/healthz").json()["status"] == "down"


def test_a_sudden_death_of_redis_is_no_crash(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    def die(self: object) -> None:
        raise redis.ConnectionError

    monkeypatch.setattr(redis.Redis, "ping", die)
    assert client.get("/healthz").json()["redis"] == "unreachable"


def test_health_takes_no_writes(client: Client) -> None:
    assert client.post("/healthz").status_code == 405
    assert client.head("/healthz").status_code == 200
