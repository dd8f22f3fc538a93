"""Plain ``/gemini``, which takes either body: with ``contents`` it is Gemini's own format, with ``messages`` OpenAI's.

Native in is native out, OpenAI in is OpenAI out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from core.errors import InvalidRequest, ProductError
from gateway.dialects import base, gemini_errors, gemini_native, openai_chat
from gateway.dialects.base import Call
from gateway.dialects.gemini_native import KIND, GeminiNative
from upstreams.wire import Usage

_TRUE: Final = msgspec.Raw(b"true")
_EVENTS: Final = b"alt=sse"


class ChatBody(openai_chat.OpenAIChat):
    """Chat completions under this address: their format, this endpoint's models and errors."""

    kind = KIND

    def error(self, error: ProductError, request_id: UUID) -> bytes:
        """Google's members are on every error of this address."""
        return msgspec.json.encode({"error": gemini_errors.members(error)})


class PlainGemini:
    """The dialect of one request to ``/gemini``; which of the two it is, its body says."""

    kind = KIND
    stream_content_type = b"text/event-stream; charset=utf-8"

    def __init__(self, query: bytes = b"") -> None:
        self._stream = _EVENTS in query.split(b"&")
        self._native = GeminiNative(stream=self._stream, says_in_body=True)
        self._spoken: GeminiNative | ChatBody = self._native
        #: That of the format that is spoken.
        self.keepalive: bytes | None = self._native.keepalive

    def parse(self, body: bytes) -> Call:
        """The call in its own format. Raises InvalidRequest."""
        fields = base.read_object(body)
        if "contents" in fields:
            return self._native.call_of(fields, body)
        if "messages" not in fields:
            message = "The body needs contents (Gemini's format) or messages (OpenAI's format)."
            raise InvalidRequest(message, param="contents")
        self._spoken = ChatBody()
        self.keepalive = self._spoken.keepalive
        call = self._spoken.parse(body)
        call.wire = openai_chat.DIALECT.kind
        call.model = call.model.removeprefix("models/")
        if self._stream and not call.stream:
            call.stream = True
            call.fields["stream"] = _TRUE
        return call

    def error(self, error: ProductError, request_id: UUID) -> bytes:
        """See `GeminiNative.error`."""
        return self._spoken.error(error, request_id)

    def error_frame(
        self, error: ProductError, request_id: UUID, identity: Mapping[str, Any] = base.NOTHING_SENT
    ) -> bytes:
        """The event of the format that is spoken."""
        return self._spoken.error_frame(error, request_id, identity)

    def stop_frames(self, identity: Mapping[str, Any], call: Call, usage: Usage, note: str) -> Sequence[bytes]:
        """The end in the format that is spoken."""
        return self._spoken.stop_frames(identity, call, usage, note)


DIALECT: Final = gemini_native.DIALECT


def method(model: str, *, stream: bool = False) -> GeminiNative:
    """The dialect of one of Google's method paths, which name the model and say whether to stream."""
    return GeminiNative(model, stream=stream)


def asks_events(query: bytes) -> bool:
    """Whether a streaming method shall answer with events; without it, it answers with one list, piece by piece."""
    return _EVENTS in query.split(b"&")
