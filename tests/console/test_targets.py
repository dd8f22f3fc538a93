"""Operators see how each target fares, over all gateway processes, and are told when nobody can report (C-ROUTE-3)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from uuid import uuid4

import pytest
import redis
from django.conf import settings
from django.test import Client

from accounts.models import User
from catalog import target_health
from catalog.target_health import CLOSED, OPEN, PROBING, ProcessReport, TargetReport, merged
from core import clock
from tests import factories

pytestmark = pytest.mark.django_db


def report(process: str, *targets: TargetReport) -> ProcessReport:
    return ProcessReport(process, clock.now().timestamp(), list(targets))


ONE = report(
    "10-aaa",
    TargetReport("alpha/eu/m-1", calls=90, failures=3, latencies_ms=[100, 200, 300], last_error="cut", failed_at=100.0),
    TargetReport("beta//m-1", calls=10, latencies_ms=[50]),
)
TWO = report(
    "11-bbb",
    TargetReport(
        "alpha/eu/m-1", calls=10, failures=7, latencies_ms=[900], circuit=OPEN, open_seconds=12.4,
        last_error="server_error", last_status=503, failed_at=200.0,
    ),
)  # fmt: skip


@pytest.fixture(autouse=True)
def reports_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways of other tests may still be reporting: not into this test's list."""
    monkeypatch.setattr(target_health, "KEY", f"hypereal:targets:{uuid4()}")


@pytest.fixture
def reported() -> Iterator[None]:
    client = redis.Redis.from_url(settings.REDIS_URL)
    for each in (ONE, TWO):
        client.set(f"{target_health.KEY}:{each.process}", target_health.encode(each), ex=30)
        client.zadd(target_health.KEY, {each.process: clock.now().timestamp()})
    client.zadd(target_health.KEY, {"9-gone": 1.0})
    yield
    client.delete(target_health.KEY, *(f"{target_health.KEY}:{each.process}" for each in (ONE, TWO)))
    client.close()


@pytest.fixture
def operator() -> Client:
    return signed_in(factories.user(is_staff=True))


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
    return client


def words(client: Client, path: str = "/status/targets") -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def test_processes_are_seen_together() -> None:
    alpha = merged([ONE, TWO])["alpha/eu/m-1"]
    assert (alpha.calls, alpha.failures, alpha.error_percent) == (100, 10, 10.0)
    assert (alpha.p50_ms, alpha.p95_ms) == (300, 900)
    assert (alpha.circuit, alpha.open_seconds, alpha.last_error, alpha.last_status) == (OPEN, 12.4, "server_error", 503)
    assert [(name, health.calls, health.circuit) for name, health in alpha.by_process] == [
        ("10-aaa", 90, CLOSED), ("11-bbb", 10, OPEN)
    ]  # fmt: skip
    assert merged([report("x", TargetReport("a//b", circuit=PROBING)), report("y", TargetReport("a//b"))])[
        "a//b"
    ].circuit == PROBING  # fmt: skip


@pytest.mark.usefixtures("reported")
def test_the_page_shows_trouble_first(operator: Client) -> None:
    page = words(operator)
    assert "alpha/eu/m-1 no longer in the catalog left out, 12 s 100 10.0 % 300 ms / 900 ms provider error 503" in page
    assert page.index("alpha/eu/m-1") < page.index("beta/m-1")
    assert "process 10-aaa" not in page
    assert "process 10-aaa serving" not in page
    split = words(operator, "/status/targets?view=processes")
    assert "process 10-aaa failing at times 90 3.3 % 200 ms / 300 ms broken off" in split
    assert "9-gone" not in split


@pytest.mark.usefixtures("reported")
def test_the_same_as_json(operator: Client) -> None:
    told = operator.get("/api/status/targets").json()
    assert (told["redis"], [each["process"] for each in told["processes"]]) == ("ok", ["10-aaa", "11-bbb"])
    alpha = told["targets"][0]
    assert (alpha["provider"], alpha["region"], alpha["upstreamModel"]) == ("alpha", "eu", "m-1")
    assert (alpha["circuit"], alpha["errorPercent"], alpha["p95Ms"], alpha["lastStatus"]) == (OPEN, 10.0, 900, 503)
    assert [each["calls"] for each in alpha["processes"]] == [90, 10]


def test_without_redis_nothing_is_claimed(operator: Client, settings: pytest.FixtureRequest) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"  # type: ignore[attr-defined]
    assert "Redis does not answer" in words(operator)
    assert operator.get("/api/status/targets").json()["redis"] == "unreachable"


def test_without_a_report_the_page_says_so(operator: Client) -> None:
    assert "No gateway reports" in words(operator)
    assert operator.get("/api/status/targets").json()["processes"] == []


def test_only_operators_come_in() -> None:
    client = signed_in(factories.user())
    assert client.get("/status/targets").status_code == 403
    assert client.get("/api/status/targets").json()["error"]["type"] == "permission_error"
    assert Client().get("/status/targets").status_code == 302
    assert Client().get("/api/status/targets").status_code == 401
