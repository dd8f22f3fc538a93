"""Refunds and disputes: what they take along, what comes back, whoever begins them and however the news arrive."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from billing import reversals, stripe_api, stripe_payments, topups
from billing.models import CreditLot, Reversal, TopUp, Transfer
from core import errors
from events import audit
from events.models import AuditEvent
from tests.billing.support import CENT, actor_of, books, hear, proven, start, top_up
from tests.fakes.stripe import FakeStripe
from tests.support.money import Payer, new_payer
from usage.metering import apply_now

pytestmark = pytest.mark.django_db

State = Reversal.State
BOSS = audit.operator("test")


@pytest.fixture
def payer(db: None) -> Payer:
    return new_payer()


def spend(payer: Payer, cents: int) -> None:
    call = payer.admit(cents * CENT)
    apply_now(call)
    apply_now(payer.settle(call, cents * CENT))


def remaining(payer: Payer) -> list[int]:
    lots = CreditLot.objects.filter(wallet_id=payer.workspace.pk).order_by("pk")
    return [one // CENT for one in lots.values_list("remaining_microcredits", flat=True)]


def told(payer: Payer) -> list[str]:
    rows = AuditEvent.objects.filter(workspace_id=payer.workspace.pk, target_type="reversal").order_by("pk")
    return list(rows.values_list("action", flat=True))


# ── An operator's refund ─────────────────────────────────────────────────────────────────────────────────────────────
def test_it_works(payer: Payer, stripe: FakeStripe) -> None:
    topup = top_up(payer, stripe)
    done = reversals.refund(topup, None, "asked for", BOSS)
    assert (done.state, done.amount_cents, done.taken_microcredits) == (State.FINAL, 1_000, 1_000 * CENT)
    assert [one["amount"] for one in stripe.refunds] == [1_000]
    assert stripe.refunds[0]["metadata"]["reversal_id"] == str(done.pk)
    assert (books(payer).balance, remaining(payer)) == (0, [0])
    assert told(payer) == ["refund.request", "refund.final"]
    hear(stripe.events())
    assert books(payer).balance == 0
    assert proven()


def test_what_was_spent_becomes_a_debt(payer: Payer, stripe: FakeStripe) -> None:
    topup = top_up(payer, stripe)
    spend(payer, 400)
    reversals.refund(topup, None, "asked for", BOSS)
    assert (books(payer).balance, remaining(payer)) == (-400, [0])
    top_up(payer, stripe, 1_000)
    assert (books(payer).balance, remaining(payer)) == (600, [0, 600])
    assert proven()


def test_its_own_lot_goes_first(payer: Payer, stripe: FakeStripe) -> None:
    first, second = top_up(payer, stripe, 500), top_up(payer, stripe, 700)
    reversals.refund(second, 300, "asked for", BOSS)
    assert remaining(payer) == [500, 400]
    spend(payer, 600)
    assert remaining(payer) == [0, 300]
    reversals.refund(first, None, "asked for", BOSS)
    assert (books(payer).balance, remaining(payer)) == (-200, [0, 0])
    assert proven()


def test_several_parts_add_up_to_the_whole(payer: Payer, stripe: FakeStripe) -> None:
    topup = top_up(payer, stripe)
    for cents in (333, 333, None):
        reversals.refund(topup, cents, "part", BOSS)
    assert [one.amount_cents for one in topup.reversals.order_by("pk")] == [333, 333, 334]
    assert books(payer).balance == 0
    with pytest.raises(errors.InvalidRequest) as nothing_left:
        reversals.refund(topup, 1, "part", BOSS)
    assert nothing_left.value.param == "topup"
    assert len(stripe.refunds) == 3
    assert proven()


@pytest.mark.parametrize(("cents", "reason", "param"), [(1_001, "x", "amount_cents"), (0, "x", "amount_cents"),
                                                        (-5, "x", "amount_cents"), (5, "  ", "reason")])  # fmt: skip
def test_nonsense_changes_nothing(payer: Payer, stripe: FakeStripe, cents: int, reason: str, param: str) -> None:
    topup = top_up(payer, stripe)
    with pytest.raises(errors.InvalidRequest) as refused:
        reversals.refund(topup, cents, reason, BOSS)
    assert refused.value.param == param
    assert (books(payer).balance, stripe.refunds, told(payer)) == (1_000, [], [])


def test_what_is_not_paid_is_not_refunded(payer: Payer, stripe: FakeStripe) -> None:
    with pytest.raises(errors.InvalidRequest):
        reversals.refund(start(payer), None, "asked for", BOSS)
    assert Reversal.objects.count() == 0


def test_a_refused_refund_gives_the_credits_back(payer: Payer, stripe: FakeStripe) -> None:
    topup = top_up(payer, stripe)
    stripe.charge(topup)["disputed"] = True
    tables = stripe.demo.account.store.tables
    tables.disputes["du_x"] = {"charge": stripe.charge(topup)["id"], "is_charge_refundable": False, "status": "lost"}
    with pytest.raises(stripe_api.StripeRefused):
        reversals.refund(topup, None, "asked for", BOSS)
    (row,) = Reversal.objects.all()
    assert (row.state, row.failure, row.taken_microcredits, row.run_after) == (State.UNDONE, "refused", 0, None)
    assert (books(payer).balance, remaining(payer)) == (1_000, [0, 1_000])
    assert reversals.refundable_cents(topup) == 1_000
    assert proven()


def test_a_stripe_that_is_silent_is_asked_again_and_refunds_once(
    payer: Payer, stripe: FakeStripe, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    topup = top_up(payer, stripe)
    create = stripe_payments.create_refund

    def lost(*arguments: Any, **named: Any) -> Any:
        create(*arguments, **named)  # it was done, but nobody heard
        raise stripe_api.StripeUnavailable

    with monkeypatch.context() as patched, pytest.raises(stripe_api.StripeUnavailable):
        patched.setattr(stripe_payments, "create_refund", lost)
        reversals.refund(topup, 600, "asked for", BOSS)
    assert Reversal.objects.get().state == State.REQUESTED
    assert books(payer).balance == 400
    stripe.demo.account.store.tables.answers.clear()  # days later: Stripe has forgotten the key
    later.shift(65)
    assert reversals.sweep() == 1
    assert (Reversal.objects.get().state, len(stripe.refunds)) == (State.FINAL, 1)
    assert books(payer).balance == 400
    assert proven()


# ── Refunds made at Stripe ───────────────────────────────────────────────────────────────────────────────────────────
def test_somebody_elses_refund_takes_the_credits_once(payer: Payer, stripe: FakeStripe) -> None:
    topup = top_up(payer, stripe)
    stripe.refund(topup, 250)
    stripe.refund(topup, 250)
    for _ in range(2):
        hear(stripe.events("charge.refunded", "refund.created"))
    assert books(payer).balance == 500
    assert Reversal.objects.count() == 2
    assert proven()


def test_a_refund_that_a_bank_returns_gives_the_credits_back(payer: Payer, stripe: FakeStripe, later: Any) -> None:
    topup = start(payer)
    stripe.pay(topup, "late_success")
    later.shift(10)
    stripe.tick()
    topups.reconcile(topup)
    done = reversals.refund(topup, None, "asked for", BOSS)
    assert (done.state, books(payer).balance) == (State.OPEN, 0)
    stripe.reversals.settle_refund(stripe.refunds[0], succeeds=False)
    hear(stripe.events("refund.failed"))
    done.refresh_from_db()
    assert (done.state, done.failure, books(payer).balance) == (State.UNDONE, "insufficient_funds", 1_000)
    again = reversals.refund(topup, None, "once more", BOSS)
    assert remaining(payer) == [0, 0]
    assert again.taken_microcredits == 1_000 * CENT
    assert proven()


def test_an_open_refund_is_asked_about_where_no_webhook_comes(payer: Payer, stripe: FakeStripe, later: Any) -> None:
    topup = start(payer)
    stripe.pay(topup, "late_success")
    later.shift(10)
    stripe.tick()
    topups.reconcile(topup)
    done = reversals.refund(topup, None, "asked for", BOSS)
    later.shift(65)
    stripe.tick()
    assert reversals.sweep() == 1
    done.refresh_from_db()
    assert (done.state, done.run_after) == (State.FINAL, None)


def test_news_of_a_refund_may_come_before_those_of_the_payment(payer: Payer, stripe: FakeStripe) -> None:
    topup = start(payer)
    stripe.pay(topup)
    TopUp.objects.filter(pk=topup.pk).update(stripe_session_id=None)
    intent = stripe.payments[0]
    stripe.reversals.create_refund({"payment_intent": intent["id"], "amount": 400})
    hear(stripe.events("refund.created"))
    topup.refresh_from_db()
    assert (topup.state, books(payer).balance) == (TopUp.State.PAID, 600)
    assert proven()


def test_tax_is_no_credit(payer: Payer, settings: Any) -> None:
    taxed = FakeStripe(tax_percent=19)
    settings.STRIPE_API_BASE, settings.STRIPE_SECRET_KEY = taxed.url, "sk_test_" + "k" * 24
    settings.STRIPE_AUTOMATIC_TAX, settings.DEMO_PAYMENTS = True, True
    try:
        topup = top_up(payer, taxed, 1_000)
        assert (topup.charged_cents, books(payer).balance) == (1_190, 1_000)
        assert reversals.refundable_cents(topup) == 1_190
        reversals.refund(topup, 595, "half", BOSS)
        assert books(payer).balance == 500
        for cents in (100, 100, None):
            reversals.refund(topup, cents, "rest", BOSS)
        assert books(payer).balance == 0
        assert proven()
    finally:
        taxed.stop()


# ── Disputes ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_dispute_takes_and_its_win_gives_back(payer: Payer, stripe: FakeStripe) -> None:
    topup = top_up(payer, stripe)
    spend(payer, 100)
    dispute = stripe.dispute(topup)
    hear(stripe.events("charge.dispute.created"))
    assert (books(payer).balance, reversals.refundable_cents(topup)) == (-100, 0)
    stripe.reversals.close_dispute(dispute, "won")
    hear(stripe.events("charge.dispute.closed"))
    row = Reversal.objects.get()
    assert (row.state, row.kind, row.stripe_status) == (State.UNDONE, "dispute", "won")
    assert (books(payer).balance, remaining(payer)) == (900, [0, 900])
    kinds = Transfer.objects.filter(reference=row.pk).order_by("sequence").values_list("kind", "amount_microcredits")
    assert [(kind, amount // CENT) for kind, amount in kinds] == [("dispute", 900), ("dispute", 100), ("dispute", 1000)]
    assert proven()


def test_a_lost_dispute_is_final(payer: Payer, stripe: FakeStripe) -> None:
    topup = top_up(payer, stripe)
    dispute = stripe.dispute(topup)
    stripe.reversals.close_dispute(dispute, "lost")
    hear(stripe.events())
    assert (Reversal.objects.get().state, books(payer).balance) == (State.FINAL, 0)
    assert proven()


def test_an_inquiry_takes_nothing_until_it_is_more(payer: Payer, stripe: FakeStripe) -> None:
    topup = top_up(payer, stripe)
    inquiry = stripe.dispute(topup, inquiry=True)
    hear(stripe.events())
    assert books(payer).balance == 1_000
    stripe.reversals.escalate(inquiry)
    hear(stripe.events())
    assert books(payer).balance == 0
    stripe.reversals.close_dispute(inquiry, "won")
    hear(stripe.events())
    assert books(payer).balance == 1_000
    assert proven()


def test_refund_and_dispute_together_take_no_more_than_was_bought(payer: Payer, stripe: FakeStripe) -> None:
    topup = top_up(payer, stripe)
    refund = stripe.refund(topup, 400)
    dispute = stripe.dispute(topup, amount=1_000)
    hear(stripe.events())
    assert books(payer).balance == 0
    stripe.reversals.settle_refund(refund, succeeds=False)
    hear(stripe.events("refund.failed"))
    assert books(payer).balance == 0  # the dispute takes what the refund gave back
    stripe.reversals.close_dispute(dispute, "won")
    hear(stripe.events())
    assert books(payer).balance == 1_000
    assert proven()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_order_does_not_matter(payer: Payer, stripe: FakeStripe, order: tuple[int, ...]) -> None:
    topup = top_up(payer, stripe)
    stripe.reversals.close_dispute(stripe.dispute(topup), "won")
    stripe.refund(topup, 300)
    events = stripe.events("charge.dispute.created", "charge.dispute.closed", "refund.created")
    for index in order:
        hear([events[index]])
    assert books(payer).balance == 700
    assert proven()


# ── A thousand webhooks ──────────────────────────────────────────────────────────────────────────────────────────────
def test_a_thousand_doubled_and_shuffled_webhooks_give_exactly_the_right_balance(
    payer: Payer, stripe: FakeStripe, later: Any
) -> None:
    """Top-ups, refunds, refunds that fail, disputes that are won and lost: the balance is the sum of what stayed."""
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    wanted = 0
    for number in range(30):
        if number % 15 == 14:
            later.shift(3_700)  # so many an hour
        cents = dice.randrange(200, 5_000)
        topup = start(payer, cents)
        stripe.pay(topup, dice.choice(["success", "success", "decline"]))
        intent = next((one for one in stripe.payments if one["metadata"]["topup_id"] == str(topup.pk)), None)
        if intent is None or intent["status"] != "succeeded":
            continue
        wanted += cents + _reverse(stripe, dice, intent, cents)
    storm = stripe.events() * (1_000 // len(stripe.events()) + 1)
    dice.shuffle(storm)
    assert len(storm) >= 1_000
    for start_at in range(0, len(storm), 50):
        hear(storm[start_at : start_at + 50])
    assert books(payer).balance == wanted, f"seed {seed}"
    assert proven()
    hear(storm[:50])
    assert books(payer).balance == wanted, f"seed {seed}"


def _reverse(stripe: FakeStripe, dice: random.Random, intent: dict[str, Any], cents: int) -> int:
    """What banks and dashboards do to one payment; the change of the balance in the end, in cents."""
    kind = dice.choice(["nothing", "refund", "returned", "two", "won", "lost", "inquiry"])
    charge = stripe.demo.account.store.tables.charges[intent["latest_charge"]]
    part = dice.randrange(1, cents)
    if kind in ("refund", "returned", "two"):
        first = stripe.reversals.create_refund({"charge": charge["id"], "amount": part})
        if kind == "returned":
            stripe.reversals.settle_refund(first, succeeds=False)
            return 0
        if kind == "two":
            stripe.reversals.create_refund({"charge": charge["id"]})
            return -cents
        return -part
    if kind in ("won", "lost", "inquiry"):
        dispute = stripe.reversals.dispute(charge, inquiry=kind == "inquiry")
        stripe.reversals.close_dispute(dispute, "warning_closed" if kind == "inquiry" else kind)
        return -cents if kind == "lost" else 0
    return 0


def test_the_actor_is_kept(payer: Payer, stripe: FakeStripe) -> None:
    done = reversals.refund(top_up(payer, stripe), 100, "asked for", actor_of(payer))
    assert done.requested_by == payer.user
    first = AuditEvent.objects.filter(target_type="reversal").order_by("pk").first()
    assert first is not None
    assert (first.actor_id, first.details["reason"]) == (payer.user.pk, "asked for")
