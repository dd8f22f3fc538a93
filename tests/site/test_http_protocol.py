"""Requests and answers on the wire, against what uvicorn itself would have read and written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from hypereal_site.http_protocol import Cycle, Protocol

Headers = list[tuple[bytes, bytes]]
CycleT = TypeVar("CycleT", bound=RequestResponseCycle)


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def exchange(
    kind: type[CycleT],
    *,
    method: str = "GET",
    keep_alive: bool = True,
    paused: bool = False,
    on_response: Callable[[], None] = lambda: None,
) -> tuple[CycleT, Transport]:
    transport: Any = Transport()
    flow = FlowControl(transport)
    if paused:
        flow.pause_writing()
    cycle = kind(
        scope={"type": "http", "method": method},  # type: ignore[typeddict-item]
        transport=transport,
        flow=flow,
        logger=logging.getLogger("test"),
        access_logger=logging.getLogger("test"),
        access_log=False,
        default_headers=[(b"date", b"today")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=on_response,
    )
    return cycle, transport


def answer(kind: type[RequestResponseCycle], status: int, headers: Headers, *bodies: bytes, **how: Any) -> Transport:
    cycle, transport = exchange(kind, **how)

    async def send() -> None:
        await cycle.send({"type": "http.response.start", "status": status, "headers": headers})
        for number, body in enumerate(bodies, 1):
            await cycle.send({"type": "http.response.body", "body": body, "more_body": number < len(bodies)})

    asyncio.run(send())
    return transport


@pytest.mark.parametrize(
    ("status", "headers", "bodies", "how"),
    [
        (200, [(b"Content-Length", b"5")], [b"hello"], {}),
        (200, [(b"content-type", b"text/plain")], [b"he", b"", b"llo"], {}),
        (200, [(b"content-type", b"text/plain")], [b""], {"method": "HEAD"}),
        (204, [], [b""], {}),
        (304, [], [b""], {}),
        (500, [(b"content-length", b"0"), (b"Connection", b"Close")], [b""], {}),
        (200, [(b"content-length", b"2"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")], [b"ok"], {}),
        (200, [(b"content-length", b"2")], [b"ok"], {"keep_alive": False}),
    ],
)
def test_it_is_what_uvicorn_writes(status: int, headers: Headers, bodies: list[bytes], how: dict[str, Any]) -> None:
    ours = answer(Cycle, status, headers, *bodies, **how)
    theirs = answer(RequestResponseCycle, status, headers, *bodies, **how)
    assert (ours.written, ours.closed) == (theirs.written, theirs.closed)


@pytest.mark.parametrize("bad", [b"a\r\nset-cookie: stolen=1", b"a\nb", b"a\rb", b"a\0b"])
def test_a_header_never_breaks_out_of_its_line(bad: bytes) -> None:
    for headers in ([(b"x-name", bad)], [(bad, b"value")]):
        with pytest.raises(RuntimeError, match="line end"):
            answer(Cycle, 200, headers)


@pytest.mark.parametrize(
    ("status", "headers", "body", "how"),
    [
        (200, [(b"content-length", b"5")], b"hello", {}),
        (200, [(b"content-length", b"5")], b"hello", {"keep_alive": False}),
        (200, [(b"content-length", b"70000")], b"x" * 70_000, {}),
        (204, [], b"", {}),
        (402, [(b"content-length", b"2"), (b"connection", b"close")], b"{}", {}),
    ],
)
def test_a_whole_answer_goes_out_as_its_two_halves_would(
    status: int, headers: Headers, body: bytes, how: dict[str, Any]
) -> None:
    ended: list[bool] = []
    cycle, transport = exchange(Cycle, on_response=lambda: ended.append(True), **how)
    assert cycle.answer(status, headers, body)
    theirs = answer(RequestResponseCycle, status, headers, body, **how)
    assert (transport.written, transport.closed) == (theirs.written, theirs.closed)
    assert (cycle.response_complete, ended) == (True, [True])
    assert not cycle.answer(status, headers, body)  # once
    assert transport.written == theirs.written


def test_a_whole_answer_waits_where_it_must() -> None:
    for how in ({"method": "HEAD"}, {"paused": True}):
        cycle, transport = exchange(Cycle, **how)
        assert not cycle.answer(200, [(b"content-length", b"2")], b"ok")
        assert (transport.written, cycle.response_started) == (b"", False)
    cycle, transport = exchange(Cycle)
    cycle.disconnected = True
    assert cycle.answer(200, [(b"content-length", b"2")], b"ok")  # nobody is there to get it
    assert transport.written == b""


@pytest.mark.parametrize("headers", [[(b"content-length", b"3")], []])
def test_a_whole_answer_is_as_long_as_its_head_says(headers: Headers) -> None:
    cycle, transport = exchange(Cycle)
    with pytest.raises(RuntimeError, match="length"):
        cycle.answer(200, headers, b"ok")
    assert transport.written == b""


def test_a_body_is_taken_once_it_is_whole() -> None:
    cycle, _ = exchange(Cycle)
    cycle.body += b"half"
    assert cycle.take_body() is None
    cycle.body += b" and half"
    cycle.more_body = False
    assert cycle.take_body() == b"half and half"
    cycle.disconnected = True
    assert cycle.take_body() is None


class Connected:
    """One connection of a protocol, spoken to by bytes."""

    def __init__(self, kind: type[HttpToolsProtocol], keep_alive_seconds: int = 5) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            lifespan="off",
            proxy_headers=False,
            log_config=None,
            timeout_keep_alive=keep_alive_seconds,
        )
        config.load()
        self.protocol = kind(config=config, server_state=ServerState(), app_state={})
        self.transport: Any = Transport()
        self.protocol.connection_made(cast(Any, self.transport))

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append({name: value for name, value in scope.items() if name != "state"})
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def say(self, data: bytes) -> None:
        self.protocol.data_received(data)
        for _ in range(5):
            await asyncio.sleep(0)

    @property
    def answers(self) -> int:
        count: int = self.transport.written.count(b"HTTP/1.1 200")
        return count


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET / HTTP/1.1",
        b"POST /v1/chat/completions?a=b&c=%20d HTTP/1.1",
        b"GET /v1/models/gemini%2Dpro?x HTTP/1.1",
        b"GET /a?b?c HTTP/1.1",
        b"GET //double/slash?q HTTP/1.1",
        b"GET /end# HTTP/1.1",
        b"GET http://elsewhere/path?q=1 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET /old HTTP/1.0",
        b"GET /caf\xc3\xa9 HTTP/1.1",
        b"GET /has space HTTP/1.1",
        b"NONSENSE",
    ],
)
def test_a_request_is_what_uvicorn_reads(request_line: bytes) -> None:
    async def read(kind: type[HttpToolsProtocol]) -> tuple[list[dict[str, Any]], bytes, bool]:
        connected = Connected(kind)
        await connected.say(request_line + b"\r\nHost: here\r\nX-Two: 1\r\nx-two: 2\r\n\r\n")
        return connected.scopes, connected.transport.written, connected.transport.closed

    assert asyncio.run(read(Protocol)) == asyncio.run(read(HttpToolsProtocol))


def test_requests_that_come_together_are_answered_in_turn() -> None:
    async def scenario() -> None:
        connected = Connected(Protocol)
        connected.go_on.clear()
        await connected.say(b"GET /1 HTTP/1.1\r\nhost: x\r\n\r\nGET /2 HTTP/1.1\r\nhost: x\r\n\r\n")
        assert [scope["path"] for scope in connected.scopes] == ["/1"]
        connected.go_on.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert [scope["path"] for scope in connected.scopes] == ["/1", "/2"]
        assert connected.answers == 2

    asyncio.run(scenario())


def test_an_idle_connection_is_closed_and_a_used_one_is_not() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        connected = Connected(Protocol, keep_alive_seconds=5)
        protocol, ask = connected.protocol, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
        await connected.say(ask)
        timer = protocol.timeout_keep_alive_task
        assert timer is not None
        await connected.say(ask)
        assert protocol.timeout_keep_alive_task is timer  # one for all requests

        connected.go_on.clear()
        await connected.say(ask)  # under way when the timer fires
        protocol.timeout_keep_alive_handler()
        assert (connected.transport.closed, protocol.timeout_keep_alive_task) == (False, None)
        connected.go_on.set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert protocol.timeout_keep_alive_task is not None

        protocol.timeout_keep_alive_handler()  # used just now: it looks again when the five seconds are over
        again = protocol.timeout_keep_alive_task
        assert again is not None and 4 < again.when() - loop.time() <= 5
        assert not connected.transport.closed

        await connected.say(b"GET / HT")  # half a head: somebody is there
        protocol.timeout_keep_alive_handler()
        assert not connected.transport.closed
        await connected.say(b"TP/1.1\r\nhost: x\r\n\r\n")
        assert connected.answers == 4
        protocol.timeout_keep_alive = 0
        protocol.timeout_keep_alive_handler()
        assert connected.transport.closed
        protocol.connection_lost(None)
        assert protocol.timeout_keep_alive_task is None

    asyncio.run(scenario())
