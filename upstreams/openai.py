"""The adapter for OpenAI's chat completions and for every provider that speaks them. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from upstreams import classify, loose_json
from upstreams.chat_relay import Relay
from upstreams.chat_usage import read_usage, tier_of, usage_block
from upstreams.estimate import output_tokens_in
from upstreams.wire import Headers, Target, UpstreamRequest, Usage, split_base_url

__all__ = ["Relay", "build_request", "complete", "request_to"]

_COMMON: Headers = (
    ("content-type", "application/json"),
    ("accept-encoding", "identity"),
    ("user-agent", "hypereal"),
)
_TRUE = msgspec.Raw(b"true")
_ASK_USAGE = msgspec.Raw(b'{"include_usage":true}')
_Fields = dict[str, msgspec.Raw]
_fields_decoder = msgspec.json.Decoder(_Fields)


class _Completion(msgspec.Struct):
    """The few members of an answer that matter here; the rest is skipped over, not built."""

    usage: dict[str, Any] | None = None
    x_groq: dict[str, Any] | None = None
    service_tier: str | None = None
    choices: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_completion_decoder = msgspec.json.Decoder(_Completion)


def build_request(target: Target, fields: Mapping[str, msgspec.Raw], *, stream: bool) -> UpstreamRequest:
    """The request for one target. ``fields`` are the caller's body members, each still as its own bytes.

    The model's name becomes the upstream's, ``hypereal`` stays here, a stream always asks for usage.
    Raises ValueError when the target's base URL is none.
    """
    body = dict(fields)
    if stream:
        if target.options.ask_usage:
            body["stream_options"] = _asking_usage(body.get("stream_options"))
        else:
            body.pop("stream_options", None)
    return request_to(target, "/chat/completions", body, stream=stream)


def request_to(target: Target, path: str, fields: Mapping[str, msgspec.Raw], *, stream: bool) -> UpstreamRequest:
    """A POST to one of OpenAI's paths: every member as it came, but for the model's name and what is the gateway's own.

    Raises ValueError when the target's base URL is none.
    """
    body: _Fields = dict(fields)
    body.pop("hypereal", None)
    body["model"] = msgspec.Raw(msgspec.json.encode(target.upstream_model))
    if stream:
        body["stream"] = _TRUE
    origin, prefix = split_base_url(target.base_url)
    query = f"?{target.options.query}" if target.options.query else ""
    return UpstreamRequest(
        method="POST",
        origin=origin,
        path=f"{prefix}{path}{query}",
        headers=_headers(target, stream),
        body=msgspec.json.encode(body),
    )


def complete(body: bytes, *, input_estimate: int = 0, secret: str = "", known: bytes = b"") -> Usage:
    """What a whole JSON answer used. Without a usage block: ``input_estimate`` and the text's size, marked estimated.

    Raises UpstreamError where the body is an error, or no completion at all, in spite of its 200.
    """
    try:
        answer = _completion_decoder.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return _complete_slowly(body, input_estimate, secret, known)
    if bytes(answer.error) not in (b"", b"null") or not _holds_an_object(answer.choices):
        raise _refusal(body, secret, known)
    block = usage_block({"usage": answer.usage, "x_groq": answer.x_groq})
    return _usage_of(block, answer.service_tier or None, body, input_estimate)


def _complete_slowly(body: bytes, input_estimate: int, secret: str, known: bytes) -> Usage:
    """For what the strict decoder refuses, such as lone surrogates, which some providers send."""
    try:
        answer = loose_json.decode(body)
    except ValueError:
        raise classify.not_json(body, "") from None
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or answer.get("error"):
        raise _refusal(body, secret, known)
    return _usage_of(usage_block(answer), tier_of(answer), body, input_estimate)


def _holds_an_object(choices: msgspec.Raw) -> bool:
    """Whether there is a choice at all, told from the first bytes of the list."""
    head = bytes(memoryview(choices)[:64])
    return head[:1] == b"[" and head[1:].lstrip()[:1] == b"{"


def _usage_of(block: dict[str, Any] | None, tier: str | None, body: bytes, input_estimate: int) -> Usage:
    if block is not None:
        return read_usage(block, tier)
    output = output_tokens_in(body)
    return Usage(input_tokens=input_estimate, output_tokens=output, service_tier=tier, estimated=True)


def _refusal(body: bytes, secret: str, known: bytes) -> Exception:
    error = classify.error_in(body)
    if error is None:
        return classify.not_json(body, "")
    return classify.refuse_inside(error, secret=secret, known=known)


def _asking_usage(options: msgspec.Raw | None) -> msgspec.Raw:
    """The caller's stream options with ``include_usage``; what is no object goes on for the upstream to refuse."""
    if options is None or bytes(options) == b"null":
        return _ASK_USAGE
    try:
        members = _fields_decoder.decode(options)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return options
    members["include_usage"] = _TRUE
    return msgspec.Raw(msgspec.json.encode(members))


def _headers(target: Target, stream: bool) -> Headers:
    accept = ("accept", "text/event-stream" if stream else "application/json")
    if not target.secret or target.options.auth == "none":
        return (*_COMMON, accept, *target.options.headers)
    if target.options.auth == "api-key":
        return (*_COMMON, accept, ("api-key", target.secret), *target.options.headers)
    return (*_COMMON, accept, ("authorization", f"Bearer {target.secret}"), *target.options.headers)
