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
from usage.models import RequestLog

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


def plain(workspace_id: UUID, moment: datetime, charge: int) -> RequestLog:
    """A row of the log alone, not saved: for reading many, where nobody asks the ledger."""
    request_id = id_at(moment)
    return RequestLog(
        id=request_id,
        request_id=request_id,
        billed_at=moment,
        workspace_id=workspace_id,
        key_name="test",
        endpoint="chat",
        model="gpt-test",
        provider="test",
        target="test/local/gpt-test",
        attempts=1,
        status=200,
        error_type="",
        stream=False,
        latency_ms=10,
        input_tokens=1,
        cached_input_tokens=0,
        cache_write_tokens=0,
        output_tokens=1,
        charged_microcredits=charge,
        saved_microcredits=0,
        estimated=False,
        late=False,
        client_disconnected=False,
        sandbox=False,
    )


def refused(payer: Payer, *, at: datetime, status: int = 429, **fields: Any) -> UUID:
    """A call that never got a hold: only a row of the log. Returns its request id."""
    request_id = id_at(at)
    apply_now(Record(payer.row(request_id, status=status, **fields)), now=at)
    return request_id
