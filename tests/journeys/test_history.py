"""Pages with a week of a small team's calls in them: sound in every window, and every figure the ledger's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from uuid import UUID

import pytest
import pytest_django
from playwright.sync_api import expect

from accounts.models import User
from billing.models import Transfer, Wallet
from core.templatetags import amounts
from tests import factories
from tests.journeys import history
from tests.journeys.installation import Installation
from tests.look.conftest import PHONE, Visit, Visitor
from tests.support.databases import on_database
from usage.models import RequestLog

pytestmark = pytest.mark.browser

PAGES = ("/", "/usage", "/manage-api-keys", "/billing")


@pytest.fixture(scope="module")
def person(_installation: Installation, django_db_blocker: pytest_django.DjangoDbBlocker) -> User:
    """Somebody with a past, the same for all tests here: they only look."""
    with django_db_blocker.unblock(), on_database(_installation.database):
        found = factories.user("history@example.com", name="Sana Khan")
        history.write(found, days=8)
    return found


@pytest.mark.parametrize("window", [{"dark": True}, {"phone": True}], ids=["dark", "phone"])
def test_every_page_is_sound(visit: Visit, person: User, window: dict[str, bool]) -> None:
    visitor = visit(person, **window)
    for path in PAGES:
        visitor.go(path)
        visitor.assert_sound()


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_every_page_may_run_from_right_to_left(visit: Visit, person: User, phone: bool) -> None:
    visitor = visit(person, phone=phone)
    for path in PAGES:
        visitor.go(path)
        visitor.page.evaluate("document.documentElement.dir = 'rtl'; dispatchEvent(new Event('resize'))")
        visitor.page.wait_for_timeout(300)
        assert visitor.sideways() == 0
        assert visitor.said == []


def test_every_figure_is_the_ledgers(visit: Visit, person: User) -> None:
    workspace = person.personal_workspace
    charges = Transfer.objects.filter(workspace_id=workspace.pk, kind=Transfer.Kind.USAGE)
    total = sum(charges.values_list("amount_microcredits", flat=True))
    calls = RequestLog.objects.filter(workspace_id=workspace.pk).count()
    visitor = visit(person)
    visitor.go("/usage")
    page = visitor.page
    expect(page.get_by_text(f"{amounts.credits_text(total)} credits in 30 days")).to_be_visible()
    expect(page.get_by_text(f"{amounts.count_text(calls)} requests, the newest first")).to_be_visible()
    tiles = page.locator("#usage-body")
    expect(tiles).to_contain_text(amounts.usd_text(total))
    page.get_by_text("Show the figures as a table").click()
    days = page.get_by_role("region", name="Daily cost by model").locator("tbody tr")
    assert abs(sum(map(_cents, days.locator("td:last-child").all_inner_texts())) - total / 1_000_000) <= 8 * 0.5
    balance = Wallet.objects.get(pk=workspace.pk).balance_microcredits
    assert balance == sum(_credited(workspace.pk)) - total
    visitor.go("/billing")
    expect(page.locator("#balance-pill")).to_contain_text(amounts.credits_floor_text(balance))
    expect(page.get_by_text(f"credits, worth {amounts.usd_text(balance)}")).to_be_visible()
    assert _shown_top_ups(visitor) == sum(_credited(workspace.pk)) // 1_000_000


def _credited(workspace_id: UUID) -> Iterator[int]:
    topups = Transfer.objects.filter(workspace_id=workspace_id, kind=Transfer.Kind.TOPUP)
    yield from topups.values_list("amount_microcredits", flat=True)


def _shown_top_ups(visitor: Visitor) -> int:
    paid = visitor.page.locator("#history tbody tr").filter(has_text="Paid")
    return sum(int(text.replace(",", "")) for text in paid.locator("[data-label=Credits]").all_inner_texts())


def _cents(text: str) -> float:
    """An amount of dollars that a page shows, in cents, which are credits."""
    return float(re.sub(r"[$,]", "", text)) * 100


def test_more_rows_stay_within_a_phone(visit: Visit, person: User) -> None:
    visitor = visit(person, phone=True)
    visitor.go("/usage")
    page = visitor.page
    page.get_by_role("link", name="Load more").click()
    expect(page.locator("#usage-log tbody tr")).to_have_count(101)
    page.get_by_role("link", name=re.compile(r"\d\d:\d\d")).nth(40).click()
    box = page.get_by_role("dialog", name="Request").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]
    assert visitor.sideways() == 0
    assert visitor.said == []
