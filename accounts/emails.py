"""The mails of accounts: what every one of them knows, and how it leaves the house."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.http import HttpRequest

logger = logging.getLogger(__name__)


def frame(request: HttpRequest | None) -> dict[str, Any]:
    """The context that every mail's frame needs: the product's name and where it lives."""
    home = settings.SITE_URL if request is None else request.build_absolute_uri("/").rstrip("/")
    return {"request": request, "site_name": settings.SITE_NAME, "site_url": home}


def send(message: EmailMessage) -> None:
    """Hand ``message`` to the mail server once the running transaction stands; without one, at once.

    A mail server that is down must not undo a sign-up, nor tell a stranger whether an address is known: the failure
    goes to the log, and the page offers to send the mail again.
    """
    transaction.on_commit(partial(_hand_over, message))


def _hand_over(message: EmailMessage) -> None:
    try:
        message.send()
    except OSError:  # smtplib's errors are among them
        logger.exception("a mail could not be handed over", extra={"mail_subject": message.subject})
