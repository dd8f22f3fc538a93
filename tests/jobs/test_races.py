"""Two at one job at the same moment, on connections of their own: the end comes once, and its money moves once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from django.db import connections

from core import ids
from jobs import leases, lifecycle, serving, stepping, submitting
from jobs.kinds import Done, Step, Waiting
from jobs.models import Job
from jobs.sweep import Sweeper
from tests.support.jobs import BALANCE, CREDIT, Scripted, declared, facts_of, make_due, submit
from tests.support.money import Payer, new_payer
from usage.items import Claim, Replay

ROUNDS = 12
DONE = Done(result={}, charge_microcredits=CREDIT)


class Slow(Scripted):
    """Answers that wait until the test lets them go."""

    def __init__(self) -> None:
        super().__init__("slow")
        self.arrived = threading.Semaphore(0)
        self.go = threading.Event()

    def start(self, job: Job) -> Step:
        self.arrived.release()
        assert self.go.wait(120)
        return DONE


@pytest.fixture
def payer(committed: None) -> Payer:
    return new_payer(balance=BALANCE)


@pytest.fixture
def kind(committed: None) -> Iterator[Scripted]:
    scripted = Scripted()
    with declared(scripted):
        yield scripted


def at_once(*work: Callable[[], Any]) -> list[Any]:
    """What each returns; all begin together, each on a connection of its own."""
    barrier = threading.Barrier(len(work))

    def run(one: Callable[[], Any]) -> Any:
        barrier.wait(60)
        try:
            return one()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(run, work))


def ended(payer: Payer, *jobs: UUID) -> list[str]:
    """The states of jobs that all have ended, each with one log row; nothing is held any more."""
    rows = {row.pk: row for row in Job.objects.filter(pk__in=jobs)}
    books = payer.books()
    assert (books.held, len(books.log)) == (0, len(jobs))
    assert books.balance == BALANCE - sum(row.cost_microcredits or 0 for row in rows.values())
    return [rows[pk].state for pk in jobs]


def test_one_of_many_workers_gets_a_step(payer: Payer, kind: Scripted) -> None:
    kind.starts += [DONE] * ROUNDS
    jobs = [submit(payer, reserved=CREDIT).pk for _ in range(ROUNDS)]
    for job in jobs:
        made = at_once(*[lambda job=job: stepping.step(job) for _ in range(4)])
        assert made.count(True) == 1
    assert kind.asked == ["start"] * ROUNDS
    assert ended(payer, *jobs) == ["succeeded"] * ROUNDS


def test_a_cancel_meets_the_end(payer: Payer, kind: Scripted) -> None:
    kind.polls += [DONE] * ROUNDS
    jobs = [submit(payer, reserved=CREDIT).pk for _ in range(ROUNDS)]
    for job in jobs:
        stepping.step(job)
        make_due(job)
        at_once(lambda job=job: stepping.step(job), lambda job=job: lifecycle.cancel(job))  # type: ignore[misc]
        make_due(job)
        stepping.step(job)  # the provider is asked to stop where the cancel came first
    assert set(ended(payer, *jobs)) <= {"succeeded", "cancelled"}


def test_a_cancel_meets_the_beginning(payer: Payer, kind: Scripted) -> None:
    kind.starts += [Waiting(seconds=60)] * ROUNDS
    jobs = [submit(payer, reserved=CREDIT).pk for _ in range(ROUNDS)]
    for job in jobs:
        at_once(lambda job=job: stepping.step(job), lambda job=job: lifecycle.cancel(job))  # type: ignore[misc]
        while not Job.objects.get(pk=job).is_final:
            assert stepping.step(job), "due at once"
    assert ended(payer, *jobs) == ["cancelled"] * ROUNDS


def test_two_cancels_are_one(payer: Payer, kind: Scripted) -> None:
    jobs = [submit(payer, reserved=CREDIT).pk for _ in range(ROUNDS)]
    for job in jobs:
        at_once(*[lambda job=job: lifecycle.cancel(job) for _ in range(3)])
    assert ended(payer, *jobs) == ["cancelled"] * ROUNDS


def test_the_sweep_leaves_a_job_alone_that_a_worker_is_at(payer: Payer) -> None:
    slow = Slow()
    with declared(slow), ThreadPoolExecutor(1) as pool:
        job = submit(payer, kind="slow").pk
        work = pool.submit(at_once, lambda: stepping.step(job))
        assert slow.arrived.acquire(timeout=60)
        assert job not in leases.due(overdue_seconds=0, most=10_000)
        assert not stepping.step(job)
        assert lifecycle.cancel(job).state == "queued", "somebody is just being asked to begin"
        slow.go.set()
        work.result(60)
    assert ended(payer, job) == ["succeeded"], "it was ready before anybody could stop it"


def test_two_sweeps_make_every_step_once(payer: Payer, kind: Scripted) -> None:
    kind.starts += [DONE] * ROUNDS
    jobs = [submit(payer, reserved=CREDIT).pk for _ in range(ROUNDS)]
    sweepers = [Sweeper(threads=3, overdue_seconds=0) for _ in range(2)]
    at_once(*[sweeper.sweep for sweeper in sweepers])
    for sweeper in sweepers:
        sweeper.join(60)
    assert kind.asked.count("start") == ROUNDS
    assert ended(payer, *jobs) == ["succeeded"] * ROUNDS


def test_one_idempotency_key_makes_one_job_however_many_come_at_once(payer: Payer, kind: Scripted) -> None:
    claim = Claim(b"k" * 31 + bytes([1]), b"r" * 32, False)

    def ask() -> Job | Replay:
        return submitting.submit(
            facts_of(payer),
            kind="scripted",
            model="painter-1",
            price_id=None,
            reserved_microcredits=CREDIT,
            input={},
            deadline_seconds=60,
            job_id=ids.uuid7(),
            claim=claim,
        )

    made = at_once(*[ask] * 5)
    jobs = [each for each in made if isinstance(each, Job)]
    assert len(jobs) == 1
    assert {each.request_id for each in made if isinstance(each, Replay)} == {jobs[0].pk}
    assert (payer.books().held, payer.books().holds) == (CREDIT, ["pending"])
    lifecycle.cancel(jobs[0].pk)
    assert isinstance(ask(), Replay), "the answer stays when the job has ended without a charge"
    assert serving.accepted(jobs[0])["status"] == "queued"
