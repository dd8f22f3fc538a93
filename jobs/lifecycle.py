"""The life of a job: the only writer of its state, and of what its end means for money.

Each function is one transaction over the job's locked row. A step's outcome is written only by whoever still has the
lease; the end settles or gives back the hold, writes the log row and tells of it, all in that transaction, so that it
happens once or not at all. The job's row is locked before the wallet's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import msgspec
from django.db import transaction
from django.db.models import DateTimeField, F
from django.db.models.functions import Least, Now
from django.utils.translation import gettext_noop

from catalog.pricing import Line
from core import clock, errors, faults
from core.background import enqueue_on_commit
from core.storable import storable
from events import outbox
from jobs import kinds, moves, serving
from jobs.models import Job
from usage import metering
from usage.items import Attempt, LogRow, Settle, Settled, Void

log = logging.getLogger(__name__)

State = Job.State

STEP_TASK: Final = "jobs.tasks.step"
#: What a kind may ask to wait at most; a deadline that comes sooner ends the wait.
MOST_WAIT_SECONDS: Final = 3600.0
#: Attempts that a job's row lists.
MOST_LISTED: Final = 50
_LOGGED_STATUS: Final[dict[str, int]] = {State.SUCCEEDED: 200, State.CANCELLED: 499, State.EXPIRED: 504}


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a job ends. Zero microcredits give all of the hold back."""

    state: State
    charge_microcredits: int = 0
    units: Decimal | None = None
    charge_lines: Sequence[Line] = ()
    execution_ms: int | None = None
    #: The charge rests on our own measure, not on the provider's word.
    estimated: bool = False
    result: Any = None
    error_type: str = ""
    error_code: str = ""
    error_message: str = ""
    #: The provider may still be at it, and is to be told to stop.
    stop_provider: bool = False


CANCELLED: Final = End(
    state=State.CANCELLED,
    error_type="cancelled",
    error_code="cancelled",
    error_message=gettext_noop("The job was cancelled."),
)
EXPIRED: Final = End(
    state=State.EXPIRED,
    error_type=errors.TimedOut.type,
    error_code="expired",
    error_message=gettext_noop("The job was not ready in time."),
    stop_provider=True,
)


# ── What a step leaves behind ────────────────────────────────────────────────────────────────────────────────────────
def go_on(job: Job, outcome: kinds.Waiting, attempt: Attempt | None) -> bool:
    """A provider is at work. ``attempt`` is told where it was just asked to begin. False: the lease is lost."""
    with transaction.atomic():
        row = _still_ours(job, "waiting")
        if row is None:
            return False
        _carry_over(row, job, attempt, outcome.notes)
        row.begun, row.failures = True, 0
        if outcome.progress is not None:
            row.progress = min(max(outcome.progress, row.progress or 0, 0), 100)
        if outcome.started and row.state == State.QUEUED:
            moves.check(row.state, State.RUNNING)
            row.state, row.started_at = State.RUNNING, clock.now()
        _wait(row, outcome.seconds, cancelled=_just_cancelled(row, job))
    faults.point("job.waiting")
    return True


def go_elsewhere(job: Job, outcome: kinds.Elsewhere, attempt: Attempt | None) -> bool:
    """A provider can't: the next step asks another one to begin. False: the lease is lost."""
    with transaction.atomic():
        row = _still_ours(job, "elsewhere")
        if row is None:
            return False
        _carry_over(row, job, attempt, outcome.notes)
        row.begun, row.failures = False, 0
        _wait(row, outcome.seconds, cancelled=_just_cancelled(row, job))
    faults.point("job.waiting")
    return True


def try_again(job: Job, seconds: float, attempt: Attempt | None) -> bool:
    """A step failed in a way that may pass, also that of telling a provider to stop. False: the lease is lost."""
    with transaction.atomic():
        row = _still_ours(job, "an error", open_only=False)
        if row is None:
            return False
        _carry_over(row, job, attempt, {})
        row.failures += 1
        _wait(row, seconds, cancelled=_just_cancelled(row, job))
    return True


def end(job: Job, how: End, attempt: Attempt | None = None, notes: Mapping[str, Any] = MappingProxyType({})) -> bool:
    """End a job that this worker has the lease of. False: the lease is lost, so nothing of it counts."""
    with transaction.atomic():
        row = _still_ours(job, how.state)
        if row is None:
            return False
        _carry_over(row, job, attempt, notes)
        _end(row, how)
    faults.point("job.ended")
    return True


def told_to_stop(job: Job, late: kinds.Stop | None) -> None:
    """The provider of a job that had ended has stopped, or nobody asks it any more (None). Changes no money."""
    with transaction.atomic():
        row = _still_ours(job, "stopped", open_only=False)
        if row is None:
            return
        row.stop_due, row.lease, row.lease_until = False, None, None
        row.save(update_fields=["stop_due", "lease", "lease_until"])
    if isinstance(late, kinds.Done | kinds.Failed | kinds.Stopped) and late.charge_microcredits:
        log.warning("what a job cost its provider came after its end and was not charged", extra=_named(row))


# ── What a person or a program asks for ──────────────────────────────────────────────────────────────────────────────
def cancel(job_id: UUID) -> Job:
    """Cancel a job: at once where no provider was asked yet, else its provider is asked to stop. Idempotent.

    Returns the row as it is then; a job that has ended stays as it ended. Raises Job.DoesNotExist.
    """
    with transaction.atomic():
        row = Job.objects.select_for_update().get(pk=job_id)
        if row.is_final:
            return row
        if row.cancel_asked_at is None:
            row.cancel_asked_at = clock.now()
        if row.asked_at is None:
            _end(row, CANCELLED)
        else:
            row.save(update_fields=["cancel_asked_at"])
            Job.objects.filter(pk=row.pk).update(run_after=Now())
            wake(row, 0.0)
    faults.point("job.cancel_asked")
    return row


