"""One step of a job: take it, ask its kind, write down what came of it. Short, and safe to run twice."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils.translation import gettext_noop

from core import clock, errors, faults
from jobs import kinds, leases, lifecycle
from jobs.kinds import Done, Elsewhere, Failed, Kind, Stopped, Waiting
from jobs.lifecycle import CANCELLED, EXPIRED, End
from jobs.models import Job
from upstreams.errors import UpstreamError, UpstreamRefusal
from usage.items import Attempt

log = logging.getLogger(__name__)

T = TypeVar("T")

State = Job.State

#: Errors in a row after which nobody is asked to begin any more. Once a provider has begun, only the deadline ends it.
MOST_FAILURES: Final = 6
#: Mistakes of ours in a row after which a job is given up.
MOST_MISTAKES: Final = 6
#: Errors in a row after which a provider is no longer asked to stop.
MOST_STOPS: Final = 8
MOST_RETRY_SECONDS: Final = 60.0
#: So long after its deadline a provider is still asked what became of a job; a look that never comes back ends with it.
LAST_LOOKS: Final = timedelta(days=1)
#: What an attempt is called whose kind does not say why it goes on to the next provider.
_ELSEWHERE: Final = "unusable"
_NO_PROVIDER: Final = gettext_noop("No provider could take this job on.")
_OUR_FAULT: Final = gettext_noop("Something went wrong on our side.")


class _Again(Exception):
    """The step failed in a way that may pass. ``final``: not at this provider, and the kind knows no other."""

    def __init__(
        self, word: str, *, status: int | None = None, wait: float = 0.0, mistake: bool = False, final: bool = False
    ) -> None:
        super().__init__(word)
        self.word, self.status, self.wait, self.mistake, self.final = word, status, wait, mistake, final

    def is_enough(self, failures: int) -> bool:
        """Whether that many such errors in a row mean that nobody will take the job on."""
        return self.final or failures >= (MOST_MISTAKES if self.mistake else MOST_FAILURES)


def step(job_id: UUID) -> bool:
    """Make the next step of a job if one is due and nobody is at it; False where there was nothing to do.

    Raises the database's OperationalError and InterfaceError: the lease then ends by itself, the step is made again.
    """
    job = leases.claim(job_id)
    if job is None:
        return False
    faults.point("job.claimed")
    with leases.kept(job):
        _make(job)
    return True


def _make(job: Job) -> None:
    try:
        kind = kinds.kind_of(job.kind)
    except LookupError:  # taken out of the installation while jobs of it were open
        log.exception("a job's kind is unknown", extra={"job": str(job.pk), "kind": job.kind})
        kind = Unknown()
    if job.is_final:
        _stop_after_the_end(job, kind)
    elif job.cancel_asked_at is not None:
        _cancel(job, kind)
    elif job.past_deadline:
        _expire(job, kind)
    elif job.begun:
        _poll(job, kind)
    else:
        _start(job, kind)


def _start(job: Job, kind: Kind) -> None:
    before = clock.monotonic()

    def attempt(error: str = "", status: int | None = None) -> Attempt:
        return Attempt(job.target, int((clock.monotonic() - before) * 1000), error, status)

    try:
        outcome = _asked(kind.start, job)
    except _Again as error:
        job.failures += 1
        if error.is_enough(job.failures):
            lifecycle.end(job, _given_up(error), attempt(error.word, error.status))
        else:
            lifecycle.try_again(job, _backoff(job.failures, error.wait), attempt(error.word, error.status))
        return
    if isinstance(outcome, Waiting):
        lifecycle.go_on(job, outcome, attempt())
    elif isinstance(outcome, Elsewhere):
        lifecycle.go_elsewhere(job, outcome, attempt(outcome.error or _ELSEWHERE))
    elif isinstance(outcome, Failed):
        lifecycle.end(job, _end_of(outcome), attempt(_word_of(outcome)))
    else:
        lifecycle.end(job, _end_of(outcome), attempt())


def _poll(job: Job, kind: Kind) -> None:
    try:
        outcome = _asked(kind.poll, job)
    except _Again as error:
        job.failures += 1
        if error.mistake and job.failures >= MOST_MISTAKES:
            lifecycle.end(job, _given_up(error))
        else:
            lifecycle.try_again(job, _backoff(job.failures, error.wait), None)
        return
    if isinstance(outcome, Waiting):
        lifecycle.go_on(job, outcome, None)
    elif isinstance(outcome, Elsewhere):
        lifecycle.go_elsewhere(job, outcome, None)
    else:
        lifecycle.end(job, _end_of(outcome))


def _expire(job: Job, kind: Kind) -> None:
    """The time is up: ask once more, for what the provider has made by now is delivered and paid all the same."""
    end, notes = EXPIRED, {}
    if job.begun and clock.now() - job.deadline_at < LAST_LOOKS:
        try:
            outcome = _asked(kind.poll, job)
        except _Again as error:
            log.warning("a job's last look failed", extra={"job": str(job.pk), "error": error.word})
        else:
            if isinstance(outcome, Waiting):
                notes = dict(outcome.notes)  # how it stood, for whoever tells it to stop
            elif not isinstance(outcome, Elsewhere):
                end = _end_of(outcome)
    lifecycle.end(job, end, notes=notes)


def _cancel(job: Job, kind: Kind) -> None:
    """Somebody asked to cancel while a provider may be at work. What it can't be told costs nobody anything."""
    try:
        outcome = _asked(kind.stop, job)
    except _Again as error:
        job.failures += 1
        if job.failures >= MOST_STOPS or job.past_deadline:
            log.warning("a provider was not told to stop", extra={"job": str(job.pk), "error": error.word})
            lifecycle.end(job, CANCELLED)
        else:
            lifecycle.try_again(job, _backoff(job.failures, error.wait), None)
        return
    if isinstance(outcome, Done):  # it was ready before anybody could stop it
        lifecycle.end(job, _end_of(outcome))
    elif isinstance(outcome, Stopped | Failed):
        lifecycle.end(job, _cancelled(outcome))
    elif job.past_deadline:
        lifecycle.end(job, CANCELLED)
    else:
        lifecycle.go_on(job, outcome, None)


