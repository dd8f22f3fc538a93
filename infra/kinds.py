"""Runs on GPUs as kinds of job: on a deployment (``gpu_run``) and on a hosted model's endpoint (``gpu``).

Money: what is reserved is the price of ``max_seconds``; what is charged is the engine's own execution time, to the
millisecond, never beyond that; where it tells none, the time between its beginning and its end as they were seen from
here, marked as an estimate. What failed, ran too long, or vanished costs nothing; what was cancelled while it ran
costs what the engine bills. A step may run twice: a run whose answer was lost may be started a second time at the
engine, which has no way to tell, and is still charged once.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from catalog import endpoints
from catalog.pricing import Line
from core import clock, money
from core.egress import EgressError
from core.errors import NotFound, RequestTooLarge, TimedOut, UpstreamFailed
from infra import deployments, engine, hosted, outputs
from infra.engine import Engine, Policy, Seen
from infra.models import Deployment
from infra.rates import Tariff
from jobs.kinds import Done, Elsewhere, Failed, Step, Stop, Stopped, Waiting
from jobs.models import Job
from upstreams import runpod
from upstreams.errors import UpstreamError

log = logging.getLogger(__name__)

#: Waits between looks: soon at first, then as often as it does not hurt.
_WAITS: Final = (0.5, 1.0, 1.0, 2.0, 2.0, 3.0, 5.0)
_NOT_READY_SECONDS: Final = 2.0
_LOST: Final = "The GPU engine does not know this run any more: its result was not read in time, or it was dropped."
_GONE: Final = "The deployment is deleted."
_NOT_KEPT: Final = "The run's output is too large to be kept."
_NOT_FETCHED: Final = "The run's output could not be fetched."


class GpuRuns:
    """A `jobs.kinds.Kind`: a run on a workspace's own deployment. Its input holds what `infra.runs` wrote."""

    name = deployments.RUN_KIND
    queue = "media"

    # ── Where ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def place(self, job: Job) -> tuple[Engine, str] | Step:
        """The engine and its endpoint, or what to do where there is none. Raises UpstreamError."""
        row = Deployment.objects.filter(pk=job.input["deployment"]).first()
        if row is None or row.is_deleted:
            return Failed(error_type=NotFound.type, message=_GONE, code="deployment_not_found")
        if row.state == Deployment.State.FAILED and not row.endpoint_id:
            return Failed(error_type=UpstreamFailed.type, message=row.error_message, code="deployment_failed")
        if not row.endpoint_id:
            return Elsewhere(seconds=_NOT_READY_SECONDS, error="not_ready")
        return engine.by_name(row.engine), row.endpoint_id

    def lost(self, job: Job) -> None:
        """The engine does not know the endpoint any more: have it made again."""
        for row in Deployment.objects.filter(pk=job.input["deployment"]):
            deployments.wake(row)

    def asked(self, job: Job) -> Any:
        """The input that the worker gets."""
        return job.input["input"]

    # ── Steps ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def start(self, job: Job) -> Step:
        """Queue the run at the engine."""
        place = self.place(job)
        if not isinstance(place, tuple):
            return place
        at, endpoint_id = place
        job.provider, job.target = at.name, f"{at.name}//{endpoint_id}"
        try:
            seen = at.run(endpoint_id, self.asked(job), _policy(job))
        except UpstreamError as error:
            if not runpod.is_gone(error):
                raise
            self.lost(job)
            return Elsewhere(seconds=_NOT_READY_SECONDS, error="endpoint_lost")
        notes = {"provider_job_id": seen.id, "endpoint": endpoint_id, "engine": at.name, "looks": 0, **_waiting(seen)}
        if seen.ended:
            return self.outcome(job, seen)
        return Waiting(seconds=_WAITS[0], notes=notes, started=seen.running)

    def poll(self, job: Job) -> Step:
        """Ask the worker live."""
        seen = _at(job).status(job.notes["endpoint"], job.notes["provider_job_id"])
        if seen is None:
            return Failed(error_type=UpstreamFailed.type, message=_LOST, code="run_lost")
        if seen.ended:
            return self.outcome(job, seen)
        looks = int(job.notes.get("looks", 0)) + 1
        started = seen.running or job.started_at is not None
        notes = {"looks": looks, **({} if started else _waiting(seen))}
        return Waiting(seconds=_WAITS[min(looks, len(_WAITS) - 1)], notes=notes, started=started)

    def stop(self, job: Job) -> Stop:
        """Cancel it at the engine. What had run until then is what the engine bills."""
        if "provider_job_id" not in job.notes:
            return Stopped()
        at, endpoint_id, job_id = _at(job), job.notes["endpoint"], job.notes["provider_job_id"]
        seen = at.cancel(endpoint_id, job_id)
        if seen is not None and seen.status == runpod.CANCELLED and seen.execution_ms is None:
            seen = at.status(endpoint_id, job_id) or seen  # the answer to a cancel need not tell the time
        if seen is None:
            return Stopped()
        if not seen.ended:
            return Waiting(seconds=1.0)
        if seen.status != runpod.CANCELLED:
            outcome = self.outcome(job, seen)
            return outcome if isinstance(outcome, Done | Failed) else Stopped()
        timed = measured(job, seen) if job.started_at is not None else seen  # what never began took no time
        amount, lines, ms = self.cost(job, timed)
        return Stopped(
            charge_microcredits=amount,
            units=_seconds(ms),
            charge_lines=lines,
            execution_ms=timed.execution_ms,
            estimated=bool(amount) and seen.execution_ms is None,
        )

    # ── Ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def outcome(self, job: Job, seen: Seen) -> Step:
        """What an ended run means. FAILED and TIMED_OUT come as ordinary answers, and cost nothing."""
        if seen.status == runpod.COMPLETED:
            return self.delivered(job, seen)
        if seen.status == "TIMED_OUT":
            most = int(job.input["max_seconds"])
            message = f"The run took longer than {most} s and was stopped."
            return Failed(
                error_type=TimedOut.type, message=message, code="run_timed_out", execution_ms=seen.execution_ms
            )
        code = "run_cancelled" if seen.status == runpod.CANCELLED else "run_failed"
        message = seen.error or "The worker failed without a word."
        return Failed(error_type=UpstreamFailed.type, message=message, code=code, execution_ms=seen.execution_ms)

    def delivered(self, job: Job, seen: Seen) -> Step:
        """The output, and its price."""
        try:
            result = self.result(job, seen)
        except RequestTooLarge:
            return Failed(error_type=RequestTooLarge.type, message=_NOT_KEPT, code="output_too_large")
        except EgressError:
            return Failed(error_type=UpstreamFailed.type, message=_NOT_FETCHED, code="output_not_fetched")
        timed = measured(job, seen)
        amount, lines, ms = self.cost(job, timed)
        return Done(
            result=result,
            charge_microcredits=amount,
            units=self.units(ms),
            charge_lines=lines,
            execution_ms=timed.execution_ms,
            estimated=job.input["unit"] == "second" and seen.execution_ms is None,
        )

    def result(self, job: Job, seen: Seen) -> dict[str, Any]:
        """What the job keeps of the output."""
        return {"output": outputs.kept(job, seen.output)}

    def cost(self, job: Job, seen: Seen) -> tuple[int, tuple[Line, ...], int]:
        """Microcredits, the exact lines of them, and the milliseconds that count: none beyond the job's most."""
        ms = min(seen.execution_ms or 0, int(job.input["max_seconds"]) * 1000)
        tariff = tariff_of(job)
        return min(tariff.charge(ms), job.reserved_microcredits), (tariff.line(ms),) if ms else (), ms

    def units(self, ms: int) -> Decimal:
        """What was delivered, in the price's unit."""
        return _seconds(ms)

    def shown(self, job: Job) -> dict[str, Any]:
        """The members of `jobs.serving.body` that are this kind's own."""
        return {
            "data": outputs.listed(job, (job.result or {}).get("output")),
            "deployment": job.input.get("slug"),
            "providerJobId": job.notes.get("provider_job_id"),
            "output": outputs.shown(job, (job.result or {}).get("output")),
            "executionMs": job.execution_ms,
        }


