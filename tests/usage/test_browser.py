"""The usage page in a real browser, under the product's own content security policy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from playwright.sync_api import expect
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from catalog.pricing import TOKENS_PER_MTOK, Line
from core import clock
from tests.look.conftest import Visit, Visitor, browser, visit  # noqa: F401  (fixtures)
from tests.support.money import Payer, new_payer
from tests.usage import rows
from usage import views
from usage.items import Attempt

pytestmark = pytest.mark.browser

CREDIT = 1_000_000
WINDOWS = [{}, {"dark": True}, {"phone": True}, {"phone": True, "dark": True}]


@pytest.fixture
def site(committed: None, settings: Settings) -> Iterator[str]:
    """The product on a port, on a database whose log nobody empties."""
    settings.ALLOWED_HOSTS = ["*"]
    server = LiveServer("127.0.0.1")
    yield str(server.url)
    server.stop()


@pytest.fixture
def payer(committed: None) -> Payer:
    """Seven models over nine days, with failures and every mark."""
    payer = new_payer(balance=100_000 * CREDIT)
    now = clock.now()
    for number in range(18):
        rows.call(
            payer,
            (1 + number) * CREDIT,
            at=now - timedelta(days=number // 2, minutes=number),
            model=f"model-{number % 7}",
            input_tokens=355_000 if number % 3 else 0,
            cached_input_tokens=100_000 if number % 3 else 0,
            output_tokens=8_200,
            sandbox=number == 0,
            estimated=number == 0,
            client_disconnected=number == 1,
        )
    rows.refused(payer, at=now - timedelta(hours=1), status=502, error_type="upstream_error")
    return payer


def opened(visitor: Visitor, path: str = "/usage") -> Visitor:
    visitor.go(path)
    expect(visitor.page.locator("[data-drawn]")).to_have_count(2)
    return visitor


@pytest.mark.parametrize("window", WINDOWS, ids=["light", "dark", "phone", "phone-dark"])
def test_the_page_is_sound(visit: Visit, payer: Payer, window: dict[str, bool]) -> None:  # noqa: F811
    visitor = opened(visit(payer.user, **window), "/usage?status=2xx")
    page = visitor.page
    expect(page.locator(".js-plotly-plot .bars path:visible")).not_to_have_count(0)
    page.locator("#usage-filters summary").click()
    page.locator("#usage-body details summary").click()
    visitor.assert_sound()
    page.locator("#usage-log tbody a").first.click()
    expect(page.get_by_role("dialog", name="Request")).to_be_visible()
    visitor.assert_sound()


def test_a_new_workspace_has_a_sound_page(visit: Visit, site: str) -> None:  # noqa: F811
    for window in (WINDOWS[0], WINDOWS[3]):
        visitor = visit(new_payer().user, **window)
        visitor.go("/usage")
        expect(visitor.page.get_by_text("No request yet")).to_be_visible()
        visitor.assert_sound()


def test_filters_change_the_page_in_place(visit: Visit, payer: Payer) -> None:  # noqa: F811
    visitor = opened(visit(payer.user))
    page = visitor.page
    search = page.get_by_role("searchbox")
    search.press_sequentially("model-3", delay=20)
    expect(page).to_have_url(f"{visitor.site}/usage?q=model-3")
    expect(page.locator("#usage-log tbody tr")).to_have_count(3)
    expect(page.get_by_role("link", name="Export CSV")).to_have_attribute("href", "/api/api-usage/export?q=model-3")
    expect(search).to_be_focused()
    expect(search).to_have_value("model-3")
    expect(page.locator("[data-drawn]")).to_have_count(2)
    page.locator("#usage-filters summary").click()
    page.get_by_label("Status").select_option("5xx")
    expect(page.get_by_text("No request matches")).to_be_visible()
    page.get_by_role("link", name="Remove the filter: Text model-3").click()
    expect(page.locator("#usage-log tbody tr")).to_have_count(1)
    page.go_back()
    page.go_back()
    expect(page.locator("#usage-log tbody tr")).to_have_count(3)
    expect(page.locator("[data-drawn]")).to_have_count(2)
    kept = page.evaluate("JSON.stringify([...Object.values(localStorage), ...Object.values(sessionStorage)])")
    assert "model-3" not in kept.replace("/usage?q=model-3", "")  # no page of figures stays behind on the machine
    assert visitor.said == []


def test_more_rows_come_where_the_keyboard_is(
    visit: Visit,  # noqa: F811
    payer: Payer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(views, "ROWS", 10)
    visitor = opened(visit(payer.user))
    page = visitor.page
    page.get_by_role("link", name="Load more").press("Enter")
    expect(page.locator("#usage-log tbody tr")).to_have_count(19)
    at = "[...document.querySelectorAll('#usage-log tbody a')].indexOf(document.activeElement)"
    page.wait_for_function(f"{at} === 10")  # a moment behind the rows
    links = page.locator("#usage-log tbody a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert len({UUID(link.rpartition("/")[2]) for link in links}) == 19
    assert visitor.said == []


@pytest.mark.parametrize("window", WINDOWS, ids=["light", "dark", "phone", "phone-dark"])
def test_a_receipt_is_sound(visit: Visit, payer: Payer, window: dict[str, bool]) -> None:  # noqa: F811
    lines = [
        Line("input", 600_000, 1_000 * CREDIT, TOKENS_PER_MTOK),
        Line("cached_input", 403, 125 * CREDIT, TOKENS_PER_MTOK),
        Line("output", 7, 4_000 * CREDIT, TOKENS_PER_MTOK, model="an-adviser-with-a-long-name"),
    ]
    trace = [Attempt("alpha/eu/up-1", 120, "server_error", 500), Attempt("beta//a-model-with-a-name-of-some-length", 9)]
    request_id = rows.call(
        payer, 600_078_375, at=clock.now(), attempts=2, charge_lines=lines, attempt_trace=trace, model="gpt-5.5"
    )
    visitor = visit(payer.user, **window)
    visitor.go(f"/usage/requests/{request_id}")
    expect(visitor.page.get_by_role("heading", name="Receipt")).to_be_visible()
    expect(visitor.page.get_by_text("provider error")).to_be_visible()
    visitor.assert_sound()
    visitor.go("/usage")
    visitor.page.locator(f'a[href="/usage/requests/{request_id}"]').first.click()
    expect(visitor.page.get_by_role("dialog").get_by_role("heading", name="Receipt")).to_be_visible()
    visitor.assert_sound()
