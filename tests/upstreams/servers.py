"""A tiny server on loopback whose every move a test scripts."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from upstreams.wire import Origin, Timeouts, UpstreamRequest

MB = 1024 * 1024
PATIENT = Timeouts(connect_seconds=60, first_byte_seconds=60, idle_seconds=60, total_seconds=120)


@dataclass
class Seen:
    """One request as the server got it."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Exchange:
    """What a script works with: the request, and the wire to answer on."""

    request: Seen
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes, head: str = "", status: int = 200) -> None:
        lines = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{head}\r\n"
        await self.send(lines.encode() + body)

    async def begin_chunked(self, head: str = "") -> None:
        await self.send(f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{head}\r\n".encode())

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def abort(self) -> None:
        self.writer.transport.abort()

    async def until_gone(self) -> None:
        """Waits for the client to hang up."""
        while await self.reader.read(65536):
            pass


Script = Callable[[Exchange], Awaitable[None]]


@dataclass
class Server:
    """Runs ``script`` for each request; ``connections`` counts how many were opened."""

    script: Script
    port: int = 0
    connections: int = 0
    seen: list[Seen] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    scheme: str = "http"

    async def until_asked(self, times: int = 1) -> None:
        """Waits until so many requests have come."""
        async with asyncio.timeout(60):
            while len(self.seen) < times:  # noqa: ASYNC110 - what tells of each is a plain list
                await asyncio.sleep(0.01)

    def request(self, body: bytes = b"{}", path: str = "/v1/x", method: str = "POST") -> UpstreamRequest:
        host = "127.0.0.1" if self.scheme == "http" else "localhost"
        return UpstreamRequest(method, Origin(self.scheme, host, self.port), path, (("x-a", "b"),), body)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *rest = head.split("\r\n")
                headers = dict(item.lower().split(": ", 1) for item in rest if item)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                request = Seen(line, headers, body)
                self.seen.append(request)
                await self.script(Exchange(request, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            writer.close()


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server for the length of a block."""
    server = Server(script, scheme="https" if tls else "http")
    tasks: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(server.connected(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def echo(exchange: Exchange) -> None:
    """The script that answers with what was sent."""
    await exchange.answer(exchange.request.body, "content-type: application/json\r\nX-Two: 1\r\nx-two: 2\r\n")


def to(host: str, port: int) -> UpstreamRequest:
    """A request that leads nowhere in particular."""
    return UpstreamRequest("POST", Origin("http", host, port), "/", (), b"")
