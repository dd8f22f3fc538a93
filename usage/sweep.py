"""Holds whose process died: given back, and logged as interrupted. Nobody pays for what was not served to the end.

A process beats while it lives. The sweeper voids only after it has itself watched a heartbeat stand still long enough,
so neither a database that was away nor a sweeper that was not running looks like a death.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from billing.models import Hold
from usage.doors import CursorDoor
from usage.items import LogRow, Void
from usage.metering import apply

log = logging.getLogger(__name__)

#: Holds ended in one transaction at most.
BATCH_MOST = 200
#: Batches in one sweep at most; what is left comes with the next.
BATCHES_MOST = 50

# Holds of a process whose first heartbeat was lost with an unflushed commit: it is watched from now on.
_ADOPT = """
INSERT INTO billing_holdowner (id, label, started_at, beats, seen_beats)
SELECT DISTINCT h.owner_id, 'unknown', COALESCE(%(now)s::timestamptz, now()), 0, -1 FROM billing_hold h
WHERE h.state = 'pending' AND h.owner_id IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM billing_holdowner o WHERE o.id = h.owner_id)
ON CONFLICT (id) DO NOTHING"""
# Stillness counts only while somebody looks: after a gap in looking it starts again.
_LOOK = """
UPDATE billing_holdowner SET
  still_since = CASE WHEN beats <> seen_beats OR seen_at IS NULL OR still_since IS NULL
                       OR seen_at < COALESCE(%(now)s::timestamptz, now()) - %(gap)s
                     THEN COALESCE(%(now)s::timestamptz, now()) ELSE still_since END,
  seen_beats = beats,
  seen_at = COALESCE(%(now)s::timestamptz, now())"""
_DEAD = """
SELECT o.id FROM billing_holdowner o
WHERE (o.ended_at IS NOT NULL OR o.still_since <= COALESCE(%(now)s::timestamptz, now()) - %(dead)s)
  AND EXISTS (SELECT 1 FROM billing_hold h WHERE h.owner_id = o.id AND h.state = 'pending')"""
_FORGET = """
DELETE FROM billing_holdowner o
WHERE o.still_since < COALESCE(%(now)s::timestamptz, now()) - interval '1 day'
  AND NOT EXISTS (SELECT 1 FROM billing_hold h WHERE h.owner_id = o.id AND h.state = 'pending')"""


def sweep(now: datetime | None = None) -> int:
    """Look at every heartbeat once and end the holds of the dead. Returns how many holds were ended.

    Run it every ``settings.SWEEP_SECONDS``; several sweepers do no harm. ``now`` stands in for the database's clock.
    """
    times: dict[str, Any] = {
        "now": now,
        "gap": timedelta(seconds=settings.SWEEP_SECONDS * 3),
        "dead": timedelta(seconds=settings.HOLD_OWNER_DEAD_SECONDS),
    }
    with connection.cursor() as cursor:
        for statement in (_ADOPT, _LOOK, _FORGET):
            cursor.execute(statement, times)
        cursor.execute(_DEAD, times)
        dead = [row[0] for row in cursor.fetchall()]
    ended = 0
    for owner_id in dead:
        for _ in range(BATCHES_MOST):
            count = _expire_some(owner_id, now)
            ended += count
            if count < BATCH_MOST:
                break
    if ended:
        log.warning("holds of dead processes ended", extra={"holds": ended, "owners": len(dead)})
    return ended


def _expire_some(owner_id: UUID, now: datetime | None) -> int:
    with transaction.atomic():
        holds = list(Hold.objects.filter(owner_id=owner_id, state=Hold.State.PENDING).order_by("id")[:BATCH_MOST])
        if holds:
            connection.ensure_connection()
            apply(CursorDoor(connection.connection), [_expiry(hold, now) for hold in holds], now)
    return len(holds)


def _expiry(hold: Hold, now: datetime | None) -> Void:
    ended = now or hold.created_at
    row = LogRow(
        request_id=hold.id,
        workspace_id=hold.wallet_id,
        user_id=hold.user_id,
        key_id=hold.key_id,
        key_name=hold.key_name,
        endpoint=hold.endpoint,
        model=hold.model,
        price_id=hold.price_id,
        status=500,
        error_type="interrupted",
        latency_ms=max(0, int((ended - hold.created_at).total_seconds() * 1000)),
    )
    assert hold.key_id is not None
    return Void(hold.id, hold.wallet_id, hold.key_id, row, state="expired")
