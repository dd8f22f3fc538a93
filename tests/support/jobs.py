"""Jobs in tests: a kind that does as it is told, submissions for a payer, and steps that don't wait for their time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Now

from core import ids
from jobs import kinds, stepping, submitting
from jobs.kinds import Step, Stop, Stopped, Waiting
from jobs.models import Job
from keys.auth import KeyFacts
from tests.support.money import Payer
from usage.items import Claim, Replay

CREDIT = 1_000_000
#: What a payer of these tests begins with.
BALANCE = 100 * CREDIT


class Scripted:
    """A kind whose answers a test lays out. Without any it waits, and stops at once when it is asked to."""

    queue = "media"

    def __init__(self, name: str = "scripted") -> None:
        self.name = name
        self.starts: deque[Step | Exception] = deque()
        self.polls: deque[Step | Exception] = deque()
        self.stops: deque[Stop | Exception] = deque()
        #: What was asked, in order.
        self.asked: list[str] = []

    def start(self, job: Job) -> Step:
        job.provider, job.target = "acme", "acme//painter-1"
        return self._next("start", self.starts, Waiting(seconds=5))

    def poll(self, job: Job) -> Step:
        return self._next("poll", self.polls, Waiting(seconds=5))

    def stop(self, job: Job) -> Stop:
        return self._next("stop", self.stops, Stopped())

    def shown(self, job: Job) -> dict[str, Any]:
        return {"data": (job.result or {}).get("data", [])}

    def _next(self, word: str, laid_out: deque[Any], usual: Any) -> Any:
        self.asked.append(word)
        outcome = laid_out.popleft() if laid_out else usual
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@contextmanager
def declared(kind: kinds.Kind) -> Iterator[None]:
    """``kind`` is known for as long as this lasts."""
    kinds.register(kind.name, lambda: kind)
    try:
        yield
    finally:
        kinds.unregister(kind.name)


def facts_of(payer: Payer) -> KeyFacts:
    """The payer's key as the gateway knows it."""
    return KeyFacts(payer.key.pk, payer.key.name, payer.workspace.pk, payer.user.pk)


def submit(
    payer: Payer,
    *,
    kind: str = "scripted",
    reserved: int = 10 * CREDIT,
    deadline_seconds: float = 600,
    claim: Claim | None = None,
    job_id: UUID | None = None,
    **more: Any,
) -> Job:
    """A queued job of the payer's. Raises what refuses it."""
    made = submitting.submit(
        facts_of(payer),
        kind=kind,
        model="painter-1",
        price_id=None,
        reserved_microcredits=reserved,
        input=more.pop("input", {"prompt": "a cat"}),
        deadline_seconds=deadline_seconds,
        job_id=job_id or ids.uuid7(),
        claim=claim,
        **more,
    )
    assert not isinstance(made, Replay)
    return made


def make_due(job_id: UUID) -> None:
    """The next step is due now, whatever it was to wait for."""
    Job.objects.filter(pk=job_id).update(run_after=Now())


def step(job_id: UUID) -> Job:
    """One step, due or not; the row as it is then."""
    make_due(job_id)
    stepping.step(job_id)
    return Job.objects.get(pk=job_id)


def drive(job_id: UUID, most: int = 20) -> Job:
    """Steps until the job has ended and nothing is left to do for it."""
    for _ in range(most):
        if not Job.objects.filter(Q(finished_at__isnull=True) | Q(stop_due=True), pk=job_id).exists():
            break
        step(job_id)
    return Job.objects.get(pk=job_id)
