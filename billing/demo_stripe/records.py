"""Stripe's objects beside a payment: customers, cards, refunds, disputes, the portal. See `objects`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import stripe
from stripe import billing_portal

from billing.demo_stripe.objects import Object, filled, new_id

#: Seconds in which evidence can be handed in.
_EVIDENCE_SECONDS: Final = 7 * 86_400
_CARD: Final = {"brand": "visa", "country": "US", "exp_month": 12, "exp_year": 2099, "funding": "credit"}


def customer(params: Mapping[str, Any], *, now: int) -> Object:
    """A customer without cards."""
    kind = stripe.Customer
    return filled(
        kind,
        id=new_id("cus"),
        object="customer",
        address=None,
        balance=0,
        created=now,
        delinquent=False,
        description=params.get("description"),
        email=params.get("email"),
        invoice_settings=filled(kind.InvoiceSettings),
        livemode=False,
        metadata=params.get("metadata", {}),
        name=params.get("name"),
        next_invoice_sequence=1,
        preferred_locales=[],
        tax_exempt="none",
    )


def payment_method(identifier: str, *, last4: str, email: str | None, now: int) -> Object:
    """A card that belongs to nobody yet."""
    kind = stripe.PaymentMethod
    card = filled(
        kind.Card,
        **_CARD,
        checks=filled(kind.Card.Checks, cvc_check="pass"),
        display_brand="visa",
        last4=last4,
        networks=filled(kind.Card.Networks, available=["visa"]),
        three_d_secure_usage=filled(kind.Card.ThreeDSecureUsage, supported=True),
    )
    return filled(
        kind,
        id=identifier,
        object="payment_method",
        allow_redisplay="limited",
        billing_details=filled(kind.BillingDetails, address=filled(kind.BillingDetails.Address), email=email),
        card=card,
        created=now,
        livemode=False,
        metadata={},
        type="card",
    )


def refund(charge: Object, params: Mapping[str, Any], *, amount: int, status: str, now: int) -> Object:
    """Money of ``charge`` on its way back."""
    kind = stripe.Refund
    return filled(
        kind,
        id=new_id("re"),
        object="refund",
        amount=amount,
        charge=charge["id"],
        created=now,
        currency=charge["currency"],
        customer=charge["customer"],
        destination_details=filled(kind.DestinationDetails, type=charge["payment_method_details"]["type"]),
        metadata=params.get("metadata", {}),
        payment_intent=charge["payment_intent"],
        payment_method=charge["payment_method"],
        pending_reason="processing" if status == "pending" else None,
        reason=params.get("reason"),
        status=status,
    )


def dispute(charge: Object, *, amount: int, reason: str, inquiry: bool, now: int) -> Object:
    """A cardholder who wants ``amount`` cents of ``charge`` back; an inquiry only asks."""
    kind = stripe.Dispute
    details = kind.PaymentMethodDetails
    card = filled(
        details.Card,
        brand="visa",
        case_type="inquiry" if inquiry else "chargeback",
        network="visa",
        network_reason_code="10.4",
    )
    return filled(
        kind,
        id=new_id("du"),
        object="dispute",
        amount=amount,
        balance_transactions=[],
        charge=charge["id"],
        created=now,
        currency=charge["currency"],
        enhanced_eligibility_types=[],
        evidence=filled(kind.Evidence, enhanced_evidence={}),
        evidence_details=filled(
            kind.EvidenceDetails,
            due_by=now + _EVIDENCE_SECONDS,
            enhanced_eligibility={},
            has_evidence=False,
            past_due=False,
            submission_count=0,
            submission_method="not_submitted",
        ),
        is_charge_refundable=inquiry,
        livemode=False,
        metadata={},
        payment_intent=charge["payment_intent"],
        payment_method_details=filled(details, type="card", card=card),
        reason=reason,
        status="warning_needs_response" if inquiry else "needs_response",
    )


def portal_session(params: Mapping[str, Any], *, base: str, now: int) -> Object:
    """A way into the customer portal."""
    identifier = new_id("bps")
    return filled(
        billing_portal.Session,
        id=identifier,
        object="billing_portal.session",
        configuration="bpc_demo",
        created=now,
        customer=params["customer"],
        livemode=False,
        return_url=params.get("return_url"),
        url=f"{base}/p/session/{identifier}",
    )