def wake(row: Job, seconds: float) -> None:
    """Have a worker look at the job once the present transaction is committed, or that much later."""
    # Whoever polls has steps made before their time: then the wake-up for such a step would find nothing to do.
    enqueue_on_commit(
        STEP_TASK,
        str(row.pk),
        queue=kinds.queue_of(row.kind),
        job_id=_wake_up(row, row.steps),
        after_seconds=seconds,
        instead_of=_wake_up(row, row.steps - 1),
    )


def _wake_up(row: Job, steps: int) -> str:
    return f"{row.kind}-{row.pk}-{steps}"


# ── Inside the transaction ───────────────────────────────────────────────────────────────────────────────────────────
def _still_ours(job: Job, what: str, *, open_only: bool = True) -> Job | None:
    """The locked row, if this worker's lease is still the one in it; else what it brings is late."""
    row = Job.objects.select_for_update().filter(pk=job.pk, lease=job.lease).first()
    if row is None or (open_only and row.is_final):
        log.warning("a job's step came too late and was ignored", extra={**_named(job), "outcome": what})
        return None
    return row


def _carry_over(row: Job, job: Job, attempt: Attempt | None, notes: Any) -> None:
    """What the kind said in this step: who was asked, what it wants to remember."""
    row.provider, row.target, row.sandbox = job.provider[:64], job.target[:254], job.sandbox
    row.notes = storable({**row.notes, **notes})
    if attempt is not None:
        row.attempts += 1
        row.attempt_trace = [*row.attempt_trace, msgspec.to_builtins(attempt)][-MOST_LISTED:]


def _just_cancelled(row: Job, job: Job) -> bool:
    """Whether somebody asked to cancel while this step was made."""
    return row.cancel_asked_at is not None and job.cancel_asked_at is None


def _wait(row: Job, seconds: float, *, cancelled: bool) -> None:
    """Give the lease up; the next step is due in ``seconds``, or at once where somebody has just cancelled."""
    seconds = 0.0 if cancelled else min(max(seconds, 0.0), MOST_WAIT_SECONDS)
    row.lease = row.lease_until = None
    row.save()
    # By the database's clock, as leases are all along; a deadline in between ends the wait.
    due = Now() + timedelta(seconds=seconds)
    bounded = Least(due, F("deadline_at"), output_field=DateTimeField())
    Job.objects.filter(pk=row.pk).update(run_after=due if row.is_final else bounded)
    wake(row, seconds)


def _end(row: Job, how: End) -> None:
    moves.check(row.state, how.state)
    row.state, row.finished_at = how.state, clock.now()
    row.cost_microcredits, row.units, row.execution_ms = how.charge_microcredits, how.units, how.execution_ms
    row.result = storable(how.result)
    row.error_type, row.error_code = how.error_type[:64], storable(how.error_code)[:100]
    row.error_message = storable(how.error_message)
    row.lease, row.lease_until, row.failures = None, None, 0
    row.stop_due = how.stop_provider and row.asked_at is not None
    if how.state == State.SUCCEEDED:
        row.progress = 100
    row.save()
    _move_money(row, how)
    faults.point("job.settled")
    outbox.tell(row.workspace_id, f"job.{row.state}", serving.body(row), url=row.webhook_url)
    if row.stop_due:
        Job.objects.filter(pk=row.pk).update(run_after=Now())
        wake(row, 0.0)


def _move_money(row: Job, how: End) -> None:
    logged = _log_row(row, how)
    if how.state == State.SUCCEEDED or how.charge_microcredits:
        result = metering.apply_now(Settle(row.pk, row.workspace_id, row.key_id, how.charge_microcredits, logged))
        if isinstance(result, Settled) and result.late:
            log.error("a job was charged without its hold", extra=_named(row))
    else:
        metering.apply_now(Void(row.pk, row.workspace_id, row.key_id, logged, keeps_answer=True))


def _log_row(row: Job, how: End) -> LogRow:
    assert row.finished_at is not None
    return LogRow(
        request_id=row.pk,
        workspace_id=row.workspace_id,
        endpoint=row.kind,
        model=row.model,
        status=_LOGGED_STATUS.get(how.state) or status_of(how.error_type),
        latency_ms=_milliseconds(row.finished_at - row.created_at),
        user_id=row.user_id,
        key_id=row.key_id,
        key_name=row.key_name,
        provider=row.provider,
        target=row.target,
        attempts=row.attempts,
        error_type=row.error_type,
        units=row.units,
        price_id=row.price_id,
        estimated=how.estimated,
        sandbox=row.sandbox,
        attempt_trace=msgspec.convert(row.attempt_trace, list[Attempt]) or None,
        charge_lines=tuple(how.charge_lines) or None,
    )


def _milliseconds(span: timedelta) -> int:
    return min(max(0, int(span.total_seconds() * 1000)), 2**31 - 1)


def _family(of: type[errors.ProductError]) -> dict[str, int]:
    found = {of.type: of.status}
    for each in of.__subclasses__():
        found |= {name: status for name, status in _family(each).items() if name not in found}
    return found


_STATUSES: Final = _family(errors.ProductError)


def status_of(error_type: str) -> int:
    """The HTTP status that stands for an error's type in the log."""
    return _STATUSES.get(error_type, 502)


def _named(job: Job) -> dict[str, str]:
    return {"job": str(job.pk), "kind": job.kind, "model": job.model}
