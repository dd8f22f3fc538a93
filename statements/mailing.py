"""The statement of a month that is over goes to the billing e-mail of its workspace, once, as PDF."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from smtplib import SMTPRecipientsRefused
from typing import Final

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.urls import reverse

from accounts import emails
from orgs.models import Workspace
from statements import composing, profiles
from statements.composing import FINAL_AFTER, Statement, StatementDisagrees
from statements.models import BillingProfile, SentStatement
from statements.months import Month

log = logging.getLogger(__name__)

#: After so long nobody wants the mail any more; the page has the statement for ever.
MAIL_FOR: Final = timedelta(days=10)
MOST_AT_ONCE: Final = 200


def sweep(now: datetime) -> int:
    """Send last month's statements that are due; returns how many. A mail server that is down leaves them due."""
    month = Month.of(now).previous
    if not month.end + FINAL_AFTER <= now <= month.end + MAIL_FOR:
        return 0
    sent = 0
    for profile in _due(month)[:MOST_AT_ONCE]:
        try:
            sent += _send(profile, month)
        except SMTPRecipientsRefused:  # a wrong address keeps nobody else's mail
            log.exception("a mail of a statement waits")
        except OSError:  # smtplib's errors are among them
            log.exception("mails of statements wait")
            break
        except Exception:  # one that can't be written keeps nobody else's
            log.exception("a statement could not be mailed", extra={"workspace": str(profile.workspace_id)})
    return sent


def _due(month: Month) -> list[BillingProfile]:
    """The newest profile of each active workspace that named an address and was not told of this month."""
    told = SentStatement.objects.filter(month=month.first_day).values("workspace_id")
    newest = BillingProfile.objects.order_by("workspace_id", "-id").distinct("workspace_id").select_related("workspace")
    rows = newest.filter(workspace__active=True).exclude(workspace_id__in=told)
    return [profile for profile in rows if profile.email and profile.workspace.created_at < month.end]


@transaction.atomic
def _send(profile: BillingProfile, month: Month) -> bool:
    """In the transaction that notes it: what the mail server refuses is not noted, and tried again."""
    workspace = profile.workspace
    row, is_mine = SentStatement.objects.get_or_create(workspace=workspace, month=month.first_day)
    if not is_mine:
        return False
    try:
        made = composing.compose(workspace.pk, month)
    except StatementDisagrees:
        log.error("no statement to send: the books disagree", extra={"workspace": str(workspace.pk)})
        return False  # noted, so that it is not tried every hour; `verify_ledger` tells the operator each day
    if not (made.movements or made.usage.requests):
        return False
    row.email = profile.email
    row.save(update_fields=["email"])
    emails.deliver([_message(made, workspace, profile)])
    return True


def _message(made: Statement, workspace: Workspace, profile: BillingProfile) -> EmailMessage:
    from statements import pdf  # takes half a second to load, and is needed once a month

    address = settings.SITE_URL + reverse("statements:statement", args=[made.month])
    context = {"statement": made, "workspace": workspace, "statement_url": address}
    mail = emails.message("statement", context, to=profile.email)
    at_its_end = profiles.at(workspace.pk, made.month.end)
    mail.attach(f"statement-{made.number}.pdf", pdf.render(made, workspace, at_its_end), "application/pdf")
    return mail
