"""Stripe's objects as it would answer them: every field that the library's classes name, most of them empty."""

from __future__ import annotations

import copy
import secrets
import string
from collections.abc import Mapping
from typing import Any, Final

import stripe
from stripe import checkout

#: A Stripe object as JSON knows it.
Object = dict[str, Any]

_LETTERS: Final = string.ascii_letters + string.digits
_SUCCEEDED: Final = "Payment complete."


def new_id(prefix: str, length: int = 24) -> str:
    """An id like Stripe's. "demo" in it says where it comes from, wherever it turns up later."""
    return f"{prefix}_demo" + "".join(secrets.choice(_LETTERS) for _ in range(length))


def _names(kind: Any) -> list[str]:
    return [name for name, hint in kind.__annotations__.items() if "ClassVar" not in str(hint)]


def filled(kind: Any, **values: Any) -> Object:
    """All fields of ``kind``, empty but for ``values``. A value for a field that it does not have is a mistake."""
    blank: Object = dict.fromkeys(_names(kind))
    unknown = values.keys() - blank.keys()
    if unknown:
        raise TypeError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
    return {**blank, **values}


def session(
    params: Mapping[str, Any], *, identifier: str, url: str, amount: int, tax: int, now: int, expires_at: int
) -> Object:
    """An open Checkout Session of the hosted page, made of checked parameters. ``amount`` and ``tax`` in cents."""
    kind = checkout.Session
    item = params["line_items"][0]["price_data"]
    return filled(
        kind,
        id=identifier,
        object="checkout.session",
        adaptive_pricing=filled(kind.AdaptivePricing, **params.get("adaptive_pricing", {"enabled": False})),
        amount_subtotal=amount,
        amount_total=amount + tax,
        automatic_tax=filled(kind.AutomaticTax, **{"enabled": False, **params.get("automatic_tax", {})}),
        billing_address_collection=params.get("billing_address_collection"),
        cancel_url=params.get("cancel_url"),
        client_reference_id=params.get("client_reference_id"),
        created=now,
        currency=item["currency"],
        custom_fields=[],
        custom_text=filled(kind.CustomText),
        customer=params.get("customer"),
        customer_creation="if_required",
        customer_details=_person(params.get("customer_email")),
        customer_email=params.get("customer_email"),
        expires_at=expires_at,
        invoice_creation=_invoice_creation(params),
        livemode=False,
        locale=params.get("locale"),
        metadata=params.get("metadata", {}),
        mode=params["mode"],
        payment_method_options={},
        payment_method_types=["card", "us_bank_account"],
        payment_status="unpaid",
        phone_number_collection=filled(kind.PhoneNumberCollection, enabled=False),
        shipping_options=[],
        status="open",
        submit_type=params.get("submit_type"),
        success_url=params.get("success_url"),
        total_details=filled(kind.TotalDetails, amount_discount=0, amount_shipping=0, amount_tax=tax),
        ui_mode=params.get("ui_mode", "hosted_page"),
        url=url,
        wallet_options=None,
    )


def _person(email: str | None) -> Object | None:
    return filled(checkout.Session.CustomerDetails, email=email, tax_exempt="none") if email else None


def _invoice_creation(params: Mapping[str, Any]) -> Object:
    kind = checkout.Session.InvoiceCreation
    enabled = params.get("invoice_creation", {}).get("enabled", False)
    return filled(kind, enabled=enabled, invoice_data=filled(kind.InvoiceData, metadata={}))


def payment_intent(of: Object, data: Mapping[str, Any], *, now: int) -> Object:
    """The payment of a session ``of`` that somebody has just confirmed; not paid yet."""
    identifier = new_id("pi")
    return filled(
        stripe.PaymentIntent,
        id=identifier,
        object="payment_intent",
        amount=of["amount_total"],
        amount_capturable=0,
        amount_details=filled(stripe.PaymentIntent.AmountDetails, tip={}),
        amount_received=0,
        capture_method="automatic",
        client_secret=f"{identifier}_secret_{secrets.token_hex(12)}",
        confirmation_method="automatic",
        created=now,
        currency=of["currency"],
        customer=of["customer"],
        description=data.get("description"),
        livemode=False,
        metadata=data.get("metadata", {}),
        payment_method_options={},
        payment_method_types=of["payment_method_types"],
        receipt_email=data.get("receipt_email"),
        setup_future_usage=data.get("setup_future_usage"),
        statement_descriptor=data.get("statement_descriptor"),
        statement_descriptor_suffix=data.get("statement_descriptor_suffix"),
        status="requires_payment_method",
    )


