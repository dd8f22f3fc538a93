"""OpenAI's embeddings, as callers speak them: one request, one answer, never a stream. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from core.errors import InvalidRequest, ProductError
from gateway.dialects import base, openai_chat
from gateway.dialects.base import Call
from upstreams.wire import Usage

#: Members that are the gateway's own and never go upstream.
_OWN = ("hypereal", "intent")


class OpenAIEmbeddings:
    """The dialect of ``/embeddings``. Nothing streams here, so nothing can break off or be ended inside a stream."""

    kind = "embeddings"
    stream_content_type = b"application/json"
    keepalive: bytes | None = None

    def parse(self, body: bytes) -> Call:
        """Reads what routing and billing need; everything else passes as it came. Raises InvalidRequest."""
        fields = base.read_object(body)
        model, intent = base.text(fields, "model"), base.text(fields, "intent")
        if not model and not intent:
            raise InvalidRequest("The member model is missing: name the model to call.", param="model")
        given = fields.get("input")
        is_text = given is not None and bytes(memoryview(given)[:1]) == b'"' and bytes(memoryview(given)[:2]) != b'""'
        if given is None or not (is_text or base.is_filled_list(given)):
            raise InvalidRequest("input must be a text, or a list of texts or of tokens.", param="input")
        for name in _OWN:
            fields.pop(name, None)
        return Call(
            kind=self.kind,
            model=model,
            intent=intent,
            stream=False,
            wants_usage=False,
            output_ceiling=0,
            choices=1,
            service_tier=None,
            fields=fields,
            body=body,
        )

    def error(self, error: ProductError, request_id: UUID) -> bytes:
        """OpenAI's error object, with whatever the error adds."""
        return openai_chat.DIALECT.error(error, request_id)

    def error_frame(
        self, error: ProductError, request_id: UUID, identity: Mapping[str, Any] = base.NOTHING_SENT
    ) -> bytes:
        """The error itself."""
        return self.error(error, request_id)

    def stop_frames(self, identity: Mapping[str, Any], call: Call, usage: Usage, note: str) -> Sequence[bytes]:
        """No frames: the whole reservation stands before the call goes out."""
        return []


DIALECT = OpenAIEmbeddings()
