"""Jobs by key: list, poll, cancel. And the answer to a submission, for the endpoints that make jobs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from core.errors import Overloaded, TimedOut
from gateway import engine
from gateway.endpoints import endpoint
from gateway.request import Answer, GatewayRequest
from jobs import cancelling, serving
from jobs.models import Job
from jobs.submitting import ACCEPTED
from usage.items import Replay

_FILTERS: Final = ("kind", "model", "cursor", "limit")


@endpoint("GET")
async def jobs(request: GatewayRequest) -> Answer:
    """``GET /jobs``: the workspace's jobs, the newest first. Filters: kind, status (or state), model; cursor, limit."""
    await engine.count(request)
    asked = {name: request.GET.get(name, "") for name in _FILTERS}
    asked["state"] = request.GET.get("status") or request.GET.get("state", "")
    return Answer.of(await request.runtime.work(partial(serving.listed, request.key.workspace_id, **asked)))


@endpoint("GET", "DELETE")
async def job(request: GatewayRequest, job_id: str) -> Answer:
    """``GET /jobs/{id}``: how it goes; ``DELETE`` cancels it. Another workspace's job is not there."""
    await engine.count(request)
    ask = cancelling.by_key if request.method == "DELETE" else serving.shown
    return Answer.of(await request.runtime.work(partial(ask, request.key, job_id)))


@endpoint("POST")
async def cancel(request: GatewayRequest, job_id: str) -> Answer:
    """``POST /jobs/{id}/cancel``: at once where nobody has begun, else its provider is asked to stop. Idempotent."""
    await engine.count(request)
    return Answer.of(await request.runtime.work(partial(cancelling.by_key, request.key, job_id)))


async def made(request: GatewayRequest, submit: Callable[[], Job | Replay]) -> Job | Replay:
    """The job that ``submit`` makes under this request's id. Raises what it raises, Overloaded and TimedOut.

    Its one row in the log is written at its end. So a submission whose outcome is not known gets none here either: the
    job may stand all the same.
    """
    try:
        job = await request.runtime.work(submit)
    except (Overloaded, TimedOut):
        request.logged = True
        raise
    request.logged = True
    return job


def submitted(made: Job | Replay) -> Answer:
    """What a submission answers: 202, or once more what the same Idempotency-Key was answered. Raises Conflict."""
    if isinstance(made, Replay):
        return engine.again(made)
    return Answer.of(serving.accepted(made), ACCEPTED)
