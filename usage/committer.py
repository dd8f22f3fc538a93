"""Group commit: everything that waits at one moment goes to PostgreSQL in one transaction, in a thread of its own.

The event loop hands items over and awaits futures; it never touches the database. Two threads serve them:

* the writer applies a batch with ``synchronous_commit = off``, so that no wallet's lock is held through an fsync, and
  answers admissions, extensions and voids at once;
* the barrier makes everything committed so far durable with one flushed WAL message, and only then answers settlements.

After a crash of PostgreSQL every row before a barrier is there. A connection error leaves a batch's outcome unknown, so
the whole batch is applied again on a new connection; every item is idempotent. Data errors (SQLSTATE classes 22, 23)
split the batch, so that one bad item never takes others down.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import psycopg

from core import clock, errors, ids
from usage.doors import CommitterDoor
from usage.items import Admit, Admitted, Item, Refused, Result, Settle, Void
from usage.metering import apply

log = logging.getLogger(__name__)

#: Items in one transaction at most: bounds how long the first of them waits for the last.
BATCH_MOST = 256
#: Seconds an admission may wait for a database that is away before its caller gets a 503.
ADMIT_PATIENCE = 5.0
_RETRY_LEAST, _RETRY_MOST = 0.05, 1.0
_LAST_USED_EVERY = 30.0

_BEAT = """
INSERT INTO billing_holdowner (id, label, started_at, beats, seen_beats) VALUES (%s, %s, now(), 1, -1)
ON CONFLICT (id) DO UPDATE SET beats = billing_holdowner.beats + 1, ended_at = NULL"""
_END = "UPDATE billing_holdowner SET ended_at = now() WHERE id = %s"
# In the order of ids, and never waiting for a row that a person is just editing.
_LAST_USED = """
UPDATE keys_apikey k SET last_used_at = v.at FROM (
  SELECT k2.id, u.at FROM keys_apikey k2 JOIN unnest(%s::uuid[], %s::timestamptz[]) AS u(id, at) ON u.id = k2.id
  ORDER BY k2.id FOR NO KEY UPDATE OF k2 SKIP LOCKED) v
