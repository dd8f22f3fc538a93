"""The two doors to the rows that `usage.metering` decides over: an ordinary cursor, and the committer's own line.

Both speak to the same SQL functions; JSON goes in and out.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg

from usage.line import Line

_READ: Final = "SELECT hypereal_calls_read("
_WRITE: Final = "SELECT hypereal_calls_write("
_APPLY: Final = "SELECT hypereal_calls_apply("
_LOGGED: Final = "SELECT json_build_array(charged_microcredits, billed_at)::text FROM usage_requestlog WHERE id = "
#: The one durable write behind which everything committed before it is durable too, without a transaction of its own.
FLUSH: Final = b"SELECT pg_logical_emit_message(false, '', '', true)"
#: The charge and the moment of a log row.
LoggedRow = tuple[int, datetime]
_logged = msgspec.json.Decoder(LoggedRow).decode


class CursorDoor:
    """A psycopg connection that is in somebody's transaction, Django's among them."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn

    def read(self, wanted: str) -> str:
        """What a batch needs, locked."""
        return str(self._value(_READ + "%s)", wanted))

    def logged(self, log_id: UUID) -> LoggedRow | None:
        """The charge and the moment of a call that is in the log already."""
        row = self._value(_LOGGED + "%s", log_id)
        return _logged(row) if row is not None else None

    def write(self, changes: str) -> None:
        """Write what a batch changed."""
        self._value(_WRITE + "%s)", changes)

    def _value(self, query: str, argument: str | UUID) -> str | None:
        # psycopg.Cursor by name: Django's connections bring a cursor class that binds on the client's side.
        row = psycopg.Cursor(self._conn).execute(query, [argument]).fetchone()
        return row[0] if row is not None else None


class LineDoor:
    """A line that is used for nothing else. BEGIN travels with the read, COMMIT with the write.

    All of it raises psycopg.Error. The outcome of a lost connection is unknown; after any error hang the line up.
    """

    def __init__(self, line: Line) -> None:
        self._line = line

    async def read(self, wanted: str) -> str:
        """Begin a transaction: what a batch needs, locked."""
        return str(await self._value(b"BEGIN; " + self._call(_READ, wanted)))

    async def logged(self, log_id: UUID) -> LoggedRow | None:
        """The charge and the moment of a call that is in the log already."""
        row = await self._value(_LOGGED.encode() + self._line.literal(str(log_id)))
        return _logged(row) if row is not None else None

    async def commit(self, changes: str, *, flush: bool) -> None:
        """Write what a batch changed and commit; with ``flush`` it is on the disk when this returns.

        The flush is a statement behind the commit, so that no lock is held through it.
        """
        query = self._call(_WRITE, changes) + b"; COMMIT" if changes else b"COMMIT"
        await self._line.run(_flushed(query) if flush else query)

    async def apply(self, decided: str, *, flush: bool) -> str | None:
        """All in one: None, and nothing done, where the rows changed that the decisions rest on."""
        return await self._applied(self._call(_APPLY, decided), flush=flush)

    async def apply_lone(self, function: str, argument: str, *, flush: bool) -> str | None:
        """`apply` for a call that comes alone, by the SQL function that `usage.lone` names."""
        return await self._applied(self._call(f"SELECT {function}(", argument), flush=flush)

    async def _applied(self, query: bytes, *, flush: bool) -> str | None:
        return await self._value(_flushed(b"BEGIN; " + query + b"; COMMIT") if flush else query)

    def _call(self, function: str, argument: str) -> bytes:
        return function.encode() + self._line.literal(argument) + b")"

    async def _value(self, query: bytes) -> str | None:
        result = await self._line.run(query)
        value = result.get_value(0, 0) if result.ntuples else None
        return value.decode() if value is not None else None


def _flushed(query: bytes) -> bytes:
    return query + b"; " + FLUSH
