"""The load: keep-alive connections in a closed loop (as fast as it goes) or an open one (so many a second)."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import httptools
import uvloop

from bench import formats
from bench.formats import CHAT, Format

#: What requests that are under way get to end when their time is over.
_GRACE_SECONDS: Final = 30.0
#: A run in which so many requests failed is not worth its time.
_MOST_ERRORS: Final = 200


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where answers are asked for, and how."""

    port: int
    path: str
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)
    format: Format = CHAT

    def request(self, *, stream: bool) -> bytes:
        """The bytes of one call."""
        data = self.format.body(self.model, stream=stream)
        headers = {
            "host": f"127.0.0.1:{self.port}",
            "content-type": "application/json",
            "accept": "text/event-stream" if stream else "application/json",
            "content-length": str(len(data)),
            **self.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {self.path} HTTP/1.1\r\n{lines}\r\n".encode() + data


@dataclass(slots=True)
class Tally:
    """What came of the requests to one endpoint. Times in seconds."""

    whole: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    events: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    #: How long the load lasted.
    seconds: float = 0.0

    @property
    def answered(self) -> int:
        """Requests with a right answer."""
        return len(self.whole)

    @property
    def failed(self) -> int:
        """Requests without one."""
        return self.errors.total()


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which ``part`` (0…1) of ``values`` lies; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


class _Caller(asyncio.Protocol):
    """One connection. ``ended`` is called after each answer with what was wrong with it, empty if nothing."""

    def __init__(self, request: bytes, form: Format, *, stream: bool, ended: Callable[[_Caller, str], None]) -> None:
        self._request = request
        self._format = form
        self._stream = stream
        self._ended = ended
        self._transport: asyncio.Transport
        self._parser: httptools.HttpResponseParser
        self._pieces: list[bytes] = []
        self.busy = False
        self.closed = False
        self.events = 0
        self.began = self.first_at = self.ended_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def call(self) -> None:
        self.busy, self.first_at = True, 0.0
        self._pieces.clear()
        self._parser = httptools.HttpResponseParser(self)
        self.began = time.perf_counter()
        self._transport.write(self._request)

    def close(self) -> None:
        self.busy = False
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"not HTTP: {error}")
            self.close()

    def on_body(self, body: bytes) -> None:
        if not self.first_at:
            self.first_at = time.perf_counter()
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self._pieces)
        self._end(self._fault(self._parser.get_status_code(), body))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._end("the connection was closed")

    def _fault(self, status: int, body: bytes) -> str:
        if status != 200:
            return f"HTTP {status}: {body[:160]!r}"
        self.events = formats.count(body) if self._stream else 0
        return self._format.fault(body, stream=self._stream)

    def _end(self, fault: str) -> None:
        if self.busy:
            self.busy = False
            self.ended_at = time.perf_counter()
            self._ended(self, fault)


def _note(tally: Tally, caller: _Caller, fault: str) -> None:
    if fault:
        tally.errors[fault] += 1
        return
    tally.whole.append(caller.ended_at - caller.began)
    tally.first.append(caller.first_at - caller.began)
    tally.events += caller.events


class _Load:
    """Connections to one endpoint, and the tally of what they brought."""

    def __init__(self, endpoint: Endpoint, *, stream: bool) -> None:
        self.tally = Tally()
        self._endpoint = endpoint
        self._request = endpoint.request(stream=stream)
        self._stream = stream
        self._open: set[_Caller] = set()

    async def connect(self, ended: Callable[[_Caller, str], None]) -> _Caller:
        loop = asyncio.get_running_loop()
        _, caller = await loop.create_connection(
            lambda: _Caller(self._request, self._endpoint.format, stream=self._stream, ended=ended),
            "127.0.0.1",
            self._endpoint.port,
        )
        self._open.add(caller)
        return caller

    def close(self) -> None:
        """Calls that are still under way failed."""
        for caller in self._open:
            if caller.busy:
                self.tally.errors["no answer in time"] += 1
            caller.close()


