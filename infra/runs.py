"""Runs for callers with an API key: what is asked is checked and reserved, then it is a job (`infra.kinds`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from catalog import endpoints
from core.errors import Conflict, InvalidRequest, NotFound, Overloaded, RequestTooLarge
from core.storable import storable
from infra import deployments, engine, hosted, kinds, outputs, rates, rules
from infra.models import Deployment
from jobs import lifecycle, moves, serving, stepping, submitting
from jobs.models import Job
from keys.auth import KeyFacts
from upstreams import loose_json, runpod
from usage.items import Claim, Replay

KINDS: Final = (deployments.RUN_KIND, endpoints.GPU)
#: Longest that ``sync`` waits.
SYNC_SECONDS: Final = 240.0
#: On top of waiting and running: so long may a poll or a copy take.
_SLACK_SECONDS: Final = 300
_RUN_MEMBERS: Final = frozenset({"input", "sync", "webhookUrl", "maxSeconds"})
_HOSTED_MEMBERS: Final = frozenset({"input", "webhookUrl"})


def submit_run(key: KeyFacts, slug: str, body: Mapping[str, Any], *, job_id: UUID, claim: Claim | None) -> Job | Replay:
    """``POST /gpu/run/{slug}``: reserve the longest run's price and begin. Raises the ProductError of a refusal."""
    _refuse_unknown(body, _RUN_MEMBERS)
    key.check_model(slug)
    row = deployments.find(key.workspace_id, slug)
    if row.state == Deployment.State.FAILED:
        raise Conflict(_("This deployment has failed: see its page."), code="deployment_failed")
    if not row.endpoint_id:
        raise Conflict(
            _("This deployment is still being created."), code="deployment_not_ready", headers={"Retry-After": "5"}
        )
    most = row.max_seconds
    if "maxSeconds" in body:
        most = min(most, rules.max_seconds(body["maxSeconds"]))
    tariff = rates.of_runs(row.gpu_types)
    webhook_url = rules.webhook_url(body.get("webhookUrl")) or row.webhook_url
    terms = {"deployment": str(row.pk), "slug": row.slug, "gpu_type": tariff.gpu_type, "unit": "second"}
    return _submit(
        key, deployments.RUN_KIND, row.slug, tariff.price_id, tariff.microcredits_per_second, most,
        tariff.charge(most * 1000), {**terms, "input": input_of(body)},
        job_id=job_id, claim=claim, webhook_url=webhook_url,
    )  # fmt: skip


def submit_hosted(
    key: KeyFacts, slug: str, body: Mapping[str, Any], *, job_id: UUID, claim: Claim | None
) -> Job | Replay:
    """``POST /gpu/{slug}``: reserve the call's price, or the longest run's, and begin. Raises as `submit_run`."""
    _refuse_unknown(body, _HOSTED_MEMBERS)
    entry = hosted.find(slug)
    if entry is None or entry.price is None or entry.media.gpu is None:
        message = _("There is no hosted model “%(slug)s”.") % {"slug": slug[:100]}
        available = [model.slug for model in hosted.models()]
        raise NotFound(message, code="model_not_found", extra={"available_models": available})
    key.check_model(slug)
    if not engine.chosen():
        raise Overloaded(_("This installation has no GPU engine."), code="gpu_not_available")
    price, most = rates.flat(entry.price.rates), entry.media.gpu.max_seconds
    unit = entry.price.rates.unit
    reserved = price * most if unit == "second" else price
    return _submit(
        key, endpoints.GPU, slug, entry.price.id, price, most, reserved, {"unit": unit, "input": input_of(body)},
        job_id=job_id, claim=claim, webhook_url=rules.webhook_url(body.get("webhookUrl")),
        sandbox=engine.chosen() == engine.LOCAL,
    )  # fmt: skip


def _submit(
    key: KeyFacts,
    kind: str,
    model: str,
    price_id: UUID,
    microcredits: int,
    max_seconds: int,
    reserved: int,
    more: Mapping[str, Any],
    **terms: Any,
) -> Job | Replay:
    queue_seconds = int(settings.GPU_QUEUE_SECONDS)
    asked = {
        **more,
        "price": str(price_id),
        "microcredits": microcredits,
        "max_seconds": max_seconds,
        "queue_seconds": queue_seconds,
    }
    return submitting.submit(
        key,
        kind=kind,
        model=model,
        price_id=price_id,
        reserved_microcredits=reserved,
        input=asked,
        deadline_seconds=queue_seconds + max_seconds + _SLACK_SECONDS,
        **terms,
    )


