"""The job kind ``videos``: have a provider make a clip, ask how it goes, copy it to storage, tell what it costs.

Before a provider has taken the work on, the model's other targets are asked in turn, one retry each; afterwards the job
is that provider's. Each function is one short step that may run twice: what was already done is looked for first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any, Final

from django.utils.translation import gettext_noop

from catalog import endpoints, live
from catalog.entries import TargetEntry
from catalog.pricing import Line
from core.egress import EgressError, EgressRefused
from core.errors import InvalidRequest, Overloaded, TimedOut, UpstreamFailed
from jobs import http
from jobs.kinds import Done, Elsewhere, Failed, Step, Stop, Stopped, Waiting
from jobs.models import Job
from media import references, video_circuit
from storage import objects
from storage.models import Source, StoredObject
from upstreams.errors import (
    BadAnswer,
    ConnectFailed,
    ConnectionLost,
    ConnectTimedOut,
    ModelMissing,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRefusal,
    UpstreamTimedOut,
)
from upstreams.tasks import Ask, Output, Standing, TaskAdapter
from upstreams.tasks_run import adapter_for, next_wait
from upstreams.wire import Target

log = logging.getLogger(__name__)

#: An answer may hold a clip as base64.
_MOST_ANSWER_BYTES: Final = 128 * 1024 * 1024
_MOST_CLIP_BYTES: Final = 1024 * 1024 * 1024
_COPY_SECONDS: Final = 240.0
#: Tries to copy a clip, with a new look at the task before each: its address may have changed.
_MOST_COPIES: Final = 8
#: A wait that a provider asks for beyond this is not waited for while another one may be asked.
_MOST_WAIT_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 1.0
_PER_SECOND: Final = "second"

# The page of jobs shows these in the reader's language.
_MODERATED: Final = gettext_noop("The provider's content rules refused this clip.")
_FAILED: Final = gettext_noop("The provider could not make this clip.")
_LOST: Final = gettext_noop("The provider does not know this job any more.")
_NOT_COPIED: Final = gettext_noop("The clip was made, but could not be fetched from its provider.")
_NOBODY: Final = gettext_noop("No provider could take this job on.")


class Videos:
    """A `jobs.kinds.Kind`."""

    name = endpoints.VIDEOS
    queue = "media"

    # ── Begin ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def start(self, job: Job) -> Step:
        """Ask the next target to begin. Raises UpstreamRefusal for what the caller got wrong, Overloaded."""
        chain = _chain(job)
        if not chain:  # the catalog that a worker sees is a few seconds old; an operator may be at it
            raise Overloaded("No provider serves this model at this moment.")
        left_out = set(job.notes.get("left_out", ()))
        left = [each for each in chain if each.target.label not in left_out]
        # Those that keep failing come last, whatever their place.
        entry = min(left, key=lambda each: video_circuit.is_open(each.target.label), default=None)
        if entry is None:
            return _nobody(str(job.notes.get("last_error", "")))
        target = entry.target
        job.provider, job.target, job.sandbox = target.provider, target.label, entry.sandbox
        try:
            adapter = adapter_for(target)
            ask = _ask(job, target, adapter)
            notes = self._begun_before(job, target, adapter, ask) or self._begin(job, target, adapter, ask)
        except UpstreamError as error:
            if error.try_next_target:
                video_circuit.failed(target.label)
            return self._other(job, chain, target, error)
        video_circuit.succeeded(target.label)
        begun = {"task": notes, "target": target.label, "looks": 0, "state": "queued"}
        return Waiting(seconds=adapter.poll_seconds, progress=0, notes=begun)

    def _begun_before(self, job: Job, target: Target, adapter: TaskAdapter, ask: Ask) -> dict[str, Any] | None:
        """The task of an earlier step whose answer nobody saw: never a second one where the provider can tell."""
        request = adapter.find(target, ask) if job.steps > 1 else None
        if request is None:
            return None
        reply = http.send(request)
        return adapter.found(target, ask, reply.status, reply.body)

    def _begin(self, job: Job, target: Target, adapter: TaskAdapter, ask: Ask) -> dict[str, Any]:
        reply = http.send(adapter.submit(target, ask))
        try:
            return adapter.accepted(target, ask, *reply)
        except UpstreamRefusal:
            # An id that is used already: the task that nobody saw begin was only slow to be found.
            if (notes := self._begun_before(job, target, adapter, ask)) is not None:
                return notes
            raise

    def _other(self, job: Job, chain: list[TargetEntry], target: Target, error: UpstreamError) -> Step:
        """Once more at the same target, or the next one, or the end of the chain."""
        left_out = [*job.notes.get("left_out", ()), target.label]
        more = any(each.target.label not in left_out for each in chain)
        wait = error.retry_after or 0.0
        if _may_repeat(error, target) and not job.notes.get("tries") and not (more and wait > _MOST_WAIT_SECONDS):
            notes = {"tries": 1, "last_error": error.kind}
            return Elsewhere(seconds=max(wait, _RETRY_SECONDS), notes=notes, error=error.kind)
        if more and error.try_next_target:
            return Elsewhere(
                seconds=0.0, notes={"left_out": left_out, "tries": 0, "last_error": error.kind}, error=error.kind
            )
        if isinstance(error, UpstreamRefusal) and not isinstance(error, ModelMissing):
            raise error  # the caller's own fault, in the provider's cleaned words
        log.warning("no target took a video on: %s", error.kind, extra={"job": str(job.pk), "model": job.model})
        return _nobody(error.kind)

    # ── Look ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def poll(self, job: Job) -> Step:
        """Ask how it goes; what is ready is copied. Raises UpstreamError for what may pass."""
        target, adapter = _at_work(job)
        standing = _standing(job, target, adapter)
        if standing.state in ("queued", "running"):
            looks = int(job.notes.get("looks", 0)) + 1
            return Waiting(
                seconds=next_wait(adapter, looks),
                progress=standing.progress,
                notes={"looks": looks, "state": standing.state},
                started=standing.state == "running" or job.started_at is not None,
            )
        if standing.state == "succeeded":
            return self._delivered(job, target, adapter, standing)
        return _failed(standing)

    def _delivered(self, job: Job, target: Target, adapter: TaskAdapter, standing: Standing) -> Step:
        """The clip in our storage, and its price. Where it can't be had yet the step comes back."""
        try:
            stored = _kept(job) or _copy(job, target, adapter, standing)
        except (EgressError, BadAnswer, OSError) as error:
            return self._copy_again(job, error)
        seconds = _seconds(job, standing)
        quantity = seconds if seconds is not None else int(job.input["quantity"])
        price, unit = int(job.input["unit_microcredits"]), str(job.input["unit"])
        return Done(
            result={"objectId": str(stored.pk), "seconds": standing.seconds},
            charge_microcredits=min(quantity * price, job.reserved_microcredits),
            units=Decimal(quantity),
            charge_lines=(Line(unit, quantity, price, per=1),) if quantity else (),
        )

    def _copy_again(self, job: Job, error: Exception) -> Step:
        copies = int(job.notes.get("copies", 0)) + 1
        word = error.reason if isinstance(error, EgressError) else type(error).__name__
        log.warning("a clip was not copied: %s", word, extra={"job": str(job.pk), "copies": copies})
        if copies >= _MOST_COPIES or isinstance(error, EgressRefused):
            return Failed(error_type=UpstreamFailed.type, message=_NOT_COPIED, code="result_not_fetched")
        return Waiting(seconds=min(2.0**copies, _MOST_WAIT_SECONDS), notes={"copies": copies})

    # ── Stop ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def stop(self, job: Job) -> Stop:
        """Have the provider cancel. One that can't goes on: then what it delivers is paid, and nothing else.

        A job that has ended already (its time was up) only has its provider told.
        """
        if not job.notes.get("task"):
            return Stopped()
        target, adapter = _at_work(job)
        request = adapter.stop(target, job.notes["task"], str(job.notes.get("state", "")))
        if request is not None:
            reply = http.send(request)
            if adapter.stopped(target, reply.status, reply.body):
                return _billed_cancel(job) if adapter.bills_cancelled else Stopped()
        if job.is_final:
            return Stopped()
        outcome = self.poll(job)
        if isinstance(outcome, Elsewhere):
            return Stopped()
        return outcome

    # ── Show ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def shown(self, job: Job) -> dict[str, Any]:
        """The clip at an address that is signed anew for each look; an empty list once it is deleted."""
        found = job.result.get("objectId") if isinstance(job.result, Mapping) else None
        if job.state != Job.State.SUCCEEDED or not found:
            return {"data": []}
        stored = StoredObject.objects.filter(pk=found).first()
        return {"data": [{"url": objects.signed_url(stored)}] if stored and objects.is_there(stored) else []}


