"""Identifiers: in order within a process, true to the clock, readable again."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
import time_machine

from core import ids


def test_ids_of_a_process_are_in_order_and_different() -> None:
    made = [ids.uuid7() for _ in range(20_000)]
    assert all(one.int < next_one.int for one, next_one in pairwise(made))
    assert {(one.version, one.variant) for one in made} == {(7, "specified in RFC 4122")}


def test_an_id_carries_its_moment() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    assert before <= ids.time_of(ids.uuid7()) <= datetime.now(UTC) + timedelta(seconds=1)


@pytest.mark.parametrize(("seconds_back", "stays_ahead"), [(30, True), (3_600, False)])
def test_a_small_step_back_of_the_clock_keeps_the_order_and_a_large_one_is_believed(
    seconds_back: int, stays_ahead: bool
) -> None:
    start = datetime(2031, 5, 1, 12, tzinfo=UTC)
    with time_machine.travel(start, tick=False) as clock:
        ahead = ids.uuid7()
        clock.move_to(start - timedelta(seconds=seconds_back))
        assert (ids.uuid7().int > ahead.int) is stays_ahead


def test_the_first_id_of_a_moment_bounds_all_of_it() -> None:
    made = ids.uuid7()
    moment = ids.time_of(made)
    assert ids.first_at(moment).int <= made.int < ids.first_at(moment + timedelta(milliseconds=1)).int


@pytest.mark.parametrize("text", ["", "nothing", "01900000-0000-7000-8000-00000000000", None])
def test_what_is_no_id_is_none(text: str) -> None:
    assert ids.parse(text) is None
    assert ids.parse(str(ids.uuid7())) is not None


def test_an_id_has_one_neighbour_behind_it() -> None:
    first = ids.uuid7()
    second = ids.beside(first)
    assert second == ids.beside(first) > first
    assert (ids.time_of(second), second.version, second.variant) == (ids.time_of(first), 7, first.variant)
    last = UUID(int=first.int | ((1 << 62) - 1))
    assert ids.beside(last).version == 7 and ids.time_of(ids.beside(last)) == ids.time_of(last)


def test_an_id_is_an_ordinary_uuid() -> None:
    made = ids.uuid7()
    assert made == UUID(str(made)) == UUID(bytes=made.bytes)
    assert (hash(made), repr(made), made.is_safe) == (hash(UUID(str(made))), repr(UUID(str(made))), UUID(int=1).is_safe)
    assert pickle.loads(pickle.dumps(made)) == made
