"""A provider that answers at once with fixed bytes, so that the gateway in front of it is what is measured.

``python -m bench.upstream --port N``. Who calls, and how fast a stream comes, stand in the address:
``/<who>/<pace>/v1/chat/completions`` with ``fast`` (all events back to back, each in a write of its own) or ``paced``
(one event each 10 ms). ``GET /calls`` gives the number of calls by ``<who>`` as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, cast

import httptools
import uvloop

#: What every answer reports as used.
PROMPT_TOKENS: Final = 100
OUTPUT_TOKENS: Final = 50
#: Events of a stream: the role, one a token, the finish, the usage, ``[DONE]``.
EVENTS: Final = OUTPUT_TOKENS + 4
EVENT_SECONDS: Final = 0.01
PACES: Final = {"fast": 0.0, "paced": EVENT_SECONDS}

_WORDS: Final = ("ten", "grey", "geese", "glide", "over", "calm", "lakes", "while", "reeds", "bend", "low", "and")
_ANSWER_WORDS: Final = 120
_IDENTITY: Final = {
    "id": "chatcmpl-bench",
    "created": 1_767_225_600,
    "model": "bench",
    "system_fingerprint": "fp_1",
}
_USAGE: Final = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": PROMPT_TOKENS + OUTPUT_TOKENS,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}


def answer() -> bytes:
    """The body of a whole answer, about 1 KB."""
    text = " ".join(_WORDS[number % len(_WORDS)] for number in range(_ANSWER_WORDS))
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return _json({**_IDENTITY, "object": "chat.completion", "choices": [choice], "usage": _USAGE})


def events() -> list[bytes]:
    """A stream, event by event."""
    tokens = [_WORDS[number % len(_WORDS)] + " " for number in range(OUTPUT_TOKENS)]
    deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}, *({"content": token} for token in tokens), {}]
    chunks = [_chunk([_choice(delta)]) for delta in deltas]
    chunks.append({**_chunk([]), "usage": _USAGE})
    return [*(b"data: " + _json(chunk) + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n"]


def _choice(delta: dict[str, str]) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None if delta else "stop"}


def _chunk(choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {**_IDENTITY, "object": "chat.completion.chunk", "choices": choices}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _whole(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


_ANSWER: Final = _whole("200 OK", answer())
_NOT_FOUND: Final = _whole("404 Not Found", b'{"error":{"message":"no such address"}}')
_FRAMES: Final = [b"%x\r\n%b\r\n" % (len(event), event) for event in events()]
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


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
            self._transport.write(_whole("200 OK", _json(self._calls)))
            return
        _, who, pace, *rest = path.split("/")
        if pace not in PACES or rest != ["v1", "chat", "completions"]:
            self._transport.write(_NOT_FOUND)
            return
        self._calls[who] += 1
        if b'"stream":true' in body or b'"stream": true' in body:
            self._transport.write(_STREAM_HEAD)
            self._send_event(0, PACES[pace], self._loop.time())
        else:
            self._transport.write(_ANSWER)

    def _send_event(self, number: int, gap_seconds: float, began: float) -> None:
        if self._transport.is_closing():
            return
        last = number == EVENTS - 1
        self._transport.write(_FRAMES[number] + b"0\r\n\r\n" if last else _FRAMES[number])
        if last:
            return
        if gap_seconds:
            self._loop.call_at(began + (number + 1) * gap_seconds, self._send_event, number + 1, gap_seconds, began)
        else:
            self._loop.call_soon(self._send_event, number + 1, gap_seconds, began)


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
