"""Customers, the cards they saved, and payments that are taken from those without anybody at the keyboard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from billing.demo_stripe import objects, records
from billing.demo_stripe.objects import Object
from billing.demo_stripe.params import Refused, missing
from billing.demo_stripe.store import Store

#: How a saved card behaves when it is charged without its owner: its last four digits.
BEHAVIOURS: Final = {"pays": "4242", "declines": "0341", "asks": "3184"}
LEAST_CENTS: Final = 50
DECLINED: Final = "Your card was declined."
ASKS: Final = "Your card was declined. This transaction requires authentication."


class Declined(Exception):
    """A payment that did not work: 402, and the attempt stays on record. ``error`` is Stripe's error object."""

    def __init__(self, **error: Any) -> None:
        super().__init__(error["message"])
        self.error = {"type": "card_error", **error}


class Cards:
    """Customers and cards of one account. ``tell`` makes an event, ``now`` gives the seconds since 1970."""

    def __init__(self, store: Store, tell: Callable[[str, Object], None], now: Callable[[], int]) -> None:
        self._store = store
        self._tell = tell
        self._now = now

    def create_customer(self, params: Mapping[str, Any]) -> Object:
        """A customer; an e-mail address is not looked at twice, as at Stripe."""
        customer = records.customer(params, now=self._now())
        self._store.tables.customers[customer["id"]] = customer
        self._tell("customer.created", customer)
        return customer

    def update_customer(self, customer: Object, params: Mapping[str, Any]) -> Object:
        """Change a name, an address, metadata or the default card."""
        for name in ("name", "email", "description", "metadata"):
            if name in params:
                customer[name] = params[name]
        if default := params.get("invoice_settings", {}).get("default_payment_method"):
            self._owned(default, customer["id"])
            customer["invoice_settings"]["default_payment_method"] = default
        self._tell("customer.updated", customer)
        return customer

    def save(self, identifier: str, customer: str, *, behaviour: str, email: str | None) -> Object:
        """Attach a new card to a customer."""
        card = records.payment_method(identifier, last4=BEHAVIOURS[behaviour], email=email, now=self._now())
        card["customer"] = customer
        self._store.tables.payment_methods[identifier] = card
        self._tell("payment_method.attached", card)
        return card

    def detach(self, card: Object) -> Object:
        """Take a card away from its customer; it can't be used again."""
        if card["customer"] is None:
            raise Refused(
                "The payment method you provided is not attached to a customer so detachment is impossible.",
                param="payment_method",
            )
        owner = self._store.tables.customers[card["customer"]]
        if owner["invoice_settings"]["default_payment_method"] == card["id"]:
            owner["invoice_settings"]["default_payment_method"] = None
        card["customer"] = None
        self._tell("payment_method.detached", card)
        return card

    def create_intent(self, params: Mapping[str, Any]) -> Object:
        """A payment by a saved card, confirmed at once. Raises Declined where the bank says no, else Refused."""
        amount, customer = params["amount"], params.get("customer")
        if params["currency"] != "usd":
            raise Refused(f"Invalid currency: {params['currency']}", param="currency")
        if amount < LEAST_CENTS:
            raise Refused("Amount must be at least $0.50 usd", param="amount", code="amount_too_small")
        if params.get("off_session") and not params.get("confirm"):
            raise Refused("off_session can only be used with confirm=true.", param="off_session")
        if not params.get("confirm") or params.get("off_session") is not True:
            raise Refused("This stand-in only plays confirmed payments without a person.", param="confirm")
        if customer is None:
            raise missing("customer")
        if "payment_method" not in params:
            raise missing("payment_method")
        self._customer(customer)
        card = self._owned(params["payment_method"], customer)
        intent = objects.own_payment_intent(params, now=self._now())
        self._store.tables.payment_intents[intent["id"]] = intent
        self._tell("payment_intent.created", intent)
        self._confirm(intent, card)
        return intent

    def cancel_intent(self, intent: Object, params: Mapping[str, Any]) -> Object:
        """End a payment that was not made. Raises Refused for one that was, or that is on its way."""
        if intent["status"] in ("succeeded", "canceled", "processing"):
            raise Refused(
                f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}.",
                code="payment_intent_unexpected_state",
            )
        reason = params.get("cancellation_reason")
        intent.update(status="canceled", canceled_at=self._now(), cancellation_reason=reason)
        self._tell("payment_intent.canceled", intent)
        return intent

    def _confirm(self, intent: Object, card: Object) -> None:
        attempt = objects.charge(
            intent,
            email=intent["receipt_email"],
            method="card",
            receipt_base=f"{self._store.base}/receipts",
            now=self._now(),
        )
        attempt["payment_method"] = card["id"]
        attempt["payment_method_details"]["card"]["last4"] = card["card"]["last4"]
        self._store.tables.charges[attempt["id"]] = attempt
        last4 = card["card"]["last4"]
        if last4 == BEHAVIOURS["pays"]:
            objects.succeed(intent, attempt)
            self._tell("charge.succeeded", attempt)
            self._tell("payment_intent.succeeded", intent)
            return
        asks = last4 == BEHAVIOURS["asks"]
        code, decline = (
            ("authentication_required", "authentication_required") if asks else ("card_declined", "generic_decline")
        )
        message = ASKS if asks else DECLINED
        objects.fail(intent, attempt, code=code, decline_code=decline, message=message)
        self._tell("charge.failed", attempt)
        self._tell("payment_intent.payment_failed", intent)
        raise Declined(
            code=code, decline_code=decline, message=message, charge=attempt["id"], payment_intent=dict(intent)
        )

    def _customer(self, identifier: str) -> Object:
        customer = self._store.tables.customers.get(identifier)
        if customer is None:
            raise Refused(f"No such customer: '{identifier}'", param="customer", code="resource_missing")
        return customer

    def _owned(self, identifier: str, customer: str) -> Object:
        card = self._store.tables.payment_methods.get(identifier)
        if card is None:
            raise Refused(f"No such PaymentMethod: '{identifier}'", param="payment_method", code="resource_missing")
        if card["customer"] != customer:
            raise Refused(
                "The provided PaymentMethod cannot be attached. To reuse a PaymentMethod, you must attach it to a"
                " Customer first." if card["customer"] is None
                else "The PaymentMethod does not belong to the Customer you supplied.",
                param="payment_method",
            )  # fmt: skip
        return card
