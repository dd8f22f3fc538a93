"""The adapter for Anthropic's messages and for every provider that speaks them. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import msgspec

from upstreams import classify, loose_json
from upstreams.errors import BadAnswer
from upstreams.estimate import TextCounter
from upstreams.messages_relay import TEXT_MEMBERS, Relay
from upstreams.messages_usage import has_counts, read_usage
from upstreams.wire import Headers, Target, UpstreamRequest, Usage, split_base_url

__all__ = [
    "Relay",
    "build_bearer_request",
    "build_request",
    "complete",
    "count_bearer_request",
    "count_request",
    "counted",
]

_COMMON: Headers = (
    ("content-type", "application/json"),
    ("accept-encoding", "identity"),
    ("user-agent", "hypereal"),
)
_TRUE = msgspec.Raw(b"true")
_Fields = dict[str, msgspec.Raw]
_KeyHeader = Literal["x-api-key", "authorization"]


class _Message(msgspec.Struct):
    """The few members of an answer that matter here; the rest is skipped over, not built."""

    usage: dict[str, Any] | None = None
    container: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_message_decoder = msgspec.json.Decoder(_Message)
_EMPTY = (b"", b"null")


def build_request(
    target: Target,
    fields: Mapping[str, msgspec.Raw],
    *,
    stream: bool,
    path: str = "/messages",
    key_header: _KeyHeader = "x-api-key",
) -> UpstreamRequest:
    """The request for one target. ``fields`` are the caller's body members, each still as its own bytes.

    The model's name becomes the upstream's and ``hypereal`` stays here; nothing else is changed. A base URL may end in
    the version or not. Raises ValueError when the target's base URL is none.
    """
    body: _Fields = dict(fields)
    body.pop("hypereal", None)
    body["model"] = msgspec.Raw(msgspec.json.encode(target.upstream_model))
    if stream:
        body["stream"] = _TRUE
    origin, prefix = split_base_url(target.base_url)
    if not prefix.endswith("/v1"):
        prefix += "/v1"
    query = f"?{target.options.query}" if target.options.query else ""
    return UpstreamRequest(
        method="POST",
        origin=origin,
        path=f"{prefix}{path}{query}",
        headers=_headers(target, stream, key_header),
        body=msgspec.json.encode(body),
    )


#: For providers that speak several vendors' formats: they want the key where OpenAI's clients put it.
build_bearer_request = partial(build_request, key_header="authorization")


def count_request(
    target: Target, fields: Mapping[str, msgspec.Raw], *, key_header: _KeyHeader = "x-api-key"
) -> UpstreamRequest:
    """The request that counts a prompt's tokens and answers nothing. Raises ValueError as `build_request` does."""
    return build_request(target, fields, stream=False, path="/messages/count_tokens", key_header=key_header)


count_bearer_request = partial(count_request, key_header="authorization")


def complete(body: bytes, *, input_estimate: int = 0, secret: str = "", known: bytes = b"") -> Usage:
    """What a whole JSON answer used. Without a usage block: ``input_estimate`` and the text's size, marked estimated.

    Raises UpstreamError where the body is an error, or no message at all, in spite of its 200.
    """
    try:
        answer = _message_decoder.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return _complete_slowly(body, input_estimate, secret, known)
    if bytes(answer.error) not in _EMPTY or bytes(answer.content) in _EMPTY:
        raise _refusal(body, secret, known)
    return _usage_of(answer.usage, bytes(answer.container) not in _EMPTY, body, input_estimate)


def counted(body: bytes, *, secret: str = "", known: bytes = b"") -> None:
    """Raises UpstreamError unless ``body`` is the answer to a `count_request`."""
    try:
        answer = loose_json.decode(body)
    except ValueError:
        raise classify.not_json(body, "") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("input_tokens"), int):
        raise _refusal(body, secret, known)


def _complete_slowly(body: bytes, input_estimate: int, secret: str, known: bytes) -> Usage:
    """For what the strict decoder refuses, such as lone surrogates, which some providers send."""
    try:
        answer = loose_json.decode(body)
    except ValueError:
        raise classify.not_json(body, "") from None
    if not isinstance(answer, dict) or answer.get("error") or not isinstance(answer.get("content"), list):
        raise _refusal(body, secret, known)
    usage = answer.get("usage")
    return _usage_of(usage if isinstance(usage, dict) else None, bool(answer.get("container")), body, input_estimate)


def _usage_of(block: dict[str, Any] | None, in_container: bool, body: bytes, input_estimate: int) -> Usage:
    if block is not None and has_counts(block):
        return read_usage(block, in_container=in_container)
    counter = TextCounter(TEXT_MEMBERS)
    counter.add(body)
    return Usage(input_tokens=input_estimate, output_tokens=counter.tokens, estimated=True)


def _refusal(body: bytes, secret: str, known: bytes) -> Exception:
    error = classify.error_in(body)
    if error is None:
        return BadAnswer("the upstream's answer is not what was asked for", status=200)
    return classify.refuse_inside(error, secret=secret, known=known)


def _headers(target: Target, stream: bool, key_header: _KeyHeader) -> Headers:
    accept = ("accept", "text/event-stream" if stream else "application/json")
    if not target.secret or target.options.auth == "none":
        return (*_COMMON, accept, *target.options.headers)
    value = target.secret if key_header == "x-api-key" else f"Bearer {target.secret}"
    return (*_COMMON, accept, (key_header, value), *target.options.headers)
