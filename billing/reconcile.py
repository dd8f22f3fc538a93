"""Stripe against the books: every payment, refund and dispute of a time on either side, and each difference by name.

It changes nothing; `topups.heal` and the sweeps do. What is left after those is for a person: the report stands in the
admin, ``manage.py reconcile_stripe`` prints it and ends with 1.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings

from billing import reversals, stripe_api, stripe_keys, stripe_payments, topups
from billing.models import Reversal, StripeReport, TopUp
from core import clock

log = logging.getLogger(__name__)

#: What is younger than this may be on its way between the two.
SETTLING: Final = timedelta(minutes=10)
LOOK_BACK: Final = timedelta(days=35)
#: A payment is made after its top-up was begun; this much earlier or later the two may lie.
_MARGIN: Final = timedelta(days=8)
MOST_KEPT: Final = 1_000


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing on which the two disagree. ``ours`` and ``theirs`` say how each has it."""

    kind: str
    stripe_id: str
    topup_id: str
    ours: str
    theirs: str


@dataclass(slots=True)
class _Seen:
    payments: int = 0
    refunds: int = 0
    disputes: int = 0


def run(now: datetime | None = None, *, since: timedelta = LOOK_BACK) -> StripeReport:
    """Compare everything from ``since`` ago until a few minutes ago, and keep the report. Raises StripeFailed."""
    until = (now or clock.now()) - SETTLING
    start = until - since
    seen = _Seen()
    parts = (_of_payments(start, until, seen), _of_refunds(start, until, seen), _of_disputes(start, until, seen))
    differences = list(itertools.chain(*parts))
    report = StripeReport.objects.create(
        since=start,
        until=until,
        is_demo=settings.DEMO_PAYMENTS,
        payments=seen.payments,
        refunds=seen.refunds,
        disputes=seen.disputes,
        differences=[asdict(one) for one in differences[:MOST_KEPT]],
    )
    for one in differences:
        log.error("Stripe and the books differ", extra=asdict(one))
    return report


def nightly(now: datetime | None = None) -> StripeReport | None:
    """Heal what can be healed, then compare. None where no payments are configured."""
    if not stripe_keys.is_configured():
        return None
    topups.heal(now)
    reversals.sweep(now)
    return run(now)


# ── Payments ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _of_payments(since: datetime, until: datetime, seen: _Seen) -> Iterator[Difference]:
    theirs: set[str] = set()
    for payment in stripe_payments.payments_between(since, until):
        if payment.topup_id is None:
            continue  # the account may serve another shop
        seen.payments += 1
        theirs.add(payment.id)
        yield from _payment(payment)
    yield from _without_payment(since, until, theirs)


def _payment(payment: stripe_payments.Payment) -> Iterator[Difference]:
    topup = TopUp.objects.filter(pk=payment.topup_id).first() if payment.topup_id else None
    told = f"{payment.status} {payment.received_cents} {payment.currency}"
    if topup is None:
        if payment.status == "succeeded":
            yield Difference("payment_without_topup", payment.id, str(payment.topup_id), "", told)
        return
    paid = topup.state == TopUp.State.PAID
    ours = f"{topup.state} {reversals.paid_cents(topup)} {topup.currency}"
    if topup.failure == topups.MISMATCH and reversals.refundable_cents(topup) == 0:
        return  # an operator has looked: it went back
    if payment.status == "succeeded" and not paid:
        kind = "mismatch" if topup.failure == topups.MISMATCH else "payment_not_credited"
        yield Difference(kind, payment.id, str(topup.pk), f"{ours} {topup.failure}".strip(), told)
    elif paid and topup.stripe_payment_intent_id == payment.id:
        wanted = (reversals.paid_cents(topup), topup.currency)
        if payment.status != "succeeded" or (payment.received_cents, payment.currency) != wanted:
            yield Difference("payment_differs", payment.id, str(topup.pk), ours, told)
    elif paid and payment.status == "succeeded":
        yield Difference("paid_twice", payment.id, str(topup.pk), f"paid by {topup.stripe_payment_intent_id}", told)


