"""Group commit: everything that waits at one moment goes to PostgreSQL in one transaction.

Calls hand items over and await futures. Two tasks of the event loop serve them, each on a connection of its own that
the loop itself waits on (`usage.line`):

* the writer applies a batch with ``synchronous_commit = off``, so that no wallet's lock is held through an fsync, and
  answers admissions, extensions and voids at once;
* the barrier makes everything committed so far durable with one flushed WAL message, and only then answers settlements.
  A settlement that comes alone while the disk is quick is flushed by the writer, behind its commit, in the same visit.

After a crash of PostgreSQL every row before a barrier is there. A connection error leaves a batch's outcome unknown, so
the whole batch is applied again on a new connection; every item is idempotent. Data errors (SQLSTATE classes 22, 23)
split the batch, so that one bad item never takes others down.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

import msgspec
import psycopg

from core import clock, errors, ids
from usage.doors import FLUSH, LineDoor
from usage.items import Admit, Admitted, Item, Refused, Result, Settle, Void
from usage.known import Known
from usage.line import Line
from usage.visits import visit

log = logging.getLogger(__name__)

#: Items in one transaction at most: bounds how long the first of them waits for the last, and how long all other calls
#: wait while they are decided over.
BATCH_MOST: Final = 64
#: Seconds an admission may wait for a database that is away before its caller gets a 503.
ADMIT_PATIENCE: Final = 5.0
#: A flush that takes longer (seconds) is left to the barrier, so that the writer can go on meanwhile.
_QUICK_FLUSH: Final = 0.005
_RETRY_LEAST: Final = 0.05
_RETRY_MOST: Final = 1.0
_LAST_USED_EVERY: Final = 30.0
_OPTIONS: Final = "-c synchronous_commit=off -c timezone=UTC -c lock_timeout=15s -c statement_timeout=30s"

_BEAT: Final = b"""
INSERT INTO billing_holdowner (id, label, started_at, beats, seen_beats) VALUES ($1::uuid, $2::text, now(), 1, -1)
ON CONFLICT (id) DO UPDATE SET beats = billing_holdowner.beats + 1, ended_at = NULL"""
_END: Final = b"UPDATE billing_holdowner SET ended_at = now() WHERE id = $1::uuid"
# In the order of ids, and never waiting for a row that a person is just editing.
_LAST_USED: Final = b"""
UPDATE keys_apikey k SET last_used_at = v.at FROM (
  SELECT k2.id, u.at FROM keys_apikey k2 JOIN json_to_recordset($1::json) AS u(id uuid, at timestamptz) ON u.id = k2.id
  ORDER BY k2.id FOR NO KEY UPDATE OF k2 SKIP LOCKED) v
WHERE k.id = v.id"""


class Waiter(Protocol):
    """Who waits for the result of an item: a future, or something lighter that is answered the same way."""

    def done(self) -> bool:
        """Whether nobody waits any more."""
        ...

    def set_result(self, result: Result, /) -> None:
        """What came of the item."""
        ...

    def set_exception(self, error: Exception, /) -> None:
        """The item can't be written."""
        ...


class _Waiting:
    """An item with who waits for it."""

    __slots__ = ("future", "item", "since")

    def __init__(self, item: Item, future: Waiter | None) -> None:
        self.item = item
        self.future = future
        self.since = time.monotonic()


