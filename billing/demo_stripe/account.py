"""One Stripe account in small: its objects, the rules by which they change, and the events that tell of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from billing.demo_stripe import objects
from billing.demo_stripe.cards import Cards
from billing.demo_stripe.objects import Object
from billing.demo_stripe.params import Refused, missing
from billing.demo_stripe.reversals import Reversals
from billing.demo_stripe.store import Store

#: How a visitor of the pay page may let a payment end.
OUTCOMES: Final = (
    *("success", "decline", "late_success", "late_failure"),
    # 3-D Secure: the bank's page comes between, where the owner of the card says yes or no.
    *("authenticate", "approve", "deny"),
    # Cards that are saved and behave otherwise when they are charged without their owner.
    *("success_then_declines", "success_then_asks"),
)

SLOW_PAYMENT_SECONDS: Final = 8.0
LEAST_CENTS: Final = 50
MOST_CENTS: Final = 99_999_999
SESSION_SECONDS: Final = 24 * 3600
LEAST_SESSION_SECONDS: Final = 1800
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\Z")
_URL: Final = re.compile(r"https?://[^\s/]+(/\S*)?\Z")
_DECLINED: Final = "Your card was declined."
_NOT_CONFIRMED: Final = "The card's owner did not confirm this payment."
_BOUNCED: Final = "The bank account has insufficient funds to complete this payment."


#: Stripe's code, the bank's code, and words.
_REFUSALS: Final = {
    "decline": ("card_declined", "generic_decline", _DECLINED),
    "deny": ("payment_intent_authentication_failure", None, _NOT_CONFIRMED),
}
_BEHAVIOUR: Final = {"success_then_declines": "declines", "success_then_asks": "asks"}


class NotOpen(Exception):
    """The session can't be paid: it was paid before, or its time is over."""


