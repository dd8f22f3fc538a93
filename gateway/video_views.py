"""``POST /videos/generate``: a job that makes a clip."""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec

from catalog import endpoints as kinds
from core.errors import InvalidRequest, ProductError
from gateway import engine, job_views, quote
from gateway.endpoints import endpoint
from gateway.request import Answer, GatewayRequest
from idempotency import replay
from media import video_submitting, videos
from media.videos import VideoAsk
from usage.items import Claim


@endpoint("POST", kind=kinds.VIDEOS)
async def generate(request: GatewayRequest) -> Answer:
    """Check, reserve exactly the price, queue: 202 with the job's id and where to poll it. Raises ProductError."""
    ask, problem = await _read(request)
    await engine.count(request)
    if problem is not None:
        raise problem
    assert ask is not None
    entry, _chain = engine.choose(
        request.runtime,
        request.key,
        ask,
        lambda each: list(each.chain(kinds.VIDEOS)),
        lambda each: video_submitting.reserved(each, videos.order_of(each, ask)[1]),
    )
    request.model = entry.slug
    request.key.check_model(entry.slug)
    order, units = videos.order_of(entry, ask)
    if request.quoting:
        video_submitting.reserved(entry, units)
        return quote.answer_units(ask.kind, entry, units)
    name = replay.presented(request.raw_headers)
    claim = None
    if name is not None:
        hashes = await asyncio.to_thread(replay.hashes, name, "POST", request.path, request.body)
        claim = Claim(hashes.key, hashes.request, is_stream=False)
    submit = partial(video_submitting.submit, request.key, entry, ask, order, units, claim, request.id)
    return job_views.submitted(await job_views.made(request, submit))


async def _read(request: GatewayRequest) -> tuple[VideoAsk | None, ProductError | None]:
    """What is asked for, or what is wrong with the body."""
    try:
        if len(request.body) > request.runtime.limits.parse_in_thread_bytes:
            ask = await asyncio.to_thread(_parsed, request.body)
        else:
            ask = _parsed(request.body)
    except ProductError as error:
        return None, error
    engine.note_model(request, ask.model)
    return ask, None


def _parsed(body: bytes) -> VideoAsk:
    try:
        members = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    if not isinstance(members, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return videos.read(members)
