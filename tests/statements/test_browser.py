"""Statements and vouchers in a real browser, and the operator's pages, which are the admin's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import expect
from pytest_django import Settings

from billing import ledger
from core import clock, ids
from events import audit
from statements import profiles
from statements.months import Month
from tests.look.conftest import Visit, browser, person, server, site, visit  # noqa: F401  (fixtures)
from tests.support.money import Payer, new_payer
from tests.usage import rows
from vouchers import issuing, redeeming

pytestmark = pytest.mark.browser

CREDIT = 1_000_000
NOW = Month.of(clock.now())
WINDOWS = pytest.mark.parametrize(
    "window", [{}, {"dark": True}, {"phone": True}, {"phone": True, "dark": True}],
    ids=["light", "dark", "phone", "phone-dark"],
)  # fmt: skip


def voucher(amount: int = 250 * CREDIT, **terms: Any) -> str:
    made = issuing.Terms(amount_microcredits=amount, **terms)
    return issuing.issue(made, actor=audit.SYSTEM, form_token=ids.uuid7()).code


@pytest.fixture
def payer(committed: None) -> Payer:
    """A workspace with a profile, a gift, an adjustment, and calls to models with long names."""
    payer = new_payer(100_000 * CREDIT)
    now = clock.now()
    actor = audit.Actor(payer.user.pk, payer.user.email)
    redeeming.redeem(payer.workspace, voucher(credits_valid_days=30), actor=actor)
    ledger.adjust(payer.workspace.pk, amount_microcredits=-3 * CREDIT, reference=ids.uuid7(), at=now)
    profiles.change(
        payer.workspace, actor=actor, legal_name="Acme Research and Development GmbH & Co. KG",
        email="accounts.payable@acme-research.example", address="Straße des 17. Juni 135\n10623 Berlin", tax_id="DE 1",
    )  # fmt: skip
    for number in range(12):
        name = "a-vendor/a-model-with-a-name-as-long-as-they-come" if number == 3 else f"model-{number % 5}"
        tokens: dict[str, Any] = {"input_tokens": 1_234_567, "cached_input_tokens": 1_000, "output_tokens": 98_765}
        rows.call(
            payer, 1_234_567 * (1 + number), at=now - timedelta(seconds=number), model=name, user_id=payer.user.pk,
            **tokens,
        )  # fmt: skip
    return payer


@WINDOWS
def test_the_pages_are_sound(visit: Visit, payer: Payer, window: dict[str, bool]) -> None:  # noqa: F811
    visitor = visit(payer.user, **window)
    for path in ("/billing/statements", f"/billing/statements/{NOW}", "/billing/profile", "/billing/voucher"):
        visitor.go(path)
        visitor.assert_sound()


@WINDOWS
def test_a_new_workspace_is_sound(visit: Visit, committed: None, window: dict[str, bool]) -> None:  # noqa: F811
    visitor = visit(new_payer().user, **window)
    for path in ("/billing", "/billing/statements", f"/billing/statements/{NOW}", "/billing/voucher"):
        visitor.go(path)
        visitor.assert_sound()


def test_a_code_becomes_credits(visit: Visit, committed: None) -> None:  # noqa: F811
    payer, code = new_payer(), voucher()
    visitor = visit(payer.user, phone=True)
    page = visitor.page
    visitor.go("/billing")
    page.get_by_role("link", name="Redeem a voucher").click()
    page.get_by_label("Voucher code").fill("never issued")
    page.get_by_role("button", name="Redeem").click()
    expect(page.get_by_text("There is no voucher with this code.")).to_be_visible()
    assert visitor.barriers() == []
    page.get_by_label("Voucher code").fill(code.lower().replace("-", " "))
    page.get_by_role("button", name="Redeem").dblclick()
    expect(page.get_by_text(f"…{code[-4:]}")).to_be_visible()
    assert payer.books().balance == 250 * CREDIT


def test_the_profile_by_keyboard(visit: Visit, committed: None) -> None:  # noqa: F811
    payer = new_payer()
    visitor = visit(payer.user)
    page = visitor.page
    visitor.go("/billing/profile")
    page.get_by_label("Legal name").focus()
    page.keyboard.type("Acme GmbH")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Saved.")).to_be_visible()
    visitor.go(f"/billing/statements/{NOW}")
    expect(page.get_by_text("Acme GmbH")).to_be_visible()


@pytest.mark.parametrize("window", [{}, {"phone": True, "dark": True}], ids=["light", "phone-dark"])
def test_the_operator_s_pages_fit(visit: Visit, payer: Payer, window: dict[str, bool]) -> None:  # noqa: F811
    payer.user.is_staff = True
    payer.user.save(update_fields=["is_staff"])
    visitor = visit(payer.user, **window)
    for path in ("statements/adjustment/add", "statements/modelmargin", "statements/suspiciousworkspace",
                 "statements/adjustment", "vouchers/voucher/add", "vouchers/voucher"):  # fmt: skip
        visitor.go(f"/admin/{path}/")
        assert [line for line in visitor.said if "404" not in line] == []  # the admin has no icon
        assert visitor.sideways() == 0
        assert visitor.barriers() == []
    visitor.go("/admin/vouchers/voucher/add/")
    visitor.page.get_by_label("Credits for each redemption").fill("5")
    visitor.page.get_by_role("button", name="Issue").click()
    expect(visitor.page.locator("#voucher-code")).to_be_visible()
    assert visitor.sideways() == 0


def test_a_statement_mirrors(visit: Visit, payer: Payer, settings: Settings) -> None:  # noqa: F811
    settings.LANGUAGES = [("en", "English"), ("ur", "Urdu")]
    visitor = visit(payer.user, locale="ur-PK", phone=True)
    for path in (f"/billing/statements/{NOW}", "/billing/voucher", "/billing/profile"):
        visitor.go(path)
        assert visitor.page.locator("html").get_attribute("dir") == "rtl"
        visitor.assert_sound()
