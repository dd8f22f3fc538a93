"""Credits on their way in. With `billing.books` (calls, on their way out) the only writer of balances and lots.

The wallet's row is locked first, always: it is the mutex for its lots, meters and holds.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import F

from billing.models import CreditLot, Transfer, Wallet
from core import ids


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
    if amount_microcredits <= 0:
        raise ValueError("a grant is more than nothing")
    wallet = Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)
    if Transfer.objects.filter(reference=reference, kind=transfer_kind).exists():
        return None  # the wallet's lock makes this look and the insert below one step; the unique key backs it
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
        debit_account=source_account,
        credit_account=wallet_id,
        amount_microcredits=amount_microcredits,
        workspace_id=wallet.workspace_id,
        lot_id=lot.id,
        billed_at=at,
    )
    Wallet.objects.filter(pk=wallet_id).update(balance_microcredits=F("balance_microcredits") + amount_microcredits)
    return lot
