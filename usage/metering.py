"""The neck that every paid call passes: admit, extend, settle, void, record — as one function over a batch.

`decide` is that function: rows in, results and changes out. The gateway's committer calls it with what waits at one
moment (`usage.visits`); jobs, sweeps and tests call `apply` inside their own transaction, or `apply_now` with one item.
One function, two doors.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from django.db import connection, transaction

from billing.books import NOW, Books, HoldRow, Limited, Moment, Shortfall
from core import clock, errors, money
from usage import rows
from usage.doors import CursorDoor, LoggedRow
from usage.items import (
    Admit,
    Admitted,
    Answer,
    Claim,
    Done,
    Extend,
    Extended,
    Item,
    LogRow,
    Record,
    Refused,
    Replay,
    Result,
    Settle,
    Settled,
    Void,
)
from usage.rows import Key, Remembered, Rows, Stored

#: How long an answer to an Idempotency-Key is kept.
STORED_FOR = timedelta(hours=24)


_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _Batch:
    """One `decide` at work: what was read, and what is to be written."""

    books: Books
    keys: dict[int, Key]
    stored: dict[tuple[UUID, str], Stored]
    at: datetime
    rows: list[LogRow] = field(default_factory=list)
    claims: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    unclaimed: list[UUID] = field(default_factory=list)
    late: dict[UUID, Settled] = field(default_factory=dict)


class Decision(msgspec.Struct, frozen=True):
    """One result an item, in order, and what is to be written, by its kind; only what changed."""

    results: list[Result]
    changed: dict[str, list[Any]]
    books: Books

    @property
    def changes(self) -> str:
        """What is to be written as JSON for hypereal_calls_write, empty for nothing."""
        return _encode(self.changed).decode() if self.changed else ""


#: A decision at work. It may ask, by its log row's id, whether a call is in the log already.
Deciding = Generator[UUID, LoggedRow | None, Decision]


def decide(items: Sequence[Item], known: Rows | Remembered) -> Deciding:
    """Decide over ``items`` in order. A refusal is a result, not an exception."""
    batch = _Batch(
        books=Books(known.now, known.month, known.wallets, known.lots, known.holds, known.meters),
        keys={key.id.int: key for key in known.keys},
        stored={(each.scope_id, each.key_hash): each for each in known.stored},
        at=_moment(known.now),
    )
    results = []
    for item in items:
        results.append((yield from _settle(batch, item)) if isinstance(item, Settle) else _apply_one(batch, item))
    return Decision(results, _changed(batch), batch.books)


def apply(door: CursorDoor, items: Sequence[Item], now: datetime | None = None) -> list[Result]:
    """Read, decide and write inside the transaction behind ``door``. Raises psycopg.Error only.

    ``now`` stands in for the database's clock in tests.
    """
    decision = foresee(door, items, now)
    if changes := decision.changes:
        door.write(changes)
    return decision.results


def foresee(door: CursorDoor, items: Sequence[Item], now: datetime | None = None) -> Decision:
    """What `apply` writes and returns, with nothing written yet; the rows are held until the transaction ends."""
    deciding = decide(items, rows.parse(door.read(wanted(items, now))))
    try:
        log_id = next(deciding)
        while True:
            log_id = deciding.send(door.logged(log_id))
    except StopIteration as end:
        decision: Decision = end.value
    return decision


def apply_now(item: Item, now: datetime | None = None) -> Result:
    """`apply` for synchronous code, inside Django's current transaction or one of its own."""
    with transaction.atomic():
        connection.ensure_connection()
        return apply(CursorDoor(connection.connection), [item], now)[0]


def wanted(items: Sequence[Item], now: datetime | None = None) -> str:
    """What `decide` needs of the database for ``items``: JSON for hypereal_calls_read."""
    held = [item for item in items if not isinstance(item, Record)]
    asked: dict[str, Any] = {
        "now": now,
        "wallets": sorted({item.workspace_id for item in held}),
        "holds": [item.hold_id for item in held],
        "keys": list({item.key_id for item in held}),
        "asking": any(isinstance(item, Admit | Extend) for item in held),
    }
    if claims := [
        {"scope_id": item.workspace_id, "key_hash": item.claim.key_hash.hex()}
        for item in held
        if isinstance(item, Admit) and item.claim is not None
    ]:
        asked["claims"] = claims
    return _encode(asked).decode()


def _moment(text: Moment) -> datetime:
    """The moment that the database told; the process's own clock where it is still to come."""
    return clock.now() if text == NOW else datetime.fromisoformat(text)


