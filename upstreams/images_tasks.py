"""Pictures at a provider whose work is begun, asked after and fetched, as `upstreams.tasks` knows it: one task each."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from upstreams import tasks_run
from upstreams.errors import BadAnswer, Retryable
from upstreams.images import Drawn, Hands, Order, Picture, Source, gathered, inline
from upstreams.tasks import Ask, Output
from upstreams.tasks_run import Reply
from upstreams.wire import Target, UpstreamRequest

#: A look that fails says nothing about the task: it is looked again, so that no second one is begun and paid.
_MOST_LOOKS: Final = 4
_LOOK_AGAIN_SECONDS: Final = 1.0
#: Members of OpenAI's format that descriptions of tasks know by the same name.
_PASSED_ON: Final = ("background", "output_format", "seed")


async def draw(hands: Hands, target: Target, order: Order) -> Drawn:
    """The pictures of one order, each a task of its own. Raises UpstreamError where not one came."""
    sources = [source if source.url else await hands.load(source) for source in order.sources]
    ask = Ask(_values(target, order, sources))

    async def once() -> Drawn:
        standing = await tasks_run.run(target, ask, patient, seconds=hands.seconds)
        adapter = tasks_run.adapter_for(target)
        return Drawn(tuple(_picture(output, dict(adapter.download(target, output.url))) for output in standing.outputs))

    async def patient(request: UpstreamRequest) -> Reply:
        return await _send(hands, request)

    return gathered(await asyncio.gather(*(once() for _ in range(order.n)), return_exceptions=True))


async def _send(hands: Hands, request: UpstreamRequest) -> Reply:
    for _ in range(_MOST_LOOKS - 1):
        if request.method != "GET":
            break
        try:
            answered = await hands.exchange(request)
            if answered.status < 500 and answered.status != 429:
                return Reply(*answered)
        except Retryable:
            pass
        await hands.pause(_LOOK_AGAIN_SECONDS)
    return Reply(*await hands.exchange(request))


def _values(target: Target, order: Order, sources: list[Source]) -> dict[str, Any]:
    """What a description's names stand for; what was not asked for is left out."""
    width, _, height = order.size.partition("x")
    urls = [source.as_url for source in sources]
    values: dict[str, Any] = {
        "model": target.upstream_model,
        "prompt": order.prompt,
        "n": 1,
        "size": order.size,
        "width": int(width) if width else None,
        "height": int(height) if height else None,
        "aspect_ratio": order.aspect_ratio,
        "resolution": order.resolution,
        "quality": order.quality,
        "image": urls[0] if urls else None,
        "images": urls or None,
    }
    values |= {name: msgspec.json.decode(order.members[name]) for name in _PASSED_ON if name in order.members}
    return {name: value for name, value in values.items() if value not in (None, "")}


def _picture(output: Output, headers: dict[str, str]) -> Picture:
    if output.data:
        return Picture.of(output.data)
    if output.url.startswith(("https://", "http://")):
        return Picture(url=output.url, headers=tuple(headers.items()))
    b64 = inline(output.url)
    if not b64:
        raise BadAnswer("the upstream's answer holds no picture", status=200)
    return Picture(b64=b64)