def _without_payment(since: datetime, until: datetime, theirs: set[str]) -> Iterator[Difference]:
    """Top-ups that were credited and whose payment Stripe does not list."""
    paid = TopUp.objects.filter(
        state=TopUp.State.PAID, is_demo=settings.DEMO_PAYMENTS, created_at__gte=since, completed_at__lt=until
    )
    for topup in paid.order_by("pk").iterator(chunk_size=500):
        if topup.stripe_payment_intent_id not in theirs and not _is_there(topup.stripe_payment_intent_id):
            ours = f"{topup.state} {reversals.paid_cents(topup)} {topup.currency}"
            yield Difference("topup_without_payment", topup.stripe_payment_intent_id, str(topup.pk), ours, "")


def _is_there(payment_id: str) -> bool:
    """A payment that the list left out, since it was made outside the time that was asked for."""
    if not payment_id:
        return False
    try:
        return stripe_payments.retrieve_payment(payment_id).status == "succeeded"
    except stripe_api.NotAtStripe:
        return False


# ── Refunds and disputes ─────────────────────────────────────────────────────────────────────────────────────────────
def _of_refunds(since: datetime, until: datetime, seen: _Seen) -> Iterator[Difference]:
    theirs: set[str] = set()
    for refund in stripe_payments.refunds_between(since, until):
        topup = _topup_of(refund.payment_id)
        if topup is None:
            continue
        seen.refunds += 1
        theirs.add(refund.id)
        row = Reversal.objects.filter(stripe_id=refund.id).first()
        yield from _reversal("refund", refund.id, topup, row, refund.status, refund.amount_cents)
    yield from _without_reversal(Reversal.Kind.REFUND, since, until, theirs)


def _of_disputes(since: datetime, until: datetime, seen: _Seen) -> Iterator[Difference]:
    theirs: set[str] = set()
    for dispute in stripe_payments.disputes_between(since, until):
        topup = _topup_of(dispute.payment_id)
        if topup is None:
            continue
        seen.disputes += 1
        theirs.add(dispute.id)
        row = Reversal.objects.filter(stripe_id=dispute.id).first()
        yield from _reversal("dispute", dispute.id, topup, row, dispute.status, dispute.amount_cents)
    yield from _without_reversal(Reversal.Kind.DISPUTE, since, until, theirs)


def _topup_of(payment_id: str) -> UUID | None:
    if not payment_id:
        return None
    return TopUp.objects.filter(stripe_payment_intent_id=payment_id).values_list("pk", flat=True).first()


def _reversal(
    kind: str, stripe_id: str, topup_id: UUID, row: Reversal | None, status: str, amount_cents: int
) -> Iterator[Difference]:
    told = f"{status} {amount_cents}"
    if row is None:
        yield Difference(f"{kind}_not_booked", stripe_id, str(topup_id), "", told)
    elif (row.stripe_status, row.amount_cents) != (status, amount_cents):
        ours = f"{row.stripe_status} {row.amount_cents}"
        yield Difference(f"{kind}_differs", stripe_id, str(topup_id), ours, told)


def _without_reversal(kind: str, since: datetime, until: datetime, theirs: set[str]) -> Iterator[Difference]:
    """What we took credits for and Stripe does not list; and refunds that were never sent."""
    rows = Reversal.objects.filter(
        kind=kind, topup__is_demo=settings.DEMO_PAYMENTS, created_at__gte=since + _MARGIN, created_at__lt=until
    ).exclude(state=Reversal.State.UNDONE, stripe_id=None)
    for row in rows.order_by("pk").iterator(chunk_size=500):
        if row.stripe_id not in theirs:
            ours = f"{row.state} {row.amount_cents}"
            yield Difference(f"{kind}_not_at_stripe", row.stripe_id or "", str(row.topup_id), ours, "")