def _apply_one(batch: _Batch, item: Admit | Extend | Void | Record) -> Result:
    match item:
        case Admit():
            return _admit(batch, item)
        case Extend():
            return _extend(batch, item)
        case Void():
            return _void(batch, item)
        case Record():
            _log(batch, item.log, item.log.request_id)
            return Done()


def _admit(batch: _Batch, item: Admit) -> Result:
    books, wallet = batch.books, batch.books.wallets.get(item.workspace_id.int)
    key = batch.keys.get(item.key_id.int)
    if wallet is None or key is None or not key.good:
        return Refused(_key_gone)
    if item.hold_id.int in books.holds:  # this very admission was committed before; its answer got lost
        return Admitted(item.hold_id, wallet.available)
    if item.claim is not None and (earlier := _stored_result(batch, item, item.claim)):
        return earlier
    books.expire(item.workspace_id)
    least = item.min_balance_microcredits
    shortfall = books.shortfall(wallet, item.amount_microcredits, least=least)
    if shortfall is None:
        over = books.over_limit(_limits(books, key, books.month), item.amount_microcredits)
        if over is not None:
            meter, limit = over
            return Refused(functools.partial(_over_limit, meter.scope, limit, meter.spent, meter.held))
    else:
        required = max(item.amount_microcredits, least) if shortfall is Shortfall.BALANCE_TOO_LOW else None
        return Refused(
            functools.partial(_too_little, required or item.amount_microcredits, max(wallet.available, 0), least)
        )
    row = HoldRow(
        id=item.hold_id,
        wallet_id=item.workspace_id,
        amount_microcredits=item.amount_microcredits,
        owner_id=item.owner_id,
        key_id=item.key_id,
        key_name=key.name,
        user_id=key.created_by_id,
        month=books.month,
        endpoint=item.endpoint,
        model=item.model,
        price_id=item.price_id,
        created_at=books.now,
        meter_ids=[above.id for above in key.above] or None,
    )
    books.place(row)
    if item.claim is not None:
        _claim(batch, item, item.claim)
    return Admitted(item.hold_id, wallet.available)


def _limits(books: Books, key: Key, month: date) -> list[Limited]:
    """The meters that a key's call counts on, with their limits."""
    own: Limited = (books.meter(key.id, month), key.limit)
    return [own, *((books.meter(above.id, month, above.scope), above.limit) for above in key.above)]


def _claim(batch: _Batch, item: Admit, claim: Claim) -> None:
    key_hash, request_hash = claim.key_hash.hex(), claim.request_hash.hex()
    batch.claims.append(
        {
            "request_id": item.hold_id,
            "scope_id": item.workspace_id,
            "key_hash": key_hash,
            "request_hash": request_hash,
            "is_stream": claim.is_stream,
            "created_at": batch.at,
            "expires_at": batch.at + STORED_FOR,
        }
    )
    # A second admission with the same key in this very batch must find the first.
    batch.stored[(item.workspace_id, key_hash)] = Stored(
        item.workspace_id, key_hash, request_hash, item.hold_id, None, "", None, claim.is_stream
    )


def _stored_result(batch: _Batch, item: Admit, claim: Claim) -> Result | None:
    stored = batch.stored.get((item.workspace_id, claim.key_hash.hex()))
    if stored is None:
        return None
    if stored.request_hash != claim.request_hash.hex():
        return Refused(functools.partial(_conflict, "was used before with another request", stored.request_id))
    if stored.status is None:
        return Refused(functools.partial(_conflict, "belongs to a request that is still running", stored.request_id))
    if stored.is_stream:
        return Refused(functools.partial(_conflict, "belongs to a stream, which is not sent again", stored.request_id))
    if stored.sealed_body is None:
        return Refused(functools.partial(_conflict, "had too large an answer to be kept", stored.request_id))
    return Replay(stored.request_id, stored.status, stored.content_type, stored.sealed_body.encode())


def _extend(batch: _Batch, item: Extend) -> Result:
    books, hold, key = batch.books, batch.books.holds.get(item.hold_id.int), batch.keys.get(item.key_id.int)
    if hold is None or hold.state != "pending" or key is None or not key.good:
        return Extended(False)
    more = item.amount_microcredits - hold.amount
    if more <= 0:
        return Extended(True)
    books.expire(hold.wallet_id)
    if books.shortfall(books.wallets[hold.wallet_id.int], more) is not None:
        return Extended(False)
    if books.over_limit(_limits(books, key, hold.month), more) is not None:
        return Extended(False)
    books.extend(hold, item.amount_microcredits)
    return Extended(True)


