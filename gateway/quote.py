"""``POST /quote``: what a call would reserve and likely cost, found by the very code that would admit it.

The view of the endpoint that is meant runs as it always does, up to the moment before admission; there `engine.serve`
answers with `answer` instead. So nothing is reserved, sent, logged or charged, and a quote can't say anything else
than the hold would.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from django.conf import settings
from django.urls import Resolver404, get_resolver

from catalog import endpoints as kinds
from catalog import pricing, resolve
from catalog.entries import ModelEntry, Snapshot
from catalog.pricing import Units
from core import money
from core.errors import InvalidRequest
from gateway import endpoints
from gateway.dialects import base
from gateway.dialects.base import Call, Fields
from gateway.limits import Limits
from gateway.meter import Meter
from gateway.request import Answer, GatewayRequest
from upstreams.wire import Usage

#: Endpoints whose views pass `engine.serve`, `unit_run.serve` or `video_views.generate`: these heed ``quoting``, which
#: is what keeps a quote free of effects.
QUOTED: Final = (
    kinds.CHAT, kinds.MESSAGES, kinds.RESPONSES, kinds.EMBEDDINGS, kinds.GEMINI, kinds.IMAGES, kinds.AUDIO,
    kinds.VIDEOS,
)  # fmt: skip
#: What an answer is taken to be long, where the call allows as much: nobody knows before.
LIKELY_OUTPUT_TOKENS: Final = 500
#: The member that a body is known by, and the endpoints that take it, the likelier one first.
_SHAPES: Final = (
    ("contents", (kinds.GEMINI,)),
    ("messages", (kinds.MESSAGES, kinds.CHAT)),
    ("input", (kinds.RESPONSES, kinds.EMBEDDINGS)),
    ("prompt", (kinds.IMAGES, kinds.VIDEOS)),
    ("text", (kinds.AUDIO,)),
    ("audio", (kinds.AUDIO,)),
)
_PREFIXES: Final = ("/api/v1/", "/v1/")


async def ask(request: GatewayRequest) -> Answer:
    """The quote for a body, bare or as ``{"endpoint": "/v1/…", "body": {…}}``. Raises what would refuse the call."""
    fields = await _fields(request)
    if "endpoint" in fields and "body" in fields:
        path = _path(base.text(fields, "endpoint"))
        request.set_body(bytes(fields["body"]))
    else:
        path = _path(_kind_of(fields, request.runtime.catalog.snapshot))
    try:
        match = get_resolver(settings.GATEWAY_URLCONF).resolve(path)
        kind = endpoints.of(match.func).kind
    except Resolver404:
        kind = ""
    if kind not in QUOTED:
        raise InvalidRequest(
            "There are no quotes for this endpoint.",
            param="endpoint",
            extra={"available_endpoints": [kinds.PATHS[each] for each in QUOTED]},
        )
    request.quoting = True
    found: Answer = await match.func(request, **match.kwargs)
    return found


def answer(call: Call, entry: ModelEntry, meter: Meter, limits: Limits) -> Answer:
    """The quote of a call that could be admitted now. Amounts are credits."""
    assert entry.price is not None
    likely = Usage(input_tokens=meter.input_estimate(), output_tokens=_likely_output(entry, meter))
    quoted: dict[str, Any] = {
        "object": "quote",
        "endpoint": kinds.PATHS[call.kind],
        "model": entry.slug,
        "stream": call.stream,
        "reservation_credits": money.credits_json(meter.reserved_microcredits),
        "likely_credits": money.credits_json(meter.charge(likely).amount_microcredits),
        "min_balance_credits": money.credits_json(limits.min_balance_microcredits),
        "price": {"id": str(entry.price.id), "version": entry.price.version},
        "likely_input_tokens": likely.input_tokens,
        "likely_output_tokens": likely.output_tokens,
        "reserved_output_tokens": meter.granted_tokens,
        "output_ceiling_tokens": meter.ceiling_tokens,
    }
    return Answer.of(quoted)


def answer_units(kind: str, entry: ModelEntry, units: Units) -> Answer:
    """The quote of a call billed by the unit: reserved is exactly its price, and likely all of it is made.

    An endpoint whose view answers with this while ``request.quoting`` has its kind in `QUOTED`.
    """
    assert entry.price is not None
    reserved = money.credits_json(pricing.unit_ceiling(entry.price.rates, units))
    quoted: dict[str, Any] = {
        "object": "quote",
        "endpoint": kinds.PATHS[kind],
        "model": entry.slug,
        "stream": False,
        "reservation_credits": reserved,
        "likely_credits": reserved,
        "min_balance_credits": 0,
        "price": {"id": str(entry.price.id), "version": entry.price.version},
        "unit": entry.price.rates.unit,
        "units": units.quantity,
        "tier": units.tier,
        "credits_per_unit": money.credits_json(entry.price.rates.unit_price(units.tier)),
    }
    return Answer.of(quoted)


def _likely_output(entry: ModelEntry, meter: Meter) -> int:
    """Tokens; none where output costs nothing: vectors have no length."""
    assert entry.price is not None
    return min(meter.ceiling_tokens, LIKELY_OUTPUT_TOKENS) if entry.price.rates.tokens.output else 0


async def _fields(request: GatewayRequest) -> Fields:
    if len(request.body) > request.runtime.limits.parse_in_thread_bytes:
        return await asyncio.to_thread(base.read_object, request.body)
    return base.read_object(request.body)


def _path(endpoint: str) -> str:
    """The path within the gateway of an endpoint's kind or address."""
    address = kinds.PATHS.get(endpoint, endpoint)
    for prefix in _PREFIXES:
        address = address.removeprefix(prefix)
    return "/" + address.strip("/")


def _kind_of(fields: Fields, snapshot: Snapshot) -> str:
    """The endpoint that a bare body is for: by its form and, where two share one, by its model."""
    entry = resolve.lookup(snapshot, base.text(fields, "model"))
    for member, candidates in _SHAPES:
        if member in fields:
            served = [kind for kind in candidates if entry is not None and kind in entry.endpoints]
            return served[0] if served else candidates[-1 if member == "messages" else 0]
    raise InvalidRequest(
        'Which endpoint is meant? Send {"endpoint": "/v1/…", "body": {…}}.', param="endpoint", code="endpoint_missing"
    )
