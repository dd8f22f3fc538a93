"""Mails about money. They are sent by workers and sweeps, never while somebody waits for a page."""

from __future__ import annotations

from django.conf import settings
from django.urls import reverse

from accounts import emails
from billing import links
from billing.models import TopUp


def send_receipt(topup: TopUp, *, to: str) -> None:
    """Tell the person who topped up that the credits are there. Raises what the mail server raises."""
    context = {
        "topup": topup,
        "workspace": topup.wallet.workspace,
        "billing_url": settings.SITE_URL + reverse("billing:overview"),
        "receipt": links.receipt(topup),
    }
    emails.message("topup_paid", context, to=to).send()
