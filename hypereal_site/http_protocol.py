"""uvicorn's HTTP protocol with shorter ways for what each gateway call passes.

uvicorn searches each header's name and value with a pattern of its own, sends head and body in two steps, and starts
and cancels a timer for each request on a kept connection. Here all lines are looked through at once, an answer that is
whole goes out in one piece, and one timer a connection looks when it was last used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

_NO_BODY = frozenset({204, 304})
#: Above this size head and body are written one after the other rather than copied together.
_LARGE_BYTES = 64 * 1024


class Cycle(RequestResponseCycle):
    """One request and its answer."""

    #: What answers it. Never cancelled because its caller left.
    task: asyncio.Task[None]

    async def send(self, message: Any) -> None:
        """As uvicorn's. Raises RuntimeError for a header that would break out of its line."""
        if self.response_started or message["type"] != "http.response.start":
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self.response_started = True
        self.waiting_for_100_continue = False
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
        self.waiting_for_100_continue = False
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

    def on_headers_complete(self) -> None:
        """The request's head is whole."""
        parser, url, before = self.parser, self.url, self.cycle
        waits_its_turn = before is not None and not before.response_complete
        if waits_its_turn or parser.should_upgrade() or not url.startswith(b"/") or b"%" in url or b"#" in url:
            super().on_headers_complete()
            return
        version = parser.get_http_version()
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
        self._start_asgi_task(self.cycle, self.app)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        own = cast(Any, cycle)
        own.__class__ = Cycle  # of one that uvicorn made
        own.task = task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        """The answer is out: on with the next request that waits, else lie idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_after(self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to look after."""
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for long enough, look again later at one that has not."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return  # the end of what is on its way arms the timer again
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._look_after(left)
        else:
            super().timeout_keep_alive_handler()

    def _unset_keepalive_if_required(self) -> None:
        # uvicorn's word for "something came in".
        self._idle_since = None

    def _look_after(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)