def _chain(job: Job) -> list[TargetEntry]:
    entry = live.current().models.get(job.model)
    return list(entry.chain(endpoints.VIDEOS)) if entry is not None else []


def _at_work(job: Job) -> tuple[Target, TaskAdapter]:
    """The target that has the task. Raises Overloaded while the catalog does not know it: an operator may be at it."""
    label = job.notes.get("target")
    for entry in _chain(job):
        if entry.target.label == label:
            job.provider, job.target, job.sandbox = entry.target.provider, entry.target.label, entry.sandbox
            return entry.target, adapter_for(entry.target)
    raise Overloaded("The provider that makes this clip can't be asked at this moment.")


def _ask(job: Job, target: Target, adapter: TaskAdapter) -> Ask:
    """What is asked, in the adapter's names. Raises InvalidRequest for a picture that can't be fetched."""
    images, last = list(job.input.get("images", ())), str(job.input.get("last_image") or "")
    if adapter.inline_pictures:
        images = [_brought_along("image_urls", url) for url in images]
        last = _brought_along("last_image_url", last) if last else ""
    values = {
        "model": target.upstream_model,
        "prompt": job.input["prompt"],
        "duration": job.input.get("duration"),
        "aspect_ratio": job.input.get("aspect_ratio"),
        "resolution": job.input.get("resolution"),
        "image": images[0] if images else None,
        "images": images,
        "last_image": last,
        "job_id": str(job.pk),
    }
    return Ask({name: value for name, value in values.items() if value})


