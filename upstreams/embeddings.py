"""The adapter for OpenAI's embeddings and for every provider that speaks them: never streamed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from upstreams import classify, loose_json, openai
from upstreams.chat_usage import read_usage
from upstreams.errors import BadAnswer, UpstreamError
from upstreams.wire import Target, UpstreamRequest, Usage


class _Answer(msgspec.Struct):
    """The few members that matter here; the vectors are skipped over, not built."""

    usage: dict[str, Any] | None = None
    data: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_decoder = msgspec.json.Decoder(_Answer)


def build_request(target: Target, fields: Mapping[str, msgspec.Raw], *, stream: bool = False) -> UpstreamRequest:
    """The request for one target; ``fields`` are the caller's body members, each still as its own bytes.

    Raises ValueError when the target's base URL is none.
    """
    return openai.request_to(target, "/embeddings", fields, stream=stream)


def complete(body: bytes, *, input_estimate: int = 0, secret: str = "", known: bytes = b"") -> Usage:
    """What an answer used. Without a count above zero, which no input can have: ``input_estimate``, marked estimated.

    Raises UpstreamError where the body is an error, or holds no vectors at all, in spite of its 200.
    """
    try:
        answer = _decoder.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        raise _refusal(body, secret, known) from None
    if bytes(answer.error) not in (b"", b"null") or not bytes(answer.data).startswith(b"["):
        raise _refusal(body, secret, known)
    usage = read_usage(answer.usage) if answer.usage else Usage()
    if usage.input_tokens:
        # Whatever a total adds: vectors are no tokens.
        return Usage(input_tokens=usage.input_tokens, cached_input_tokens=usage.cached_input_tokens)
    return Usage(input_tokens=input_estimate, estimated=True)


def collect(stream: bytes, *, secret: str = "", known: bytes = b"") -> NoReturn:
    """Events are no answer to a call for embeddings. Raises UpstreamError always."""
    raise _refusal(stream, secret, known)


def never_streamed(*_: object, **__: object) -> NoReturn:
    """No call for embeddings asks for a stream. Raises BadAnswer always."""
    raise BadAnswer("embeddings are not streamed")


def _refusal(body: bytes, secret: str, known: bytes) -> UpstreamError:
    error = classify.error_in(body)
    if error is None:
        try:
            loose_json.decode(body)
        except ValueError:
            return classify.not_json(body, "")
        return BadAnswer("the upstream's answer holds no embeddings", status=200)
    return classify.refuse_inside(error, secret=secret, known=known)
