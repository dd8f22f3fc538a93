"""A provider that speaks chat completions, as a small real server on loopback that behaves as each test writes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Behaviour = Callable[["Conversation"], Awaitable[None]]
DONE = b"data: [DONE]\n\n"
#: Linux's table of connections, with the bytes that wait in each.
_CONNECTIONS = Path("/proc/net/tcp")


@dataclass
class Seen:
    """One request as the provider saw it, and how its connection ended."""

    path: str
    headers: dict[str, str]
    body: Any
    ended: str = "open"
    method: str = "POST"


@dataclass
class Route:
    """One provider: its base URL, how it behaves, and what it was asked."""

    base_url: str
    behaviour: Behaviour
    #: Options that the gateway has of it: times of its own, say, where its caller is to give it up.
    options: dict[str, Any] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    @property
    def calls(self) -> int:
        return len(self.seen)


class Conversation:
    """What a behaviour works with: the request, and ways to answer it."""

    def __init__(self, seen: Seen, attempt: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen = seen
        #: 1 for the first request of this route.
        self.attempt = attempt
        self._reader = reader
        self._writer = writer
        self.keep = True

    @property
    def body(self) -> Any:
        return self.seen.body

    async def json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Answer in one piece."""
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        await self._head(
            status, {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
        )
        self._writer.write(data)
        await self._writer.drain()

    async def start(self, content_type: str = "text/event-stream") -> None:
        """Begin a chunked answer."""
        await self._head(200, {"content-type": content_type, "transfer-encoding": "chunked"})

    async def send(self, data: bytes) -> None:
        """One chunk. Raises ConnectionError once the gateway has gone."""
        if self._reader.at_eof() or self._writer.is_closing():
            raise ConnectionResetError
        self._writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self._writer.drain()

    async def chunk(self, text: str = "", **extra: Any) -> None:
        """One event of a chat stream."""
        await self.send(event(text, **extra))

    async def end(self) -> None:
        """The orderly end of a chunked answer."""
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def cut(self) -> None:
        """Drop the connection."""
        self.keep = False
        self._writer.transport.abort()

    async def pause(self, seconds: float) -> None:
        """Wait. Raises ConnectionError once the gateway has gone: a loop that waits so ends with its caller."""
        if await self.gone(seconds):
            raise ConnectionResetError

    async def until(self, told: threading.Event) -> None:
        """Wait until a test tells it to go on. Raises ConnectionError once the gateway has gone."""
        while not told.is_set():
            await self.pause(0.02)

    async def taken(self, seconds: float = 0.1) -> None:
        """Wait until the gateway has read all that was sent, and ``seconds`` more, in which it passes it on.

        What it would else read together with the end that follows, it need not have passed on before. Where the system
        does not tell (it is no Linux), ``seconds`` are all the time it gets. Raises ConnectionError once it has gone.
        """
        own, peer = (self._writer.get_extra_info(name)[1] for name in ("sockname", "peername"))
        while _unread(peer, own):
            await self.pause(0.01)
        await self.pause(seconds)

    async def gone(self, seconds: float = 30.0) -> bool:
        """Wait until the gateway has closed the connection."""
        await asyncio.sleep(0)  # what has closed is read without a pause: a loop around this would let nobody else run
        try:
            async with asyncio.timeout(seconds):
                while await self._reader.read(1024):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    async def _head(self, status: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())


def _unread(port: int, sender: int) -> bool:
    """Do bytes from ``sender`` lie in the connection at ``port``, both loopback ports, that nobody has read yet?"""
    if not _CONNECTIONS.exists():
        return False
    ends = f":{port:04X}", f":{sender:04X}"
    for line in _CONNECTIONS.read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if local.endswith(ends[0]) and remote.endswith(ends[1]):
            return not queues.endswith(":00000000")
    return False


def event(text: str = "", *, finish: str | None = None, usage: Any = None, **extra: Any) -> bytes:
    """A chunk of a chat stream as bytes."""
    delta = {"content": text} if text else {}
    chunk: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "fake",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **extra,
    }
    if usage is not None:
        chunk["usage"] = usage
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def usage(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    """A usage block."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def completion(text: str, prompt: int = 100, output: int = 50, cached: int = 0) -> dict[str, Any]:
    """A whole answer."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "fake",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage(prompt, output, cached),
    }


def answers(text: str = "Hello there", prompt: int = 100, output: int = 50, cached: int = 0) -> Behaviour:
    """A well-behaved provider: whole answers and streams, usage in the stream only when asked for, as OpenAI does."""

    async def behave(talk: Conversation) -> None:
        if not talk.body.get("stream"):
            await talk.json(completion(text, prompt, output, cached))
            return
        await talk.start()
        await talk.send(event("", choices=[{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]))
        for word in text.split(" "):
            await talk.chunk(word + " ")
        await talk.send(event("", finish="stop"))
        if (talk.body.get("stream_options") or {}).get("include_usage"):
            await talk.send(event("", choices=[], usage=usage(prompt, output, cached)))
        await talk.send(DONE)
        await talk.end()

    return behave


def fails(status: int, message: str = "it failed", headers: dict[str, str] | None = None, **error: Any) -> Behaviour:
    """A provider that only answers with this error."""

    async def behave(talk: Conversation) -> None:
        await talk.json({"error": {"message": message, **error}}, status, headers)

    return behave


def first(times: int, failing: Behaviour, then: Behaviour) -> Behaviour:
    """``failing`` for the first requests, ``then`` for all that follow."""

    async def behave(talk: Conversation) -> None:
        await (failing if talk.attempt <= times else then)(talk)

    return behave


class Upstream:
    """The server. Each provider is a path below it."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-upstream", daemon=True)
        self.port = 0
        self._server: asyncio.Server | None = None

    def start(self) -> None:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(60)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def serve(self, behaviour: Behaviour, **options: Any) -> Route:
        """A new provider, which gateways know with these options."""
        name = f"p{len(self._routes) + 1}"
        route = Route(f"http://127.0.0.1:{self.port}/{name}", behaviour, options)
        self._routes[name] = route
        return route

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._client, "127.0.0.1", 0, limit=64 * 1024 * 1024, backlog=1024)

    async def _shut(self) -> None:
        assert self._server is not None
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        route = self._routes[path.split("/")[1]]
        seen = Seen(path, headers, _read_body(headers, body), method=method)
        route.seen.append(seen)
        talk = Conversation(seen, len(route.seen), reader, writer)
        try:
            await route.behaviour(talk)
            seen.ended = "complete" if talk.keep else "cut"
        except ConnectionError:
            seen.ended = "gateway gone"
            return False
        return talk.keep


def _read_body(headers: dict[str, str], body: bytes) -> Any:
    """JSON decoded, a form or anything else as its bytes."""
    kind = headers.get("content-type", "")
    if kind.startswith(("multipart/", "application/msgpack")):
        return body
    return json.loads(body) if body else None


@contextmanager
def running() -> Iterator[Upstream]:
    """A server for as long as the block lasts."""
    server = Upstream()
    server.start()
    try:
        yield server
    finally:
        server.stop()
