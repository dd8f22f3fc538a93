"""The adapter for OpenAI's Responses format and for every provider that speaks it. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from upstreams import classify, loose_json, openai
from upstreams.chat_usage import tier_of
from upstreams.errors import BadAnswer, UpstreamError
from upstreams.estimate import output_tokens_in
from upstreams.responses_collect import as_stream, collect
from upstreams.responses_relay import Relay, failure
from upstreams.responses_usage import response_usage, tools_of
from upstreams.wire import Target, UpstreamRequest, Usage

__all__ = [
    "Relay",
    "as_stream",
    "build_compact_request",
    "build_request",
    "collect",
    "complete",
    "count_request",
    "counted",
]


class _Item(msgspec.Struct):
    type: Any = None
    action: Any = None
    execution: Any = None


class _Response(msgspec.Struct):
    """The few members of an answer that matter here; the rest is skipped over, not built."""

    output: list[_Item] | None = None
    usage: dict[str, Any] | None = None
    tool_usage: Any = None
    service_tier: str | None = None
    status: str | None = None
    error: msgspec.Raw = msgspec.Raw()


_decoder = msgspec.json.Decoder(_Response)


def build_request(target: Target, fields: Mapping[str, msgspec.Raw], *, stream: bool) -> UpstreamRequest:
    """The request for one target. ``fields`` are the caller's body members, each still as its own bytes.

    The model's name becomes the upstream's and ``hypereal`` stays here; everything else passes, whatever it is.
    Raises ValueError when the target's base URL is none.
    """
    return openai.request_to(target, "/responses", fields, stream=stream)


def build_compact_request(
    target: Target, fields: Mapping[str, msgspec.Raw], *, stream: bool = False
) -> UpstreamRequest:
    """The request that makes a long conversation short; it is never streamed. Raises as `build_request` does."""
    return openai.request_to(target, "/responses/compact", fields, stream=False)


def count_request(target: Target, fields: Mapping[str, msgspec.Raw]) -> UpstreamRequest:
    """The request that counts a prompt's tokens and answers nothing. Raises as `build_request` does."""
    return openai.request_to(target, "/responses/input_tokens", fields, stream=False)


def counted(body: bytes, *, secret: str = "", known: bytes = b"") -> None:
    """Raises UpstreamError unless ``body`` is the answer to a `count_request`."""
    try:
        answer = loose_json.decode(body)
    except ValueError:
        raise classify.not_json(body, "") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("input_tokens"), int):
        raise _refusal(body, secret, known)


def complete(body: bytes, *, input_estimate: int = 0, secret: str = "", known: bytes = b"") -> Usage:
    """What a whole JSON answer used. Without a usage block: ``input_estimate`` and the text's size, marked estimated.

    Raises UpstreamError where the body is an error, a failed response, or no response at all, in spite of its 200.
    """
    try:
        answer = _decoder.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return _usage_of(_slowly(body, secret, known), body, input_estimate)
    if bytes(answer.error) not in (b"", b"null") or answer.output is None or answer.status == "failed":
        raise _refusal(body, secret, known)
    response: dict[str, Any] = {
        "output": [msgspec.structs.asdict(item) for item in answer.output],
        "usage": answer.usage,
        "tool_usage": answer.tool_usage,
        "service_tier": answer.service_tier,
    }
    return _usage_of(response, body, input_estimate)


def _slowly(body: bytes, secret: str, known: bytes) -> dict[str, Any]:
    """For what the strict decoder refuses, such as lone surrogates."""
    try:
        answer = loose_json.decode(body)
    except ValueError:
        raise classify.not_json(body, "") from None
    failed = isinstance(answer, dict) and (answer.get("error") or answer.get("status") == "failed")
    if failed or not isinstance(answer, dict) or not isinstance(answer.get("output"), list):
        raise _refusal(body, secret, known)
    return answer


def _usage_of(response: dict[str, Any], body: bytes, input_estimate: int) -> Usage:
    usage = response_usage(response)
    if usage is not None:
        return usage
    estimate = Usage(input_tokens=input_estimate, output_tokens=output_tokens_in(body), estimated=True)
    return msgspec.structs.replace(
        estimate, service_tier=tier_of(response), server_tool_calls=tuple(tools_of(response).items())
    )


def _refusal(body: bytes, secret: str, known: bytes) -> UpstreamError:
    error = classify.error_in(body)
    if error is None:
        try:
            loose_json.decode(body)
        except ValueError:
            return classify.not_json(body, "")
        return BadAnswer("the upstream's answer is no response", status=200)
    return failure({"error": error}, secret=secret, known=known)
