"""The one door to Stripe: plain values go in and come out, and errors are of our own family. What is not about the
pay page and webhooks is in `billing.stripe_payments`.

StripeFailed 502
├── StripeUnavailable   no answer, or "later": the outcome is unknown, asking again with the same key is safe
├── StripeRefused       asked wrongly, or not allowed: asking again brings the same
│   └── CardDeclined    the bank said no
└── NotAtStripe         no such object there

Money is in cents here, as Stripe counts it. The address of the API can be another one (a stand-in, a proxy).
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast
from uuid import UUID

import stripe
from django.conf import settings
from django.utils.translation import gettext as _
from stripe import checkout
from stripe.params.checkout import SessionCreateParams

from billing import stripe_keys
from core import errors, ids
from core.logs import scrub

log = logging.getLogger(__name__)
logging.getLogger("stripe").setLevel(logging.WARNING)  # it tells of every request; we tell what went wrong

#: The version our code was written against. The webhook endpoint at Stripe is set to the same one.
API_VERSION: Final = "2026-10-28.endive"
#: How old a webhook's signature may be, in seconds.
TOLERANCE_SECONDS: Final = 300
MAX_LISTED: Final = 1_000
_CONNECT_SECONDS: Final = 5.0
_READ_SECONDS: Final = 15.0
_RETRIES: Final = 2
TOPUP_KEY: Final = "topup_id"
_WITH_PAYMENT: Final = ["payment_intent.latest_charge", "invoice"]

T = TypeVar("T")


class StripeFailed(errors.UpstreamFailed):
    """Stripe did not do what was asked."""

    def __init__(self) -> None:
        super().__init__(_("The payment provider could not do this. Nothing was charged."))


class StripeUnavailable(StripeFailed):
    """No answer, or one that says "later". It may have been done all the same."""


class StripeRefused(StripeFailed):
    """An answer that will not change by asking again."""


class CardDeclined(StripeRefused):
    """The bank did not pay. ``failure`` is its code or Stripe's, ``payment_id`` the attempt."""

    def __init__(self, failure: str, payment_id: str) -> None:
        super().__init__()
        self.failure = failure
        self.payment_id = payment_id


class NotAtStripe(StripeFailed):
    """The object does not exist there."""


class BadWebhook(errors.InvalidRequest):
    """A webhook that Stripe did not sign, or that is no event."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """What is asked of Stripe's pay page. ``key`` makes asking twice the same as asking once."""

    key: str
    topup_id: UUID
    amount_cents: int
    currency: str
    product: str
    customer_id: str
    #: Keep the card, so that automatic top-ups can charge it.
    saves_card: bool
    success_url: str
    cancel_url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """The facts of a Checkout Session and of its payment, as far as they were asked for."""

    id: str
    url: str
    #: open, complete or expired
    status: str
    #: paid, unpaid or no_payment_required
    payment_status: str
    amount_subtotal_cents: int
    amount_discount_cents: int
    #: What is paid in all, tax included.
    amount_total_cents: int
    currency: str
    livemode: bool
    topup_id: UUID | None
    expires_at: datetime
    payment_intent_id: str = ""
    #: processing, succeeded, requires_payment_method, canceled …; "" where there is no payment yet.
    intent_status: str = ""
    #: Stripe's code for why the last attempt failed.
    failure_code: str = ""
    charge_id: str = ""
    receipt_url: str = ""
    payment_method_id: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """What a webhook says: which object changed. Its content is read again from Stripe."""

    id: str
    type: str
    object_id: str
    livemode: bool


# ── Checkout ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def create_checkout(wanted: Checkout) -> Session:
    """Open a pay page. Raises StripeUnavailable where nobody knows whether it was opened, NotAtStripe where the
    customer is gone, StripeRefused otherwise."""
    params = _checkout_params(wanted)
    return _session(
        ask("open a pay page", lambda: client().v1.checkout.sessions.create(params, {"idempotency_key": wanted.key}))
    )