def _brought_along(member: str, url: str) -> str:
    """A picture as a data URL, for a provider that fetches none."""
    loaded = references.load(references.read(member, url))
    return replace(loaded, url="").as_url


def _standing(job: Job, target: Target, adapter: TaskAdapter) -> Standing:
    notes = job.notes["task"]
    reply = http.send(adapter.look(target, notes), most_bytes=_MOST_ANSWER_BYTES)
    return adapter.standing(target, notes, *reply)


def _may_repeat(error: UpstreamError, target: Target) -> bool:
    """Whether the same target may be asked to begin again: not where it may have begun without our knowing."""
    if not error.retry_same_target:
        return False
    never_sent = isinstance(error, ConnectFailed | ConnectTimedOut | UpstreamRateLimited) or error.status is not None
    if never_sent or not isinstance(error, UpstreamTimedOut | ConnectionLost | BadAnswer):
        return True
    task = target.options.task
    return task is not None and (task.idempotent or task.find is not None)


def _nobody(kind: str) -> Failed:
    """What a job ends with that no target took on: why, in the words of our own errors."""
    if kind == UpstreamRateLimited.kind:
        return Failed(error_type=Overloaded.type, message=_NOBODY, code="provider_overloaded")
    if kind.endswith("timeout"):
        return Failed(error_type=TimedOut.type, message=_NOBODY, code="provider_timeout")
    return Failed(error_type=UpstreamFailed.type, message=_NOBODY, code="provider_failed")


def _failed(standing: Standing) -> Failed:
    if standing.moderated:
        message = standing.message or _MODERATED
        return Failed(error_type=InvalidRequest.type, message=message, code="content_policy_violation")
    if standing.state == "gone":
        return Failed(error_type=UpstreamFailed.type, message=_LOST, code="job_lost")
    message = f"{_FAILED} {standing.message}" if standing.message else _FAILED
    return Failed(error_type=UpstreamFailed.type, message=message, code=standing.code or "generation_failed")


def _kept(job: Job) -> StoredObject | None:
    """The clip that an earlier run of this step has stored."""
    rows = StoredObject.objects.filter(job_id=job.pk, workspace_id=job.workspace_id, source=Source.RESULT)
    return rows.filter(stored_at__isnull=False).order_by("created_at").first()


def _copy(job: Job, target: Target, adapter: TaskAdapter, standing: Standing) -> StoredObject:
    """The clip in storage. Raises EgressError, BadAnswer for what is no clip, UpstreamError, OSError."""
    output: Output = standing.outputs[0] if standing.outputs else Output()
    if (request := adapter.link(target, output)) is not None:
        output = adapter.linked(target, *http.send(request))
    keep = partial(
        objects.store, job.workspace_id, kind="video", source=Source.RESULT,
        key_id=job.key_id, user_id=job.user_id, job_id=job.pk,
    )  # fmt: skip
    fetch = partial(
        objects.fetch_and_store, workspace_id=job.workspace_id, kind="video", most_bytes=_MOST_CLIP_BYTES,
        seconds=_COPY_SECONDS, key_id=job.key_id, user_id=job.user_id, job_id=job.pk, vouched_for=target.base_url,
    )  # fmt: skip
    name = f"{job.pk}.mp4"
    if output.data:
        stored = keep(content=output.data, filename=name)
    elif output.url:
        stored = fetch(output.url, filename=name, headers=dict(adapter.download(target, output.url)))
    else:
        raise BadAnswer("the upstream says that it is done, and names no clip")
    if not stored.content_type.startswith("video/"):
        objects.delete(stored)
        raise BadAnswer("what the upstream delivered is no clip")
    return stored


def _seconds(job: Job, standing: Standing) -> int | None:
    """Whole seconds to pay of a clip that is paid by them, never more than asked; None for one that is not.

    Where the provider tells how long the clip is, a clip that came shorter costs less; a part of a second is rounded.
    """
    if job.input["unit"] != _PER_SECOND:
        return None
    asked = int(job.input["quantity"])
    return asked if standing.seconds is None else min(asked, int(standing.seconds + 0.5))


def _billed_cancel(job: Job) -> Stopped:
    """For a provider that bills what it has begun: the whole price."""
    quantity, price = int(job.input["quantity"]), int(job.input["unit_microcredits"])
    return Stopped(
        charge_microcredits=job.reserved_microcredits,
        units=Decimal(quantity),
        charge_lines=(Line(str(job.input["unit"]), quantity, price, per=1),),
    )
