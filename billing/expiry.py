"""Credits with an end: what is left of a lot at its end leaves the balance by an entry of the ledger."""

from __future__ import annotations

import logging
from datetime import datetime

from billing import ledger
from billing.models import CreditLot
from core import clock

log = logging.getLogger(__name__)


def sweep(now: datetime | None = None, *, most: int = 500) -> int:
    """Expire lots whose time is over; returns how many lost something.

    Safe to run at any time and twice at once. A lot that a running call holds stays due until the call ends.
    """
    now = now or clock.now()
    due = CreditLot.objects.filter(expires_at__lte=now, remaining_microcredits__gt=0).order_by("expires_at", "pk")
    expired = 0
    for lot_id in due.values_list("pk", flat=True)[:most]:
        try:
            expired += ledger.expire(lot_id, now) > 0
        except Exception:  # the others are not to wait for it
            log.exception("a lot could not be expired", extra={"lot": str(lot_id)})
    return expired
