"""uvicorn's HTTP protocol with a quicker way to write the head of an answer.

uvicorn searches each header's name and value with a pattern of its own, which is a twentieth of a gateway call. Here
all lines are joined first and looked through once.
"""

from __future__ import annotations

from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

_NO_BODY = frozenset({204, 304})


class Cycle(RequestResponseCycle):
    """One request and its answer."""

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
        status = message["status"]
        self.transport.write(STATUS_LINE[status] + self._head(status, [*self.default_headers, *message["headers"]]))

    def _head(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        lines = []
        closes = False
        for name, value in headers:
            name = name.lower()
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive = False
                closes = True
        if not self.keep_alive and not closes:
            lines.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in _NO_BODY:
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        head = b"".join(lines)
        if head.count(b"\r") != len(lines) or head.count(b"\n") != len(lines) or b"\0" in head:
            raise RuntimeError("a header holds a line end")
        return head + b"\r\n"


class Protocol(HttpToolsProtocol):
    """One connection. Its exchanges become `Cycle` before their tasks begin to run."""

    def on_headers_complete(self) -> None:
        """The request's head is whole."""
        super().on_headers_complete()
        if self.cycle is not None:
            cast(Any, self.cycle).__class__ = Cycle