class HostedRuns(GpuRuns):
    """A `jobs.kinds.Kind`: a run of a hosted model, by the second or at a price a call."""

    name = endpoints.GPU

    def place(self, job: Job) -> tuple[Engine, str] | Step:
        """The installation's endpoint for the model, made now where it is not there yet. Raises UpstreamError."""
        return hosted.place(job.model)

    def lost(self, job: Job) -> None:
        """The engine does not know the endpoint any more: have it made again."""
        hosted.forget(job.model)

    def asked(self, job: Job) -> Any:
        """The caller's input over the model's defaults."""
        return hosted.asked(job.model, job.input["input"])

    def result(self, job: Job, seen: Seen) -> dict[str, Any]:
        """Files, each stored; an output without any as it is. Raises EgressError, RequestTooLarge, OSError."""
        files = outputs.files(job, seen.output)
        return {"outputs": files if files or not seen.output else [outputs.kept(job, seen.output)]}

    def cost(self, job: Job, seen: Seen) -> tuple[int, tuple[Line, ...], int]:
        """As above for a price a second; a call at a flat price costs that, and nothing where it was cancelled."""
        if job.input["unit"] == "second":
            return super().cost(job, seen)
        ms = min(seen.execution_ms or 0, int(job.input["max_seconds"]) * 1000)
        if seen.status != runpod.COMPLETED:
            return 0, (), ms
        price = int(job.input["microcredits"])
        return price, (Line("request", 1, price, 1),), ms

    def shown(self, job: Job) -> dict[str, Any]:
        """The members of `jobs.serving.body` that are this kind's own."""
        return {
            "data": outputs.listed(job, (job.result or {}).get("outputs", [])),
            "outputs": outputs.shown(job, (job.result or {}).get("outputs", [])),
            "executionMs": job.execution_ms,
        }


