"""Embeddings in Google's format: to Google's own methods, and through every provider of OpenAI's embeddings. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec

from upstreams import classify, embeddings, gemini, loose_json
from upstreams.errors import BadAnswer, UpstreamError
from upstreams.wire import Target, UpstreamRequest, Usage

ONE: Final = "embedContent"
BATCH: Final = "batchEmbedContents"
_Fields = dict[str, msgspec.Raw]


class _Part(msgspec.Struct):
    text: str = ""


class _Content(msgspec.Struct):
    parts: list[_Part] = []


class _Asked(msgspec.Struct, rename="camel"):
    """What of a request both formats know. OpenAI's has no task type and no title."""

    content: _Content = msgspec.field(default_factory=_Content)
    output_dimensionality: int | None = None


class _Batch(msgspec.Struct):
    requests: list[_Asked] = []


class _Vector(msgspec.Struct):
    embedding: msgspec.Raw = msgspec.Raw(b"[]")
    index: int = 0


class _Vectors(msgspec.Struct):
    data: list[_Vector]


def build_request(
    target: Target, fields: Mapping[str, msgspec.Raw], *, stream: bool = False, method: str = BATCH
) -> UpstreamRequest:
    """The request to Google's own method. Each request of a batch names the model again: it becomes the upstream's.

    Raises ValueError when the target's base URL is none.
    """
    body = dict(fields)
    if "requests" in body:
        named = msgspec.Raw(msgspec.json.encode(gemini.resource(target.upstream_model)))
        requests = msgspec.json.decode(body["requests"], type=list[_Fields])
        body["requests"] = msgspec.Raw(msgspec.json.encode([{**each, "model": named} for each in requests]))
    return gemini.build_request(target, body, stream=False, method=method)


build_one = partial(build_request, method=ONE)


def complete(body: bytes, *, input_estimate: int = 0, secret: str = "", known: bytes = b"") -> Usage:
    """What an answer used. Google's method seldom tells: then ``input_estimate``, marked estimated.

    Raises UpstreamError where the body is an error, or holds no vectors, in spite of its 200.
    """
    try:
        answer = loose_json.decode(body)
    except ValueError:
        raise classify.not_json(body, "") from None
    if not isinstance(answer, dict) or answer.get("error") or not (answer.get("embedding") or answer.get("embeddings")):
        raise _refusal(body, secret, known)
    told = answer.get("usageMetadata")
    count = told.get("promptTokenCount") if isinstance(told, dict) else None
    if isinstance(count, int) and count > 0:
        return Usage(input_tokens=count)
    return Usage(input_tokens=input_estimate, estimated=True)


def to_openai(target: Target, fields: Mapping[str, msgspec.Raw], *, stream: bool = False) -> UpstreamRequest:
    """The same in OpenAI's format. Task types and titles have no place there and stay behind.

    Raises ValueError when the target's base URL is none.
    """
    body = msgspec.json.encode(fields)
    asked = (
        msgspec.json.decode(body, type=_Batch).requests
        if "requests" in fields
        else [msgspec.json.decode(body, type=_Asked)]
    )
    texts = ["".join(part.text for part in each.content.parts) for each in asked]
    members: dict[str, Any] = {"input": texts, "encoding_format": "float"}
    if asked[0].output_dimensionality is not None:
        members["dimensions"] = asked[0].output_dimensionality
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()}
    return embeddings.build_request(target, raw)


def from_openai(body: bytes, *, batch: bool = True) -> bytes:
    """OpenAI's answer as Google's; the vectors' own bytes go over untouched. Raises BadAnswer for none."""
    try:
        vectors = sorted(msgspec.json.decode(body, type=_Vectors).data, key=lambda each: each.index)
    except (msgspec.DecodeError, msgspec.ValidationError):
        vectors = []
    if not vectors:
        raise BadAnswer("the upstream's answer holds no embeddings", status=200)
    told = [{"values": each.embedding} for each in vectors]
    return msgspec.json.encode({"embeddings": told} if batch else {"embedding": told[0]})


one_from_openai = partial(from_openai, batch=False)


def _refusal(body: bytes, secret: str, known: bytes) -> UpstreamError:
    error = classify.error_in(body)
    if error is None:
        return BadAnswer("the upstream's answer holds no embeddings", status=200)
    return classify.refuse_inside(error, secret=secret, known=known)
