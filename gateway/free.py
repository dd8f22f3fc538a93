"""Calls that cost nothing: counting a prompt's tokens. No hold, no charge, no place in the rate limit."""

from __future__ import annotations

from catalog.entries import TargetEntry
from core.errors import InvalidRequest
from gateway import engine, kept_responses
from gateway.adapters import Count, adapter_for
from gateway.dialects.base import Call
from gateway.failover import Trail
from gateway.request import Answer, GatewayRequest
from upstreams import classify
from upstreams.errors import TargetUnusable
from upstreams.wire import Timeouts

_MOST_BYTES = 1024 * 1024


async def count_tokens(request: GatewayRequest, call: Call) -> Answer:
    """What the first healthy target counts. Raises the ProductError that the caller gets."""
    runtime = request.runtime
    entry, chain = engine.resolve_chain(runtime, request.key, call)
    request.key.check_model(entry.slug)
    if call.previous_response_id:
        chain = await kept_responses.of_previous(request, call.previous_response_id, chain)

    counting = [target for target in chain if _way_to_count(call, target) is not None]
    if not counting:
        message = f"Nobody who serves {entry.slug} counts tokens without answering."
        raise InvalidRequest(message, param="model", code="counting_not_offered")

    async def attempt(target: TargetEntry, timeouts: Timeouts) -> bytes:
        way = _way_to_count(call, target)
        assert way is not None
        return await _count(request, call, target, way, timeouts)

    trail = Trail()
    body = await runtime.failover.serve(counting, attempt, trail, request.caller_is_gone)
    assert trail.last is not None
    return Answer(200, body, engine.served_headers(entry, trail.last, trail))


def _way_to_count(call: Call, target: TargetEntry) -> Count | None:
    adapter = adapter_for(call.spoken, target)
    return adapter.count if adapter is not None else None


async def _count(request: GatewayRequest, call: Call, entry: TargetEntry, counting: Count, timeouts: Timeouts) -> bytes:
    target = entry.target
    try:
        asked = call.forwarded.onto(counting.build_request(target, call.fields))
        response = await request.runtime.pool.send(asked, timeouts)
    except ValueError:
        raise TargetUnusable("the target's settings make no request") from None
    with response:
        body = await response.read(_MOST_BYTES)
    if response.status != 200:
        raise classify.refuse(response.status, response.headers, body, secret=target.secret, known=call.body)
    counting.check(body, secret=target.secret, known=call.body)
    return body