def _checkout_params(wanted: Checkout) -> SessionCreateParams:
    metadata = {TOPUP_KEY: str(wanted.topup_id)}
    params: SessionCreateParams = {
        "mode": "payment",
        "customer": wanted.customer_id,
        # What the payer enters there stands on the invoice and is known the next time.
        "customer_update": {"address": "auto", "name": "auto"},
        "billing_address_collection": "auto",
        "tax_id_collection": {"enabled": True},
        "invoice_creation": {"enabled": True},
        "line_items": [
            {
                "price_data": {
                    "currency": wanted.currency,
                    "unit_amount": wanted.amount_cents,
                    # Tax comes on top: it is no credit.
                    "tax_behavior": "exclusive",
                    "product_data": {"name": wanted.product, "tax_code": settings.STRIPE_TAX_CODE},
                },
                "quantity": 1,
            }
        ],
        "client_reference_id": str(wanted.topup_id),
        "metadata": metadata,
        # Refunds and disputes speak of the payment, not of the session.
        "payment_intent_data": {"metadata": metadata, "description": wanted.product},
        "success_url": wanted.success_url,
        "cancel_url": wanted.cancel_url,
        "expires_at": int(wanted.expires_at.timestamp()),
        # Charged in the currency that was shown: what comes back is held against our own amount.
        "adaptive_pricing": {"enabled": False},
        "submit_type": "pay",
    }
    if settings.STRIPE_AUTOMATIC_TAX:
        params["automatic_tax"] = {"enabled": True}
    if wanted.saves_card:
        params["payment_intent_data"]["setup_future_usage"] = "off_session"
    return params


def retrieve_session(session_id: str) -> Session:
    """A session with its payment and receipt. Raises NotAtStripe for one that is not there."""
    return _session(
        ask(
            "read a session",
            lambda: client().v1.checkout.sessions.retrieve(session_id, {"expand": _WITH_PAYMENT}),
        )
    )


def expire_session(session_id: str) -> None:
    """Close an open pay page, so that nobody can pay there any more. One that has ended is left alone.

    Raises StripeUnavailable.
    """
    try:
        ask("close a pay page", lambda: client().v1.checkout.sessions.expire(session_id))
    except StripeUnavailable:
        raise
    except StripeFailed:
        pass  # paid or expired a moment ago; whoever asks reads which


def find_session(payment_id: str) -> Session | None:
    """The session in which a payment was made, None for a payment without one."""

    def found() -> checkout.Session | None:
        page = client().v1.checkout.sessions.list({"payment_intent": payment_id, "limit": 1})
        return next(iter(page.data), None)

    session = ask("look for a session", found)
    return None if session is None else retrieve_session(session.id)


def list_completed_sessions(since: datetime) -> Iterator[Session]:
    """Sessions made since then whose pay page was completed, newest first, without their payments' details."""

    def pages() -> list[checkout.Session]:
        listed = client().v1.checkout.sessions.list(
            {"created": {"gte": int(since.timestamp())}, "status": "complete", "limit": 100}
        )
        return list(itertools.islice(listed.auto_paging_iter(), MAX_LISTED))

    return map(_session, ask("list sessions", pages))


# ── Webhooks ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def construct_event(body: bytes, signature: str) -> Event:
    """The event of a webhook. Raises BadWebhook unless one of the configured secrets signed exactly these bytes."""
    for secret in settings.STRIPE_WEBHOOK_SECRETS:
        try:
            found = stripe.Webhook.construct_event(body, signature, secret, TOLERANCE_SECONDS)
            return Event(found.id, found.type, _id_of(found.data.object), found.livemode)
        except stripe.SignatureVerificationError:
            continue  # during a rotation the other secret may fit
        except (ValueError, AttributeError):
            raise BadWebhook("The webhook is no event.", code="no_event") from None
    raise BadWebhook("The webhook's signature does not fit.", code="bad_signature")


