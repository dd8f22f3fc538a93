"""Stripe's webhooks: stored first, handled once, in any order.

A row in the database is the truth; the wake-up of a worker only makes it quick. An event says no more than which
object changed: that object is read again from Stripe, so a late or doubled event changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from billing import customers, reversals, stripe_api, stripe_keys, topups
from billing.models import StripeEvent
from core import background, clock, faults
from core.logs import scrub

log = logging.getLogger(__name__)

State = StripeEvent.State
#: A handler that has not reported back after this is taken for dead.
LEASE: Final = timedelta(minutes=3)
FIRST_PAUSE: Final = timedelta(seconds=30)
LONGEST_PAUSE: Final = timedelta(hours=6)
#: With those pauses about three days, as long as Stripe itself keeps trying.
MAX_ATTEMPTS: Final = 20


class WrongMode(stripe_api.BadWebhook):
    """An event of test mode where real money moves, or the other way round."""


def _session_changed(session_id: str) -> bool:
    return topups.reconcile_session(session_id) is not None


def _payment_changed(payment_id: str) -> bool:
    return topups.reconcile_payment(payment_id) is not None


def _refund_changed(refund_id: str) -> bool:
    return reversals.follow_refund(refund_id) is not None


def _dispute_changed(dispute_id: str) -> bool:
    return reversals.follow_dispute(dispute_id) is not None


#: What to do about an object. False means that it is none of ours.
HANDLERS: Final[Mapping[str, Callable[[str], bool]]] = {
    "checkout.session.completed": _session_changed,
    "checkout.session.async_payment_succeeded": _session_changed,
    "checkout.session.async_payment_failed": _session_changed,
    "checkout.session.expired": _session_changed,
    "payment_intent.succeeded": _payment_changed,
    "payment_intent.processing": _payment_changed,
    "payment_intent.payment_failed": _payment_changed,
    "payment_intent.canceled": _payment_changed,
    "charge.refunded": reversals.follow_charge,
    "charge.refund.updated": _refund_changed,
    "refund.created": _refund_changed,
    "refund.updated": _refund_changed,
    "refund.failed": _refund_changed,
    "charge.dispute.created": _dispute_changed,
    "charge.dispute.updated": _dispute_changed,
    "charge.dispute.closed": _dispute_changed,
    "charge.dispute.funds_withdrawn": _dispute_changed,
    "charge.dispute.funds_reinstated": _dispute_changed,
    "payment_method.updated": customers.card_changed,
    "payment_method.automatically_updated": customers.card_changed,
    "payment_method.detached": customers.card_changed,
    "customer.updated": customers.customer_changed,
    "customer.deleted": customers.customer_changed,
}


def receive(body: bytes, signature: str) -> StripeEvent:
    """Store a webhook. Raises BadWebhook where the signature, its age or the mode is wrong; nothing is stored then."""
    event = stripe_api.construct_event(body, signature)
    if event.livemode != stripe_keys.expects_livemode():
        log.error("event %s has livemode %s, our key the other", event.id, event.livemode)
        raise WrongMode("The event's mode is not this installation's.", code="wrong_mode")
    known = event.type in HANDLERS
    row = StripeEvent(
        id=event.id,
        type=event.type[:120],
        object_id=event.object_id[:255],
        livemode=event.livemode,
        state=State.RECEIVED if known else State.IGNORED,
    )
    with transaction.atomic():
        StripeEvent.objects.bulk_create([row], ignore_conflicts=True)
        if known:
            background.enqueue_on_commit(
                "billing.tasks.handle_stripe_event", event.id, queue="critical", job_id=f"stripe-{event.id}"
            )
    return StripeEvent.objects.get(pk=event.id)


def handle(event_id: str, now: datetime | None = None) -> StripeEvent.State | None:
    """Handle a stored event, unless it is done or in other hands; None then. A failure is noted and tried again."""
    now = now or clock.now()
    event = _claim(event_id, now)
    if event is None:
        return None
    faults.point("event.claimed")
    try:
        ours = HANDLERS[event.type](event.object_id)
    except Exception as error:
        return _failed(event, error, now)
    state = State.HANDLED if ours else State.IGNORED
    StripeEvent.objects.filter(pk=event.pk).update(state=state, error="", handled_at=clock.now())
    return state


def _claim(event_id: str, now: datetime) -> StripeEvent | None:
    """Take the event for as long as the lease runs. Two who try at once: the second finds ``run_after`` moved."""
    open_ = StripeEvent.objects.filter(
        pk=event_id, state__in=(State.RECEIVED, State.FAILED), attempts__lt=MAX_ATTEMPTS, run_after__lte=now
    )
    event = open_.first()
    if event is None:
        return None
    event.attempts += 1
    claimed = open_.filter(run_after=event.run_after).update(run_after=now + LEASE, attempts=event.attempts)
    return event if claimed else None


def _failed(event: StripeEvent, error: Exception, now: datetime) -> StripeEvent.State:
    last = event.attempts >= MAX_ATTEMPTS
    if isinstance(error, stripe_api.StripeFailed) and not last:
        log.warning("event %s waits: %s", event.pk, type(error).__name__)
    else:
        log.error("event %s could not be handled (attempt %s)", event.pk, event.attempts, exc_info=error)
    pause = min(FIRST_PAUSE * 2 ** (event.attempts - 1), LONGEST_PAUSE)
    StripeEvent.objects.filter(pk=event.pk).update(
        state=State.FAILED, error=scrub(f"{type(error).__name__}: {error}")[:254], run_after=now + pause
    )
    return State.FAILED


def sweep(now: datetime | None = None, *, most: int = 100) -> int:
    """Handle what is due: never handled, failed before, or left behind by a worker that died. Returns how many."""
    now = now or clock.now()
    due = StripeEvent.objects.filter(
        state__in=(State.RECEIVED, State.FAILED), attempts__lt=MAX_ATTEMPTS, run_after__lte=now
    )
    handled = 0
    for event_id in due.order_by("run_after").values_list("pk", flat=True)[:most]:
        handled += handle(event_id, now) is not None
    return handled
