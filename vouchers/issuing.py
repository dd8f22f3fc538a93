"""Vouchers are issued and withdrawn here: one function, one transaction, one audit row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from core import clock, errors, money
from events import audit
from vouchers import codes
from vouchers.models import Voucher

MOST_MICROCREDITS: Final = 1_000_000 * money.MICROCREDITS_PER_CREDIT
MOST_REDEMPTIONS: Final = 1_000_000
MOST_DAYS: Final = 3_650


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a voucher is worth, how often, and until when."""

    amount_microcredits: int
    redemption_limit: int = 1
    expires_at: datetime | None = None
    credits_valid_days: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Issued:
    """A voucher and its code, which is stored nowhere: show it once, then forget it."""

    voucher: Voucher
    code: str


def issue(terms: Terms, *, actor: audit.Actor, form_token: UUID) -> Issued:
    """Issue a voucher. The same form sent twice is one voucher, and both answers show its code.

    Raises InvalidRequest that names the member, for terms that can't be meant.
    """
    _check(terms)
    code = codes.code_of(form_token)
    voucher = Voucher(
        code_hash=codes.hash_of(code),
        ending=code[-codes.ENDING :],
        amount_microcredits=terms.amount_microcredits,
        redemption_limit=terms.redemption_limit,
        expires_at=terms.expires_at,
        credits_valid_days=terms.credits_valid_days,
        note=terms.note,
        created_by=actor.label,
    )
    with transaction.atomic():
        Voucher.objects.bulk_create([voucher], ignore_conflicts=True)
        issued = Voucher.objects.get(code_hash=voucher.code_hash)
        if issued.pk == voucher.pk:  # else a second click was a moment faster
            audit.record("voucher.issue", actor=actor, target=_target(issued), details=_details(terms))
    return Issued(issued, code)


def withdraw(voucher: Voucher, *, actor: audit.Actor) -> bool:
    """Refuse the code from now on; credits that it gave stay. Whether anything changed."""
    with transaction.atomic():
        changed = Voucher.objects.filter(pk=voucher.pk, withdrawn_at=None).update(withdrawn_at=clock.now())
        if changed:
            audit.record("voucher.withdraw", actor=actor, target=_target(voucher))
    return bool(changed)


def _check(terms: Terms) -> None:
    if not 0 < terms.amount_microcredits <= MOST_MICROCREDITS:
        raise errors.InvalidRequest(_("The amount must lie above 0 and at most at 1,000,000 credits."), param="amount")
    if not 1 <= terms.redemption_limit <= MOST_REDEMPTIONS:
        raise errors.InvalidRequest(_("Redemptions must be 1 to 1,000,000."), param="redemption_limit")
    if terms.expires_at is not None and terms.expires_at <= clock.now():
        raise errors.InvalidRequest(_("This moment is over."), param="expires_at")
    if terms.credits_valid_days is not None and not 1 <= terms.credits_valid_days <= MOST_DAYS:
        raise errors.InvalidRequest(_("Credits last 1 to 3,650 days."), param="credits_valid_days")


def _details(terms: Terms) -> dict[str, str | int | None]:
    return {
        "amount_credits": str(money.credits(terms.amount_microcredits)),
        "redemption_limit": terms.redemption_limit,
        "expires_at": terms.expires_at.isoformat() if terms.expires_at else None,
        "credits_valid_days": terms.credits_valid_days,
        "note": terms.note,
    }


def _target(voucher: Voucher) -> audit.Target:
    return audit.Target("voucher", voucher.pk, str(voucher))
