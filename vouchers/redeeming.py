"""A code becomes promotional credits, once a workspace and no more often than the voucher allows.

The voucher's row is locked first, then the wallet's; nothing locks them the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import F, Q
from django.utils.translation import gettext as _

from billing import ledger
from billing.models import HOUSE_ACCOUNTS, Account, CreditLot, Transfer
from core import clock, errors, money
from events import audit
from orgs.models import Workspace
from vouchers import codes
from vouchers.models import FailedAttempt, Redemption, Voucher

#: So many refused codes of a workspace, or of a person in all of theirs, within `WINDOW`; then they wait.
MOST_FAILURES: Final = 10
WINDOW: Final = timedelta(hours=1)
_KEPT: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Redeemed:
    """``again``: this workspace had redeemed the voucher before, and nothing moved this time."""

    redemption: Redemption
    again: bool


def redeem(workspace: Workspace, typed: str, *, actor: audit.Actor) -> Redeemed:
    """Credit what the voucher with this code is worth. The same code sent twice is one redemption.

    Raises RateLimited after too many refused codes, NotFound for a code that is none, and Conflict for one that is
    over: expired, withdrawn or used up. All of them name ``code``.
    """
    now = clock.now()
    _refuse_too_many(workspace, actor, now)
    try:
        return _redeem(workspace, typed, actor, now)
    except (errors.NotFound, errors.Conflict):
        # After the transaction: a refusal is counted, whatever was rolled back.
        FailedAttempt.objects.filter(workspace_id=workspace.pk, created_at__lt=now - _KEPT).delete()
        FailedAttempt.objects.create(workspace_id=workspace.pk, user_id=actor.user_id, created_at=now)
        raise


@transaction.atomic
def _redeem(workspace: Workspace, typed: str, actor: audit.Actor, now: datetime) -> Redeemed:
    letters = codes.normalised(typed)
    code_hash = codes.hash_of(letters) if letters else b""
    voucher = Voucher.objects.select_for_update().filter(code_hash=code_hash).first()
    if voucher is None:
        raise errors.NotFound(_("There is no voucher with this code."), param="code", code="voucher_unknown")
    if earlier := Redemption.objects.filter(voucher=voucher, workspace=workspace).first():
        return Redeemed(earlier, again=True)
    _refuse_over(voucher, now)
    lasts = voucher.credits_valid_days
    redemption = Redemption.objects.create(
        voucher=voucher,
        workspace=workspace,
        user_id=actor.user_id,
        amount_microcredits=voucher.amount_microcredits,
        credits_expire_at=now + timedelta(days=lasts) if lasts else None,
        redeemed_at=now,
    )
    Voucher.objects.filter(pk=voucher.pk).update(redeemed_count=F("redeemed_count") + 1)
    ledger.grant(
        workspace.pk,
        kind=CreditLot.Kind.PROMOTIONAL,
        amount_microcredits=redemption.amount_microcredits,
        transfer_kind=Transfer.Kind.GRANT,
        reference=redemption.pk,
        source_account=HOUSE_ACCOUNTS[Account.Kind.PROMOTION],
        at=now,
        expires_at=redemption.credits_expire_at,
    )
    audit.record(
        "voucher.redeem",
        actor=actor,
        target=audit.Target("voucher", voucher.pk, str(voucher)),
        workspace_id=workspace.pk,
        details={"amount_credits": str(money.credits(redemption.amount_microcredits))},
    )
    return Redeemed(redemption, again=False)


def _refuse_over(voucher: Voucher, now: datetime) -> None:
    if voucher.withdrawn_at is not None:
        raise errors.Conflict(_("This voucher was withdrawn."), param="code", code="voucher_withdrawn")
    if voucher.expires_at is not None and voucher.expires_at <= now:
        raise errors.Conflict(_("This voucher has expired."), param="code", code="voucher_expired")
    if voucher.redeemed_count >= voucher.redemption_limit:
        raise errors.Conflict(_("This voucher is used up."), param="code", code="voucher_used_up")


def _refuse_too_many(workspace: Workspace, actor: audit.Actor, now: datetime) -> None:
    whose = Q(workspace_id=workspace.pk)
    if actor.user_id is not None:
        whose |= Q(user_id=actor.user_id)
    recent = FailedAttempt.objects.filter(whose, created_at__gt=now - WINDOW)
    if recent.count() >= MOST_FAILURES:
        oldest = recent.order_by("created_at").values_list("created_at", flat=True)[0]
        wait = max(1, int((oldest + WINDOW - now).total_seconds()) + 1)
        raise errors.RateLimited(
            _("Too many codes were refused. Try again in %(minutes)d minutes.") % {"minutes": -(-wait // 60)},
            retry_after=wait,
        )
