"""The console in a real browser: keys from the first to the last, overview and profile, in every window."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import expect

from accounts.models import User
from billing.models import SpendMeter
from core import clock
from keys import lookup
from keys.models import ApiKey
from tests import factories
from tests.look.conftest import Visit

pytestmark = pytest.mark.browser

WINDOWS = pytest.mark.parametrize(
    "window", [{}, {"dark": True}, {"phone": True}], ids=["light", "dark", "390px"]
)  # fmt: skip
CREDIT = 1_000_000


def furnish(person: User) -> None:
    """Keys in every state, and a call."""
    workspace = person.personal_workspace
    now = clock.now()
    for name, limit, spent in (("prod-eu", 50_000, 41_230), ("prod-us", 50_000, 18_950), ("spent", 20_000, 20_000)):
        issued = factories.api_key(
            workspace, created_by=person, name=name, spending_limit_microcredits=limit * CREDIT
        )  # fmt: skip
        SpendMeter.objects.create(
            scope="key", scope_id=issued.key.pk, month=clock.month_of(now), spent_microcredits=spent * CREDIT
        )
    old = factories.api_key(workspace, name="a-name-that-is-much-too-long-for-its-column-and-more")
    ApiKey.objects.filter(pk=old.key.pk).update(expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    stopped = factories.api_key(workspace, name="stopped", allowed_networks=["10.0.0.0/8"])
    ApiKey.objects.filter(pk=stopped.key.pk).update(enabled=False, last_used_at=now)
    factories.call(workspace, model="claude-sonnet-4-6", status=502, charged_microcredits=0)
    factories.call(workspace, model="gpt-5.5")


@WINDOWS
def test_pages_are_sound(visit: Visit, person: User, window: dict[str, Any]) -> None:
    furnish(person)
    visitor = visit(person, **window)
    for path in ("/", "/manage-api-keys", "/manage-api-keys/new", "/settings/account", "/status"):
        visitor.go(path)
        visitor.assert_sound()


@WINDOWS
def test_an_empty_workspace_is_sound(visit: Visit, person: User, window: dict[str, Any]) -> None:
    visitor = visit(person, **window)
    for path in ("/", "/manage-api-keys"):
        visitor.go(path)
        visitor.assert_sound()


@WINDOWS
def test_a_key_from_first_to_last(visit: Visit, person: User, window: dict[str, Any]) -> None:
    visitor = visit(person, **window)
    page = visitor.page
    visitor.go("/manage-api-keys")

    page.get_by_role("link", name="Create your first key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("prod")
    dialog.get_by_label("Monthly limit").fill("0")
    dialog.get_by_role("button", name="Create key").click()
    expect(dialog.get_by_text("A limit is above zero")).to_be_visible()
    visitor.assert_sound()
    dialog.get_by_label("Monthly limit").fill("2500.5")
    dialog.get_by_role("button", name="Create key").click()
    expect(page.locator("#new-key-secret")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    visitor.assert_sound()
    secret = page.locator("#new-key-secret").inner_text()
    assert lookup.by_secret(secret, address="127.0.0.1").name == "prod"

    page.get_by_role("button", name="Actions for prod").click()
    page.get_by_role("link", name="Edit", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Monthly limit")).to_have_value("2500.5")
    visitor.assert_sound()
    dialog.get_by_label("Name").fill("prod-eu")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_role("rowheader", name="prod-eu")).to_be_visible()
    expect(page.locator("#new-key-secret")).to_have_count(0)
    expect(page.locator("body > #toasts")).to_contain_text("“prod-eu” is changed.")  # its dialog is gone, it is not

    page.get_by_role("button", name="Actions for prod-eu").click()
    page.get_by_role("link", name="Disable", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    expect(page.locator("#keys").get_by_text("Disabled")).to_be_visible()
    expect(page.locator("#toasts")).to_contain_text("“prod-eu” is disabled.")
    visitor.assert_sound()
    page.get_by_role("button", name="Actions for prod-eu").click()
    page.get_by_role("button", name="Enable").click()
    expect(page.locator("#keys").get_by_text("Active")).to_be_visible()

    page.get_by_role("button", name="Actions for prod-eu").click()
    page.get_by_role("link", name="Delete", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete key").click()
    expect(page.get_by_text("No keys yet")).to_be_visible()
    expect(page.locator("#toasts")).to_contain_text("“prod-eu” is deleted.")
    visitor.assert_sound()
    assert ApiKey.objects.get(workspace=person.personal_workspace).deleted_at


def test_the_secret_does_not_come_back_with_the_back_button(visit: Visit, person: User) -> None:
    visitor = visit(person)
    page = visitor.page
    visitor.go("/manage-api-keys")
    page.get_by_role("link", name="Create key", exact=True).click()
    page.get_by_role("dialog").get_by_label("Name").fill("prod")
    page.get_by_role("dialog").get_by_role("button", name="Create key").click()
    secret = page.locator("#new-key-secret").inner_text()
    visitor.go("/usage")
    page.go_back()
    page.wait_for_load_state("networkidle")
    expect(page.get_by_role("rowheader", name="prod")).to_be_visible()
    assert secret not in page.content()
    assert secret not in str(page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])"))


def test_keys_work_without_scripts(visit: Visit, person: User) -> None:
    visitor = visit(person, java_script_enabled=False)
    page = visitor.page
    page.goto(visitor.site + "/manage-api-keys")
    page.get_by_role("link", name="Create key", exact=True).click()
    page.get_by_label("Name").fill("plain")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("#new-key-secret")).to_be_visible()
    assert "ck_" in page.locator("#new-key-secret").inner_text()


def test_setup_tabs(visit: Visit, person: User) -> None:
    visitor = visit(person)
    page = visitor.page
    visitor.go("/manage-api-keys")
    for name, text in (("Codex CLI", "wire_api"), ("Claude Code", "ANTHROPIC_BASE_URL"), ("Cursor", "Override OpenAI")):
        page.get_by_role("tab", name=name).click()
        expect(page.get_by_role("tabpanel", name=name)).to_contain_text(text)
        visitor.assert_sound()
