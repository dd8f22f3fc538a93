"""The comparison with Stripe: silent where both agree, and each kind of difference by its name."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from billing import reconcile, reversals, topups
from billing.models import Reversal, StripeReport, TopUp
from core import ids
from events import audit
from tests.billing.support import books, hear, start, top_up
from tests.fakes.stripe import FakeStripe
from tests.support.money import Payer, new_payer
from usage import verify

pytestmark = pytest.mark.django_db

BOSS = audit.operator("test")


@pytest.fixture
def payer(db: None) -> Payer:
    return new_payer()


@pytest.fixture
def settled(later: Any) -> Any:
    """Call it to let so much time go by that nothing is on its way any more."""
    return lambda: later.shift(reconcile.SETTLING + timedelta(seconds=5))


def kinds() -> list[str]:
    return [one["kind"] for one in reconcile.run().differences]


def test_where_both_agree_nothing_is_said(payer: Payer, stripe: FakeStripe, settled: Any) -> None:
    reversals.refund(top_up(payer, stripe), 300, "asked for", BOSS)
    stripe.reversals.close_dispute(stripe.dispute(top_up(payer, stripe)), "won")
    stripe.pay(start(payer), "decline")
    start(payer)
    hear(stripe.events())
    settled()
    report = reconcile.run()
    assert (report.payments, report.refunds, report.disputes, report.differences) == (3, 1, 1, [])
    assert verify.verify().clean


def test_what_is_on_its_way_is_left_alone(payer: Payer, stripe: FakeStripe) -> None:
    stripe.pay(start(payer))
    assert kinds() == []


def test_a_payment_that_was_not_credited(payer: Payer, stripe: FakeStripe, settled: Any) -> None:
    topup = start(payer)
    stripe.pay(topup)
    settled()
    report = reconcile.run()
    (one,) = report.differences
    assert one == {
        "kind": "payment_not_credited",
        "stripe_id": stripe.payments[0]["id"],
        "topup_id": str(topup.pk),
        "ours": "pending 1000 usd",
        "theirs": "succeeded 1000 usd",
    }
    assert [finding.check.name for finding in verify.verify().findings] == ["stripe"]
    healed = reconcile.nightly()
    assert healed is not None
    assert (healed.differences, books(payer).balance) == ([], 1_000)
    assert verify.verify().clean


def test_a_payment_of_a_top_up_that_nobody_knows(payer: Payer, stripe: FakeStripe, settled: Any) -> None:
    stripe.pay(start(payer))
    stripe.payments[0]["metadata"]["topup_id"] = str(ids.uuid7())
    settled()
    assert kinds() == ["payment_without_topup"]


def test_another_shop_of_the_account_is_none_of_ours(payer: Payer, stripe: FakeStripe, settled: Any) -> None:
    stripe.pay(start(payer))
    stripe.payments[0]["metadata"].clear()
    settled()
    assert kinds() == []


def test_a_mismatch_stays_a_difference_until_somebody_looks(payer: Payer, stripe: FakeStripe, settled: Any) -> None:
    topup = start(payer)
    stripe.session(topup)["amount_subtotal"] = 700
    stripe.pay(topup)
    topups.reconcile(topup)
    settled()
    assert kinds() == ["mismatch"]
    reversals.refund(TopUp.objects.get(), None, "not what was asked for", BOSS)
    assert (kinds(), books(payer).balance) == ([], 0)


def test_a_payment_that_differs(payer: Payer, stripe: FakeStripe, settled: Any) -> None:
    top_up(payer, stripe)
    stripe.payments[0]["amount_received"] = 999
    settled()
    assert kinds() == ["payment_differs"]


def test_a_top_up_without_a_payment(payer: Payer, stripe: FakeStripe, settled: Any) -> None:
    top_up(payer, stripe)
    TopUp.objects.update(stripe_payment_intent_id="pi_invented")
    settled()
    assert kinds() == ["paid_twice", "topup_without_payment"]


def test_refunds_and_disputes_that_nobody_told_of(payer: Payer, stripe: FakeStripe, settled: Any) -> None:
    stripe.refund(top_up(payer, stripe), 100)
    stripe.dispute(top_up(payer, stripe))
    settled()
    assert kinds() == ["refund_not_booked", "dispute_not_booked"]
    hear(stripe.events())
    assert kinds() == []


def test_a_refund_that_stands_otherwise(payer: Payer, stripe: FakeStripe, settled: Any) -> None:
    reversals.refund(top_up(payer, stripe), 100, "asked for", BOSS)
    stripe.reversals.settle_refund(stripe.refunds[0], succeeds=False)
    settled()
    assert kinds() == ["refund_differs"]


def test_a_refund_that_stripe_does_not_have(payer: Payer, stripe: FakeStripe, settled: Any) -> None:
    reversals.refund(top_up(payer, stripe), 100, "asked for", BOSS)
    Reversal.objects.update(stripe_id="re_invented")
    settled()
    assert kinds() == ["refund_not_booked", "refund_not_at_stripe"]


# ── The command ──────────────────────────────────────────────────────────────────────────────────────────────────────
def command(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("reconcile_stripe", *arguments, stdout=out, stderr=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


def test_the_exit_code_tells(payer: Payer, stripe: FakeStripe, settled: Any) -> None:
    stripe.pay(start(payer))
    settled()
    code, text = command()
    assert code == 1
    assert "payment_not_credited" in text
    code, text = command("--json", "--heal")
    assert (code, json.loads(text)) == (0, {"payments": 1, "refunds": 0, "disputes": 0, "differences": []})
    assert StripeReport.objects.count() == 2


def test_a_silent_stripe_is_no_proof(payer: Payer, stripe: FakeStripe, settings: Settings) -> None:
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    assert command()[0] == 2
    assert not StripeReport.objects.exists()
    settings.STRIPE_SECRET_KEY = ""
    with pytest.raises(CommandError):
        command()