def measured(job: Job, seen: Seen) -> Seen:
    """The same with a time: where the engine told none, from when it was first seen to run, or was last seen to wait.

    No longer than the job may run. Polls lie seconds apart, so it is an estimate.
    """
    if seen.execution_ms is not None:
        return seen
    log.warning("an engine told no execution time", extra={"job": str(job.pk)})
    began = job.started_at
    if began is None:
        asked = job.asked_at or job.created_at
        waited = datetime.fromisoformat(job.notes["waiting_at"]) if "waiting_at" in job.notes else asked
        began = max(waited, asked + timedelta(milliseconds=seen.delay_ms or 0))
    ms = max((clock.now() - began) // timedelta(milliseconds=1), 1)
    return replace(seen, execution_ms=min(ms, int(job.input["max_seconds"]) * 1000))


def tariff_of(job: Job) -> Tariff:
    """The tariff that the job was submitted under."""
    return Tariff(UUID(job.input["price"]), str(job.input.get("gpu_type", "")), int(job.input["microcredits"]))


def cost_shown(job: Job) -> int | float | None:
    """Credits that were charged, None while it is open."""
    return None if job.cost_microcredits is None else money.credits_json(job.cost_microcredits)


def _at(job: Job) -> Engine:
    return engine.by_name(job.notes["engine"])


def _policy(job: Job) -> Policy:
    most = int(job.input["max_seconds"]) * 1000
    return Policy(execution_ms=most, ttl_ms=int(job.input["queue_seconds"]) * 1000 + most)


def _waiting(seen: Seen) -> dict[str, str]:
    """What a job remembers while no worker has it: that it waited at this moment."""
    return {} if seen.running else {"waiting_at": clock.now().isoformat()}


def _seconds(ms: int) -> Decimal:
    return Decimal(ms) / 1000
