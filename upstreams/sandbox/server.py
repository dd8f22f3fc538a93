"""HTTP for the sandbox: small, bounded, and no more than its endpoints need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

from upstreams import loose_json

HEAD_LIMIT_BYTES = 64 * 1024
BODY_LIMIT_BYTES = 32 * 1024 * 1024
CONNECTION_LIMIT = 500
IDLE_SECONDS = 75.0
BODY_SECONDS = 60.0

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 411: "Length Required",
            413: "Content Too Large", 503: "Service Unavailable"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer that is one JSON object."""

    value: Any
    status: int = 200


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that is server-sent events, each complete with its blank line."""

    events: AsyncGenerator[bytes, None]


@dataclass(frozen=True, slots=True)
class Bytes:
    """An answer that is a file."""

    data: bytes
    content_type: str


class Endpoint(Protocol):
    """What answers the POSTs of one path."""

    async def answer(self, body: bytes) -> Whole | Stream | Bytes: ...


@runtime_checkable
class PathEndpoint(Protocol):
    """What answers POSTs whose path says more than where they go."""

    async def answer_at(self, path: str, body: bytes) -> Whole | Stream | Bytes: ...


class Resource(Protocol):
    """What answers every method of a family of paths."""

    async def answer_any(self, method: str, path: str, body: bytes) -> Whole | Bytes | None: ...


class Server:
    """Serves endpoints by the end of the path, so that any prefix (``/v1``) may stand before it."""

    def __init__(self, endpoints: Mapping[str, Endpoint | PathEndpoint], resources: Sequence[Resource] = ()) -> None:
        self._endpoints = dict(endpoints)
        self._resources = tuple(resources)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[Any]] = set()
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen; ``port`` 0 takes a free one. Raises OSError if the port is taken."""
        self._server = await asyncio.start_server(self._connected, host, port, limit=HEAD_LIMIT_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop what is open."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if len(self._connections) > CONNECTION_LIMIT:
                await _send(writer, _error(503, "The sandbox is busy."), keep=False)
                return
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass  # the caller left, dawdled or spoke no HTTP
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection may be kept."""
        async with asyncio.timeout(IDLE_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        keep = headers.get("connection", "").lower() != "close"
        if "transfer-encoding" in headers:
            await _send(writer, _error(411, "Send a Content-Length."), keep=False)
            return False
        size = int(headers.get("content-length") or 0)
        if not 0 <= size <= BODY_LIMIT_BYTES:
            await _send(writer, _error(413, "The request is too large."), keep=False)
            return False
        async with asyncio.timeout(BODY_SECONDS):
            body = await reader.readexactly(size)
        answer = await self._route(method, urlsplit(target).path, body)
        await _send(writer, answer, keep=keep)
        return keep

    async def _route(self, method: str, path: str, body: bytes) -> Whole | Stream | Bytes:
        if path.endswith("/health"):
            return Whole({"status": "ok"})
        for resource in self._resources:
            if (found := await resource.answer_any(method, path, body)) is not None:
                return found
        for end, endpoint in self._endpoints.items():
            if path.endswith(end):
                if method != "POST":
                    return _error(405, "Use POST.")
                if isinstance(endpoint, PathEndpoint):
                    return await endpoint.answer_at(path, body)
                return await endpoint.answer(body)
        return _error(404, "The sandbox has no such path.")


def _error(status: int, message: str) -> Whole:
    return Whole({"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}, status)


def _whole(answer: Whole | Bytes) -> tuple[int, str, bytes]:
    """Status, content type and body of an answer in one piece."""
    if isinstance(answer, Bytes):
        return 200, answer.content_type, answer.data
    return answer.status, "application/json", loose_json.encode(answer.value)


async def _send(writer: asyncio.StreamWriter, answer: Whole | Stream | Bytes, *, keep: bool) -> None:
    connection = "keep-alive" if keep else "close"
    if not isinstance(answer, Stream):
        status, content_type, body = _whole(answer)
        writer.write(
            f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {content_type}\r\n"
            f"content-length: {len(body)}\r\nconnection: {connection}\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        return
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
        b"transfer-encoding: chunked\r\nconnection: " + connection.encode() + b"\r\n\r\n"
    )
    async with aclosing(answer.events) as events:
        async for event in events:
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()
