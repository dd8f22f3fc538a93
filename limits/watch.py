"""Tells people how far limits are used and that a balance runs low, and disables keys that are to stop at theirs.

A sweep, run every few seconds: calls are refused by the neck itself, whether or not this runs. A notice is written with
what it does to a key; its mails follow, in the transaction that marks it as sent, so that each is sent once a month.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from smtplib import SMTPRecipientsRefused
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.urls import reverse

from accounts import emails
from accounts.models import User
from billing.models import SpendMeter, Wallet
from core import clock, money
from events import outbox
from keys import issuing
from keys.models import ApiKey
from limits.models import LimitNotice, LowBalance
from limits.moving import REACHED
from orgs.models import Membership, Workspace
from orgs.permissions import Permission, allows

log = logging.getLogger(__name__)

Scope = SpendMeter.Scope

ALMOST = 80
#: Notices in one sweep at most; the others come with the next.
MOST = 200

# A limit is reached by what was settled, or by a refusal while nothing was in flight: holds that never become charges
# must not keep the notice from ever coming.
# People are told once a month; a key that is to stop does so at every limit that it runs into.
_DUE = """
SELECT m.scope, m.scope_id, m.month, m.spent_microcredits, l.amount, l.workspace_id,
       m.spent_microcredits >= l.amount OR m.reached_at IS NOT NULL AS reached
FROM billing_spendmeter m JOIN (
  SELECT 'key' AS scope, id AS scope_id, spending_limit_microcredits AS amount, workspace_id,
         auto_disable AND enabled AS stops FROM keys_apikey
  WHERE spending_limit_microcredits IS NOT NULL AND deleted_at IS NULL
  UNION ALL SELECT scope, scope_id, amount_microcredits, workspace_id, false FROM limits_spendinglimit) l
  ON l.scope = m.scope AND l.scope_id = m.scope_id
LEFT JOIN limits_limitnotice full_notice ON full_notice.scope = m.scope AND full_notice.scope_id = m.scope_id
  AND full_notice.month = m.month AND full_notice.percent = 100
LEFT JOIN limits_limitnotice early_notice ON early_notice.scope = m.scope AND early_notice.scope_id = m.scope_id
  AND early_notice.month = m.month AND early_notice.percent = 80
WHERE m.month = %(month)s AND (
  (full_notice.id IS NULL AND (m.spent_microcredits >= l.amount OR m.reached_at IS NOT NULL
                               OR (early_notice.id IS NULL AND m.spent_microcredits * 100 >= l.amount * 80)))
  OR (l.stops AND full_notice.outdated AND (m.spent_microcredits >= l.amount OR m.reached_at IS NOT NULL)))
LIMIT %(most)s"""


@dataclass(frozen=True, slots=True)
class Due:
    """A limit of which so much is used that somebody has to be told. Microcredits."""

    scope: str
    scope_id: UUID
    month: date
    spent: int
    limit: int
    workspace_id: UUID
    reached: bool

    @property
    def percent(self) -> int:
        """Which of the two notices it is."""
        return REACHED if self.reached else ALMOST


def watch(now: datetime | None = None) -> int:
    """Look at this month's meters and at balances once; returns how many notices were sent."""
    month = clock.month_of(now or clock.now())
    with connection.cursor() as cursor:
        cursor.execute(_DUE, {"month": month, "most": MOST})
        due = [Due(*row) for row in cursor.fetchall()]
    for each in due:
        try:
            _note(each)
        except Exception:  # the others' keys are to stop all the same
            log.exception("a limit could not be told of", extra={"scope": each.scope, "scope_id": str(each.scope_id)})
    return _send_notices() + _watch_balances()


@transaction.atomic
def _note(due: Due) -> None:
    """Disable and write down, once: not if somebody else just did, nor if the limit is another by now."""
    key = None
    if due.scope == Scope.KEY:
        key = ApiKey.objects.select_for_update(no_key=True).filter(pk=due.scope_id, deleted_at=None).first()
        if key is None or key.spending_limit_microcredits != due.limit:
            return
    notice, new = LimitNotice.objects.get_or_create(
        scope=due.scope, scope_id=due.scope_id, month=due.month, percent=due.percent
    )
    if not new and not (due.reached and notice.outdated):
        return
    disabled = key is not None and due.reached and issuing.disable_at_limit(key)
    notice.outdated = False
    if new or disabled:
        notice.workspace_id, notice.disabled, notice.mail_due = due.workspace_id, disabled, True
        notice.spent_microcredits, notice.limit_microcredits, notice.told_at = due.spent, due.limit, clock.now()
        _tell_servers(due, key, disabled=disabled)
    notice.save()


