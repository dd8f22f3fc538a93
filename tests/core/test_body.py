"""Bodies within bounds: their own size, their time, and all that are in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from core.body import BodyReader, ClientGone, InFlight, Receive, declared_length
from core.errors import InvalidRequest, Overloaded, RequestTooLarge


def receiving(*parts: bytes, ends: bool = True, gone: bool = False) -> Receive:
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if ends:
        messages[-1]["more_body"] = False
    if gone:
        messages.append({"type": "http.disconnect"})

    async def receive() -> Mapping[str, Any]:
        if not messages:
            await asyncio.sleep(300)
        return messages.pop(0)

    return receive


async def test_a_body_in_pieces_is_whole_and_counted_until_released() -> None:
    gauge = InFlight(100)
    reader = BodyReader(gauge, 50)
    assert await reader.read(receiving(b"a" * 10, b"b" * 20, b""), None, seconds=60) == b"a" * 10 + b"b" * 20
    assert gauge.held_bytes == 30
    reader.release()
    assert gauge.held_bytes == 0
    reader.release()
    assert gauge.held_bytes == 0


async def test_a_declared_length_is_counted_before_the_first_byte() -> None:
    gauge = InFlight(100)
    one, two = BodyReader(gauge, 80), BodyReader(gauge, 80)
    await one.read(receiving(b"x" * 60), 60, seconds=None)
    with pytest.raises(Overloaded):
        await two.read(receiving(b"x" * 60), 60, seconds=60)
    two.release()
    assert gauge.held_bytes == 60


async def test_too_much_too_slow_and_gone() -> None:
    gauge = InFlight(1000)
    with pytest.raises(RequestTooLarge):
        await BodyReader(gauge, 25).read(receiving(b"x" * 20, b"x" * 20), None, seconds=60)
    with pytest.raises(InvalidRequest, match="in time"):
        await BodyReader(gauge, 100).read(receiving(b"x", ends=False), None, seconds=0.05)
    with pytest.raises(ClientGone):
        await BodyReader(gauge, 100).read(receiving(b"x", ends=False, gone=True), 100, seconds=60)


def test_declared_lengths() -> None:
    assert declared_length({}, 10) is None
    assert declared_length({b"content-length": b"10"}, 10) == 10
    with pytest.raises(RequestTooLarge):
        declared_length({b"content-length": b"11"}, 10)
    for wrong in (b"-1", b"1e3", b"", b"9" * 30):
        with pytest.raises(InvalidRequest):
            declared_length({b"content-length": wrong}, 10)
