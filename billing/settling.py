"""What Stripe says of a top-up becomes the state of its row, and its credits, exactly once.

Whoever brings the news (webhook, return page, sweep) ends here: the top-up's row is locked and done with as Stripe's
own session or payment says, so that order, repetition and loss change nothing. A top-up's row is locked before its
wallet's; nothing locks them the other way round.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction

from billing import ledger, stripe_api, stripe_keys, stripe_payments
from billing.models import HOUSE_ACCOUNTS, Account, CreditLot, TopUp, Transfer
from core import background, clock, faults, money
from events import audit, outbox

log = logging.getLogger(__name__)

State = TopUp.State
OPEN: Final = (State.PENDING, State.PROCESSING)
FIRST_LOOK: Final = timedelta(seconds=60)

#: Words in ``TopUp.failure`` that are ours; the others are Stripe's codes.
MISMATCH: Final = "mismatch"
NOT_OPENED: Final = "not_opened"
NOT_AT_STRIPE: Final = "not_at_stripe"

_PAID: Final = (
    *("state", "failure", "lot", "stripe_session_id", "stripe_payment_intent_id", "stripe_charge_id", "receipt_url"),
    *("stripe_payment_method_id", "charged_cents", "completed_at", "checked_at", "run_after", "attempts"),
)


@dataclass(frozen=True, slots=True)
class Paid:
    """A payment that was made: where it stands at Stripe, and what was paid in all, tax included."""

    payment_id: str
    charge_id: str
    receipt_url: str
    charged_cents: int
    session_id: str | None = None
    payment_method_id: str = ""


def settle(topup_id: UUID, session: stripe_api.Session) -> TopUp:
    """Bring a top-up to where its session is. Any number of calls, in any order, end alike."""
    if session.payment_status == "paid":
        return complete(topup_id, session)
    if session.status == "expired":
        return expire(topup_id)
    if session.status == "complete":
        # A bank debit: on its way for days, until it is paid or its payment asks for another method.
        ended = session.intent_status in ("requires_payment_method", "canceled")
        if ended:
            return fail(topup_id, session.failure_code or "payment_failed")
        return process(topup_id, session.payment_intent_id)
    return TopUp.objects.get(pk=topup_id)


@transaction.atomic
def complete(topup_id: UUID, session: stripe_api.Session) -> TopUp:
    """Credit a paid session, once. A session that is not this top-up's to the cent credits nothing and is reported.

    Whatever else we believed before (failed, expired): money that came is credited.
    """
    topup = locked(topup_id)
    if topup.state == State.PAID:
        return topup
    if differs := _differences(topup, session):
        return _refuse(topup, paid_session(session), differs)
    return credit(topup, paid_session(session))


@transaction.atomic
def complete_payment(topup_id: UUID, payment: stripe_payments.Payment) -> TopUp:
    """`complete` for a payment without a session: an automatic top-up."""
    topup = locked(topup_id)
    if topup.state == State.PAID:
        return topup
    if differs := _payment_differences(topup, payment):
        return _refuse(topup, paid_payment(payment), differs)
    return credit(topup, paid_payment(payment))


def paid_session(session: stripe_api.Session) -> Paid:
    """The facts of a session that was paid."""
    return Paid(
        payment_id=session.payment_intent_id,
        charge_id=session.charge_id,
        receipt_url=session.receipt_url,
        charged_cents=session.amount_total_cents,
        session_id=session.id,
        payment_method_id=session.payment_method_id,
    )


def paid_payment(payment: stripe_payments.Payment) -> Paid:
    """The facts of a payment without a session."""
    return Paid(payment.id, payment.charge_id, payment.receipt_url, payment.received_cents)


def credit(topup: TopUp, paid: Paid, *, actor: audit.Actor = audit.SYSTEM) -> TopUp:
    """Post the credits of a locked top-up and say so; inside the caller's transaction. Posting twice posts once."""
    now = clock.now()
    lot = ledger.grant(
        topup.wallet_id,
        kind=CreditLot.Kind.DEMO if topup.is_demo else CreditLot.Kind.PAID,
        amount_microcredits=topup.credits_microcredits,
        transfer_kind=Transfer.Kind.TOPUP,
        reference=topup.pk,
        source_account=source_account(topup),
        at=now,
    )
    topup.lot = lot or _lot_of(topup)
    topup.state, topup.failure = State.PAID, ""
    topup.stripe_session_id = paid.session_id or topup.stripe_session_id
    topup.stripe_payment_intent_id = paid.payment_id
    topup.stripe_payment_method_id = paid.payment_method_id or topup.stripe_payment_method_id
    topup.stripe_charge_id, topup.receipt_url = paid.charge_id, paid.receipt_url
    topup.charged_cents = paid.charged_cents
    topup.completed_at = topup.checked_at = now
    # A worker sends the receipt at once; the sweep does it where none heard.
    topup.run_after, topup.attempts = now + FIRST_LOOK, 0
    faults.point("topup.credited")
    topup.save(update_fields=_PAID)
    record("topup.complete", topup, actor)
    _tell(topup)
    background.enqueue_on_commit("billing.tasks.follow_up_topup", str(topup.pk), job_id=f"topup-mail-{topup.pk}")
    return topup


