"""GPU work by key: deployments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from django.conf import settings

from core import errors
from events import audit
from gateway import engine
from gateway.endpoints import endpoint
from gateway.request import Answer, GatewayRequest
from idempotency import by_key, replay
from infra import serving
from upstreams import loose_json


@endpoint("GET", "POST")
async def deployments(request: GatewayRequest) -> Answer:
    """``GET /deployments``: those of the workspace; ``POST`` makes one."""
    await engine.count(request)
    if request.method == "POST":
        return await _once(request, 201, partial(serving.create, request.key, _object(request), _actor(request)))
    return Answer.of(await request.runtime.work(partial(serving.listed, request.key)))


@endpoint("GET", "PATCH", "DELETE")
async def deployment(request: GatewayRequest, name: str) -> Answer:
    """``GET``, ``PATCH``, ``DELETE /deployments/{slug or id}``"""
    await engine.count(request)
    if request.method == "PATCH":
        work = partial(serving.change, request.key, name, _object(request), _actor(request))
        return await _once(request, 200, work)
    if request.method == "DELETE":
        return await _once(request, 200, partial(serving.delete, request.key, name, _actor(request)))
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


def _actor(request: GatewayRequest) -> audit.Actor:
    """The maker of the key, acting through it."""
    address = request.address(settings.TRUSTED_PROXY_COUNT)
    return audit.Actor(
        user_id=request.key.user_id,
        label=f"API key {request.key.name}",
        address=None if address is None else str(address),
        request_id=request.id,
    )
