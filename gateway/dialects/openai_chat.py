"""OpenAI's chat completions, as callers speak them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from core.errors import InvalidRequest, ProductError
from gateway.dialects import base
from gateway.dialects.base import Call, Fields
from upstreams.chat_usage import usage_shape
from upstreams.wire import Usage

MOST_OUTPUT_TOKENS: Final = 10_000_000
MOST_CHOICES: Final = 128
#: Members that are the gateway's own and never go upstream.
_OWN: Final = ("hypereal", "intent")


class OpenAIChat:
    """The dialect of ``/chat/completions``, and of every path that has none of its own."""

    kind = "chat"
    stream_content_type = b"text/event-stream; charset=utf-8"
    keepalive: bytes | None = b": keep-alive\n\n"

    def parse(self, body: bytes) -> Call:
        """Reads what routing and billing need; everything else passes as it came. Raises InvalidRequest."""
        fields = base.read_object(body)
        model, intent = base.text(fields, "model"), base.text(fields, "intent")
        if not model and not intent:
            raise InvalidRequest("The member model is missing: name the model to call.", param="model")
        messages = fields.get("messages")
        if messages is None or not base.is_filled_list(messages):
            raise InvalidRequest("messages must be a list with at least one message.", param="messages")
        choices = base.count(fields, "n", MOST_CHOICES) or 1
        stream = base.flag(fields, "stream")
        call = Call(
            kind=self.kind,
            model=model,
            intent=intent,
            stream=stream,
            wants_usage=stream and _wants_usage(fields),
            output_ceiling=_output_ceiling(fields, choices),
            choices=choices,
            service_tier=base.text(fields, "service_tier") or None,
            fields=fields,
            body=body,
        )
        for name in _OWN:
            fields.pop(name, None)
        return call

    def error(self, error: ProductError, request_id: UUID) -> bytes:
        """OpenAI's error object, with whatever the error adds."""
        return msgspec.json.encode({"error": _error_members(error)})

    def error_frame(
        self, error: ProductError, request_id: UUID, identity: Mapping[str, Any] = base.NOTHING_SENT
    ) -> bytes:
        """One event with an error object: the official SDKs raise it with its message. No ``[DONE]`` follows."""
        return b"data: " + self.error(error, request_id) + b"\n\n"

    def stop_frames(self, identity: Mapping[str, Any], call: Call, usage: Usage, note: str) -> Sequence[bytes]:
        """A finish chunk with ``length`` for every choice, usage where the caller expects it, and the reason."""
        base_chunk = {"object": "chat.completion.chunk", **identity}
        finish = [{"index": index, "delta": {}, "finish_reason": "length"} for index in range(call.choices)]
        explained = {"hypereal": {"stopped": note}}
        shape = usage_shape(usage)
        if not call.wants_usage:
            return [_event({**base_chunk, "choices": finish, "usage": shape, **explained}), b"data: [DONE]\n\n"]
        return [
            _event({**base_chunk, "choices": finish, "usage": None, **explained}),
            _event({**base_chunk, "choices": [], "usage": shape}),
            b"data: [DONE]\n\n",
        ]


DIALECT: Final = OpenAIChat()


def _event(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def _error_members(error: ProductError) -> dict[str, Any]:
    return {
        "type": error.type,
        "message": error.message,
        "code": error.code,
        "param": error.param,
        **error.extra,
    }


def _wants_usage(fields: Fields) -> bool:
    if "stream_options" not in fields:
        return False
    options = base.member(fields, "stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise InvalidRequest("stream_options must be an object.", param="stream_options")
    asked = options.get("include_usage")
    if asked is not None and not isinstance(asked, bool):
        raise InvalidRequest("stream_options.include_usage must be true or false.", param="stream_options")
    return bool(asked)


def _output_ceiling(fields: Fields, choices: int) -> int | None:
    """``max_completion_tokens`` and ``max_tokens`` bound one choice each; where both stand, the larger is reserved."""
    named = [
        ceiling
        for name in ("max_completion_tokens", "max_tokens")
        if name in fields and (ceiling := base.count(fields, name, MOST_OUTPUT_TOKENS)) is not None
    ]
    return max(named) * choices if named else None