def _id_of(thing: stripe.StripeObject) -> str:
    """The id of what an event is about; some of Stripe's objects have none."""
    return str(thing["id"]) if "id" in thing else ""


# ── The client ───────────────────────────────────────────────────────────────────────────────────────────────────────
@functools.cache
def _client_for(key: str, base: str) -> stripe.StripeClient:
    # A stand-in on loopback is never behind the machine's proxy.
    direct = cast(Any, {"http": None, "https": None}) if base else None
    return stripe.StripeClient(
        key,
        stripe_version=API_VERSION,
        base_addresses={"api": base} if base else None,
        max_network_retries=_RETRIES,
        http_client=stripe.RequestsClient(timeout=(_CONNECT_SECONDS, _READ_SECONDS), proxy=direct),
    )


def client() -> stripe.StripeClient:
    """Stripe's library for the configured account. Raises StripeRefused where there is none."""
    if not stripe_keys.is_configured():
        raise StripeRefused
    return _client_for(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE.rstrip("/"))


def ask(what: str, question: Callable[[], T]) -> T:
    """The answer, or an error of ours. The log names Stripe's code and request; no key and no body are in it."""
    try:
        return question()
    except stripe.StripeError as error:
        known = (type(error).__name__, error.code or "", error.request_id or "", scrub(error.user_message or ""))
        log.warning("Stripe did not %s: %s %s %s %s", what, *known)
        raise _ours(error) from None


def _ours(error: stripe.StripeError) -> StripeFailed:
    if error.code == "resource_missing":
        return NotAtStripe()
    if isinstance(error, stripe.CardError):
        said = error.error
        attempt = getattr(said, "payment_intent", None)
        return CardDeclined(failure_code(said), id_of(attempt))
    unsure = isinstance(error, stripe.APIConnectionError | stripe.RateLimitError)
    if unsure or (error.http_status or 500) >= 500 or error.http_status == 409:
        return StripeUnavailable()
    return StripeRefused()


# ── Stripe's objects as plain values ─────────────────────────────────────────────────────────────────────────────────
def _session(of: checkout.Session) -> Session:
    intent = of.payment_intent
    details = _payment(intent) if isinstance(intent, stripe.PaymentIntent) else {}
    invoice = of.invoice
    if isinstance(invoice, stripe.Invoice) and invoice.hosted_invoice_url:
        details["receipt_url"] = invoice.hosted_invoice_url
    return Session(
        id=of.id,
        url=of.url or "",
        status=of.status or "",
        payment_status=of.payment_status,
        amount_subtotal_cents=of.amount_subtotal or 0,
        amount_total_cents=of.amount_total or 0,
        amount_discount_cents=of.total_details.amount_discount if of.total_details else 0,
        currency=of.currency or "",
        livemode=of.livemode,
        topup_id=id_in(of.metadata, TOPUP_KEY),
        expires_at=datetime.fromtimestamp(of.expires_at, UTC),
        payment_intent_id=id_of(intent),
        **details,
    )


def id_in(metadata: Any, key: str) -> UUID | None:
    """The id of ours that an object's metadata hold under ``key``."""
    return ids.parse(metadata[key]) if metadata and key in metadata else None


def id_of(reference: Any) -> str:
    """The id of something that is there as its id, as the object itself, or not at all ("")."""
    return "" if reference is None else reference if isinstance(reference, str) else str(reference.id)


def _payment(intent: stripe.PaymentIntent) -> dict[str, str]:
    failure = intent.last_payment_error
    charge = intent.latest_charge
    facts = {
        "intent_status": intent.status,
        "payment_method_id": id_of(intent.payment_method),
        "failure_code": failure_code(failure),
    }
    if isinstance(charge, stripe.Charge):
        facts |= {"charge_id": charge.id, "receipt_url": charge.receipt_url or ""}
    return facts


def failure_code(failure: Any) -> str:
    """Why a payment did not work: the bank's code, else Stripe's; "" where nothing is said."""
    return str(failure.decline_code or failure.code or failure.type) if failure else ""