class Account:
    """The account's state and its verbs. ``on_event`` hears of each event, inside the lock."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float] = time.time,
        on_event: Callable[[Object], None] = lambda event: None,
        slow_seconds: float = SLOW_PAYMENT_SECONDS,
        tax_percent: int = 0,
    ) -> None:
        self.store = store
        self._clock = clock
        self._on_event = on_event
        self._slow_seconds = slow_seconds
        self._tax_percent = tax_percent
        self.cards = Cards(store, self._tell, lambda: self.now)
        self.reversals = Reversals(store, self._tell, lambda: self.now)

    @property
    def now(self) -> int:
        """Seconds since 1970, as Stripe counts them."""
        return int(self._clock())

    # ── What the API does ────────────────────────────────────────────────────────────────────────────────────────────

    def create_session(self, params: Mapping[str, Any]) -> Object:
        """An open Checkout Session. Raises Refused where the types allow what Stripe still does not."""
        amount, product = _order(params)
        _check_session(params, self.now)
        if "customer" in params and params["customer"] not in self.store.tables.customers:
            raise Refused(f"No such customer: '{params['customer']}'", param="customer", code="resource_missing")
        taxed = params.get("automatic_tax", {}).get("enabled", False)
        identifier = objects.new_id("cs_test", 40)
        session = objects.session(
            params,
            identifier=identifier,
            url=f"{self.store.base}/c/pay/{identifier}",
            amount=amount,
            tax=amount * self._tax_percent // 100 if taxed else 0,
            now=self.now,
            expires_at=params.get("expires_at", self.now + SESSION_SECONDS),
        )
        self.store.tables.sessions[identifier] = session
        self.store.tables.hidden[identifier] = {
            "payment_intent_data": dict(params.get("payment_intent_data", {})),
            "product": product,
        }
        return session

    def expire_session(self, session: Object) -> Object:
        """End an open session. Raises Refused for one that has ended."""
        if session["status"] != "open":
            raise Refused(
                f'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status'
                f" of `{session['status']}`."
            )
        session.update(status="expired", url=None)
        self._tell("checkout.session.expired", session)
        return session

    # ── What a visitor of the pay page does ──────────────────────────────────────────────────────────────────────────

    def pay(self, session: Object, outcome: str) -> None:
        """Let the payment end as ``outcome`` says, one of OUTCOMES. Raises NotOpen where nothing is left to pay."""
        if session["status"] != "open":
            raise NotOpen
        intent = self._confirmed(session)
        if outcome == "authenticate":
            intent.update(status="requires_action", next_action=objects.authentication(session["url"]))
            self._tell("payment_intent.requires_action", intent)
            return
        if outcome in ("approve", "deny") and intent["status"] != "requires_action":
            raise NotOpen
        intent["next_action"] = None
        attempt = self._attempt(session, intent, "us_bank_account" if outcome.startswith("late_") else "card")
        if outcome in _REFUSALS:
            code, decline, message = _REFUSALS[outcome]
            objects.fail(intent, attempt, code=code, decline_code=decline, message=message)
            self._tell("charge.failed", attempt)
            self._tell("payment_intent.payment_failed", intent)
            return
        session.update(status="complete", url=None)
        if not outcome.startswith("late_"):
            self._collect(session, intent, attempt)
            if intent["setup_future_usage"] == "off_session" and session["customer"]:
                behaviour = _BEHAVIOUR.get(outcome, "pays")
                card = self.cards.save(
                    attempt["payment_method"], session["customer"], behaviour=behaviour, email=self._email(session)
                )
                attempt["payment_method_details"]["card"]["last4"] = card["card"]["last4"]
            self._tell("checkout.session.completed", session)
            return
        intent.update(status="processing", latest_charge=attempt["id"])
        self.store.tables.settling[intent["id"]] = {
            "session": session["id"],
            "due": self._clock() + self._slow_seconds,
            "succeeds": outcome == "late_success",
        }
        self._tell("payment_intent.processing", intent)
        self._tell("checkout.session.completed", session)

    def _email(self, session: Object) -> str | None:
        customer = self.store.tables.customers.get(session["customer"] or "")
        email: str | None = customer["email"] if customer else session["customer_email"]
        return email

    def _confirmed(self, session: Object) -> Object:
        table = self.store.tables.payment_intents
        if session["payment_intent"] is None:
            data = self.store.tables.hidden[session["id"]]["payment_intent_data"]
            intent = objects.payment_intent(session, data, now=self.now)
            table[intent["id"]] = intent
            session["payment_intent"] = intent["id"]
            self._tell("payment_intent.created", intent)
        return table[session["payment_intent"]]

    def _attempt(self, session: Object, intent: Object, method: str) -> Object:
        attempt = objects.charge(
            intent,
            email=self._email(session),
            method=method,
            receipt_base=f"{self.store.base}/receipts",
            now=self.now,
        )
        self.store.tables.charges[attempt["id"]] = attempt
        return attempt

    def _collect(self, session: Object, intent: Object, attempt: Object) -> None:
        objects.succeed(intent, attempt)
        session["payment_status"] = "paid"
        self._tell("charge.succeeded", attempt)
        self._tell("payment_intent.succeeded", intent)

    # ── What time does ───────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self) -> bool:
        """Settle slow payments that are due and expire old sessions. True where anything changed."""
        tables = self.store.tables
        due = [key for key, one in tables.settling.items() if one["due"] <= self._clock()]
        slow = [one for one in tables.refunds.values() if self._is_over(one)]
        old = [one for one in tables.sessions.values() if one["status"] == "open" and one["expires_at"] <= self.now]
        for key in due:
            self._settle(key, **tables.settling.pop(key))
        for session in old:
            self.expire_session(session)
        for refund in slow:
            self.reversals.settle_refund(refund, succeeds=True)
        return bool(due or old or slow)

    def _is_over(self, refund: Object) -> bool:
        return bool(refund["status"] == "pending") and refund["created"] + self._slow_seconds <= self._clock()

    def _settle(self, intent_id: str, *, session: str, due: float, succeeds: bool) -> None:
        tables = self.store.tables
        intent, of = tables.payment_intents[intent_id], tables.sessions[session]
        attempt = tables.charges[intent["latest_charge"]]
        if succeeds:
            self._collect(of, intent, attempt)
            self._tell("checkout.session.async_payment_succeeded", of)
            return
        objects.fail(intent, attempt, code="insufficient_funds", decline_code=None, message=_BOUNCED)
        self._tell("charge.failed", attempt)
        self._tell("payment_intent.payment_failed", intent)
        self._tell("checkout.session.async_payment_failed", of)

    def _tell(self, type_: str, about: Object) -> None:
        event = objects.event(type_, about, now=self.now)
        self.store.tables.events[event["id"]] = event
        self._on_event(event)


def _order(params: Mapping[str, Any]) -> tuple[int, str]:
    """The sum in cents and what it is for."""
    if "mode" not in params:
        raise missing("mode")
    if params["mode"] != "payment":
        raise Refused("This stand-in only plays `mode=payment`.", param="mode")
    items = params.get("line_items")
    if not items:
        raise missing("line_items")
    if len(items) != 1 or "price_data" not in items[0]:
        raise Refused("This stand-in takes exactly one line item, with `price_data`.", param="line_items")
    price = items[0]["price_data"]
    if "quantity" not in items[0]:
        raise missing("line_items[0][quantity]")
    if "unit_amount" not in price:
        raise missing("line_items[0][price_data][unit_amount]")
    if "product_data" not in price:
        raise missing("line_items[0][price_data][product_data]")
    if price["currency"] != "usd":
        raise Refused(f"Invalid currency: {price['currency']}", param="line_items[0][price_data][currency]")
    amount = price["unit_amount"] * items[0]["quantity"]
    if amount < LEAST_CENTS:
        raise Refused("The Checkout Session's total amount must be at least 50 cents.", code="amount_too_small")
    if amount > MOST_CENTS:
        raise Refused("The Checkout Session's total amount must be at most $999,999.99.", code="amount_too_large")
    return amount, price["product_data"]["name"]


def _check_session(params: Mapping[str, Any], now: int) -> None:
    if params.get("ui_mode", "hosted_page") != "hosted_page":
        raise Refused("This stand-in only has the hosted page.", param="ui_mode")
    if "success_url" not in params:
        raise missing("success_url")
    for name in ("success_url", "cancel_url"):
        if name in params and not _URL.match(params[name]):
            raise Refused(f"Not a valid URL: {params[name]}", param=name, code="url_invalid")
    if "customer" in params and "customer_email" in params:
        raise Refused("You may only specify one of these parameters: customer, customer_email.", param="customer")
    if "customer_email" in params and not _EMAIL.match(params["customer_email"]):
        message = f"Invalid email address: {params['customer_email']}"
        raise Refused(message, param="customer_email", code="email_invalid")
    if len(params.get("client_reference_id", "")) > 200:
        raise Refused("client_reference_id may have at most 200 characters.", param="client_reference_id")
    if not LEAST_SESSION_SECONDS <= params.get("expires_at", now + SESSION_SECONDS) - now <= SESSION_SECONDS:
        message = "The `expires_at` timestamp must be between 30 minutes and 24 hours from now."
        raise Refused(message, param="expires_at")
    if "customer_update" in params and "customer" not in params:
        raise Refused("`customer_update` can only be used with `customer`.", param="customer_update")
    _check_tax(params)
    _check_metadata(params.get("metadata", {}), "metadata")
    _check_metadata(params.get("payment_intent_data", {}).get("metadata", {}), "payment_intent_data[metadata]")


def _check_tax(params: Mapping[str, Any]) -> None:
    """A known customer's name and address have to be kept where tax is worked out from them."""
    update = params.get("customer_update", {}) if "customer" in params else {"name": "auto", "address": "auto"}
    if params.get("tax_id_collection", {}).get("enabled") and update.get("name") != "auto":
        raise Refused(
            "Tax ID collection requires updating business name on the customer. To enable tax ID collection for an"
            " existing customer, please set `customer_update[name]` to `auto`.",
            param="customer_update",
        )
    if params.get("automatic_tax", {}).get("enabled") and update.get("address") != "auto":
        raise Refused(
            "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a valid address to the"
            " Customer or set `customer_update[address]` to `auto` to save the address entered in Checkout.",
            code="customer_tax_location_invalid",
        )


def _check_metadata(metadata: Mapping[str, str], path: str) -> None:
    if len(metadata) > 50:
        raise Refused("Metadata may have at most 50 keys.", param=path)
    for key, value in metadata.items():
        if len(key) > 40 or len(value) > 500:
            raise Refused("Metadata keys have at most 40, values at most 500 characters.", param=f"{path}[{key}]")
