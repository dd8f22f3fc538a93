"""Credits that come in, go back or expire. With `billing.books` (calls) the only writer of balances and lots.

The wallet's row is locked first, always: it is the mutex for its lots, meters and holds.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, F, Q

from billing.models import HOUSE_ACCOUNTS, Account, CreditLot, Transfer, Wallet
from core import ids

#: What expires first, then gifts before money, then the oldest: the order in which calls draw lots, too.
ORDER_OF_USE: Final = (
    F("expires_at").asc(nulls_last=True),
    ExpressionWrapper(Q(kind=CreditLot.Kind.PAID), output_field=BooleanField()).asc(),
    F("id").asc(),
)


@transaction.atomic
def grant(
    wallet_id: UUID,
    *,
    kind: str,
    amount_microcredits: int,
    transfer_kind: str,
    reference: UUID,
    source_account: UUID,
    at: datetime,
    expires_at: datetime | None = None,
) -> CreditLot | None:
    """Credit a wallet with a new lot, once per (``transfer_kind``, ``reference``).

    ``kind`` is a CreditLot.Kind, ``transfer_kind`` a Transfer.Kind, ``source_account`` the house's account that is
    debited. Returns the lot, or None where this reference was posted before: whoever comes second changes nothing.
    A wallet in debt pays it first, so the new lot may have less left than it was granted.
    """
    wallet = _locked(wallet_id)
    if Transfer.objects.filter(reference=reference, kind=transfer_kind).exists():
        return None  # the wallet's lock makes this look and the insert below one step; the unique key backs it
    return _credit(
        wallet,
        kind=kind,
        amount_microcredits=amount_microcredits,
        transfer_kind=transfer_kind,
        reference=reference,
        source_account=source_account,
        at=at,
        expires_at=expires_at,
    )


@transaction.atomic
def take_back(
    wallet_id: UUID,
    *,
    amount_microcredits: int,
    transfer_kind: str,
    reference: UUID,
    to_account: UUID,
    at: datetime,
    first_lots: Collection[UUID] = (),
) -> None:
    """Debit a wallet: what is left of ``first_lots``, then the other lots in their order of use, one transfer each.

    What no lot covers becomes a debt, so the balance may end below zero. Not idempotent by itself: the caller holds a
    lock under which it knows what ``reference`` took before.
    """
    wallet = _locked(wallet_id)
    lots = list(CreditLot.objects.filter(wallet=wallet, remaining_microcredits__gt=0).order_by(*ORDER_OF_USE))
    lots.sort(key=lambda lot: lot.pk not in first_lots)  # stable: the order of use holds within each part
    left, sequence = amount_microcredits, _next_sequence(reference, transfer_kind)
    parts: list[tuple[int, UUID | None]] = []
    for lot in lots:
        if part := min(left, lot.remaining_microcredits):
            CreditLot.objects.filter(pk=lot.pk).update(remaining_microcredits=F("remaining_microcredits") - part)
            parts.append((part, lot.pk))
            left -= part
    if left > 0:
        parts.append((left, None))
    for number, (part, lot_id) in enumerate(parts, sequence):
        _debit(wallet, part, lot_id, transfer_kind, reference, number, to_account, at)


@transaction.atomic
def give_back(
    wallet_id: UUID,
    *,
    kind: str,
    amount_microcredits: int,
    transfer_kind: str,
    reference: UUID,
    source_account: UUID,
    at: datetime,
) -> CreditLot:
    """Credit a wallet with what ``reference`` took before, as a new lot. Not idempotent, see `take_back`."""
    wallet = _locked(wallet_id)
    return _credit(
        wallet,
        kind=kind,
        amount_microcredits=amount_microcredits,
        transfer_kind=transfer_kind,
        reference=reference,
        source_account=source_account,
        at=at,
        sequence=_next_sequence(reference, transfer_kind),
    )


@transaction.atomic
def adjust(wallet_id: UUID, *, amount_microcredits: int, reference: UUID, at: datetime) -> bool:
    """Correct a wallet by hand, once per ``reference``: add promotional credits, or take credits where it is negative.

    What is taken leaves the lots in their order of use; what no lot covers becomes a debt. False where this reference
    was posted before. Raises ValueError for nothing.
    """
    if amount_microcredits == 0:
        raise ValueError("an adjustment is more than nothing")
    _locked(wallet_id)
    kind, house = Transfer.Kind.ADJUSTMENT, HOUSE_ACCOUNTS[Account.Kind.ADJUSTMENT]
    if Transfer.objects.filter(reference=reference, kind=kind).exists():
        return False
    if amount_microcredits < 0:
        take_back(
            wallet_id,
            amount_microcredits=-amount_microcredits,
            transfer_kind=kind,
            reference=reference,
            to_account=house,
            at=at,
        )
        return True
    granted = grant(
        wallet_id,
        kind=CreditLot.Kind.PROMOTIONAL,
        amount_microcredits=amount_microcredits,
        transfer_kind=kind,
        reference=reference,
        source_account=house,
        at=at,
    )
    return granted is not None


@transaction.atomic
def expire(lot_id: UUID, at: datetime) -> int:
    """Take what is left of an expired lot out of its wallet, except what running calls hold. Microcredits taken.

    What a call holds and does not use expires when this is called again; nothing left means nothing happens.
    """
    wallet = _locked(CreditLot.objects.values_list("wallet_id", flat=True).get(pk=lot_id))
    lot = CreditLot.objects.get(pk=lot_id)  # read under the wallet's lock
    amount = min(lot.remaining_microcredits, max(0, wallet.available_microcredits))
    if lot.expires_at is None or lot.expires_at > at or amount == 0:
        return 0
    CreditLot.objects.filter(pk=lot.pk).update(remaining_microcredits=F("remaining_microcredits") - amount)
    kind, to_account = Transfer.Kind.EXPIRY, HOUSE_ACCOUNTS[Account.Kind.EXPIRED]
    _debit(wallet, amount, lot.pk, kind, lot.pk, _next_sequence(lot.pk, kind), to_account, at)
    return amount


def _locked(wallet_id: UUID) -> Wallet:
    return Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)


def _next_sequence(reference: UUID, transfer_kind: str) -> int:
    """Free under the wallet's lock: every transfer of a reference is of one wallet."""
    return Transfer.objects.filter(reference=reference, kind=transfer_kind).count()


