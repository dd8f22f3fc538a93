"""A connection to PostgreSQL that the event loop waits on by itself: libpq, one query at a time, nothing in between.

psycopg's own asynchronous cursors cost three times the CPU of the query they carry, and a thread costs two changes of
threads for each; an idle gateway would spend most of an admission on either.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import psycopg
from psycopg import pq

_DONE: Final = pq.ExecStatus.COMMAND_OK
_FINE: Final = (_DONE, pq.ExecStatus.TUPLES_OK)
#: How often a query that is waited for is looked after without a word from the event loop. Where the server resets the
#: connection, libuv reports an error in place of "readable", and uvloop drops the reader without telling it.
_LOOK_SECONDS: Final = 0.5


class Line:
    """Belongs to the event loop it was opened on. In autocommit: transactions are the queries' own business."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection  # it would close itself if it were let go of
        self._pgconn = connection.pgconn
        self._pgconn.nonblocking = 1
        self._escaping = pq.Escaping(self._pgconn)
        self._socket = self._pgconn.socket
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[pq.abc.PGresult] | None = None
        self._result: pq.abc.PGresult | None = None
        self._unsent = False
        self.closed = False
        self._loop.add_reader(self._socket, self._on_readable)
        self._looking = self._loop.call_later(_LOOK_SECONDS, self._look)

    @classmethod
    async def open(cls, dsn: str, *, options: str = "") -> Line:
        """Connect. Raises psycopg.OperationalError."""
        connect = psycopg.AsyncConnection.connect
        return cls(await connect(dsn, autocommit=True, connect_timeout=5, options=options or None))

    async def run(self, query: bytes, *params: bytes) -> pq.abc.PGresult:
        """Send ``query``, which without ``params`` may be several statements. Returns the first rows that come of it.

        Raises psycopg.Error; after an OperationalError the outcome is unknown and the line may be `closed`.
        """
        assert self._waiter is None, "one query at a time"
        if self.closed:
            raise psycopg.OperationalError("the connection to the database is lost")
        self._result = None
        self._waiter = self._loop.create_future()
        try:
            if params:
                self._pgconn.send_query_params(query, params)
            else:
                self._pgconn.send_query(query)
            self._flush()
        except psycopg.OperationalError as error:
            self._lose(error)
        try:
            result = await self._waiter
        finally:
            self._waiter = None
        if result.status in _FINE:
            return result
        raise psycopg.errors.error_from_result(result)

    def literal(self, text: str) -> bytes:
        """``text`` as a quoted SQL literal."""
        return bytes(self._escaping.escape_literal(text.encode()))

    def close(self) -> None:
        """Hang up. Whoever waits for a result gets an OperationalError."""
        if not self.closed:
            self._lose(psycopg.OperationalError("the connection to the database was closed"))

    def _look(self) -> None:
        """What the event loop should have called, in case it did not."""
        if self._unsent:
            self._on_writable()
        if self._waiter is not None and not self.closed:
            self._on_readable()
        if not self.closed:
            self._looking = self._loop.call_later(_LOOK_SECONDS, self._look)

    def _on_readable(self) -> None:
        pgconn = self._pgconn
        try:
            pgconn.consume_input()
            while self._waiter is not None and not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    self._answer()
                    return
                if self._result is None or self._result.status == _DONE or result.status not in _FINE:
                    self._result = result
        except psycopg.OperationalError as error:
            self._lose(error)

    def _answer(self) -> None:
        waiter, result = self._waiter, self._result
        assert waiter is not None
        if self._pgconn.status == pq.ConnStatus.BAD or result is None:
            self._lose(psycopg.OperationalError("the connection to the database is lost"))
        elif not waiter.done():
            waiter.set_result(result)

    def _flush(self) -> None:
        """Send what libpq still keeps; what the socket does not take now goes out when it does."""
        if self._pgconn.flush():
            self._unsent = True
            self._loop.add_writer(self._socket, self._on_writable)

    def _on_writable(self) -> None:
        try:
            self._pgconn.consume_input()  # the server may not read on before it is read from
            if not self._pgconn.flush():
                self._unsent = False
                self._loop.remove_writer(self._socket)
        except psycopg.OperationalError as error:
            self._lose(error)

    def _lose(self, error: psycopg.OperationalError) -> None:
        if self.closed:  # the socket's number may be another connection's by now
            return
        self.closed = True
        self._unsent = False
        self._looking.cancel()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._pgconn.finish()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
