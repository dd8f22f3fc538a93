"""The door to Stripe, its other half: customers, saved cards, payments without a pay page, refunds and disputes.

Like `billing.stripe_api`, whose errors these functions raise: plain values go in and come out, money is in cents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import stripe
from stripe.params import CustomerCreateParams, PaymentIntentCreateParams, PaymentIntentListParams, RefundCreateParams

from billing import stripe_api
from billing.stripe_api import TOPUP_KEY, ask, client, failure_code, id_in, id_of

REVERSAL_KEY: Final = "reversal_id"
_PAGE: Final = 100
_WITH_CHARGE: Final = ["latest_charge"]


@dataclass(frozen=True, slots=True)
class Card:
    """A saved card. ``customer_id`` is "" once it was taken away."""

    id: str
    customer_id: str
    brand: str = ""
    last4: str = ""
    exp_month: int = 0
    exp_year: int = 0


@dataclass(frozen=True, slots=True)
class Payment:
    """A PaymentIntent: what was asked, and what came."""

    id: str
    #: requires_payment_method, requires_action, processing, succeeded, canceled …
    status: str
    amount_cents: int
    received_cents: int
    currency: str
    livemode: bool
    topup_id: UUID | None
    created_at: datetime
    customer_id: str = ""
    failure_code: str = ""
    charge_id: str = ""
    receipt_url: str = ""


@dataclass(frozen=True, slots=True)
class Refund:
    """Money on its way back. ``status``: pending, requires_action, succeeded, failed or canceled."""

    id: str
    status: str
    amount_cents: int
    currency: str
    payment_id: str
    #: Ours, where we asked for it.
    reversal_id: UUID | None
    reason: str
    failure: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Dispute:
    """What a cardholder has said at their bank. ``status`` is Stripe's word."""

    id: str
    status: str
    amount_cents: int
    currency: str
    payment_id: str
    reason: str
    created_at: datetime


# ── Customers and cards ──────────────────────────────────────────────────────────────────────────────────────────────
def create_customer(key: str, *, name: str, email: str, workspace_id: UUID) -> str:
    """A new customer's id; the same ``key`` gives the same one. An empty ``email`` is left out, as Stripe wants it."""
    params: CustomerCreateParams = {"name": name, "metadata": {"workspace_id": str(workspace_id)}}
    if email:
        params["email"] = email
    return ask("make a customer", lambda: client().v1.customers.create(params, {"idempotency_key": key})).id


def retrieve_card(card_id: str) -> Card:
    """A saved card, also one that was taken away. Raises NotAtStripe."""
    return _card(ask("read a card", lambda: client().v1.payment_methods.retrieve(card_id)))


def default_card(customer_id: str) -> str:
    """The id of the card that the customer chose in the portal, "" where they chose none. Raises NotAtStripe."""
    found = ask("read a customer", lambda: client().v1.customers.retrieve(customer_id))
    chosen = getattr(found, "invoice_settings", None)  # a deleted customer has no settings
    return id_of(chosen.default_payment_method) if chosen else ""


def detach_card(card_id: str) -> None:
    """Take a card away from its customer. One that is gone already is as good."""
    try:
        ask("remove a card", lambda: client().v1.payment_methods.detach(card_id))
    except stripe_api.StripeUnavailable:
        raise
    except stripe_api.StripeFailed:
        if retrieve_card(card_id).customer_id:
            raise


def open_portal(customer_id: str, return_url: str) -> str:
    """The address of a new session of the customer portal."""
    made = ask(
        "open the portal",
        lambda: client().v1.billing_portal.sessions.create({"customer": customer_id, "return_url": return_url}),
    )
    return made.url


# ── Payments without a pay page ──────────────────────────────────────────────────────────────────────────────────────
def charge_card(
    key: str,
    *,
    topup_id: UUID,
    customer_id: str,
    card_id: str,
    amount_cents: int,
    currency: str,
    description: str,
    receipt_email: str,
) -> Payment:
    """Charge a saved card without its owner. The same ``key`` charges once.

    Raises CardDeclined (the attempt is on record there), StripeUnavailable where nobody knows, StripeRefused.
    """
    params: PaymentIntentCreateParams = {
        "amount": amount_cents,
        "currency": currency,
        "customer": customer_id,
        "payment_method": card_id,
        # No page to lead anybody to: nobody is there.
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        "off_session": True,
        "confirm": True,
        "description": description,
        "metadata": {TOPUP_KEY: str(topup_id)},
        "expand": _WITH_CHARGE,
    }
    if receipt_email:
        params["receipt_email"] = receipt_email
    return _payment(
        ask("charge a saved card", lambda: client().v1.payment_intents.create(params, {"idempotency_key": key}))
    )


def retrieve_payment(payment_id: str) -> Payment:
    """A payment with its last charge. Raises NotAtStripe."""
    return _payment(
        ask("read a payment", lambda: client().v1.payment_intents.retrieve(payment_id, {"expand": _WITH_CHARGE}))
    )