def _credit(
    wallet: Wallet,
    *,
    kind: str,
    amount_microcredits: int,
    transfer_kind: str,
    reference: UUID,
    source_account: UUID,
    at: datetime,
    expires_at: datetime | None = None,
    sequence: int = 0,
) -> CreditLot:
    if amount_microcredits <= 0:
        raise ValueError("a grant is more than nothing")
    debt = max(0, -wallet.balance_microcredits)
    lot = CreditLot.objects.create(
        id=ids.uuid7(),
        wallet=wallet,
        kind=kind,
        granted_microcredits=amount_microcredits,
        remaining_microcredits=max(0, amount_microcredits - debt),
        expires_at=expires_at,
        created_at=at,
    )
    Transfer.objects.create(
        kind=transfer_kind,
        reference=reference,
        sequence=sequence,
        debit_account=source_account,
        credit_account=wallet.pk,
        amount_microcredits=amount_microcredits,
        workspace_id=wallet.workspace_id,
        lot_id=lot.id,
        billed_at=at,
    )
    Wallet.objects.filter(pk=wallet.pk).update(balance_microcredits=F("balance_microcredits") + amount_microcredits)
    return lot


def _debit(
    wallet: Wallet,
    amount: int,
    lot_id: UUID | None,
    transfer_kind: str,
    reference: UUID,
    sequence: int,
    to_account: UUID,
    at: datetime,
) -> None:
    """One transfer out of the wallet, in microcredits."""
    Transfer.objects.create(
        kind=transfer_kind,
        reference=reference,
        sequence=sequence,
        debit_account=wallet.pk,
        credit_account=to_account,
        amount_microcredits=amount,
        workspace_id=wallet.workspace_id,
        lot_id=lot_id,
        billed_at=at,
    )
    Wallet.objects.filter(pk=wallet.pk).update(balance_microcredits=F("balance_microcredits") - amount)
