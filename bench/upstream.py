"""A provider that answers at once with fixed bytes, so that the gateway in front of it is what is measured.

``python -m bench.upstream --port N``. Who calls, and how fast a stream comes, stand in the address:
``/<who>/<pace>/v1/…``, each measured format under its own path there; ``fast`` sends all events back to back, each in a
write of its own, ``paced`` one event each 10 ms. ``GET /calls`` gives the number of calls by ``<who>`` as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import Final, cast

import httptools
import uvloop

from bench.formats import FORMATS, Format

EVENT_SECONDS: Final = 0.01
PACES: Final = {"fast": 0.0, "paced": EVENT_SECONDS}

_FORMATS: Final = {f"v1{form.path}": form for form in FORMATS}


def _whole(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


_NOT_FOUND: Final = _whole("404 Not Found", b'{"error":{"message":"no such address"}}')
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def _frames(form: Format) -> list[bytes]:
    """A stream as the chunks that carry it; the last one ends it."""
    frames = [b"%x\r\n%b\r\n" % (len(event), event) for event in form.events]
    frames[-1] += b"0\r\n\r\n"
    return frames


_ANSWERS: Final = {path: _whole("200 OK", form.answer) for path, form in _FORMATS.items()}
_STREAMS: Final = {path: _frames(form) for path, form in _FORMATS.items()}


class Conversation(asyncio.Protocol):
    """One connection. Callers don't send a request before they have the last one's answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, calls: Counter[str]) -> None:
        self._loop = loop
        self._calls = calls
        self._transport: asyncio.Transport
        self._url = b""
        self._body: list[bytes] = []
        self.on_body = self._body.append  # before the parser is made: it looks its callbacks up once
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_message_complete(self) -> None:
        path, self._url = self._url.decode("latin-1"), b""
        body = b"".join(self._body)
        self._body.clear()
        if path == "/calls":
            self._transport.write(_whole("200 OK", json.dumps(self._calls).encode()))
            return
        _, who, pace, address = (*path.split("/", 3), "", "", "")[:4]
        if pace not in PACES or address not in _FORMATS:
            self._transport.write(_NOT_FOUND)
            return
        self._calls[who] += 1
        if b'"stream":true' in body or b'"stream": true' in body:
            self._transport.write(_STREAM_HEAD)
            self._send_event(_STREAMS[address], 0, PACES[pace], self._loop.time())
        else:
            self._transport.write(_ANSWERS[address])

    def _send_event(self, frames: Sequence[bytes], number: int, gap_seconds: float, began: float) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(frames[number])
        following = number + 1
        if following == len(frames):
            return
        if gap_seconds:
            self._loop.call_at(began + following * gap_seconds, self._send_event, frames, following, gap_seconds, began)
        else:
            self._loop.call_soon(self._send_event, frames, following, gap_seconds, began)


async def _serve(port: int) -> None:
    loop, calls = asyncio.get_running_loop(), Counter[str]()
    server = await loop.create_server(lambda: Conversation(loop, calls), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m bench.upstream", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(_serve(parser.parse_args(arguments).port))


if __name__ == "__main__":
    main()
