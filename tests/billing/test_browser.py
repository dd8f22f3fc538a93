"""Billing in a real browser: sound in every window, and an automatic top-up set up by keyboard and mouse."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect
from pytest_django import Settings

from accounts import reauth
from billing import auto, reversals, topups
from billing.models import AutoTopUp
from core import clock
from events import audit
from orgs import organizations
from tests import factories
from tests.billing.support import CENT, actor_of, hear, start, top_up, with_card
from tests.fakes.stripe import KEY, SECRET, FakeStripe
from tests.look.conftest import Visit, browser, person, server, site, visit  # noqa: F401  (fixtures)
from tests.support.money import Payer, new_payer
from usage.metering import apply_now

pytestmark = pytest.mark.browser

WINDOWS = pytest.mark.parametrize(
    "window", [{}, {"dark": True}, {"phone": True}, {"phone": True, "dark": True}],
    ids=["light", "dark", "phone", "phone-dark"],
)  # fmt: skip


@pytest.fixture
def stripe(settings: Settings, site: str) -> Iterator[FakeStripe]:  # noqa: F811
    fake = FakeStripe()
    settings.STRIPE_API_BASE, settings.STRIPE_SECRET_KEY = fake.url, KEY
    settings.STRIPE_WEBHOOK_SECRETS, settings.DEMO_PAYMENTS = [SECRET], True
    yield fake
    fake.stop()


@pytest.fixture
def payer(stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch) -> Iterator[Payer]:
    """Somebody with a bit of everything: refunds, a dispute, a gift that ends, a debt, a pause."""
    monkeypatch.setattr(reauth, "is_recent", lambda request: True)
    payer = new_payer()
    topup = top_up(payer, stripe, 2_500)
    with_card(payer, stripe, "success_then_asks")
    reversals.refund(topup, 300, "asked for", audit.operator("test"))
    stripe.dispute(topup, amount=2_200)
    hear(stripe.events("charge.dispute.created"))
    auto.configure(
        payer.workspace, actor=actor_of(payer), enabled=True, below_microcredits=500 * CENT, amount_cents=2_000,
        monthly_cap_cents=10_000,
    )  # fmt: skip
    call = payer.admit(900 * CENT)
    apply_now(call)
    apply_now(payer.settle(call, 1_234 * CENT + 567))
    auto.sweep()
    yield payer
    AutoTopUp.objects.update(enabled=False, mail_due="")


@WINDOWS
def test_the_pages_are_sound(visit: Visit, payer: Payer, window: dict[str, bool]) -> None:  # noqa: F811
    visitor = visit(payer.user, **window)
    for path in ("/billing", "/billing/auto-topup", "/billing/card/remove"):
        visitor.go(path)
        if folder := os.environ.get("SCREENSHOTS"):
            name = "-".join([path.strip("/").replace("/", "-"), *window])
            visitor.page.screenshot(path=Path(folder, f"{name}.png"), full_page=True)
        visitor.assert_sound()


@WINDOWS
def test_the_page_after_paying_for_a_deleted_organization_is_sound(
    visit: Visit,  # noqa: F811
    stripe: FakeStripe,
    window: dict[str, bool],
) -> None:
    workspace = factories.organization()
    owner = factories.member(workspace, "owner")
    payer = Payer(owner, workspace, factories.api_key(workspace, created_by=owner).key)
    topup = start(payer, 2_500)
    organizations.delete(workspace, actor=actor_of(payer), typed_name=workspace.name)
    stripe.pay(topup)
    visitor = visit(owner, **window)
    visitor.go(f"/billing/topups/{topup.pk}/return")
    expect(visitor.page.get_by_role("heading", name="Your payment goes back to you")).to_be_visible()
    if folder := os.environ.get("SCREENSHOTS"):
        visitor.page.screenshot(path=Path(folder, "-".join(["return-deleted", *window]) + ".png"), full_page=True)
    visitor.assert_sound()
    topups.follow_up(topup.pk)


def test_an_automatic_top_up_is_set_up(
    visit: Visit,  # noqa: F811
    stripe: FakeStripe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reauth, "is_recent", lambda request: True)
    payer = new_payer()
    payer.give(5 * CENT, "promotional", clock.now() + timedelta(days=3))
    with_card(payer, stripe)
    page = (visitor := visit(payer.user, phone=True)).page
    visitor.go("/billing")
    page.get_by_role("link", name="Set up").click()
    page.get_by_label("Top up automatically").check()
    page.get_by_label("When the balance falls below").fill("300")
    page.get_by_label("Charge", exact=True).fill("25")
    page.get_by_label("At most a month (UTC)").fill("5")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The cap is at least one top-up.")).to_be_visible()
    page.get_by_label("At most a month (UTC)").fill("100")
    page.get_by_role("button", name="Save").dblclick()
    expect(page.get_by_text("Charged by itself this month (UTC)")).to_be_visible()
    rule = AutoTopUp.objects.get(pk=payer.workspace.pk)
    assert (rule.enabled, rule.amount_cents, rule.below_microcredits) == (True, 2_500, 300 * CENT)
    page.get_by_role("link", name="Remove card").click()
    page.get_by_role("button", name="Remove card").click()
    expect(page.get_by_text("The card was removed.")).to_be_visible()
    rule.refresh_from_db()
    assert not rule.enabled