def _settle(batch: _Batch, item: Settle) -> Generator[UUID, LoggedRow | None, Result]:
    books, hold, row = batch.books, batch.books.holds.get(item.hold_id.int), item.log
    row.charged_microcredits = item.charge_microcredits
    if hold is not None and hold.state == "posted":
        return Settled(hold.charged or 0, _moment(hold.resolved_at or books.now), False)
    books.expire(item.workspace_id)
    if hold is not None and hold.state == "pending":
        books.post(hold, item.charge_microcredits)
        _log(batch, row, item.hold_id)
        late = False
    else:  # swept while its process was away, or lost with an unflushed commit: what was served is charged all the same
        log_id = item.hold_id if hold is None else item.late_id
        if log_id in batch.late:
            return batch.late[log_id]
        if earlier := (yield log_id):
            return Settled(earlier[0], earlier[1], True)
        if hold is not None:
            books.charge_for(hold, item.charge_microcredits)
        else:
            books.post_lost(_lost_hold(batch, item), item.charge_microcredits)
        row.late = late = True
        batch.late[log_id] = Settled(item.charge_microcredits, batch.at, True)
        _log(batch, row, log_id)
    if item.answer is not None:
        batch.answers.append(_answered(item.hold_id, item.answer))
    return Settled(item.charge_microcredits, batch.at, late)


def _lost_hold(batch: _Batch, item: Settle) -> HoldRow:
    """The hold of a call as it must have been, so far as its end tells; it counts for whom the key counts now."""
    row, key = item.log, batch.keys.get(item.key_id.int)
    return HoldRow(
        id=item.hold_id,
        wallet_id=item.workspace_id,
        amount_microcredits=item.charge_microcredits,
        owner_id=None,
        key_id=item.key_id,
        key_name=row.key_name,
        user_id=row.user_id,
        month=batch.books.month,
        endpoint=row.endpoint,
        model=row.model,
        price_id=row.price_id,
        created_at=batch.books.now,
        meter_ids=[above.id for above in key.above] or None if key is not None else None,
    )


def _void(batch: _Batch, item: Void) -> Result:
    hold = batch.books.holds.get(item.hold_id.int)
    if hold is not None and hold.state == "pending":
        batch.books.release(hold, item.state)
        if not item.keeps_answer:
            batch.unclaimed.append(item.hold_id)
        if item.log is not None:
            _log(batch, item.log, item.hold_id)
    elif hold is None and item.log is not None:
        _log(batch, item.log, item.hold_id)
    return Done()


def _answered(request_id: UUID, answer: Answer) -> dict[str, Any]:
    sealed = answer.sealed_body.decode() if answer.sealed_body is not None else None
    return {
        "request_id": request_id,
        "status": answer.status,
        "content_type": answer.content_type,
        "sealed_body": sealed,
    }


def _log(batch: _Batch, row: LogRow, log_id: UUID) -> None:
    row.id, row.billed_at = log_id, batch.books.now
    batch.rows.append(row)


def _changed(batch: _Batch) -> dict[str, list[Any]]:
    changes = batch.books.changes()
    for name in ("claims", "answers", "unclaimed", "rows"):
        if rows := getattr(batch, name):
            changes[name] = rows
    return changes


def _key_gone() -> errors.ProductError:
    return errors.AuthenticationFailed("This API key is disabled, expired or deleted.")


def _too_little(required: int, available: int, least: int) -> errors.ProductError:
    least_text = f" This endpoint asks for a balance of at least {money.credits(least)} credits." if least else ""
    return errors.InsufficientCredits(
        f"Not enough credits: this call needs {money.credits(required)} and {money.credits(available)} are available."
        f"{least_text} Top up at /billing.",
        extra={
            "required_credits": money.credits_json(required),
            "available_credits": money.credits_json(available),
        },
    )


_WHOSE = {"key": "This API key's", "member": "Your", "workspace": "Your organization's"}


def _over_limit(scope: str, limit: int, spent: int, held: int) -> errors.ProductError:
    return errors.SpendingLimitExceeded(
        f"{_WHOSE[scope]} monthly spending limit of {money.credits(limit)} credits does not allow this call: "
        f"{money.credits(spent)} are spent and {money.credits(held)} are reserved by running calls.",
        extra={
            "limit_of": "organization" if scope == "workspace" else scope,
            "spending_limit_credits": money.credits_json(limit),
            "spent_credits": money.credits_json(spent),
            "held_credits": money.credits_json(held),
        },
    )


def _conflict(what: str, request_id: UUID) -> errors.ProductError:
    return errors.Conflict(
        f"This Idempotency-Key {what} ({request_id}).", param="Idempotency-Key", extra={"request_id": str(request_id)}
    )
