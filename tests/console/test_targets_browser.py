"""The operators' page in a real browser: sound in every window, and fresh by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.conf import settings
from playwright.sync_api import expect

from accounts.models import User
from catalog import target_health
from catalog.target_health import OPEN, TargetReport
from tests.console.test_targets import ONE, TWO, report
from tests.look.conftest import Visit

pytestmark = pytest.mark.browser

WINDOWS = pytest.mark.parametrize(
    "window", [{}, {"dark": True}, {"phone": True}], ids=["light", "dark", "390px"]
)  # fmt: skip


@pytest.fixture(autouse=True)
def reports_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways of other tests may still be reporting: not into this test's list."""
    monkeypatch.setattr(target_health, "KEY", f"hypereal:targets:{uuid4()}")


@pytest.fixture
def reports() -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(settings.REDIS_URL)
    for each in (ONE, TWO):
        tell(client, each)
    yield client
    client.delete(target_health.KEY, *(f"{target_health.KEY}:{each.process}" for each in (ONE, TWO)))
    client.close()


def tell(client: redis.Redis, each: target_health.ProcessReport) -> None:
    fresh = report(each.process, *each.targets)
    client.set(f"{target_health.KEY}:{each.process}", target_health.encode(fresh), ex=60)
    client.zadd(target_health.KEY, {each.process: fresh.at})


@pytest.fixture
def operator(person: User) -> User:
    person.is_staff = True
    person.save()
    return person


@WINDOWS
def test_the_page_is_sound(visit: Visit, operator: User, reports: redis.Redis, window: dict[str, Any]) -> None:
    visitor = visit(operator, **window)
    for view in ("lately", "all", "processes"):
        for each in (ONE, TWO):
            tell(reports, each)
        visitor.go(f"/status/targets?view={view}")
        expect(visitor.page.get_by_role("rowheader", name="alpha/eu/m-1")).to_be_visible()
        visitor.assert_sound()


def test_it_is_fresh_by_itself(visit: Visit, operator: User, reports: redis.Redis) -> None:
    visitor = visit(operator)
    visitor.go("/status/targets")
    expect(visitor.page.get_by_text("serving", exact=True)).to_be_visible()
    tell(reports, report("10-aaa", TargetReport("beta//m-1", calls=11, failures=5, circuit=OPEN, open_seconds=30)))
    expect(visitor.page.get_by_text("left out, 30 s")).to_be_visible()
    visitor.assert_sound()


def test_operators_find_it_in_their_menu(visit: Visit, operator: User) -> None:
    visitor = visit(operator)
    visitor.go("/status")
    visitor.page.get_by_role("button", name="Account menu").click()
    visitor.page.get_by_role("link", name="Targets' health").click()
    expect(visitor.page.get_by_role("heading", name="Targets", level=1)).to_be_visible()
    visitor.assert_sound()
