"""Providers of pictures as their documented APIs behave, and models that they serve."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from catalog.models import Provider
from catalog.pricing import Rates
from tests.fakes import upstream as fake
from tests.fakes.upstream import Behaviour, Conversation
from tests.support.gateway import CREDIT, Caller, Gateway
from tests.support.http import Reply
from upstreams.sandbox.images import png

#: Eight, sixteen and thirty-two credits a picture.
RATES = Rates(unit="image", unit_prices=(("1K", 8 * CREDIT), ("2K", 16 * CREDIT), ("4K", 32 * CREDIT)))
MEDIA: dict[str, Any] = {
    "sizes": {"1024x1024": "1K", "1536x1024": "1K", "2048x2048": "2K", "4096x4096": "4K"},
    "default_size": "1024x1024",
    "references": {"kinds": ["https", "data"], "max": 4},
}
PICTURE = png("a fox", 64, 64)
B64 = base64.b64encode(PICTURE).decode()
USAGE = {
    "input_tokens": 12,
    "input_tokens_details": {"text_tokens": 12, "image_tokens": 0},
    "output_tokens": 1056,
    "total_tokens": 1068,
}
REFUSED: dict[str, Any] = {
    "message": "Your request was rejected by the safety system.",
    "type": "image_generation_user_error",
    "param": None,
    "code": "moderation_blocked",
}


def draws(number: int | None = None, **item: Any) -> Behaviour:
    """OpenAI: as many pictures as were asked for, or ``number`` of them, as base64 and with their tokens."""

    async def behave(talk: Conversation) -> None:
        asked = talk.body.get("n", 1) if isinstance(talk.body, dict) else 1
        data = [item or {"b64_json": B64}] * (asked if number is None else number)
        await talk.json({"created": 1_700_000_000, "data": data, "usage": USAGE, "quality": "medium"})

    return behave


def gemini(*outcomes: Any) -> Behaviour:
    """Google: one answer a request, in turn: a finish reason, a status, or ``None`` for a picture."""

    async def behave(talk: Conversation) -> None:
        outcome = outcomes[(talk.attempt - 1) % len(outcomes)] if outcomes else None
        if isinstance(outcome, int):
            await talk.json({"error": {"code": outcome, "message": "it failed", "status": "INTERNAL"}}, outcome)
            return
        part: dict[str, Any] = {"inlineData": {"mimeType": "image/png", "data": B64}}
        candidate: dict[str, Any] = {"content": {"parts": [part], "role": "model"}, "finishReason": "STOP", "index": 0}
        if outcome is not None:
            candidate = {"finishReason": outcome, "index": 0}
        counts = {"promptTokenCount": 9, "candidatesTokenCount": 1290, "totalTokenCount": 1299}
        await talk.json({"candidates": [candidate], "usageMetadata": counts, "modelVersion": "fake"})

    return behave


def serve(
    gateway: Gateway, *behaviours: fake.Behaviour | fake.Route, options: Mapping[str, Any] | None = None, **columns: Any
) -> str:
    """A model for pictures whose chain is these providers, each with these options."""
    values: dict[str, Any] = {"media": MEDIA, "rates": RATES, "max_output_tokens": None} | columns
    with transaction.atomic():  # no gateway may see it without its options
        slug = gateway.new_model(*behaviours, kind="images", default_max_output_tokens=None, **values)
        if options is not None:
            Provider.objects.filter(slug__startswith=f"{slug}-p").update(options=options)
    gateway.until_known(slug)
    return slug


def ask(caller: Caller, model: str, path: str = "/v1/images/generations", **fields: Any) -> Reply:
    """A call for pictures; ``headers`` are the request's own."""
    headers = fields.pop("headers", {})
    return caller.send("POST", path, {"model": model, "prompt": "a red fox", **fields}, **headers)
