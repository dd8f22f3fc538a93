"""The two doors to the rows that `usage.metering` decides over: an ordinary cursor, and the committer's own line.

Both speak to the same two SQL functions; JSON goes in and out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg

from usage.line import Line

_LOGGED: Final = "SELECT json_build_array(charged_microcredits, billed_at)::text FROM usage_requestlog WHERE id = "
#: Makes all that was committed so far durable. PostgreSQL 17 flushes the log without a transaction of its own.
_FLUSH: Final = b"SELECT pg_logical_emit_message(false, '', '', true)"
_FLUSH_BEFORE_17: Final = b"SELECT pg_logical_emit_message(true, '', '')"
#: The charge and the moment of a log row.
LoggedRow = tuple[int, datetime]
_logged = msgspec.json.Decoder(LoggedRow)


@dataclass(frozen=True, slots=True)
class Read:
    """Asks for what a batch needs, locked; answered with JSON."""

    wanted: str


@dataclass(frozen=True, slots=True)
class Logged:
    """Asks whether a call is in the log already; answered with a LoggedRow or None."""

    log_id: UUID


@dataclass(frozen=True, slots=True)
class Write:
    """Tells what a batch changed."""

    changes: str


Ask = Read | Logged | Write


class CursorDoor:
    """A psycopg connection that is in somebody's transaction, Django's among them."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn

    def answer(self, ask: Ask) -> str | LoggedRow | None:
        """What the database says to ``ask``."""
        match ask:
            case Read():
                return self._text("SELECT hypereal_calls_read(%s)", ask.wanted)
            case Logged():
                row = self._text(_LOGGED + "%s", ask.log_id)
                return _logged.decode(row) if row is not None else None
            case Write():
                self._text("SELECT hypereal_calls_write(%s)", ask.changes)
        return None

    def _text(self, query: str, argument: str | UUID) -> str | None:
        # psycopg.Cursor by name: Django's connections bring a cursor class that binds on the client's side.
        row = psycopg.Cursor(self._conn).execute(query, [argument]).fetchone()
        return row[0] if row is not None else None


class LineDoor:
    """A line that is used for nothing else: BEGIN travels with the read, COMMIT with the write.

    Two round trips a transaction. Call `commit` when all asks are answered; after an error hang the line up.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._changes: str | None = None

    async def answer(self, ask: Ask) -> str | LoggedRow | None:
        """What the database says to ``ask``; changes are only kept for `commit`."""
        match ask:
            case Read():
                self._changes = None
                return await self._text(b"BEGIN; SELECT hypereal_calls_read(" + self._line.literal(ask.wanted) + b")")
            case Logged():
                row = await self._text(_LOGGED.encode() + self._line.literal(str(ask.log_id)))
                return _logged.decode(row) if row is not None else None
            case Write():
                self._changes = ask.changes
        return None

    async def commit(self, *, flush: bool = False) -> None:
        """Send the changes and commit; with ``flush`` they are on the disk when this returns.

        The flush is a statement behind the commit, so that no lock is held through it. Raises psycopg.Error; the
        outcome of a lost connection is unknown.
        """
        query = b"COMMIT"
        if self._changes is not None:
            query = b"SELECT hypereal_calls_write(" + self._line.literal(self._changes) + b"); COMMIT"
        await self._line.run(query + b"; " + flush_statement(self._line) if flush else query)

    async def _text(self, query: bytes) -> str | None:
        result = await self._line.run(query)
        value = result.get_value(0, 0) if result.ntuples else None
        return value.decode() if value is not None else None


def flush_statement(line: Line) -> bytes:
    """The one durable write behind which everything committed before it is durable too."""
    return _FLUSH if line.server_version >= 170_000 else _FLUSH_BEFORE_17
