"""What callers may do with a connection, over real sockets: leave, queue up, stay silent, break the rules."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from hypereal_site.http_protocol import Protocol

Say = Callable[[dict[str, Any]], Awaitable[None]]
HOST = b"host: x\r\n"
PATIENCE_SECONDS = 20


class Server:
    """The protocol on a socket of its own, and an application that keeps what it is told."""

    def __init__(self, keep_alive_seconds: float) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.left = asyncio.Event()
        self.go_on = asyncio.Event()
        config = uvicorn.Config(
            self._app, interface="asgi3", lifespan="off", proxy_headers=False, log_config=None,
            timeout_keep_alive=keep_alive_seconds,  # type: ignore[arg-type]
        )  # fmt: skip
        config.load()
        self.state = ServerState()
        self._make = lambda: Protocol(config=config, server_state=self.state, app_state={})
        self._open: list[Any] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of its own."""
        listener = await asyncio.get_running_loop().create_server(self._make, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        self._open += (listener, writer)
        return reader, writer

    async def close(self) -> None:
        """Leave, and wait until that is noticed."""
        for each in self._open:
            each.close()
        await self.idle()

    async def idle(self) -> None:
        """Nobody is connected and nothing runs."""
        while self.state.tasks or self.state.connections:  # noqa: ASYNC110  (uvicorn's own sets, which tell nobody)
            await asyncio.sleep(0)

    async def _app(self, scope: dict[str, Any], receive: Any, send: Say) -> None:
        self.scopes.append(scope)
        whole = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
        if scope["path"] == "/refused":
            await send({**whole, "status": 401})
        elif scope["path"] == "/stream":
            await send({**whole, "headers": []})
            for body in (b"one", b"two"):
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body"})
            return
        elif scope["path"] == "/wait":
            while (await receive())["type"] != "http.disconnect":
                self.go_on.set()
            self.left.set()
            return
        else:
            more, body = True, b""
            while more:
                message = await receive()
                body, more = body + message.get("body", b""), message.get("more_body", False)
            self.bodies.append(body)
            await send(whole)
        await send({"type": "http.response.body", "body": b"ok"})


def run(scenario: Callable[[Server], Coroutine[Any, Any, None]], keep_alive_seconds: float = 60) -> None:
    async def bounded() -> None:
        server = Server(keep_alive_seconds)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await scenario(server)
            await server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


async def said_until_the_end(reader: asyncio.StreamReader) -> bytes:
    """Everything up to the end of the connection, however that came."""
    said = b""
    with suppress(ConnectionError):
        while piece := await reader.read(65536):
            said += piece
    return said


async def answers(reader: asyncio.StreamReader, count: int) -> bytes:
    said = b""
    while said.count(b"\r\n\r\nok") < count:
        piece = await reader.read(65536)
        assert piece, said
        said += piece
    return said


def test_trailers_are_no_headers() -> None:
    async def scenario(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(
            b"POST / HTTP/1.1\r\n" + HOST + b"x-forwarded-for: 1.1.1.1\r\ntransfer-encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n0\r\nx-forwarded-for: 6.6.6.6\r\nauthorization: Bearer other\r\n\r\n"
            b"GET /n%65xt HTTP/1.1\r\n" + HOST + b"\r\n"
        )
        await answers(reader, 2)
        assert server.bodies == [b"abc", b""]
        first, second = (dict(scope["headers"]) for scope in server.scopes)
        assert first == {b"host": b"x", b"x-forwarded-for": b"1.1.1.1", b"transfer-encoding": b"chunked"}
        assert second == {b"host": b"x"}

    run(scenario)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_wish_for_another_protocol_costs_no_body(step: int) -> None:
    asks = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAAB\r\n"
    stream = (
        b"POST /1 HTTP/1.1\r\n" + HOST + asks + b"content-length: 6\r\n\r\nabcdef"
        b"POST /2 HTTP/1.1\r\n" + HOST + asks + b"transfer-encoding: chunked\r\n\r\n3\r\nghi\r\n0\r\n\r\n"
        b"GET /3 HTTP/1.1\r\n" + HOST + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"
        b"GET /4 HTTP/1.1\r\n" + HOST + b"\r\n"
    )

    async def scenario(server: Server) -> None:
        reader, writer = await server.connect()
        for start in range(0, len(stream), step):
            writer.write(stream[start : start + step])
            await asyncio.sleep(0)
        await answers(reader, 4)
        assert server.bodies == [b"abcdef", b"ghi", b"", b""]
        assert [scope["path"] for scope in server.scopes] == ["/1", "/2", "/3", "/4"]
        wishes = [dict(scope["headers"]).get(b"upgrade") for scope in server.scopes]
        assert wishes == [b"h2c", b"h2c", b"websocket", None]

    run(scenario)


@pytest.mark.parametrize("target", [b"elsewhere:443", b"/v1/models", b"*"])
def test_no_tunnel_is_dug(target: bytes) -> None:
    async def scenario(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(b"CONNECT " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await said_until_the_end(reader)).startswith(b"HTTP/1.1 400 ")
        assert server.scopes == []

    run(scenario)


def test_an_old_client_gets_no_chunks_and_no_interim_answer() -> None:
    async def scenario(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(b"GET /stream HTTP/1.0\r\n" + HOST + b"\r\n")
        head, _, body = (await said_until_the_end(reader)).partition(b"\r\n\r\n")
        assert (b"chunked" in head, b"connection: close" in head, body) == (False, True, b"onetwo")
        reader, writer = await server.connect()
        writer.write(b"POST / HTTP/1.0\r\n" + HOST + b"expect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        writer.write(b"abc")
        assert (await said_until_the_end(reader)).startswith(b"HTTP/1.1 200 ")
        assert server.bodies == [b"abc"]

    run(scenario)


def test_a_body_that_was_not_asked_for_is_not_guessed_at() -> None:
    async def scenario(server: Server) -> None:
        reader, writer = await server.connect()
        ask = HOST + b"expect: 100-continue\r\ncontent-length: 3\r\n\r\n"
        writer.write(b"POST /refused HTTP/1.1\r\n" + ask)
        said = await said_until_the_end(reader)
        assert (said.startswith(b"HTTP/1.1 401 "), b"connection: close" in said) == (True, True)
        reader, writer = await server.connect()
        writer.write(b"POST / HTTP/1.1\r\n" + ask)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abcPOST /refused HTTP/1.1\r\n" + ask + b"abc")  # the second is there at once: no need to ask
        said = await answers(reader, 2)
        assert (b"connection: close" in said, b"100 Continue" in said) == (False, False)

    run(scenario)


@pytest.mark.parametrize(
    "start",
    [
        b"GET /" + b"a" * 100,
        b"GET / HTTP/1.1\r\n" + HOST + b"x: ",
        b"POST /refused HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: ",
        b"POST /refused HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n3;x=",
    ],
)
def test_what_is_no_body_has_an_end(start: bytes) -> None:
    async def scenario(server: Server) -> None:
        reader, writer = await server.connect()
        said = asyncio.ensure_future(said_until_the_end(reader))
        writer.write(start)
        with suppress(ConnectionError):
            while not said.done():
                writer.write(b"a" * 5000)
                await writer.drain()
                await asyncio.sleep(0)
        await said
        assert writer.is_closing() or reader.at_eof()

    run(scenario)


def test_a_long_body_in_many_pieces_is_no_long_head() -> None:
    async def scenario(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 300000\r\n\r\n")
        for _ in range(100):
            writer.write(b"a" * 3000)
            await asyncio.sleep(0)
        await answers(reader, 1)
        assert server.bodies == [b"a" * 300_000]

    run(scenario)


def test_requests_queue_up_to_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(server: Server) -> None:
        reader, writer = await server.connect()
        ask = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
        writer.write(ask * 200)
        assert (await answers(reader, 200)).count(b"HTTP/1.1 200 ") == 200
        writer.write(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n" + ask * 1000)
        assert b"200 OK" not in await said_until_the_end(reader)
        await server.left.wait()
        assert len(server.scopes) == 201

    run(scenario)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_who_leaves_with_requests_in_the_queue_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(server: Server) -> None:
        _, writer = await server.connect()
        writer.write((b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n") * 2)
        await server.go_on.wait()
        writer.transport.abort()
        await server.left.wait()
        await server.idle()
        assert len(server.scopes) == 1

    run(scenario)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"\r\n",
        b"GET / HT",
        b"POST /refused HTTP/1.1\r\n" + HOST + b"content-length: 3\r\n\r\n",
        b"POST /refused HTTP/1.1\r\n" + HOST + b"content-length: 3\r\n\r\nab",
        b"POST /refused HTTP/1.1\r\n" + HOST + b"content-length: 3\r\n\r\nabc",
    ],
)
def test_silence_ends_a_connection_whatever_was_said_before(start: bytes) -> None:
    async def scenario(server: Server) -> None:
        reader, writer = await server.connect()
        for byte in start:  # also behind the answer, where that comes before the end of the request
            writer.write(bytes([byte]))
            await asyncio.sleep(0.001)
        await said_until_the_end(reader)
        assert (server.state.connections, server.state.tasks) == (set(), set())

    run(scenario, keep_alive_seconds=0.2)
