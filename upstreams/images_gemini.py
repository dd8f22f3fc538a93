"""The adapter for Gemini's picture models: ``generateContent`` with pictures asked for, one a request.

As documented: ``responseModalities`` is IMAGE, ``imageConfig`` has aspectRatio and imageSize; references go inline as
base64, and pictures come back so. A model that will not draw answers 200 with a reason in place of a picture.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from upstreams import classify, gemini, loose_json
from upstreams.errors import BadAnswer
from upstreams.gemini_parts import block_reason, candidates_of, parts_of
from upstreams.images import Drawn, Hands, Order, Picture, Source, gathered, heavy, inline, refusal
from upstreams.wire import Target, UpstreamRequest

#: Reasons that are about what was asked for: another target of the same vendor would say the same.
_REFUSALS: Final = frozenset({
    "SAFETY", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "RECITATION", "MODEL_ARMOR", "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
})  # fmt: skip
#: Google's word for a resolution where it is not the catalog's.
_SIZES: Final = {"0.5K": "512"}


async def draw(hands: Hands, target: Target, order: Order) -> Drawn:
    """The pictures of one order, each by a request of its own. Raises UpstreamError where not one came."""
    sources = await asyncio.gather(*(hands.load(source) for source in order.sources))
    size_bytes = sum(source.size_bytes for source in sources)
    request = await heavy(size_bytes, build_request, target, order, sources)

    async def once() -> Drawn:
        body = await hands.send(request)
        return await heavy(len(body), read, body, target.secret, hands.known)

    return gathered(await asyncio.gather(*(once() for _ in range(order.n)), return_exceptions=True))


def build_request(target: Target, order: Order, sources: Iterable[Source]) -> UpstreamRequest:
    """The request for one picture. Raises ValueError when the target's base URL is none."""
    parts: list[dict[str, Any]] = [{"text": order.prompt}]
    for source in sources:
        encoded = base64.b64encode(source.data).decode()
        parts.append({"inlineData": {"mimeType": source.content_type, "data": encoded}})
    image_config = {"aspectRatio": order.aspect_ratio, "imageSize": _SIZES.get(order.scale, order.scale)}
    body = {
        "contents": [{"role": "user", "parts": parts}],
        "generationConfig": {
            "responseModalities": ["IMAGE"],
            "imageConfig": {name: value for name, value in image_config.items() if value},
        },
    }
    fields = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in body.items()}
    return gemini.build_request(target, fields, stream=False)


def read(body: bytes, secret: str = "", known: bytes = b"") -> Drawn:
    """The pictures of one answer. Raises UpstreamError: a refusal for the content's sake, or what else went wrong."""
    try:
        answer = loose_json.decode(body)
    except ValueError:
        raise classify.not_json(body, "") from None
    if not isinstance(answer, dict) or answer.get("error"):
        error = classify.error_in(body)
        if error is None:
            raise BadAnswer("the upstream's answer is not what was asked for", status=200)
        raise classify.refuse_inside(error, secret=secret, known=known)
    candidates = candidates_of(answer)
    pictures = tuple(picture for candidate in candidates for picture in _pictures(candidate))
    if pictures:
        return Drawn(pictures)
    if block_reason(answer) or any(candidate.get("finishReason") in _REFUSALS for candidate in candidates):
        raise refusal("The model did not draw this: its provider's rules for content forbid it.")
    raise BadAnswer("the upstream's answer holds no picture", status=200)


def _pictures(candidate: dict[str, Any]) -> Iterable[Picture]:
    """The pictures of an answer; those of a model's thoughts are sketches, not what was asked for."""
    for part in parts_of(candidate):
        given = part.get("inlineData") or part.get("inline_data")
        data = given.get("data") if isinstance(given, dict) else None
        b64 = inline(data.replace("-", "+").replace("_", "/")) if isinstance(data, str) else ""
        if b64 and not part.get("thought"):
            yield Picture(b64=b64)
