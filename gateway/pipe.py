"""The bounded queue between a pump and the answer that its caller reads.

The pump owns the upstream, so it must neither run ahead of a slow reader without end nor wait for one who left. What
lies in the pipe is handed over in one piece: fewer, larger writes under load.
"""

from __future__ import annotations

import asyncio
from typing import Final

from core.errors import ProductError

MOST_BYTES: Final = 256 * 1024


class Pipe:
    """Bytes from one writer to one reader, on one event loop.

    Silence longer than ``keepalive_seconds`` is filled with ``keepalive``. Nothing but whole events may be offered, so
    that a keep-alive never lands inside one.
    """

    __slots__ = (
        "_buffer", "_bytes", "_ended", "_error", "_keepalive", "_keepalive_seconds", "_left", "_loop", "_offered_at",
        "_reader", "_started", "_timer", "_writer",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, keepalive: bytes | None = None, keepalive_seconds: float = 15.0
    ) -> None:
        self._loop = loop
        self._buffer: list[bytes] = []
        self._bytes = 0
        self._ended = False
        self._left = False
        self._started = False
        self._error: ProductError | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._keepalive = keepalive
        self._keepalive_seconds = keepalive_seconds
        self._offered_at = loop.time()
        self._timer = loop.call_later(keepalive_seconds, self._on_silence) if keepalive is not None else None

    def reader_left(self) -> bool:
        """Whether nobody reads any more."""
        return self._left

    @property
    def started(self) -> bool:
        """Whether the reader has taken something: from then on the answer's status is out."""
        return self._started

    # ── the writer ───────────────────────────────────────────────────────────────────────────────────────────────────
    def offer(self, data: bytes) -> bool:
        """Append whole events. False when the writer should wait for room before it offers more."""
        if self._left or self._ended:
            return True
        self._buffer.append(data)
        self._bytes += len(data)
        self._offered_at = self._loop.time()
        self._wake_reader()
        return self._bytes < MOST_BYTES

    async def room(self, seconds: float) -> bool:
        """Wait until the reader has caught up or left. False when it read nothing for ``seconds``."""
        if self._left or self._bytes < MOST_BYTES:
            return True
        self._writer = self._loop.create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._writer
        except TimeoutError:
            return False
        finally:
            self._writer = None
        return True

    def fail(self, error: ProductError) -> bool:
        """End with an error in place of an answer. False when something was read already: then the status is out."""
        if self._started:
            return False
        self._buffer.clear()
        self._bytes = 0
        self._error = error
        self.end()
        return True

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._stop_timer()
        self._wake_reader()

    # ── the reader ───────────────────────────────────────────────────────────────────────────────────────────────────
    async def read(self) -> tuple[bytes, bool]:
        """Everything offered since the last call, waiting for some, and whether that was the end.

        Raises the ProductError that the writer failed with, before anything was read.
        """
        while not self._buffer:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b"", True
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        buffer = self._buffer
        data = buffer[0] if len(buffer) == 1 else b"".join(buffer)
        buffer.clear()
        self._bytes = 0
        self._started = True
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)
        return data, self._ended

    def leave(self) -> None:
        """Nobody will read any more: what is offered from now on is dropped, a waiting writer and reader go on."""
        self._left = True
        self._ended = True
        self._buffer.clear()
        self._bytes = 0
        self._stop_timer()
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)
        self._wake_reader()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_silence(self) -> None:
        """One timer a stream, not one a chunk: it looks when the last bytes came and sleeps on from there."""
        silent = self._loop.time() - self._offered_at
        if silent >= self._keepalive_seconds - 0.001:
            silent = 0.0
            if not self._buffer and self._keepalive is not None:
                self.offer(self._keepalive)
        self._timer = self._loop.call_later(self._keepalive_seconds - silent, self._on_silence)