class _ClosedLoop(_Load):
    """Each connection asks again as soon as it is answered."""

    async def run(self, connections: int, seconds: float) -> Tally:
        began = time.perf_counter()
        self._stop_at = began + seconds
        self._running = connections
        self._finished = asyncio.Event()
        for caller in [await self.connect(self._next) for _ in range(connections)]:
            caller.call()
        try:
            async with asyncio.timeout(seconds + _GRACE_SECONDS):
                await self._finished.wait()
        except TimeoutError:
            pass
        self.tally.seconds = time.perf_counter() - began
        self.close()
        return self.tally

    def _next(self, caller: _Caller, fault: str) -> None:
        _note(self.tally, caller, fault)
        if time.perf_counter() < self._stop_at and self.tally.failed < _MOST_ERRORS:
            asyncio.get_running_loop().call_soon(self._again, caller)
        else:
            self._leave()

    def _again(self, caller: _Caller) -> None:
        if not caller.closed:
            caller.call()
            return
        self._open.discard(caller)
        asyncio.get_running_loop().create_task(self._replace())

    async def _replace(self) -> None:
        try:
            caller = await self.connect(self._next)
        except OSError as error:
            self.tally.errors[str(error)] += 1
            self._leave()
        else:
            caller.call()

    def _leave(self) -> None:
        self._running -= 1
        if self._running == 0:
            self._finished.set()


class _OpenLoop(_Load):
    """Asks when it is told to, on a connection that is free."""

    def __init__(self, endpoint: Endpoint, *, stream: bool) -> None:
        super().__init__(endpoint, stream=stream)
        self._free: list[_Caller] = []
        self._warm = False

    async def warm(self, connections: int) -> None:
        """Open connections and use each once; these calls are not counted."""
        self._free = [await self.connect(self._done) for _ in range(connections)]
        for caller in list(self._free):
            caller.call()
        await self.settle()
        self._warm, self.tally = True, Tally()

    async def call(self) -> None:
        caller = next((each for each in self._free if not each.closed), None)
        if caller is None:
            try:
                caller = await self.connect(self._done)
            except OSError as error:
                self.tally.errors[str(error)] += 1
                return
        else:
            self._free.remove(caller)
        caller.call()

    async def settle(self) -> None:
        """Wait for the calls that are under way."""
        end = time.perf_counter() + _GRACE_SECONDS
        while any(caller.busy for caller in self._open) and time.perf_counter() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def _done(self, caller: _Caller, fault: str) -> None:
        _note(self.tally, caller, fault)
        if self._warm and not caller.closed:
            self._free.append(caller)


def saturate(endpoint: Endpoint, *, stream: bool, connections: int, seconds: float) -> Tally:
    """As many calls as go through ``connections`` connections."""
    return uvloop.run(_ClosedLoop(endpoint, stream=stream).run(connections, seconds))


def pace(endpoints: Sequence[Endpoint], *, stream: bool, rate: float, seconds: float) -> list[Tally]:
    """``rate`` calls a second to each endpoint, in turn and with a little jitter, so that noise meets all alike."""
    return uvloop.run(_pace([_OpenLoop(endpoint, stream=stream) for endpoint in endpoints], rate, seconds))


async def _pace(loads: Sequence[_OpenLoop], rate: float, seconds: float) -> list[Tally]:
    for load in loads:
        await load.warm(3)
    gap = 1 / rate / len(loads)
    began = time.perf_counter() + 0.05
    for turn in range(int(rate * seconds)):
        for place, load in enumerate(random.sample(loads, len(loads))):
            at = began + (turn * len(loads) + place + random.random() / 2) * gap
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            await load.call()
    for load in loads:
        await load.settle()
        load.tally.seconds = time.perf_counter() - began
        load.close()
    return [load.tally for load in loads]