def find_payment(customer_id: str, topup_id: UUID, since: datetime) -> Payment | None:
    """The customer's payment for that top-up, made since then; its newest attempt, None where there is none."""
    wanted: PaymentIntentListParams = {
        "customer": customer_id,
        "created": {"gte": int(since.timestamp())},
        "limit": _PAGE,
        "expand": ["data.latest_charge"],
    }

    def found() -> stripe.PaymentIntent | None:
        page = client().v1.payment_intents.list(wanted)
        return next((one for one in page.auto_paging_iter() if id_in(one.metadata, TOPUP_KEY) == topup_id), None)

    one = ask("look for a payment", found)
    return None if one is None else _payment(one)


def cancel_payment(payment_id: str) -> None:
    """See to it that an attempt that failed is never paid later. One that can't be cancelled is left alone."""
    try:
        ask("cancel a payment", lambda: client().v1.payment_intents.cancel(payment_id))
    except stripe_api.StripeUnavailable:
        raise
    except stripe_api.StripeFailed:
        pass  # it has ended otherwise; whoever asks reads how


# ── Refunds and disputes ─────────────────────────────────────────────────────────────────────────────────────────────
def create_refund(key: str, *, payment_id: str, amount_cents: int, reversal_id: UUID) -> Refund:
    """Send money back. The same ``key`` does it once. Raises StripeUnavailable where nobody knows, StripeRefused."""
    params: RefundCreateParams = {
        "payment_intent": payment_id,
        "amount": amount_cents,
        "metadata": {REVERSAL_KEY: str(reversal_id)},
    }
    return _refund(ask("refund a payment", lambda: client().v1.refunds.create(params, {"idempotency_key": key})))


def retrieve_refund(refund_id: str) -> Refund:
    """A refund as it stands. Raises NotAtStripe."""
    return _refund(ask("read a refund", lambda: client().v1.refunds.retrieve(refund_id)))


def refunds_of(payment_id: str) -> list[Refund]:
    """All refunds of a payment, newest first."""

    def found() -> list[stripe.Refund]:
        page = client().v1.refunds.list({"payment_intent": payment_id, "limit": _PAGE})
        return list(page.auto_paging_iter())

    return list(map(_refund, ask("list refunds", found)))


def payment_of_charge(charge_id: str) -> str:
    """The id of the payment that a charge belongs to, "" for a charge without one."""
    return id_of(ask("read a charge", lambda: client().v1.charges.retrieve(charge_id)).payment_intent)


def retrieve_dispute(dispute_id: str) -> Dispute:
    """A dispute as it stands. Raises NotAtStripe."""
    return _dispute(ask("read a dispute", lambda: client().v1.disputes.retrieve(dispute_id)))


# ── Everything of a time, for comparisons ────────────────────────────────────────────────────────────────────────────
def payments_between(since: datetime, until: datetime) -> Iterator[Payment]:
    """Every payment made then, newest first, page by page. Raises StripeFailed while it is read."""
    listed = ask("list payments", lambda: client().v1.payment_intents.list(_between(since, until)))  # type: ignore[arg-type]
    return map(_payment, listed.auto_paging_iter())


def refunds_between(since: datetime, until: datetime) -> Iterator[Refund]:
    """Every refund made then, see `payments_between`."""
    listed = ask("list refunds", lambda: client().v1.refunds.list(_between(since, until)))  # type: ignore[arg-type]
    return map(_refund, listed.auto_paging_iter())


def disputes_between(since: datetime, until: datetime) -> Iterator[Dispute]:
    """Every dispute begun then, see `payments_between`."""
    listed = ask("list disputes", lambda: client().v1.disputes.list(_between(since, until)))  # type: ignore[arg-type]
    return map(_dispute, listed.auto_paging_iter())


def _between(since: datetime, until: datetime) -> dict[str, Any]:
    return {"created": {"gte": int(since.timestamp()), "lt": int(until.timestamp())}, "limit": _PAGE}


# ── Stripe's objects as plain values ─────────────────────────────────────────────────────────────────────────────────
def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _card(of: stripe.PaymentMethod) -> Card:
    owner, card = id_of(of.customer), of.card
    return Card(of.id, owner, card.brand, card.last4, card.exp_month, card.exp_year) if card else Card(of.id, owner)


def _payment(of: stripe.PaymentIntent) -> Payment:
    charge = of.latest_charge
    return Payment(
        id=of.id,
        status=of.status,
        amount_cents=of.amount,
        received_cents=of.amount_received,
        currency=of.currency,
        livemode=of.livemode,
        topup_id=id_in(of.metadata, TOPUP_KEY),
        created_at=_at(of.created),
        customer_id=id_of(of.customer),
        failure_code=failure_code(of.last_payment_error),
        charge_id=id_of(charge),
        receipt_url=(charge.receipt_url or "") if isinstance(charge, stripe.Charge) else "",
    )


def _refund(of: stripe.Refund) -> Refund:
    return Refund(
        id=of.id,
        status=of.status or "pending",
        amount_cents=of.amount,
        currency=of.currency,
        payment_id=id_of(of.payment_intent),
        reversal_id=id_in(of.metadata, REVERSAL_KEY),
        reason=of.reason or "",
        failure=of.failure_reason or "",
        created_at=_at(of.created),
    )


def _dispute(of: stripe.Dispute) -> Dispute:
    return Dispute(
        id=of.id,
        status=of.status,
        amount_cents=of.amount,
        currency=of.currency,
        payment_id=id_of(of.payment_intent),
        reason=of.reason,
        created_at=_at(of.created),
    )
