"""Codes in words for people."""

from __future__ import annotations

from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from billing import auto, topups
from billing.models import TopUp

_OURS: Final[dict[str, Promise]] = {
    topups.MISMATCH: _(
        "A payment arrived that is not the one asked for, so no credits were added. Please write to support."
    ),
    topups.NOT_OPENED: _("The payment page could not be opened. Nothing was charged."),
    topups.NOT_AT_STRIPE: _("The payment provider does not know this payment. Nothing was credited."),
    auto.NOT_CHARGED: _("The automatic top-up was not made. Nothing was charged."),
    "no_card": _("There was no saved card to charge. Nothing was charged."),
    # Stripe's own codes.
    "authentication_required": _("Your bank asked for a confirmation that was not given."),
    "card_declined": _("Your card was declined."),
    "expired_card": _("Your card has expired."),
    "generic_decline": _("Your card was declined."),
    "incorrect_cvc": _("The card's security code was wrong."),
    "insufficient_funds": _("There was not enough money on the account. Nothing was credited."),
    "processing_error": _("The bank could not process the payment. Nothing was credited."),
}
_OTHER: Final = _("The payment was refused. Nothing was credited.")


def failure(topup: TopUp) -> Promise:
    """Why a failed top-up failed."""
    return _OURS.get(topup.failure, _OTHER)