def own_payment_intent(params: Mapping[str, Any], *, now: int) -> Object:
    """A payment without a session, made of checked parameters; not paid yet."""
    of = {
        "amount_total": params["amount"],
        "currency": params["currency"],
        "customer": params["customer"],
        "payment_method_types": ["card"],
    }
    return payment_intent(of, params, now=now)


def charge(intent: Object, *, email: str | None, method: str, receipt_base: str, now: int) -> Object:
    """One attempt to collect a payment: pending until `succeed` or `fail` says more. ``method`` is a type's name."""
    kind = stripe.Charge
    identifier = new_id("ch")
    return filled(
        kind,
        id=identifier,
        object="charge",
        amount=intent["amount"],
        amount_captured=0,
        amount_refunded=0,
        billing_details=filled(kind.BillingDetails, address=filled(kind.BillingDetails.Address), email=email),
        calculated_statement_descriptor="DEMO",
        captured=False,
        created=now,
        currency=intent["currency"],
        customer=intent["customer"],
        description=intent["description"],
        disputed=False,
        fraud_details={},
        livemode=False,
        metadata=intent["metadata"],
        outcome=None,
        paid=False,
        payment_intent=intent["id"],
        payment_method=new_id("pm"),
        payment_method_details=_method_details(method),
        receipt_url=f"{receipt_base}/{identifier}",
        refunded=False,
        refunds=listing([], url=f"/v1/charges/{identifier}/refunds"),
        status="pending",
    )


def _method_details(method: str) -> Object:
    kind = stripe.Charge.PaymentMethodDetails
    if method == "us_bank_account":
        bank = kind.UsBankAccount
        return filled(kind, type=method, us_bank_account=filled(bank, bank_name="DEMO BANK", last4="6789"))
    card = filled(
        kind.Card,
        brand="visa",
        checks=filled(kind.Card.Checks, cvc_check="pass"),
        country="US",
        exp_month=12,
        exp_year=2099,
        funding="credit",
        last4="4242",
        network="visa",
    )
    return filled(kind, type="card", card=card)


def authentication(url: str) -> Object:
    """What stands in a payment that waits for its payer at the bank's page (3-D Secure)."""
    kind = stripe.PaymentIntent.NextAction
    redirect = filled(kind.RedirectToUrl, url=url)
    return filled(kind, type="redirect_to_url", redirect_to_url=redirect)


def succeed(intent: Object, attempt: Object) -> None:
    """The charge went through, and so did its payment."""
    attempt.update(status="succeeded", paid=True, captured=True, amount_captured=attempt["amount"])
    attempt["outcome"] = _outcome("authorized", "approved_by_network", _SUCCEEDED)
    intent.update(status="succeeded", amount_received=intent["amount"], latest_charge=attempt["id"])
    intent.update(payment_method=attempt["payment_method"], last_payment_error=None)


def fail(intent: Object, attempt: Object, *, code: str, decline_code: str | None, message: str) -> None:
    """The charge did not go through; the payment may be tried with another method."""
    attempt.update(status="failed", failure_code=code, failure_message=message)
    attempt["outcome"] = _outcome("issuer_declined", "declined_by_network", message, reason=decline_code)
    intent.update(status="requires_payment_method", latest_charge=attempt["id"], payment_method=None)
    intent["last_payment_error"] = filled(
        stripe.PaymentIntent.LastPaymentError,
        type="card_error",
        code=code,
        decline_code=decline_code,
        charge=attempt["id"],
        message=message,
    )


def _outcome(word: str, network_status: str, message: str, *, reason: str | None = None) -> Object:
    return filled(
        stripe.Charge.Outcome,
        type=word,
        network_status=network_status,
        reason=reason,
        risk_level="normal",
        seller_message=message,
    )


def event(type_: str, about: Object, *, now: int) -> Object:
    """What happened to ``about``, which is written down as it stands now."""
    kind = stripe.Event
    return filled(
        kind,
        id=new_id("evt"),
        object="event",
        api_version=stripe.api_version,
        created=now,
        data={"object": copy.deepcopy(about)},
        livemode=False,
        pending_webhooks=1,
        request=filled(kind.Request),
        type=type_,
    )


def listing(data: list[Object], *, url: str, has_more: bool = False) -> Object:
    """A page of a list."""
    return {"object": "list", "data": data, "has_more": has_more, "url": url}
