"""Many calls at once from one thread, each on a connection of its own, and what became of each."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Outcome:
    """``status`` is 0 where no answer came. ``body`` is what came; ``ended``: the HTTP message came to its end."""

    status: int
    headers: dict[str, str]
    body: bytes
    ended: bool

    @property
    def is_stream(self) -> bool:
        return "event-stream" in self.headers.get("content-type", "")

    @property
    def whole(self) -> bool:
        """A success that its caller holds in full."""
        return self.status == 200 and self.ended and (not self.is_stream or self.body.endswith(DONE))

    @property
    def request_id(self) -> str:
        return self.headers.get("x-request-id", "")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def call(
    port: int,
    secret: str,
    body: bytes | dict[str, Any],
    *,
    leave_after: int | None = None,
    seconds: float = 240.0,
    **headers: str,
) -> Outcome:
    """One chat call, which never raises for what the other side does.

    ``leave_after``: hang up after so many events, keep-alives included.
    """
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "host: gateway",
        "connection: close",
        "content-type: application/json",
        f"content-length: {len(data)}",
        f"authorization: Bearer {secret}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    reading = _Reading(leave_after)
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write("\r\n".join([*lines, "", ""]).encode() + data)
                await writer.drain()
                await reading.read(reader)
            finally:
                writer.transport.abort()
    except (OSError, EOFError, TimeoutError, ValueError):
        pass
    return Outcome(reading.status, reading.headers, b"".join(reading.pieces), reading.ended)


def together(calls: Iterable[Awaitable[Outcome]]) -> list[Outcome]:
    """All at once; in the order given."""

    async def run() -> list[Outcome]:
        return list(await asyncio.gather(*calls))

    return asyncio.run(run())


class Load:
    """Callers who call again and again in a thread of their own, for as long as the block lasts.

    ``make`` makes one call, with the chances of its caller. Each caller ends with the call that it is at.
    """

    def __init__(self, make: Callable[[random.Random], Awaitable[Outcome]], callers: int, seed: int = 1) -> None:
        self.outcomes: list[Outcome] = []
        self._make = make
        self._chances = [random.Random(seed + number) for number in range(callers)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive(), "a caller does not come to its end"

    @property
    def whole(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.whole]

    async def _run(self) -> None:
        await asyncio.gather(*(self._call_again_and_again(chances) for chances in self._chances))

    async def _call_again_and_again(self, chances: random.Random) -> None:
        while not self._stop.is_set():
            outcome = await self._make(chances)
            self.outcomes.append(outcome)
            if outcome.status != 200:
                await asyncio.sleep(0.05)


class _Reading:
    def __init__(self, leave_after: int | None) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.ended = False
        self._leave_after = leave_after

    async def read(self, reader: asyncio.StreamReader) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.status = int(head[0].split(" ")[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        if "content-length" in self.headers:
            self.pieces.append(await reader.readexactly(int(self.headers["content-length"])))
            self.ended = True
            return
        while not self._leaves():
            size = int(await reader.readuntil(b"\r\n"), 16)
            piece = await reader.readexactly(size + 2)
            if not size:
                self.ended = True
                return
            self.pieces.append(piece[:-2])

    def _leaves(self) -> bool:
        return self._leave_after is not None and b"".join(self.pieces).count(b"\n\n") >= self._leave_after