def _send_notices() -> int:
    """Mail what is due. A mail server that is down leaves it to the next sweep; keys stop without it."""
    sent = 0
    for notice_id in LimitNotice.objects.filter(mail_due=True).order_by("pk").values_list("pk", flat=True)[:MOST]:
        try:
            sent += _send_notice(notice_id)
        except SMTPRecipientsRefused:  # other people's server may take theirs
            log.exception("a notice about a limit waits")
        except OSError:  # smtplib's errors are among them
            log.exception("notices about limits wait")
            break
    return sent


@transaction.atomic
def _send_notice(notice_id: UUID) -> bool:
    rows = LimitNotice.objects.select_for_update(skip_locked=True, of=("self",)).select_related("workspace")
    notice = rows.filter(pk=notice_id, mail_due=True).first()
    if notice is None:
        return False
    of_key = notice.scope == Scope.KEY
    key = ApiKey.objects.filter(pk=notice.scope_id).first() if of_key else None
    member = None if of_key else _member(notice.scope, notice.scope_id)
    workspace = notice.workspace
    assert workspace is not None  # it is written with what is due
    context = {
        "workspace": workspace,
        "scope": notice.scope,
        "whose": _name(workspace, key, member),
        "percent": notice.percent,
        "spent": money.credits(notice.spent_microcredits),
        "limit": money.credits(notice.limit_microcredits),
        "disabled": notice.disabled,
        "page_url": settings.SITE_URL + reverse("keys" if of_key else "limits"),
    }
    concerned = key.created_by_id if key is not None else member.pk if member is not None else None
    _mail("limit_notice", context, _people(workspace, concerned))
    notice.mail_due = False
    notice.save(update_fields=["mail_due"])
    return True


def _tell_servers(due: Due, key: ApiKey | None, *, disabled: bool) -> None:
    workspace = Workspace.objects.get(pk=due.workspace_id)
    data = {
        "scope": due.scope,
        "id": due.scope_id,
        "name": _name(workspace, key, _member(due.scope, due.scope_id)),
        "month": f"{due.month:%Y-%m}",
        "spentCredits": money.credits_json(due.spent),
        "limitCredits": money.credits_json(due.limit),
        "keyDisabled": disabled,
    }
    outbox.tell(due.workspace_id, f"limit.reached_{due.percent}", data)


def _name(workspace: Workspace, key: ApiKey | None, member: User | None) -> str:
    """Whose limit it is, in words for people."""
    return key.name if key is not None else member.email if member is not None else workspace.name


def _member(scope: str, scope_id: UUID) -> User | None:
    if scope != Scope.MEMBER:
        return None
    membership = Membership.objects.select_related("user").filter(pk=scope_id).first()
    return membership.user if membership is not None else None


def _people(workspace: Workspace, concerned: UUID | None) -> list[User]:
    """Whoever the limit is about, and all who may change it."""
    rows = Membership.objects.filter(workspace=workspace, user__is_active=True).select_related("user")
    return [row.user for row in rows if row.user_id == concerned or allows(row.role, Permission.BILLING_WRITE)]


def _mail(name: str, context: dict[str, Any], people: Iterable[User]) -> None:
    """To each of them; an address that is refused keeps nobody else's mail. Raises OSError."""
    emails.deliver(emails.message(name, context, to=person.email) for person in people)


def _watch_balances() -> int:
    """Warn once when a balance falls below what was asked for, and be ready again when it is back above."""
    wallets = Wallet.objects.filter(workspace__low_balance__isnull=False, workspace__active=True)
    told = 0
    for wallet_id, balance, below, warned in wallets.values_list(
        "pk", "balance_microcredits", "workspace__low_balance__below_microcredits", "workspace__low_balance__warned"
    )[: MOST * 50]:
        if (balance < below) == warned:
            continue
        try:
            told += _warn(wallet_id) if balance < below else _rearm(wallet_id)
        except OSError:
            log.exception("a warning about a balance waits")
    return told


@transaction.atomic
def _warn(workspace_id: UUID) -> int:
    row = LowBalance.objects.select_for_update(skip_locked=True).filter(pk=workspace_id, warned=False).first()
    wallet = Wallet.objects.select_related("workspace").get(pk=workspace_id)
    if row is None or wallet.balance_microcredits >= row.below_microcredits:
        return 0
    LowBalance.objects.filter(pk=workspace_id).update(warned=True)
    context = {
        "workspace": wallet.workspace,
        "balance": money.credits(wallet.balance_microcredits),
        "below": money.credits(row.below_microcredits),
        "page_url": settings.SITE_URL + reverse("billing:overview"),
    }
    data = {
        "balanceCredits": money.credits_json(wallet.balance_microcredits),
        "belowCredits": money.credits_json(row.below_microcredits),
    }
    outbox.tell(workspace_id, "balance.low", data)
    _mail("low_balance", context, _people(wallet.workspace, None))
    return 1


def _rearm(workspace_id: UUID) -> int:
    LowBalance.objects.filter(pk=workspace_id).update(warned=False)
    return 0