def _tell(topup: TopUp) -> None:
    data = {
        "topupId": topup.pk,
        "source": topup.source,
        "amountCents": topup.amount_cents,
        "currency": topup.currency,
        "credits": money.credits_json(topup.credits_microcredits),
    }
    outbox.tell(topup.wallet_id, "topup.completed", data)


def locked(topup_id: UUID) -> TopUp:
    """The top-up with its row locked until the transaction ends."""
    return TopUp.objects.select_for_update(of=("self",)).get(pk=topup_id)


def source_account(topup: TopUp) -> UUID:
    """The house's account that a top-up's money comes from, and goes back to."""
    return HOUSE_ACCOUNTS[Account.Kind.DEMO if topup.is_demo else Account.Kind.STRIPE]


def _lot_of(topup: TopUp) -> CreditLot:
    """The lot that an earlier posting of this top-up made."""
    posted = Transfer.objects.get(reference=topup.pk, kind=Transfer.Kind.TOPUP)
    assert posted.lot_id is not None
    return CreditLot.objects.get(pk=posted.lot_id)


def _differences(topup: TopUp, session: stripe_api.Session) -> dict[str, list[str]]:
    """What of the session is not as this top-up asked for it: name to wanted and found."""
    pairs = {
        "topup": (topup.pk, session.topup_id),
        "session": (topup.stripe_session_id or session.id, session.id),
        # Tax comes on top of the subtotal and is no credit.
        "amount_cents": (topup.amount_cents, session.amount_subtotal_cents - session.amount_discount_cents),
        "currency": (topup.currency, session.currency),
        "livemode": (stripe_keys.expects_livemode(), session.livemode),
        "demo": (topup.is_demo, settings.DEMO_PAYMENTS),
    }
    return {name: [str(wanted), str(found)] for name, (wanted, found) in pairs.items() if wanted != found}


def _payment_differences(topup: TopUp, payment: stripe_payments.Payment) -> dict[str, list[str]]:
    """The same of a payment without a session, which bears no tax."""
    pairs = {
        "topup": (topup.pk, payment.topup_id),
        "amount_cents": (topup.amount_cents, payment.received_cents),
        "currency": (topup.currency, payment.currency),
        "livemode": (stripe_keys.expects_livemode(), payment.livemode),
        "demo": (topup.is_demo, settings.DEMO_PAYMENTS),
    }
    return {name: [str(wanted), str(found)] for name, (wanted, found) in pairs.items() if wanted != found}


def _refuse(topup: TopUp, paid: Paid, differs: dict[str, list[str]]) -> TopUp:
    """Money came that is not what was asked for: an operator has to look, so it is told once, loudly."""
    if topup.failure != MISMATCH:
        log.error("payment %s does not fit top-up %s: %s", paid.session_id or paid.payment_id, topup.pk, differs)
        topup.stripe_payment_intent_id, topup.charged_cents = paid.payment_id, paid.charged_cents
        topup.save(update_fields=["stripe_payment_intent_id", "charged_cents"])
        _end(topup, State.FAILED, MISMATCH)
        record("topup.mismatch", topup, audit.SYSTEM, session=paid.session_id, payment=paid.payment_id, differs=differs)
    return topup


@transaction.atomic
def process(topup_id: UUID, payment_id: str) -> TopUp:
    """A bank takes its time: the top-up waits for it."""
    topup = locked(topup_id)
    if topup.state == State.PENDING:
        topup.state, topup.attempts = State.PROCESSING, 0
        topup.stripe_payment_intent_id = payment_id
        topup.run_after = clock.now() + FIRST_LOOK
        topup.save(update_fields=["state", "attempts", "stripe_payment_intent_id", "run_after"])
    return topup


@transaction.atomic
def fail(topup_id: UUID, failure: str) -> TopUp:
    """End an open top-up without credits; ``failure`` is a code, Stripe's or one of ours."""
    topup = locked(topup_id)
    if topup.state in OPEN:
        _end(topup, State.FAILED, failure)
        record("topup.fail", topup, audit.SYSTEM, failure=failure)
    return topup


@transaction.atomic
def expire(topup_id: UUID) -> TopUp:
    """End an open top-up whose pay page closed unpaid."""
    topup = locked(topup_id)
    if topup.state in OPEN:
        _end(topup, State.EXPIRED, "")
    return topup


def _end(topup: TopUp, state: TopUp.State, failure: str) -> None:
    topup.state, topup.failure, topup.run_after = state, failure, None
    topup.save(update_fields=["state", "failure", "run_after"])


def record(action: str, topup: TopUp, actor: audit.Actor, **details: object) -> None:
    """Write into the audit trail what happened to a top-up; inside the transaction in which it did."""
    audit.record(
        action,
        actor=actor,
        target=audit.Target("topup", topup.pk, f"${topup.amount_cents // 100}.{topup.amount_cents % 100:02d}"),
        workspace_id=topup.wallet_id,
        details={"amount_cents": topup.amount_cents, "demo": topup.is_demo, **details},
    )
