"""Wallets as customers at Stripe: made when they are first needed, and the card that was saved there."""

from __future__ import annotations

import hashlib
import logging
from datetime import date
from uuid import UUID

from django.conf import settings
from django.db import transaction

from billing import stripe_api, stripe_payments
from billing.models import AutoTopUp, Customer
from core import clock, faults
from orgs.models import Workspace

log = logging.getLogger(__name__)


def of(wallet_id: UUID) -> Customer | None:
    """The wallet's customer in the mode that this installation is in, if it has one yet."""
    return Customer.objects.filter(wallet_id=wallet_id, is_demo=settings.DEMO_PAYMENTS).first()


def ensure(workspace: Workspace, *, email: str) -> Customer:
    """The workspace's customer, made at Stripe where there is none. Raises StripeFailed."""
    known = of(workspace.pk)
    if known is not None:
        return known
    # Asking twice for the same gives the same customer; a changed name or address is another question.
    asked = hashlib.sha256(f"{workspace.name}\n{email}".encode()).hexdigest()[:16]
    mode = "demo" if settings.DEMO_PAYMENTS else "live"
    stripe_id = stripe_payments.create_customer(
        f"customer-{mode}-{workspace.pk}-{asked}", name=workspace.name, email=email, workspace_id=workspace.pk
    )
    faults.point("customer.made")
    made = Customer(wallet_id=workspace.pk, is_demo=settings.DEMO_PAYMENTS, stripe_id=stripe_id)
    Customer.objects.bulk_create([made], ignore_conflicts=True)  # two tabs at once: the first one's counts
    return Customer.objects.get(wallet_id=workspace.pk, is_demo=settings.DEMO_PAYMENTS)


def forget(customer: Customer) -> None:
    """Stripe does not know this customer any more: the next payment makes another one."""
    log.warning("customer %s is not at Stripe any more", customer.stripe_id)
    with transaction.atomic():
        clear_card(customer)
        Customer.objects.filter(pk=customer.pk).delete()


def save_card(customer: Customer, card_id: str) -> bool:
    """Make a card of the customer's the one that automatic top-ups charge. False where it is not theirs (any more).

    A pause for a missing, refusing or asking card ends with it. Raises StripeFailed.
    """
    try:
        card = stripe_payments.retrieve_card(card_id)
    except stripe_api.NotAtStripe:
        return False
    if card.customer_id != customer.stripe_id or not card.last4:
        return False
    with transaction.atomic():
        expires = date(card.exp_year, card.exp_month, 1)
        Customer.objects.filter(pk=customer.pk).update(
            payment_method_id=card.id, card_brand=card.brand[:32], card_last4=card.last4, card_expires=expires
        )
        AutoTopUp.objects.filter(pk=customer.wallet_id).update(
            paused_for="", declines=0, not_before=None, mail_due="", updated_at=clock.now()
        )
    return True


def clear_card(customer: Customer) -> None:
    """There is no saved card any more; what needed one pauses."""
    with transaction.atomic():
        Customer.objects.filter(pk=customer.pk).update(
            payment_method_id="", card_brand="", card_last4="", card_expires=None
        )
        AutoTopUp.objects.filter(pk=customer.wallet_id, enabled=True, paused_for="").update(
            paused_for=AutoTopUp.Pause.NO_CARD, mail_due=AutoTopUp.Mail.PAUSED, updated_at=clock.now()
        )


# ── What Stripe tells ────────────────────────────────────────────────────────────────────────────────────────────────
def card_changed(card_id: str) -> bool:
    """A card was renewed, changed or taken away. False where it is no card of ours."""
    customer = Customer.objects.filter(payment_method_id=card_id, is_demo=settings.DEMO_PAYMENTS).first()
    if customer is None:
        return False
    try:
        card = stripe_payments.retrieve_card(card_id)
    except stripe_api.NotAtStripe:
        clear_card(customer)
        return True
    if card.customer_id != customer.stripe_id:
        clear_card(customer)
    else:
        expires = date(card.exp_year, card.exp_month, 1)
        Customer.objects.filter(pk=customer.pk).update(card_last4=card.last4, card_expires=expires)
    return True


def customer_changed(stripe_id: str) -> bool:
    """Somebody chose another card in the portal, or the customer is gone. False where it is none of ours."""
    customer = Customer.objects.filter(stripe_id=stripe_id, is_demo=settings.DEMO_PAYMENTS).first()
    if customer is None:
        return False
    try:
        chosen = stripe_payments.default_card(stripe_id)
    except stripe_api.NotAtStripe:
        forget(customer)
        return True
    if chosen and chosen != customer.payment_method_id:
        save_card(customer, chosen)
    return True
