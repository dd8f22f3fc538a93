"""The wait for the books: bounded, with one timer for all, and no hold left behind by what can't be written."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core import clock, ids
from gateway.writer import Writer
from usage.items import Done, Item, LogRow, Settle, Settled, Void


class Committer:
    """Keeps what is handed over; the test answers."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Item, Any]] = []
        self.left: list[Item] = []

    def hand_over(self, item: Item, waiter: Any) -> None:
        self.waiting.append((item, waiter))

    def submit_nowait(self, item: Item) -> None:
        self.left.append(item)


def settlement() -> Settle:
    call, workspace, key = ids.uuid7(), ids.uuid7(), ids.uuid7()
    row = LogRow(
        request_id=call, workspace_id=workspace, endpoint="chat", model="m", status=200, latency_ms=1, key_id=key
    )
    return Settle(call, workspace, key, 5, row)


def made(wait_seconds: float = 60) -> tuple[Committer, Writer]:
    committer: Any = Committer()
    return committer, Writer(committer, wait_seconds)


async def begun(writer: Writer, item: Item) -> asyncio.Task[bool]:
    task = asyncio.ensure_future(writer.write(item))
    await asyncio.sleep(0)
    return task


def test_what_is_written_is_told() -> None:
    async def scenario() -> None:
        committer, writer = made()
        first, second = await begun(writer, settlement()), await begun(writer, settlement())
        committer.waiting[1][1].set_result(Settled(5, clock.now(), False))
        assert await second
        assert not first.done()
        committer.waiting[0][1].set_result(Done())
        assert await first
        assert committer.left == []

    asyncio.run(scenario())


def test_a_settlement_that_can_not_be_written_gives_its_hold_back(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        committer, writer = made()
        item = settlement()
        task = await begun(writer, item)
        committer.waiting[0][1].set_exception(ValueError("12 of somebody's words"))
        assert await task is False
        assert committer.left == [Void(item.hold_id, item.workspace_id, item.key_id)]
        void = await begun(writer, committer.left[0])
        committer.waiting[1][1].set_exception(ValueError())
        assert await void is False
        assert len(committer.left) == 1  # a void that fails is left to the sweep

    asyncio.run(scenario())
    assert "ValueError of Settle" in caplog.text
    assert "words" not in caplog.text


def test_who_waits_too_long_goes_on_and_the_item_does_too() -> None:
    async def scenario() -> None:
        committer, writer = made(0.05)
        early = await begun(writer, settlement())
        await asyncio.sleep(0.03)
        late = await begun(writer, settlement())
        assert await early is False
        assert not late.done() or late.result() is False
        assert await late is False
        for item, waiter in committer.waiting:
            assert not waiter.done()  # to the committer somebody waits until it has an answer
            waiter.set_exception(ValueError())
            assert Void(item.hold_id, item.workspace_id, item.key_id) in committer.left  # type: ignore[union-attr]
        again = await begun(writer, settlement())  # the timer is there for those who come later
        assert await again is False

    asyncio.run(scenario())


def test_a_waiter_that_is_cancelled_takes_nothing_back() -> None:
    async def scenario() -> None:
        committer, writer = made()
        task = await begun(writer, settlement())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        committer.waiting[0][1].set_result(Done())
        assert committer.left == []

    asyncio.run(scenario())
