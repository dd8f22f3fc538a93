"""Mails to people: one template of plain paragraphs a mail, one frame for text, one for HTML, one way out of the house.

``emails/<name>.subject.txt`` and ``emails/<name>.txt`` hold the words. A paragraph whose last line is nothing but an
address becomes, in HTML, that address as a button labelled with the line before it.
"""

from __future__ import annotations

import logging
import smtplib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.db import transaction
from django.http import HttpRequest
from django.template.loader import render_to_string

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Some lines of text, and where its button leads (empty: there is none)."""

    lines: list[str]
    label: str = ""
    address: str = ""


def message(name: str, context: Mapping[str, Any], *, to: str, request: HttpRequest | None = None) -> EmailMessage:
    """The mail ``name`` as text and as HTML. No auto-responder shall answer it."""
    full = {**frame(request), **context}
    subject = " ".join(render_to_string(f"emails/{name}.subject.txt", full).split())
    body = render_to_string(f"emails/{name}.txt", full).strip()
    framed = {**full, "subject": subject, "body": body, "paragraphs": paragraphs(body)}
    text = render_to_string("emails/frame.txt", framed).strip() + "\n"
    mail = EmailMultiAlternatives(subject, text, to=[to], headers={"Auto-Submitted": "auto-generated"})
    mail.attach_alternative(render_to_string("emails/frame.html", framed), "text/html")
    return mail


def frame(request: HttpRequest | None) -> dict[str, Any]:
    """What every mail knows: the product's name and where it lives."""
    home = settings.SITE_URL if request is None else request.build_absolute_uri("/").rstrip("/")
    return {"site_name": settings.SITE_NAME, "site_url": home}


def paragraphs(body: str) -> list[Paragraph]:
    """The paragraphs of a plain text, parted by empty lines."""
    found = []
    for block in body.split("\n\n"):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        if not lines:
            continue
        if len(lines) > 1 and lines[-1].startswith(("https://", "http://")) and " " not in lines[-1]:
            found.append(Paragraph(lines[:-2], lines[-2].rstrip(":"), lines[-1]))
        else:
            found.append(Paragraph(lines))
    return found


def send(mail: EmailMessage) -> None:
    """Hand ``mail`` to the mail server once the running transaction stands; without one, at once.

    A mail server that is down must not undo a sign-up, nor tell a stranger whether an address is known: the failure
    goes to the log, and the page offers to send the mail again.
    """
    transaction.on_commit(partial(_hand_over, mail))


def deliver(mails: Iterable[EmailMessage]) -> None:
    """Hand each over now: for sweeps, which come again where nobody could be told.

    An address that the mail server refuses is logged and keeps nobody else's mail. Raises SMTPRecipientsRefused (an
    OSError) where the server takes none of the addresses for the moment, and OSError where it is away.
    """
    told, refusal = 0, None
    for mail in mails:
        try:
            mail.send()
            told += 1
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _answer in error.recipients.values()]
            logger.warning("an address was refused", extra={"mail_subject": mail.subject, "codes": codes})
            if min(codes, default=500) < 500:  # 4xx: it may be taken later
                refusal = error
    if refusal is not None and not told:
        raise refusal


def _hand_over(mail: EmailMessage) -> None:
    try:
        mail.send()
    except OSError:  # smtplib's errors are among them
        logger.exception("a mail could not be handed over", extra={"mail_subject": mail.subject})
