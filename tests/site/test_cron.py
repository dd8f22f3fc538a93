"""The time table: what is slow holds up its like alone, what fails comes again, and a stop is heard."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hypereal_site import cron
from hypereal_site.cron import Entry, Lane

pytestmark = pytest.mark.usefixtures("committed")


@contextmanager
def running(*table: Entry) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=cron.run_forever, args=(stop, table))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


def wait_for(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_one_that_never_answers_holds_up_its_lane_alone() -> None:
    answers, runs = threading.Event(), {"hung": 0, "behind": 0, "money": 0}

    def hung() -> None:
        runs["hung"] += 1
        answers.wait(120)

    def counted(name: str) -> Callable[[], None]:
        def run() -> None:
            runs[name] += 1

        return run

    table = (
        Entry("test: hung", 0.01, hung, Lane.LONG),
        Entry("test: behind it", 0.01, counted("behind"), Lane.LONG),
        Entry("test: money", 0.01, counted("money")),
    )
    with running(*table):
        wait_for(lambda: runs["hung"] == 1 and runs["money"] >= 5)
        assert runs["behind"] == 0
        answers.set()
        wait_for(lambda: runs["behind"] >= 2)


def test_a_lane_does_one_thing_at_a_time() -> None:
    at_work, together, runs = threading.Lock(), [], [0]

    def alone() -> None:
        if not at_work.acquire(blocking=False):
            together.append(threading.current_thread().name)
            return
        time.sleep(0.01)
        runs[0] += 1
        at_work.release()

    with running(*(Entry(f"test: {number}", 0.01, alone, Lane.STRIPE) for number in range(3))):
        wait_for(lambda: runs[0] >= 9)
    assert together == []


def test_one_that_fails_comes_again_and_takes_nobody_along() -> None:
    runs = {"fails": 0, "next": 0}

    def fails() -> None:
        runs["fails"] += 1
        raise OSError("Stripe is away")

    def after() -> None:
        runs["next"] += 1

    with running(Entry("test: fails", 0.01, fails), Entry("test: next", 0.01, after)):
        wait_for(lambda: runs["fails"] >= 3 and runs["next"] >= 3)


def test_what_another_process_is_at_is_left_to_it() -> None:
    answers, began, runs = threading.Event(), threading.Event(), [0]

    def run() -> None:
        runs[0] += 1
        began.set()
        answers.wait(120)

    entry = Entry("test: shared", 0.01, run)
    with running(entry):
        assert began.wait(60)
        assert not cron.run_once(entry)
        assert runs == [1]
        answers.set()


def test_no_sweep_of_money_stands_behind_somebody_else_s_server() -> None:
    table = cron.entries()
    assert len({entry.name for entry in table}) == len(table)
    books = {entry.name for entry in table if entry.lane is Lane.BOOKS}
    assert {"holds of dead processes", "expired credits"} <= books
    assert not {
        name for name in books for word in ("Stripe", "top-ups", "mails", "steps of jobs", "engines") if word in name
    }
    assert {entry.lane for entry in table if entry.seconds >= 86_400} <= {Lane.LONG, Lane.BOOKS}