def _stop_after_the_end(job: Job, kind: Kind) -> None:
    """The job's money is settled; its provider is told to stop so that it bills us no longer than need be."""
    job.failures += 1
    word, wait = "waiting", 0.0
    try:
        outcome = _asked(kind.stop, job)
        if not isinstance(outcome, Waiting):
            return lifecycle.told_to_stop(job, outcome)
        wait = outcome.seconds
    except _Again as error:
        word, wait = error.word, error.wait
    if job.failures < MOST_STOPS:
        lifecycle.try_again(job, _backoff(job.failures, wait), None)
    else:
        log.warning("a provider was not told to stop", extra={"job": str(job.pk), "error": word})
        lifecycle.told_to_stop(job, None)


def _asked(ask: Callable[[Job], T], job: Job) -> T | Failed:
    """What ``ask`` says. Raises _Again for what may pass, and the database's own errors."""
    try:
        outcome = ask(job)
        faults.point("job.asked")
        return outcome
    except UpstreamRefusal as error:
        return Failed(error_type=errors.InvalidRequest.type, message=error.message, code=error.code or "")
    except UpstreamError as error:
        final = not error.retry_same_target
        raise _Again(error.kind, status=error.status, wait=error.retry_after or 0.0, final=final) from None
    except (errors.Overloaded, errors.TimedOut) as error:
        raise _Again(error.type, status=error.status) from None
    except errors.ProductError as error:
        return Failed(error_type=error.type, message=error.message, code=error.code or "")
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        log.exception("a job's step failed unexpectedly", extra={"job": str(job.pk), "kind": job.kind})
        raise _Again("internal", mistake=True) from None


def _word_of(outcome: Failed) -> str:
    """What an attempt that was answered with a failure is called in the log."""
    return "refused" if outcome.error_type == errors.InvalidRequest.type else "server_error"


def _end_of(outcome: Done | Failed) -> End:
    if isinstance(outcome, Done):
        return End(
            state=State.SUCCEEDED,
            charge_microcredits=outcome.charge_microcredits,
            units=outcome.units,
            charge_lines=outcome.charge_lines,
            execution_ms=outcome.execution_ms,
            estimated=outcome.estimated,
            result=outcome.result,
        )
    return End(
        state=State.FAILED,
        charge_microcredits=outcome.charge_microcredits,
        charge_lines=outcome.charge_lines,
        execution_ms=outcome.execution_ms,
        error_type=outcome.error_type,
        error_code=outcome.code,
        error_message=outcome.message,
    )


def _cancelled(outcome: Stopped | Failed) -> End:
    return replace(
        CANCELLED,
        charge_microcredits=outcome.charge_microcredits,
        units=outcome.units if isinstance(outcome, Stopped) else None,
        charge_lines=outcome.charge_lines,
        execution_ms=outcome.execution_ms,
        estimated=isinstance(outcome, Stopped) and outcome.estimated,
    )


def _given_up(error: _Again) -> End:
    kind_of_error = errors.InternalError if error.mistake else errors.UpstreamFailed
    message = _OUR_FAULT if error.mistake else _NO_PROVIDER
    return End(state=State.FAILED, error_type=kind_of_error.type, error_message=message, stop_provider=True)


def _backoff(failures: int, asked: float) -> float:
    """Seconds to the next try: doubled with each error, with jitter, never sooner than the provider asked for."""
    most: float = min(settings.JOB_RETRY_SECONDS * 2 ** (failures - 1), MOST_RETRY_SECONDS)
    return max(asked, most * random.uniform(0.5, 1.0))  # noqa: S311  (spreads load, guards nothing)


class Unknown:
    """Stands in for a kind that this installation no longer has: its jobs run into their deadlines and cost nothing."""

    name = ""
    queue = "default"

    def start(self, job: Job) -> Waiting:
        return self._wait(job)

    def poll(self, job: Job) -> Waiting:
        return self._wait(job)

    def stop(self, job: Job) -> Stopped:
        return Stopped()

    def shown(self, job: Job) -> dict[str, Any]:
        return {}

    def _wait(self, job: Job) -> Waiting:
        return Waiting(seconds=MOST_RETRY_SECONDS, started=False)
