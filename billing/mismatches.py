"""Payments that came but are not what was asked for: an operator credits what was paid, or sends it back."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from billing import settling, stripe_api, stripe_keys, stripe_payments
from billing.models import Reversal, TopUp
from core import errors, money
from events import audit


def accept(topup_id: UUID, *, reason: str, actor: audit.Actor) -> TopUp:
    """Credit what was really paid, less tax, to the top-up's wallet. Raises InvalidRequest, StripeFailed.

    Somebody who comes second finds it paid and changes nothing.
    """
    if not reason.strip():
        raise errors.InvalidRequest(_("Say why."), param="reason")
    with transaction.atomic():
        topup = settling.locked(topup_id)
        if topup.state == TopUp.State.PAID:
            return topup
        if topup.failure != settling.MISMATCH:
            raise errors.InvalidRequest(_("No payment of this top-up waits for a decision."), param="topup")
        if topup.reversals.exclude(state=Reversal.State.UNDONE).exists():
            raise errors.InvalidRequest(_("This payment goes back already."), param="topup")
        payment = stripe_payments.retrieve_payment(topup.stripe_payment_intent_id)
        session = stripe_api.find_session(payment.id)
        if payment.status != "succeeded" or payment.livemode != stripe_keys.expects_livemode():
            raise errors.InvalidRequest(_("Nothing was paid that could be credited here."), param="topup")
        if payment.currency != topup.currency:
            raise errors.InvalidRequest(_("It was paid in another currency: send it back."), param="topup")
        paid = settling.paid_session(session) if session else settling.paid_payment(payment)
        net = session.amount_subtotal_cents - session.amount_discount_cents if session else payment.received_cents
        settling.record(
            "topup.accept", topup, actor, reason=reason.strip(), wanted_cents=topup.amount_cents, credited_cents=net
        )
        topup.amount_cents, topup.credits_microcredits = net, money.from_cents(net)
        topup.save(update_fields=["amount_cents", "credits_microcredits"])
        return settling.credit(topup, paid, actor=actor)
