"""An answer as it arrives: what a caller reads from, and what a connection writes to."""

from __future__ import annotations

import asyncio
from typing import Protocol, Self, cast

from upstreams.decoding import Inflater
from upstreams.errors import AnswerTooLarge, ConnectionLost, UpstreamError
from upstreams.wire import Timeouts

HIGH_WATER_BYTES = 256 * 1024


class Source(Protocol):
    """Where an answer comes from."""

    loop: asyncio.AbstractEventLoop
    paused: bool

    def resume(self) -> None: ...

    def abort(self) -> None: ...


class Response:
    """An answer whose head has arrived. Leave it by ``with`` or ``close``: what isn't read whole is aborted.

    Every wait may be cancelled without losing bytes; only ``close`` gives the connection up.
    """

    __slots__ = ("_collect_limit", "_connection", "_done", "_error", "_inflater", "_loop", "_parts", "_size", "_waiter",
                 "headers", "reused", "status", "timeouts", "total_deadline")  # fmt: skip

    def __init__(self, connection: Source, timeouts: Timeouts, total_deadline: float, *, reused: bool) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.reused = reused
        self.timeouts = timeouts
        self.total_deadline = total_deadline
        self._connection: Source | None = connection
        self._loop = connection.loop
        self._parts: list[bytes] = []
        self._size = 0
        self._collect_limit = -1
        self._waiter: asyncio.Future[None] | None = None
        self._done = False
        self._error: UpstreamError | None = None
        self._inflater: Inflater | None = None

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises AnswerTooLarge beyond ``limit`` bytes, else what broke the exchange."""
        self._collect_limit = limit
        if self._size > limit:
            self._overflow()
        self._resume()
        while not self._done and self._error is None:
            await self._wait()
        if self._error is not None:
            raise self._error
        body = self._join()
        if self._inflater is None:
            return body
        return self._inflate_whole(body, limit)

    async def receive(self) -> bytes:
        """All body bytes that have arrived since the last call, waiting for some; empty at the end of the body."""
        while True:
            if self._parts:
                data = self._join()
                self._resume()
                if self._inflater is None:
                    return data
                self._inflater.feed(data)
            if self._inflater is not None and (data := self._inflater.take()):
                return data
            if self._error is not None:
                raise self._error
            if self._done:
                if self._inflater is not None:
                    self._inflater.finish()
                return b""
            await self._wait()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        data = await self.receive()
        if not data:
            raise StopAsyncIteration
        return data

    def close(self) -> None:
        """Give the exchange up. A connection with an unread rest is aborted, which tells the provider to stop."""
        connection, self._connection = self._connection, None
        self._parts.clear()
        if connection is not None:
            self._error = self._error or ConnectionLost("the exchange was given up")
            connection.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What follows is for the connection.

    async def head(self) -> None:
        """Wait for status and headers."""
        while self.status == 0:
            if self._error is not None:
                raise self._error
            await self._wait()

    def set_head(self, status: int, headers: dict[str, str]) -> None:
        """Raises BadAnswer for a body in an encoding that nobody asked for and that can't be read."""
        encoding = headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            self._inflater = Inflater(encoding)
        self.headers = headers
        self.status = status
        self._wake()

    def add(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._collect_limit < 0:
            self._wake()
        elif self._size > self._collect_limit:
            self._overflow()

    @property
    def overfull(self) -> bool:
        """More is waiting than a consumer that lags should be given."""
        return self._size > HIGH_WATER_BYTES and self._collect_limit < 0

    def finish(self) -> None:
        self._done = True
        self._connection = None
        self._wake()

    def fail(self, error: UpstreamError) -> None:
        self._connection = None
        if self._error is None and not self._done:
            self._error = error
        self._wake()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _join(self) -> bytes:
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        self._size = 0
        return data

    def _resume(self) -> None:
        if self._connection is not None and self._connection.paused:
            self._connection.resume()

    def _overflow(self) -> None:
        self._error = AnswerTooLarge("the upstream's answer is larger than allowed")
        self.close()
        self._wake()

    def _inflate_whole(self, body: bytes, limit: int) -> bytes:
        inflater = cast(Inflater, self._inflater)
        inflater.feed(body)
        pieces, size = [], 0
        while piece := inflater.take():
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise AnswerTooLarge("the upstream's answer is larger than allowed")
        inflater.finish()
        return b"".join(pieces)
