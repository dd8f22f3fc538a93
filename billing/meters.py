"""Meters of months, apart from calls: beside `billing.books` the only writer of them."""

from __future__ import annotations

from datetime import date
from uuid import UUID

from django.db import transaction
from django.db.models import F

from billing.models import SpendMeter, Wallet


@transaction.atomic
def forget_refusal(wallet_id: UUID, scope: str, scope_id: UUID, month: date) -> None:
    """Take back that the meter's limit was run into: it is another limit now, and a refusal under it says so anew."""
    met = SpendMeter.objects.filter(scope=scope, scope_id=scope_id, month=month, reached_at__isnull=False)
    if not met.exists():
        return
    Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)
    met.update(reached_at=None)
    # Gateways remember meters by the version of their wallet's row.
    Wallet.objects.filter(pk=wallet_id).update(balance_microcredits=F("balance_microcredits"))
