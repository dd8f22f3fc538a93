"""Calls at chosen moments, written by the real write path, so that log, rollup and ledger agree."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from core import ids
from tests.support.money import Payer
from usage.items import Record
from usage.metering import apply_now

CREDIT = 1_000_000


def id_at(moment: datetime) -> UUID:
    """A fresh UUIDv7 of a moment that is not now."""
    return UUID(int=ids.first_at(moment).int | int.from_bytes(os.urandom(7), "big"))


def call(payer: Payer, charge: int, *, at: datetime, lasted: timedelta = timedelta(seconds=2), **fields: Any) -> UUID:
    """A call that was billed ``charge`` microcredits at ``at``, begun ``lasted`` earlier. Returns its request id."""
    started = at - lasted
    about = {name: fields[name] for name in ("endpoint", "model") if name in fields}
    admit = payer.admit(charge, hold_id=id_at(started), **about)
    apply_now(admit, now=started)
    apply_now(payer.settle(admit, charge, **fields), now=at)
    return admit.hold_id


def refused(payer: Payer, *, at: datetime, status: int = 429, **fields: Any) -> UUID:
    """A call that never got a hold: only a row of the log. Returns its request id."""
    request_id = id_at(at)
    apply_now(Record(payer.row(request_id, status=status, **fields)), now=at)
    return request_id