class Committer:
    """One a process, on the event loop that `start` was called on; `close` flushes what is left."""

    def __init__(self, dsn: str, *, durable: bool = True, heartbeat_seconds: float = 10.0) -> None:
        self.owner_id: UUID = ids.uuid7()
        self._dsn = dsn
        self._durable = durable
        self._heartbeat = heartbeat_seconds
        self._loop: asyncio.AbstractEventLoop
        self._queue: deque[_Waiting] = deque()
        #: Settlements that are committed and wait for the barrier, and those that it is about to make durable.
        self._undurable: list[tuple[_Waiting, Result]] = []
        self._flushing: list[tuple[_Waiting, Result]] = []
        self._flush_seconds = 0.0
        self._wake = asyncio.Event()
        self._barrier_wake = asyncio.Event()
        self._closing = False
        self._beat_is_due = True
        self._line: Line | None = None
        self._known = Known()
        self._last_used: dict[UUID, datetime] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start to serve, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [self._loop.create_task(task) for task in (self._write_forever(), self._flush_forever())]

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """Queue ``item``; the future gives its result. An admission whose waiter left is voided."""
        future: asyncio.Future[Result] = self._loop.create_future()
        self._put(_Waiting(item, future))
        return future

    def hand_over(self, item: Item, waiter: Waiter) -> None:
        """Queue ``item``; ``waiter`` is told its result, within the turn of the event loop that brings it."""
        self._put(_Waiting(item, waiter))

    def submit_nowait(self, item: Item) -> None:
        """Queue ``item`` with nobody waiting for it."""
        self._put(_Waiting(item, None))

    async def close(self, patience: float = 20.0) -> None:
        """Write what is queued and end the heartbeat; gives up after ``patience`` seconds."""
        self._closing = True
        self._wake.set()
        _, late = await asyncio.wait(self._tasks, timeout=patience)
        if late:
            log.error("the committer could not flush in time", extra={"waiting": self.backlog})
        for task in late:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def backlog(self) -> int:
        """Items not yet written for good."""
        return len(self._queue) + len(self._undurable) + len(self._flushing)

    def _put(self, waiting: _Waiting) -> None:
        self._queue.append(waiting)
        self._wake.set()

    # ── the writer ───────────────────────────────────────────────────────────────────────────────────────────────────
    async def _write_forever(self) -> None:
        used_at = 0.0
        try:
            while self.backlog or not self._closing:
                if self._beat_is_due:
                    await self._beat()
                elif self._queue:
                    await self._write([self._queue.popleft() for _ in range(min(len(self._queue), BATCH_MOST))])
                else:
                    self._wake.clear()
                    await self._wake.wait()
                if self._last_used and time.monotonic() >= used_at:
                    used_at = time.monotonic() + _LAST_USED_EVERY
                    await self._note_last_used()
            await self._note_last_used()
            await self._quietly(_END, str(self.owner_id).encode())
        finally:
            self._hang_up()
            self._barrier_wake.set()

    async def _write(self, batch: list[_Waiting]) -> None:
        pause = _RETRY_LEAST
        while batch:
            try:
                await self._apply(batch)
                return
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                # Also deadlocks and serialization failures: SQLSTATE 40 is an OperationalError.
                log.warning("the database is away, trying again", extra={"error": type(error).__name__})
                self._hang_up()
                batch = self._give_up_on_admissions(batch)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _RETRY_MOST)
                if self._beat_is_due:  # whatever keeps this batch from being written, the process lives
                    await self._beat()
            except Exception as error:
                self._hang_up()
                if len(batch) == 1:
                    log.exception("an item could not be written", extra={"item": type(batch[0].item).__name__})
                    self._answer(batch[0], error)
                    return
                for waiting in batch:
                    await self._write([waiting])
                return

    async def _apply(self, batch: list[_Waiting]) -> None:
        door = LineDoor(await self._connected())
        at_once = self._is_flushed_at_once(batch)
        began = time.monotonic()
        results = await visit(door, [waiting.item for waiting in batch], self._known, flush=at_once)
        if at_once:
            self._flush_seconds = time.monotonic() - began
        self._deliver(zip(batch, results, strict=True), durable=at_once or not self._durable)

    def _is_flushed_at_once(self, batch: list[_Waiting]) -> bool:
        """A settlement with nobody behind it need not wait for another task's turn and another round trip."""
        alone = len(batch) == 1 and not self._queue and isinstance(batch[0].item, Settle)
        return alone and self._durable and self._flush_seconds < _QUICK_FLUSH

    def _give_up_on_admissions(self, batch: list[_Waiting]) -> list[_Waiting]:
        """Answer admissions that waited too long with a 503. They may have been committed, so each leaves a void."""
        now, keep = time.monotonic(), []
        for waiting in batch:
            item = waiting.item
            if isinstance(item, Admit) and now - waiting.since > ADMIT_PATIENCE:
                self._answer(waiting, Refused(_database_away))
                keep.append(_Waiting(Void(item.hold_id, item.workspace_id, item.key_id), None))
            else:
                keep.append(waiting)
        return keep

    def _deliver(self, pairs: Iterable[tuple[_Waiting, Result]], *, durable: bool) -> None:
        now = clock.now()
        for waiting, result in pairs:
            if isinstance(result, Admitted):
                self._last_used[waiting.item.key_id] = now  # type: ignore[union-attr]
            if durable or not isinstance(waiting.item, Settle):
                self._answer(waiting, result)
            else:
                self._undurable.append((waiting, result))
        if self._undurable:
            self._barrier_wake.set()

    async def _beat(self) -> None:
        """Tell that this process lives, and see to the next time."""
        self._beat_is_due = False
        told = await self._quietly(_BEAT, str(self.owner_id).encode(), _label().encode())
        self._loop.call_later(self._heartbeat if told else _RETRY_MOST, self._ask_for_beat)

    def _ask_for_beat(self) -> None:
        # A flag rather than a look at the clock: the loop's timers are coarse and may fire a little early.
        self._beat_is_due = True
        self._wake.set()

    async def _note_last_used(self) -> None:
        used, self._last_used = self._last_used, {}
        if used:
            await self._quietly(_LAST_USED, msgspec.json.encode([{"id": key, "at": at} for key, at in used.items()]))

    # ── the barrier ──────────────────────────────────────────────────────────────────────────────────────────────────
    async def _flush_forever(self) -> None:
        line = await self._barrier_line()
        try:
            while self._undurable or not self._tasks[0].done():
                self._flushing, self._undurable = self._undurable, []
                if not self._flushing:
                    self._barrier_wake.clear()
                    await self._barrier_wake.wait()
                    continue
                if line is None:
                    # A crash between their commit and now shows on a line that stood all the time, not on a new one.
                    line = await self._barrier_line()
                    await self._settle_again()
                elif await self._flush(line):
                    for waiting, result in self._flushing:
                        self._answer(waiting, result)
                else:
                    line.close()
                    line = None
                    await self._settle_again()
                self._flushing = []
                if self._closing:
                    self._wake.set()
        finally:
            if line is not None:
                line.close()

    async def _barrier_line(self) -> Line | None:
        """None while the database is away."""
        try:
            return await Line.open(self._dsn)
        except psycopg.Error:
            return None

    async def _flush(self, line: Line) -> bool:
        began = time.monotonic()
        try:
            await line.run(FLUSH)
        except psycopg.Error as error:
            log.warning("the barrier failed, settling again", extra={"error": type(error).__name__})
            return False
        self._flush_seconds = time.monotonic() - began
        return True

    async def _settle_again(self) -> None:
        """What was committed may be lost with an unflushed log: apply it again, it is idempotent."""
        await asyncio.sleep(_RETRY_LEAST)
        self._queue.extendleft(waiting for waiting, _ in reversed(self._flushing))
        self._wake.set()

    # ── both ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _answer(self, waiting: _Waiting, result: Result | Exception) -> None:
        future, item = waiting.future, waiting.item
        if future is None:
            return
        if not future.done():
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        elif isinstance(result, Admitted) and isinstance(item, Admit):
            self.submit_nowait(Void(item.hold_id, item.workspace_id, item.key_id))

    async def _connected(self) -> Line:
        if self._line is None or self._line.closed:
            self._known.clear()
            self._line = await Line.open(self._dsn, options=_OPTIONS)
        return self._line

    def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()

    async def _quietly(self, query: bytes, *params: bytes) -> bool:
        """Run a statement that nobody waits for; False where it failed."""
        try:
            await (await self._connected()).run(query, *params)
        except psycopg.Error as error:
            log.warning("housekeeping failed", extra={"error": type(error).__name__})
            self._hang_up()
            return False
        return True


def _label() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"


def _database_away() -> errors.ProductError:
    message = "The gateway's database is not reachable. Try again shortly."
    return errors.Overloaded(message, headers={"Retry-After": "5"})
