"""One HTTP/1.1 connection to a provider."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Protocol, cast

import httptools

from upstreams.errors import (
    BadAnswer,
    ConnectionLost,
    FirstByteTimedOut,
    IdleTimedOut,
    StaleConnection,
    TotalTimedOut,
    UpstreamError,
)
from upstreams.response import Response

HEAD_LIMIT_BYTES = 64 * 1024


class Keeper(Protocol):
    """Whoever owns connections while they serve nobody."""

    idle_seconds: float

    def release(self, connection: Connection) -> None: ...

    def forget(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """The protocol below a Response. Deadlines are kept by one lazy timer: moving one costs an assignment."""

    def __init__(self, keeper: Keeper, loop: asyncio.AbstractEventLoop) -> None:
        self.keeper = keeper
        self.loop = loop
        self.opened_at = loop.time()
        self.served = 0
        self.paused = False
        self.closed = False
        self._transport: asyncio.Transport
        self._body: list[bytes] = []
        self.on_body = self._body.append  # httptools calls it for each piece: the list's own method is cheapest
        self._parser = httptools.HttpResponseParser(self)
        self._feed: Callable[[bytes], None] = self._parser.feed_data
        self._response: Response | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._deadline = inf
        self._raw_headers: list[tuple[bytes, bytes]] = []
        self._reset()

    def _reset(self) -> None:
        self._raw_headers = []
        self._received = 0
        self._head_done = False
        self._informational = False
        self._keep_alive = False
        self._until_close = False
        self._complete = False
        self._whole_pieces = 0

    # ---- for the pool

    def start(self, response: Response, head: bytes, body: bytes) -> None:
        """Send one request; the answer goes to ``response``."""
        self._reset()
        self._response = response
        self.served += 1
        self._arm(min(self.loop.time() + response.timeouts.first_byte_seconds, response.total_deadline))
        if len(body) < 65536:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    def resume(self) -> None:
        """Read on after the consumer has caught up."""
        self.paused = False
        self._transport.resume_reading()
        response = self._response
        if response is not None:
            self._arm(min(self.loop.time() + response.timeouts.idle_seconds, response.total_deadline))

    def rest(self) -> None:
        """Lie idle for as long as the keeper keeps connections."""
        self._arm(self.loop.time() + self.keeper.idle_seconds)

    def abort(self) -> None:
        """Close now, without sending what is buffered."""
        self._end()
        self._transport.abort()

    def close(self) -> None:
        """Close an idle connection in the orderly way."""
        self._end()
        self._transport.close()

    @property
    def usable(self) -> bool:
        return not self.closed and not self._transport.is_closing()

    # ---- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            self.abort()  # nobody asked: a late 408, or bytes behind the end of an answer
            return
        self._received += len(data)
        try:
            self._feed(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._complete:
                self.fail(BadAnswer("the upstream's answer is not HTTP/1.1"))
                return
            self._keep_alive = False  # the answer is whole; what follows it is noise
        if self.closed:
            return
        if self._body:
            self._hand_over_body(response)
        if self._complete:
            self._finish(response)
        elif not self._head_done:
            if self._received > HEAD_LIMIT_BYTES:
                self.fail(BadAnswer("the upstream's headers are too long"))
        elif response.overfull:
            self.paused = True
            self._transport.pause_reading()
            self._arm(response.total_deadline)  # the consumer's slowness is not the provider's silence
        else:
            self._arm(min(self.loop.time() + response.timeouts.idle_seconds, response.total_deadline))

    def connection_lost(self, exc: Exception | None) -> None:
        response = self._response
        self._end()
        if response is None:
            return
        if self._head_done and self._until_close and exc is None:
            response.finish()
        elif self._received == 0 and response.reused:
            response.fail(StaleConnection("a kept connection was closed by the upstream"))
        else:
            response.fail(ConnectionLost("the upstream closed the connection before the end of its answer"))

    def resume_writing(self) -> None:
        response = self._response
        if response is not None and not self._head_done:  # a long upload is not the provider's silence
            self._arm(min(self.loop.time() + response.timeouts.first_byte_seconds, response.total_deadline))

    # ---- httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done:  # trailers are of no use here, nor is an answer to nothing
            self._raw_headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._head_done:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._informational = True
            return
        headers: dict[str, str] = {}
        for raw_name, raw_value in self._raw_headers:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        self._head_done = True
        self._keep_alive = self._parser.should_keep_alive()
        self._until_close = (
            "content-length" not in headers and "transfer-encoding" not in headers and status not in (204, 304)
        )
        if self._response is not None:
            try:
                self._response.set_head(status, headers)
            except BadAnswer as error:
                self.fail(error)

    def on_message_begin(self) -> None:
        if self._complete:  # bytes behind the end of an answer: never serve another request from here
            self._keep_alive = False

    def on_message_complete(self) -> None:
        if self._informational:
            self._informational = False
            self._raw_headers = []
            return
        if not self._complete:
            self._complete = True
            self._whole_pieces = len(self._body)

    def _hand_over_body(self, response: Response) -> None:
        """All pieces of one read from the network at once: one wake-up, not one for each."""
        pieces = self._body[: self._whole_pieces] if self._complete else self._body
        if pieces:
            response.add(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        self._body.clear()

    # ---- ends

    def _finish(self, response: Response) -> None:
        self._response = None
        if self.paused:
            self.paused = False
            self._transport.resume_reading()
        reusable = self._keep_alive and self.usable and self._transport.get_write_buffer_size() == 0
        response.finish()
        if reusable:
            self.keeper.release(self)
        else:
            self.close()

    def fail(self, error: UpstreamError) -> None:
        """Abort and tell whoever waits for the answer why."""
        response = self._response
        self.abort()
        if response is not None:
            response.fail(error)

    def _end(self) -> None:
        self._response = None
        self._deadline = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.closed:
            self.closed = True
            self.keeper.forget(self)

    # ---- time

    def _arm(self, deadline: float) -> None:
        self._deadline = deadline
        if deadline < self._timer_at or self._timer is None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self.loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = inf
        now = self.loop.time()
        if now < self._deadline - 0.002:
            self._arm(self._deadline)
            return
        response = self._response
        if response is None:
            self.close()
        elif now >= response.total_deadline - 0.002:
            self.fail(TotalTimedOut("the upstream took longer than the whole call may take"))
        elif self._head_done:
            self.fail(IdleTimedOut("the upstream fell silent in the middle of its answer"))
        else:
            self.fail(FirstByteTimedOut("the upstream did not begin to answer in time"))