WHERE k.id = v.id"""


class _Waiting:
    """An item with who waits for it."""

    __slots__ = ("future", "item", "since")

    def __init__(self, item: Item, future: asyncio.Future[Result] | None) -> None:
        self.item = item
        self.future = future
        self.since = time.monotonic()


class Committer:
    """One a process. `submit` from the event loop that made it; `close` flushes what is left."""

    def __init__(self, dsn: str, *, durable: bool = True, heartbeat_seconds: float = 10.0) -> None:
        self.owner_id: UUID = ids.uuid7()
        self._dsn = dsn
        self._durable = durable
        self._heartbeat = heartbeat_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: deque[_Waiting] = deque()
        self._undurable: deque[tuple[_Waiting, Result]] = deque()
        self._wake = threading.Condition()
        self._barrier_wake = threading.Condition()
        self._closing = False
        self._writer_done = False
        self._conn: psycopg.Connection[Any] | None = None
        self._door: CommitterDoor | None = None
        self._last_used: dict[UUID, Any] = {}
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads. Call on the running event loop."""
        self._loop = asyncio.get_running_loop()
        targets: tuple[Callable[[], None], ...] = (self._write_forever, self._flush_forever)
        self._threads = [threading.Thread(target=target, name=target.__name__, daemon=True) for target in targets]
        for thread in self._threads:
            thread.start()

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """Queue ``item``; the future gives its result. An admission whose waiter left is voided."""
        assert self._loop is not None
        future: asyncio.Future[Result] = self._loop.create_future()
        self._put(_Waiting(item, future))
        return future

    def submit_nowait(self, item: Item) -> None:
        """Queue ``item`` with nobody waiting for it."""
        self._put(_Waiting(item, None))

    async def close(self, patience: float = 20.0) -> None:
        """Write what is queued, end the heartbeat, stop the threads; gives up after ``patience`` seconds."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        for thread in self._threads:
            await asyncio.to_thread(thread.join, patience)
            if thread.is_alive():
                log.error("the committer could not flush in time", extra={"waiting": len(self._queue)})

    @property
    def backlog(self) -> int:
        """Items not yet written."""
        return len(self._queue) + len(self._undurable)

    def _put(self, waiting: _Waiting) -> None:
        with self._wake:
            self._queue.append(waiting)
            self._wake.notify()

    # ── the writer's thread ──────────────────────────────────────────────────────────────────────────────────────────
    def _write_forever(self) -> None:
        beat_at = used_at = 0.0
        while True:
            with self._wake:
                if not self._queue and not self._closing:
                    self._wake.wait(max(0.0, beat_at - time.monotonic()))
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_MOST))]
                if not batch and self._closing:
                    break
            if time.monotonic() >= beat_at and self._quietly(_BEAT, [self.owner_id, _label()]):
                beat_at = time.monotonic() + self._heartbeat
            elif time.monotonic() >= beat_at:
                beat_at = time.monotonic() + _RETRY_MOST
            if batch:
                self._write(batch)
            if self._last_used and time.monotonic() >= used_at:
                used_at = time.monotonic() + _LAST_USED_EVERY
                self._note_last_used()
        self._note_last_used()
        self._quietly(_END, [self.owner_id])
        self._drop()
        with self._barrier_wake:
            self._writer_done = True
            self._barrier_wake.notify()

    def _write(self, batch: list[_Waiting]) -> None:
        pause = _RETRY_LEAST
        while batch:
            try:
                results = self._apply([waiting.item for waiting in batch])
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                # Also deadlocks and serialization failures: SQLSTATE 40 is an OperationalError.
                log.warning("the database is away, trying again", extra={"error": type(error).__name__})
                self._drop()
                batch = self._give_up_on_admissions(batch)
                time.sleep(pause)
                pause = min(pause * 2, _RETRY_MOST)
            except Exception as error:
                self._drop()
                if len(batch) == 1:
                    log.exception("an item could not be written", extra={"item": type(batch[0].item).__name__})
                    self._answer([(batch[0], error)])
                    return
                for waiting in batch:
                    self._write([waiting])
                return
            else:
                self._deliver(list(zip(batch, results, strict=True)))
                return

    def _apply(self, items: list[Item]) -> list[Result]:
        self._connection()
        door = self._door
        assert door is not None
        try:
            results = apply(door, items)
            door.commit()
        except BaseException:
            door.roll_back()
            raise
        return results

    def _give_up_on_admissions(self, batch: list[_Waiting]) -> list[_Waiting]:
        """Answer admissions that waited too long with a 503. They may have been committed, so each leaves a void."""
        now, keep = time.monotonic(), []
        answers: list[tuple[_Waiting, Result | Exception]] = []
        for waiting in batch:
            item = waiting.item
            if isinstance(item, Admit) and now - waiting.since > ADMIT_PATIENCE:
                answers.append((waiting, Refused(_database_away)))
                keep.append(_Waiting(Void(item.hold_id, item.workspace_id, item.key_id), None))
            else:
                keep.append(waiting)
        self._answer(answers)
        return keep

    def _deliver(self, pairs: list[tuple[_Waiting, Result]]) -> None:
        now = clock.now()
        answers: list[tuple[_Waiting, Result | Exception]] = []
        settled: list[tuple[_Waiting, Result]] = []
        for waiting, result in pairs:
            if isinstance(result, Admitted):
                self._last_used[waiting.item.key_id] = now  # type: ignore[union-attr]
            if self._durable and isinstance(waiting.item, Settle):
                settled.append((waiting, result))
            else:
                answers.append((waiting, result))
        self._answer(answers)
        if settled:
            with self._barrier_wake:
                self._undurable.extend(settled)
                self._barrier_wake.notify()

    def _note_last_used(self) -> None:
        used, self._last_used = self._last_used, {}
        if used:
            self._quietly(_LAST_USED, [list(used), list(used.values())])

    # ── the barrier's thread ─────────────────────────────────────────────────────────────────────────────────────────
    def _flush_forever(self) -> None:
        conn: psycopg.Connection[Any] | None = None
        while True:
            with self._barrier_wake:
                while not self._undurable and not self._writer_done:
                    self._barrier_wake.wait()
                waiting = list(self._undurable)
                self._undurable.clear()
            if not waiting:
                break
            try:
                if conn is None:
                    conn = psycopg.connect(self._dsn, autocommit=True, connect_timeout=5)
                conn.execute(_flush_statement(conn))
            except psycopg.Error as error:
                log.warning("the barrier failed, settling again", extra={"error": type(error).__name__})
                conn = None
                # What was committed may be lost with an unflushed log: apply it again, it is idempotent.
                self._again([each for each, _ in waiting])
            else:
                self._answer(waiting)
        if conn is not None:
            conn.close()

    def _again(self, batch: list[_Waiting]) -> None:
        time.sleep(_RETRY_LEAST)
        if not self._threads[0].is_alive():
            log.error("settlements may not be durable: the database went away at the very end", extra={"n": len(batch)})
            return
        with self._wake:
            self._queue.extendleft(reversed(batch))
            self._wake.notify()

    # ── both ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _answer(self, answers: Iterable[tuple[_Waiting, Result | Exception]]) -> None:
        waited = [(each.future, each.item, result) for each, result in answers if each.future is not None]
        if waited and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._resolve, waited)

    def _resolve(self, waited: list[tuple[asyncio.Future[Result], Item, Result | Exception]]) -> None:
        for future, item, result in waited:
            if not future.done():
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
            elif isinstance(result, Admitted) and isinstance(item, Admit):
                self.submit_nowait(Void(item.hold_id, item.workspace_id, item.key_id))

    def _connection(self) -> psycopg.Connection[Any]:
        if self._conn is None or self._conn.closed:
            self._conn = psycopg.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=5,
                options="-c synchronous_commit=off -c timezone=UTC -c lock_timeout=15s -c statement_timeout=30s",
            )
            self._door = CommitterDoor(self._conn)
        return self._conn

    def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()

    def _quietly(self, query: str, params: list[Any]) -> bool:
        """Run a statement that nobody waits for; False where it failed."""
        try:
            self._connection().execute(query, params)
        except psycopg.Error as error:
            log.warning("housekeeping failed", extra={"error": type(error).__name__})
            self._drop()
            return False
        return True


def _flush_statement(conn: psycopg.Connection[Any]) -> str:
    # PostgreSQL 17 can flush the log without a transaction of its own; before that a small durable commit does it.
    if conn.info.server_version >= 170000:
        return "SELECT pg_logical_emit_message(false, '', '', true)"
    return "SELECT pg_logical_emit_message(true, '', '')"


def _label() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"


def _database_away() -> errors.ProductError:
    message = "The gateway's database is not reachable. Try again shortly."
    return errors.Overloaded(message, headers={"Retry-After": "5"})
