"""A hold that grows: asked for early, waited for only when used up, and never passed."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from core.ids import uuid7
from gateway.growth import Growth, OutOfCredits
from gateway.meter import Meter
from tests.gateway.test_meter import LIMITS, call, model
from usage.committer import Committer
from usage.items import Extend, Extended, Item, Result


class Books:
    """Takes extensions and answers when told."""

    def __init__(self) -> None:
        self.asked: list[Extend] = []
        self.waiting: list[asyncio.Future[Result]] = []

    def submit(self, item: Item) -> asyncio.Future[Result]:
        assert isinstance(item, Extend)
        self.asked.append(item)
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]

    def answer(self, granted: bool) -> None:
        self.waiting[-1].set_result(Extended(granted))


def growth(patience: float = 1.0, **fields: Any) -> tuple[Growth, Books, Meter]:
    books, meter = Books(), Meter.of(call(stream=True, max_tokens=1000, **fields), model(), LIMITS)  # steps of 100
    template = Extend(uuid7(), uuid7(), uuid7(), 0)
    return Growth(cast(Committer, books), meter, template, patience), books, meter


async def test_it_asks_at_half_a_step_and_does_not_wait() -> None:
    grown, books, meter = growth()
    await grown.cover(50)
    assert books.asked == []
    await grown.cover(51)
    await grown.cover(80)
    assert [item.amount_microcredits for item in books.asked] == [meter.microcredits_for(200)]
    assert meter.granted_tokens == 100
    books.answer(True)
    await grown.cover(90)
    assert (meter.granted_tokens, len(books.asked)) == (200, 1)
    await grown.cover(151)
    assert books.asked[-1].amount_microcredits == meter.microcredits_for(300)


async def test_it_waits_when_all_is_used_and_takes_as_much_as_is_needed_at_once() -> None:
    grown, books, meter = growth()
    covering = asyncio.create_task(grown.cover(730))
    await asyncio.sleep(0)
    assert not covering.done()
    assert books.asked[0].amount_microcredits == meter.microcredits_for(830)
    books.answer(True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert meter.granted_tokens == 830


async def test_an_early_refusal_is_not_the_end_and_a_late_one_is() -> None:
    grown, books, meter = growth()
    await grown.cover(60)
    books.answer(False)
    await grown.cover(70)
    await grown.cover(99)
    assert len(books.asked) == 1
    covering = asyncio.create_task(grown.cover(100))
    await asyncio.sleep(0)
    assert len(books.asked) == 2
    books.answer(False)
    with pytest.raises(OutOfCredits):
        await covering
    assert meter.granted_tokens == 100


async def test_credits_that_came_back_in_time_let_it_go_on() -> None:
    grown, books, meter = growth()
    await grown.cover(60)
    books.answer(False)
    await grown.cover(70)
    covering = asyncio.create_task(grown.cover(100))
    await asyncio.sleep(0)
    books.answer(True)
    await covering
    assert meter.granted_tokens == 200


async def test_books_that_do_not_answer_end_the_stream() -> None:
    grown, _, _ = growth(patience=0.02)
    with pytest.raises(OutOfCredits):
        await grown.cover(150)
