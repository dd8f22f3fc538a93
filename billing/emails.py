"""Mails about money. They are sent by workers and sweeps, never while somebody waits for a page."""

from __future__ import annotations

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse

from billing import links
from billing.models import TopUp


def send_receipt(topup: TopUp, *, to: str) -> None:
    """Tell the person who topped up that the credits are there. Raises what the mail server raises."""
    context = {
        "topup": topup,
        "workspace": topup.wallet.workspace,
        "billing_url": settings.SITE_URL + reverse("billing:overview"),
        "site_name": settings.SITE_NAME,
        "receipt": links.receipt(topup),
    }
    subject = " ".join(render_to_string("emails/topup_paid.subject.txt", context).split())
    text = render_to_string("emails/topup_paid.txt", context)
    EmailMultiAlternatives(subject, text, to=[to]).send()
