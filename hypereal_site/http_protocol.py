"""uvicorn's HTTP protocol with shorter ways for what each gateway call passes.

uvicorn searches each header's name and value with a pattern of its own, sends head and body in two steps, and starts
and cancels a timer for each request on a kept connection. Here all lines are looked through at once, an answer that is
whole goes out in one piece, and one timer a connection looks when it was last used.

What uvicorn leaves open is bounded or put right: heads without end, requests that queue up behind one another,
silence, trailers that pose as headers, the body behind an upgrade that nobody makes, callers who leave with requests in
the queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, cast

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

_NO_BODY = frozenset({204, 304})
#: Above this size head and body are written one after the other rather than copied together.
_LARGE_BYTES = 64 * 1024
#: About what a request's head may be, and its trailers, and whatever else of it is no body.
_MOST_HEAD_BYTES: Final = 64 * 1024
#: Requests that may wait behind the one being answered. A hostile caller gets thousands into one read.
_MOST_WAITING: Final = 256
#: Where trailers go: they come when the request has been understood already, and must not change what was.
_NOWHERE: Final[Any] = deque(maxlen=0)


class Cycle(RequestResponseCycle):
    """One request and its answer."""

    #: What answers it. Never cancelled because its caller left.
    task: asyncio.Task[None]
    #: Whether the answer ends with the connection: HTTP/1.0 knows no chunks.
    until_close = False

    async def send(self, message: Any) -> None:
        """As uvicorn's. Raises RuntimeError for a header that would break out of its line."""
        if self.response_started or message["type"] != "http.response.start":
            if self.until_close:
                self.expected_content_length = len(message.get("body", b""))
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self.response_started = True
        self.transport.write(self._head(message["status"], message["headers"]))

    def answer(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a whole answer at once. False, with nothing sent, where it must go the ordinary way.

        Raises RuntimeError as `send` does, also where ``headers`` name another length than the body has.
        """
        if self.response_started or self.flow.write_paused or self.scope["method"] == "HEAD":
            return False
        if self.disconnected:
            return True
        head = self._head(status, headers)
        if self.chunked_encoding or self.expected_content_length != len(body):
            raise RuntimeError("the length of an answer is not the one that its head names")
        self.response_started = self.response_complete = True
        self.expected_content_length = 0
        if len(body) < _LARGE_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True

    def take_body(self) -> bytes | None:
        """The request's body, where all of it has arrived and its sender is still there."""
        if self.more_body or self.disconnected or self.response_complete:
            return None
        self.waiting_for_100_continue = False
        self.flow.resume_reading()
        self.message_event.clear()
        body, self.body = bytes(self.body), bytearray()
        return body

    def _head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        parts = [STATUS_LINE[status]]
        lines = 1
        closes = False
        if self.waiting_for_100_continue:
            self.waiting_for_100_continue = False
            if self.more_body:  # now nobody can tell whether the next bytes are the body or another request
                self.keep_alive = False
        for name, value in (*self.default_headers, *headers):
            name = name.lower()
            parts += (name, b": ", value, b"\r\n")
            lines += 1
            if name == b"content-length":
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive = False
                closes = True
        if not self.keep_alive and not closes:
            parts.append(b"connection: close\r\n")
            lines += 1
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in _NO_BODY:
            if self.scope.get("http_version") == "1.0":
                self.chunked_encoding, self.until_close = False, True
            else:
                self.chunked_encoding = True
                parts.append(b"transfer-encoding: chunked\r\n")
                lines += 1
        head = b"".join(parts)
        if head.count(b"\r") != lines or head.count(b"\n") != lines or b"\0" in head:
            raise RuntimeError("a header holds a line end")
        return head + b"\r\n"


class Protocol(HttpToolsProtocol):
    """One connection. Its exchanges become `Cycle` before their tasks begin to run."""

    #: When the last answer was complete, on the loop's clock; None while a request is on its way.
    _idle_since: float | None = None
    #: What has come since the last head or the last piece of a body was whole.
    _loose_bytes = 0
    #: The cycle that is being answered: `cycle` is the one that came last.
    _running: Cycle | None = None
    #: Header lines that the parser is not told of.
    _untold: list[tuple[bytes, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody is there, who may have nothing to say."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._idle_since = self.loop.time()
        self._look_after(self.timeout_keep_alive)

    def data_received(self, data: bytes) -> None:
        """Parse what came. What is not HTTP, or has too long a head, gets 400 and the end of the connection."""
        self._idle_since = None
        self._loose_bytes += len(data)
        wrong = ""
        try:
            while data:
                try:
                    self.parser.feed_data(data)
                    data = b""
                except httptools.HttpParserUpgrade as met:
                    data = self._without_upgrade() + data[met.args[0] :]
        except httptools.HttpParserError:
            wrong = "Invalid HTTP request received."
        if self._loose_bytes > _MOST_HEAD_BYTES:
            wrong = "The head of the request is too long."
        if wrong:
            self.logger.warning(wrong)
            self.send_400_response(wrong)

    def _without_upgrade(self) -> bytes:
        """The head once more, for a new parser, without the wish for another protocol: it may be ignored.

        httptools ends the request there, and uvicorn drops what follows; clients that ask for HTTP/2 in passing, as
        Java's does on every first request, send a body all the same.
        """
        told = [line for line in self.headers if line[0] != b"upgrade"]
        self._untold = [line for line in self.headers if line[0] == b"upgrade"]
        start = (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"%b %b HTTP/%b\r\n%b\r\n" % (*start, b"".join([b"%b: %b\r\n" % line for line in told]))

    def on_headers_complete(self) -> None:
        """The request's head is whole."""
        parser, url, before = self.parser, self.url, self.cycle
        self._loose_bytes = 0
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT" or self._untold is not None:
                raise RuntimeError("no tunnel is dug here")
            return  # the same head comes again
        if self._untold is not None:
            self.headers += self._untold
            self._untold = None
        version = parser.get_http_version()
        if version == "1.0":
            self.expect_100_continue = False
        waits_its_turn = before is not None and not before.response_complete
        if waits_its_turn and len(self.pipeline) >= _MOST_WAITING:
            self.transport.abort()
            raise RuntimeError("too many requests wait on one connection")
        if waits_its_turn or not url.startswith(b"/") or b"%" in url or b"#" in url:
            super().on_headers_complete()
            self.headers = _NOWHERE
            return
        path, _, query = url.partition(b"?")
        scope = self.scope
        scope["http_version"] = version
        scope["method"] = parser.get_method().decode("ascii")
        scope["path"] = self.root_path + path.decode("ascii")
        scope["raw_path"] = self.root_path.encode("ascii") + path
        scope["query_string"] = query
        self.cycle = Cycle(
            scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            self.access_log,
            self.server_state.default_headers,
            asyncio.Event(),
            self.expect_100_continue,
            version != "1.0" and parser.should_keep_alive(),
            self.on_response_complete,
        )
        self.headers = _NOWHERE
        self._start_asgi_task(self.cycle, self.app)

    def on_body(self, body: bytes) -> None:
        """A piece of the request's body. Of a request that has been answered it is dropped."""
        self._loose_bytes = 0
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The request is whole."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        own = cast(Any, cycle)
        own.__class__ = Cycle  # of one that uvicorn made
        self._running = own
        own.task = task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        """The answer is out: on with the next request that waits, else lie idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_after(self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to look after."""
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for long enough, look again later at one that has not."""
        self.timeout_keep_alive_task = None
        if self.cycle is not None and not self.cycle.response_complete:
            return  # the end of what is on its way arms the timer again
        if self._idle_since is None:  # half a head, or the rest of a request that was answered before it had come
            self._idle_since = self.loop.time()
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._look_after(left)
        else:
            super().timeout_keep_alive_handler()

    def _look_after(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)