def begin(job_id: UUID) -> dict[str, Any]:
    """Hand a new run to the engine now, without waiting for a worker of ours; its answer then names the engine's id."""
    stepping.step(job_id)
    return answer(Job.objects.get(pk=job_id))


def look(workspace_id: UUID, job_id: str) -> dict[str, Any]:
    """``GET /gpu/jobs/{id}``: asks the worker live, then tells. Raises NotFound, also for others' and other jobs."""
    job = found(workspace_id, job_id)
    if not job.is_final and job.begun:
        # The step is due as soon as somebody asks; whoever is at it already will tell.
        Job.objects.filter(pk=job.pk, finished_at__isnull=True).update(run_after=Now())
        stepping.step(job.pk)
        job.refresh_from_db()
    return answer(job)


def cancel(workspace_id: UUID, job_id: str) -> dict[str, Any]:
    """``POST /gpu/jobs/{id}/cancel``: the run as it is then. Raises NotFound."""
    job = found(workspace_id, job_id)
    lifecycle.cancel(job.pk)
    if job.begun and not job.is_final:
        stepping.step(job.pk)
    return answer(Job.objects.get(pk=job.pk))


def exists(workspace_id: UUID, job_id: UUID) -> bool:
    """Whether this workspace has that run."""
    return Job.objects.filter(pk=job_id, workspace_id=workspace_id, kind__in=KINDS).exists()


def found(workspace_id: UUID, job_id: str) -> Job:
    """A run of this workspace. Raises NotFound."""
    job = serving.found(workspace_id, job_id)
    if job.kind not in KINDS:
        raise NotFound("There is no job of that id.", code="job_not_found")
    return job


def answer(job: Job) -> dict[str, Any]:
    """A run as its callers see it: a deployment's and a hosted model's have members of their own."""
    error = serving.body(job)["error"] if job.is_final else None
    told = {"error": error} if error else {}
    if job.kind == endpoints.GPU:
        result = (job.result or {}).get("outputs", [])
        return {
            "id": str(job.pk),
            "status": job.state,
            "model": job.model,
            "outputs": outputs.shown(job, result),
            "costCredits": kinds.cost_shown(job),
            "durationMs": job.execution_ms,
            "sandbox": job.sandbox,
            **told,
            **({} if job.is_final else {"pollUrl": poll_url(job)}),
        }
    return {
        "job_id": str(job.pk),
        "status": job.state,
        "provider_job_id": job.notes.get("provider_job_id"),
        "output": outputs.shown(job, (job.result or {}).get("output")),
        "executionMs": job.execution_ms,
        "creditsCharged": kinds.cost_shown(job),
        **told,
        **({} if job.is_final else {"pollUrl": poll_url(job)}),
    }


def poll_url(job: Job) -> str:
    """Where a run is polled: a path."""
    return f"/v1/gpu/jobs/{job.pk}"


def is_over(told: Mapping[str, Any]) -> bool:
    """Whether what `answer` told is the end of it."""
    return told["status"] in moves.FINAL


def is_inline(slug: str) -> bool:
    """Whether a hosted model is answered at once."""
    entry = hosted.find(slug)
    return entry is not None and entry.media.gpu is not None and entry.media.gpu.inline


def input_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The member ``input``, which passes as it is. Raises InvalidRequest, RequestTooLarge."""
    value = body.get("input")
    if not isinstance(value, dict):
        raise InvalidRequest(_("input must be an object."), param="input")
    _check_plain(value)
    if len(loose_json.encode(value)) > runpod.MOST_RUN_BYTES - 4096:
        raise RequestTooLarge(_("input takes at most 10 MB."), param="input")
    return value


def _check_plain(value: dict[str, Any]) -> None:
    """Refuse what neither our database nor a worker could take. Raises InvalidRequest."""
    level: list[Any] = [value]
    for _depth in range(outputs.MOST_NESTING):
        if any(isinstance(each, float) and not math.isfinite(each) for each in level):
            raise InvalidRequest(_("input holds a number that JSON does not have."), param="input")
        members = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [member for each in members for member in each]
        if not level:
            return
    raise InvalidRequest(_("input is nested too deeply."), param="input")


def _refuse_unknown(body: Mapping[str, Any], known: frozenset[str]) -> None:
    for name in body:
        if name not in known and name != rules.OWN_MEMBER:
            shown = storable(name[:64])
            raise InvalidRequest(_("%(name)s is no member of a run.") % {"name": shown}, param=shown)
    if not isinstance(body.get("sync", False), bool):
        raise InvalidRequest(_("sync must be true or false."), param="sync")
