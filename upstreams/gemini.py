"""The adapter for Gemini's own format and for every provider that speaks it. Pure: values in, values out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from upstreams import classify, gemini_parts, loose_json
from upstreams.errors import BadAnswer, UpstreamError
from upstreams.gemini_collect import as_stream, collect, merged
from upstreams.gemini_relay import Relay
from upstreams.gemini_usage import has_counts, read_usage, tools_of
from upstreams.wire import Headers, Target, UpstreamRequest, Usage, split_base_url

__all__ = [
    "Relay",
    "as_stream",
    "build_bearer_request",
    "build_request",
    "collect",
    "complete",
    "count_bearer_request",
    "count_request",
    "counted",
    "merged",
    "resource",
]

_COMMON: Headers = (
    ("content-type", "application/json"),
    ("accept-encoding", "identity"),
    ("user-agent", "hypereal"),
)
_Fields = dict[str, msgspec.Raw]
_KeyHeader = Literal["x-goog-api-key", "authorization"]

_VERSION = re.compile(r"/v\d+(?:alpha|beta)?\d*$")
_COLLECTIONS = ("models/", "tunedModels/", "publishers/", "projects/")
#: Members of a body that are the gateway's own, or stand in the path of this format.
_NOT_IN_BODY = ("hypereal", "model", "stream")
#: Where a request to count tokens holds the request that is counted.
_INNER = ("generateContentRequest", "generate_content_request")


def build_request(
    target: Target,
    fields: Mapping[str, msgspec.Raw],
    *,
    stream: bool,
    method: str = "",
    key_header: _KeyHeader = "x-goog-api-key",
) -> UpstreamRequest:
    """The request for one target. ``fields`` are the caller's body members, each still as its own bytes.

    The model's name goes into the path; nothing else is changed. ``method``: Google's word for what is asked, by
    default generating, as ``stream`` says. A base URL may end in the version or not. Raises ValueError when the
    target's base URL is none.
    """
    body = {name: value for name, value in fields.items() if name not in _NOT_IN_BODY}
    origin, prefix = split_base_url(target.base_url)
    if not _VERSION.search(prefix):
        prefix += "/v1beta"
    method = method or ("streamGenerateContent" if stream else "generateContent")
    query = "&".join(part for part in ("alt=sse" if stream else "", target.options.query) if part)
    return UpstreamRequest(
        method="POST",
        origin=origin,
        path=f"{prefix}/{resource(target.upstream_model)}:{method}{'?' if query else ''}{query}",
        headers=_headers(target, stream, key_header),
        body=msgspec.json.encode(body),
    )


#: For providers that speak several vendors' formats: they want the key where OpenAI's clients put it.
build_bearer_request = partial(build_request, key_header="authorization")


def count_request(
    target: Target, fields: Mapping[str, msgspec.Raw], *, key_header: _KeyHeader = "x-goog-api-key"
) -> UpstreamRequest:
    """The request that counts a prompt's tokens and answers nothing. Raises ValueError as `build_request` does."""
    body = dict(fields)
    for name in _INNER:
        if name in body:  # it names the model a second time
            inner = msgspec.json.decode(body[name], type=_Fields)
            inner["model"] = msgspec.Raw(msgspec.json.encode(resource(target.upstream_model)))
            body[name] = msgspec.Raw(msgspec.json.encode(inner))
    return build_request(target, body, stream=False, method="countTokens", key_header=key_header)


count_bearer_request = partial(count_request, key_header="authorization")


def complete(body: bytes, *, input_estimate: int = 0, secret: str = "", known: bytes = b"") -> Usage:
    """What a whole answer used. Without a usage block: ``input_estimate`` and the text's size, marked estimated.

    Raises UpstreamError where the body is an error, or no answer at all, in spite of its 200.
    """
    try:
        answer = loose_json.decode(merged(body, secret=secret, known=known))
    except ValueError:
        raise classify.not_json(body, "") from None
    is_answer = isinstance(answer, dict) and not answer.get("error")
    if not is_answer or not (gemini_parts.candidates_of(answer) or gemini_parts.block_reason(answer)):
        raise _refusal(body, secret, known)
    tools = tools_of(gemini_parts.candidates_of(answer), answer.get("modelVersion"))
    block = answer.get("usageMetadata")
    if has_counts(block):
        return read_usage(block, tools)
    output = gemini_parts.tokens_in(answer)
    return Usage(input_estimate, output_tokens=output, server_tool_calls=tuple(tools.items()), estimated=True)


def counted(body: bytes, *, secret: str = "", known: bytes = b"") -> None:
    """Raises UpstreamError unless ``body`` is the answer to a `count_request`; a count of zero may be left out."""
    try:
        answer = loose_json.decode(body)
    except ValueError:
        raise classify.not_json(body, "") from None
    if not isinstance(answer, dict) or answer.get("error") or not isinstance(answer.get("totalTokens", 0), int):
        raise _refusal(body, secret, known)


def resource(model: str) -> str:
    """A model's name as it stands in a path: ``models/…`` unless it names a collection itself."""
    named = model if model.startswith(_COLLECTIONS) else f"models/{model}"
    return quote(named, safe="/@:-._~")


def _refusal(body: bytes, secret: str, known: bytes) -> UpstreamError:
    error: Any = classify.error_in(body)
    if error is None:
        return BadAnswer("the upstream's answer is not what was asked for", status=200)
    return classify.refuse_inside(error, secret=secret, known=known)


def _headers(target: Target, stream: bool, key_header: _KeyHeader) -> Headers:
    accept = ("accept", "text/event-stream" if stream else "application/json")
    if not target.secret or target.options.auth == "none":
        return (*_COMMON, accept, *target.options.headers)
    value = target.secret if key_header == "x-goog-api-key" else f"Bearer {target.secret}"
    return (*_COMMON, accept, (key_header, value), *target.options.headers)
