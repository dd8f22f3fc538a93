"""The queue between pump and answer: order, room, silence, leaving, failing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.errors import UpstreamFailed
from gateway import pipe as module
from gateway.pipe import Pipe


def pipe(**fields: Any) -> Pipe:
    return Pipe(asyncio.get_running_loop(), **fields)


async def test_what_waits_is_handed_over_in_one_piece_and_in_order() -> None:
    one = pipe()
    one.offer(b"a")
    one.offer(b"b")
    assert await one.read() == (b"ab", False)
    reading = asyncio.create_task(one.read())
    await asyncio.sleep(0)
    one.offer(b"c")
    assert await reading == (b"c", False)
    one.offer(b"d")
    one.end()
    assert await one.read() == (b"d", True)
    assert await one.read() == (b"", True)
    assert one.offer(b"late")
    assert await one.read() == (b"", True)


async def test_a_full_pipe_makes_the_writer_wait_until_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    one = pipe()
    assert one.offer(b"x" * 9)
    assert not one.offer(b"y")
    assert not await one.room(0.02)
    waiting = asyncio.create_task(one.room(1))
    await asyncio.sleep(0)
    await one.read()
    assert await waiting
    assert await one.room(0.01)


async def test_a_reader_who_left_frees_the_writer_and_gets_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1)
    one = pipe()
    one.offer(b"xx")
    waiting = asyncio.create_task(one.room(5))
    await asyncio.sleep(0)
    one.leave()
    assert await waiting
    assert one.reader_left()
    assert one.offer(b"more")
    assert await one.read() == (b"", True)


async def test_an_error_before_the_first_byte_is_the_answer_and_later_it_is_not() -> None:
    early = pipe()
    reading = asyncio.create_task(early.read())
    await asyncio.sleep(0)
    assert early.fail(UpstreamFailed("no"))
    with pytest.raises(UpstreamFailed):
        await reading
    late = pipe()
    late.offer(b"x")
    await late.read()
    assert not late.fail(UpstreamFailed("no"))


async def test_silence_is_filled_and_nothing_else() -> None:
    one = pipe(keepalive=b":\n\n", keepalive_seconds=1.0)
    assert await asyncio.wait_for(one.read(), 60) == (b":\n\n", False)
    for _ in range(4):
        await asyncio.sleep(0.3)
        one.offer(b"x")
    assert await one.read() == (b"xxxx", False)
    assert await asyncio.wait_for(one.read(), 60) == (b":\n\n", False)
    one.end()
    await asyncio.sleep(1.2)
    assert await one.read() == (b"", True)


async def test_unread_keep_alives_do_not_pile_up_and_a_failure_takes_them_back() -> None:
    one = pipe(keepalive=b":\n\n", keepalive_seconds=0.02)
    await asyncio.sleep(0.15)
    assert one.fail(UpstreamFailed("no"))
    with pytest.raises(UpstreamFailed):
        await one.read()
    two = pipe(keepalive=b":\n\n", keepalive_seconds=0.02)
    await asyncio.sleep(0.15)
    assert await two.read() == (b":\n\n", False)
    two.end()
