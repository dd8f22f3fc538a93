"""The two doors to the rows that `usage.metering.apply` decides over: an ordinary cursor, and the committer's own.

Both speak to the same two SQL functions; JSON goes in and out.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import psycopg
from psycopg import pq

_LOGGED = "SELECT charged_microcredits, billed_at FROM usage_requestlog WHERE id = "


class Door(Protocol):
    """Reads and locks what a batch needs, writes back what it changed; inside one transaction."""

    def read(self, wanted: str) -> str: ...

    def logged(self, log_id: UUID) -> tuple[int, datetime] | None:
        """The charge and the moment of a log row that is already there."""
        ...

    def write(self, changes: str) -> None: ...


class CursorDoor:
    """A psycopg connection that is in somebody's transaction, Django's among them."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn

    def read(self, wanted: str) -> str:
        return str(self._one("SELECT hypereal_calls_read(%s)", wanted)[0])

    def logged(self, log_id: UUID) -> tuple[int, datetime] | None:
        row = psycopg.Cursor(self._conn).execute(_LOGGED + "%s", [log_id]).fetchone()
        return (row[0], row[1]) if row else None

    def write(self, changes: str) -> None:
        self._one("SELECT hypereal_calls_write(%s)", changes)

    def _one(self, query: str, argument: str) -> Any:
        # psycopg.Cursor by name: Django's connections bring a cursor class that binds on the client's side.
        row = psycopg.Cursor(self._conn).execute(query, [argument]).fetchone()
        assert row is not None
        return row


class CommitterDoor:
    """A connection in autocommit that is used for nothing else: BEGIN travels with the read, COMMIT with the write.

    Two round trips a transaction, by libpq directly: a third of the CPU of psycopg's cursors and transactions, which
    is most of what an admission costs on an idle gateway. Call `commit` after `apply`, or `roll_back`.
    """

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn
        self._escaping = pq.Escaping(conn.pgconn)
        self._changes: str | None = None

    def read(self, wanted: str) -> str:
        self._changes = None
        result = self._run(b"BEGIN; SELECT hypereal_calls_read(" + self._literal(wanted) + b")")
        return (result.get_value(0, 0) or b"").decode()

    def logged(self, log_id: UUID) -> tuple[int, datetime] | None:
        row = psycopg.Cursor(self._conn).execute(_LOGGED + "%s", [log_id]).fetchone()
        return (row[0], row[1]) if row else None

    def write(self, changes: str) -> None:
        self._changes = changes

    def commit(self) -> None:
        """Send the changes and commit. Raises psycopg.Error; the outcome of a lost connection is unknown."""
        if self._changes is None:
            self._run(b"COMMIT")
        else:
            self._run(b"SELECT hypereal_calls_write(" + self._literal(self._changes) + b"); COMMIT")

    def roll_back(self) -> None:
        """End the transaction with nothing written; a connection that is gone has done so by itself."""
        if not self._conn.closed:
            self._conn.pgconn.exec_(b"ROLLBACK")

    def _literal(self, text: str) -> bytes:
        return bytes(self._escaping.escape_literal(text.encode()))

    def _run(self, query: bytes) -> pq.abc.PGresult:
        result = self._conn.pgconn.exec_(query)
        if result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            return result
        if self._conn.pgconn.status == pq.ConnStatus.BAD:
            raise psycopg.OperationalError("the connection to the database is lost")
        raise psycopg.errors.error_from_result(result)
