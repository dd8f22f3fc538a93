"""Mails about money. They are sent by workers and sweeps, never while somebody waits for a page."""

from __future__ import annotations

import logging
from smtplib import SMTPRecipientsRefused
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from accounts import emails
from accounts.models import User
from billing import links
from billing.models import AutoTopUp, Reversal, TopUp
from core import money
from orgs.models import Membership
from orgs.permissions import Permission, allows

log = logging.getLogger(__name__)


def send_receipt(topup: TopUp, *, to: str) -> None:
    """Tell the person who topped up that the credits are there, or that the money went back at once, since their
    organization is deleted. Raises what the mail server raises.
    """
    context = {
        "topup": topup,
        "workspace": topup.wallet.workspace,
        "billing_url": settings.SITE_URL + reverse("billing:overview"),
        "receipt": links.receipt(topup),
    }
    undone = Reversal.State.UNDONE
    goes_back = topup.wallet.workspace.deleted_at is not None and topup.reversals.exclude(state=undone).exists()
    emails.message("topup_sent_back" if goes_back else "topup_paid", context, to=to).send()


def sweep_auto_topups(*, most: int = 100) -> int:
    """Send what automatic top-ups have to say (`AutoTopUp.mail_due`); returns how many rules were told of.

    A mail server that is down leaves it due.
    """
    told = 0
    for wallet_id in AutoTopUp.objects.exclude(mail_due="").values_list("pk", flat=True)[:most]:
        try:
            told += _tell_of_auto_topup(wallet_id)
        except SMTPRecipientsRefused:  # other people's server may take theirs
            log.exception("a mail about automatic top-ups waits")
        except OSError:
            log.exception("mails about automatic top-ups wait")
            break
        except Exception:  # one that can't be written keeps nobody else's
            log.exception("a mail about automatic top-ups can't be written")
    return told


@transaction.atomic
def _tell_of_auto_topup(wallet_id: UUID) -> bool:
    locked = AutoTopUp.objects.select_for_update(of=("self",), skip_locked=True)
    rule = locked.select_related("wallet__workspace", "enabled_by").filter(pk=wallet_id).exclude(mail_due="").first()
    if rule is None:
        return False
    context = {
        "rule": rule,
        "workspace": rule.wallet.workspace,
        "amount_microcredits": money.from_cents(rule.amount_cents),
        "cap_microcredits": money.from_cents(rule.monthly_cap_cents),
        "pay_url": settings.SITE_URL + reverse("billing:auto"),
    }
    emails.deliver(emails.message(f"auto_topup_{rule.mail_due}", context, to=each.email) for each in _payers(rule))
    rule.mail_due = AutoTopUp.Mail.NONE
    rule.save(update_fields=["mail_due"])
    return True


def _payers(rule: AutoTopUp) -> list[User]:
    """Who switched it on, while they may still pay for the workspace; else everybody who may."""
    rows = Membership.objects.filter(workspace_id=rule.pk, user__is_active=True).select_related("user")
    people = [row.user for row in rows if allows(row.role, Permission.BILLING_WRITE)]
    return [person for person in people if person.pk == rule.enabled_by_id] or people
