"""GPU work by key: deployments, runs on them, hosted models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from uuid import UUID

from catalog import endpoints
from core import errors
from gateway import actors, engine, job_views
from gateway.endpoints import endpoint
from gateway.request import Answer, GatewayRequest
from idempotency import by_key, replay
from infra import runs, serving
from jobs.models import Job
from upstreams import loose_json
from usage.items import Claim, Replay

_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 2.0
#: What a look at a run may meet that says nothing of the run.
_NOT_NOW: Final = (errors.Overloaded, errors.TimedOut)


@endpoint("GET", "POST")
async def deployments(request: GatewayRequest) -> Answer:
    """``GET /deployments``: those of the workspace; ``POST`` makes one."""
    await engine.count(request)
    if request.method == "POST":
        return await _once(request, 201, partial(serving.create, request.key, _object(request), actors.of(request)))
    return Answer.of(await request.runtime.work(partial(serving.listed, request.key)))


@endpoint("GET", "PATCH", "DELETE")
async def deployment(request: GatewayRequest, name: str) -> Answer:
    """``GET``, ``PATCH``, ``DELETE /deployments/{slug or id}``"""
    await engine.count(request)
    if request.method == "PATCH":
        work = partial(serving.change, request.key, name, _object(request), actors.of(request))
        return await _once(request, 200, work)
    if request.method == "DELETE":
        return await _once(request, 200, partial(serving.delete, request.key, name, actors.of(request)))
    return Answer.of(await request.runtime.work(partial(serving.one, request.key, name)))


async def _once(request: GatewayRequest, status: int, work: Callable[[], Mapping[str, Any]]) -> Answer:
    """What ``work`` answers; the same answer again for the same Idempotency-Key."""
    key = replay.presented(request.raw_headers)
    hashes = replay.hashes(key, request.method or "", request.path, request.body) if key is not None else None
    kept = partial(by_key.once, request.key.workspace_id, hashes, request.id, status, work)
    done = await request.runtime.work(kept)
    again = [] if done.replay_of is None else [(b"idempotency-replayed", b"true")]
    return Answer(done.status, done.body, headers=again)


def _object(request: GatewayRequest) -> dict[str, Any]:
    """The body. Raises InvalidRequest for what is no JSON object."""
    try:
        value = loose_json.decode(request.body)
    except ValueError:
        raise errors.InvalidRequest("The body is not valid JSON.", code="invalid_json") from None
    if not isinstance(value, dict):
        raise errors.InvalidRequest("The body must be a JSON object.", code="invalid_json")
    return value


# ── Runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@endpoint("POST", kind=endpoints.GPU_RUN)
async def run(request: GatewayRequest, name: str) -> Answer:
    """``POST /gpu/run/{slug}``: 202 at once; with ``sync`` the end of it, or 202 after four minutes."""
    await engine.count(request)
    body = _object(request)
    made = await _submitted(request, partial(runs.submit_run, request.key, name, body))
    return await _begun(request, made, waits=lambda: body.get("sync") is True)


@endpoint("POST", kind=endpoints.GPU)
async def hosted(request: GatewayRequest, name: str) -> Answer:
    """``POST /gpu/{slug}``: a hosted model; the short ones are answered inline, the others with 202."""
    await engine.count(request)
    made = await _submitted(request, partial(runs.submit_hosted, request.key, name, _object(request)))
    return await _begun(request, made, waits=partial(runs.is_inline, name))


@endpoint("GET", "DELETE")
async def gpu_job(request: GatewayRequest, job_id: str) -> Answer:
    """``GET /gpu/jobs/{id}``: asks the worker live; ``DELETE`` cancels."""
    await engine.count(request)
    ask = runs.cancel if request.method == "DELETE" else runs.look
    return Answer.of(await request.runtime.work(partial(ask, request.key.workspace_id, job_id)))


@endpoint("POST")
async def gpu_cancel(request: GatewayRequest, job_id: str) -> Answer:
    """``POST /gpu/jobs/{id}/cancel``. Idempotent."""
    await engine.count(request)
    return Answer.of(await request.runtime.work(partial(runs.cancel, request.key.workspace_id, job_id)))


@endpoint("GET", "POST", "PUT", "PATCH", "DELETE", needs_key=False)
async def retired(request: GatewayRequest, rest: str = "") -> Answer:
    """``/comfy/…``, which deployments have replaced."""
    raise errors.Gone(
        "The /v1/comfy routes are retired. Deploy a ComfyUI image and call POST /v1/gpu/run/{slug}.", code="retired"
    )


async def _submitted(request: GatewayRequest, submit: Callable[..., Job | Replay]) -> Job | Replay:
    """The new run, or what stands of the one that the same Idempotency-Key made."""
    key = replay.presented(request.raw_headers)
    claim = None
    if key is not None:
        hashes = replay.hashes(key, request.method or "", request.path, request.body)
        claim = Claim(hashes.key, hashes.request, is_stream=False)
    return await job_views.made(request, partial(submit, job_id=request.id, claim=claim))


async def _begun(request: GatewayRequest, made: Job | Replay, *, waits: Callable[[], bool]) -> Answer:
    """The run, handed to the engine now; its end where ``waits()``, which may ask the database.

    Where it can't be handed over now it stands all the same, and a worker does it.
    """
    job_id = made.request_id if isinstance(made, Replay) else made.pk

    def begin() -> tuple[Mapping[str, Any], bool]:
        return runs.begin(job_id), waits()

    try:
        told, to_its_end = await request.runtime.work(begin)
    except _NOT_NOW:
        if isinstance(made, Replay):
            raise
        told, to_its_end = runs.answer(made), False
    return _told(await _until_done(request, job_id, told) if to_its_end else told)


async def _until_done(request: GatewayRequest, job_id: UUID, told: Mapping[str, Any]) -> Mapping[str, Any]:
    """The end of a run, waited for without a thread; what was seen last where it takes too long."""
    end = request.runtime.loop.time() + runs.SYNC_SECONDS
    pause = _FIRST_PAUSE_SECONDS
    look = partial(runs.look, request.key.workspace_id, str(job_id))
    while not runs.is_over(told) and request.runtime.loop.time() < end and not request.caller_is_gone():
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
        try:
            told = await request.runtime.work(look)
        except _NOT_NOW:
            continue
    return told


def _told(told: Mapping[str, Any]) -> Answer:
    return Answer.of(told, 200 if runs.is_over(told) else 202)
