"""Google's ``embedContent`` and ``batchEmbedContents``, as callers speak them. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from core.errors import InvalidRequest
from gateway.dialects import base, gemini_native
from gateway.dialects.base import Call, Fields

KIND: Final = "embeddings"
#: The formats of the two methods, by the words under which the adapters know them.
ONE: Final = "gemini.embed"
BATCH: Final = "gemini.batch_embed"
#: As many as Google takes.
MOST_REQUESTS: Final = 100

_requests_decoder = msgspec.json.Decoder(list[Fields])


class GeminiEmbed(gemini_native.GeminiNative):
    """The dialect of one of the two methods: the model stands in the path, nothing streams."""

    kind = KIND

    def __init__(self, model: str, *, batch: bool) -> None:
        super().__init__(model)
        self._batch = batch

    def call_of(self, fields: Fields, body: bytes) -> Call:
        """Reads what routing and billing need; the rest passes as it came. Raises InvalidRequest."""
        if self._batch:
            self._check_batch(fields)
        else:
            _check_texts(fields, "content")
        for name in ("hypereal", "intent", "stream"):
            fields.pop(name, None)
        return Call(
            kind=KIND,
            model=self._model.removeprefix("models/"),
            intent="",
            stream=False,
            wants_usage=False,
            output_ceiling=0,
            choices=1,
            service_tier=None,
            fields=fields,
            body=body,
            wire=BATCH if self._batch else ONE,
        )

    def _check_batch(self, fields: Fields) -> None:
        try:
            requests = _requests_decoder.decode(fields.get("requests", b"null"))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise InvalidRequest("requests must be a list of objects.", param="requests") from None
        if not 1 <= len(requests) <= MOST_REQUESTS:
            raise InvalidRequest(f"requests must hold 1 to {MOST_REQUESTS} requests.", param="requests")
        named = self._model.removeprefix("models/")
        for place, each in enumerate(requests):
            where = f"requests[{place}]"
            model = base.text(each, "model").removeprefix("models/")
            if model and model != named:
                raise InvalidRequest("Every request must name the model of the path.", param=f"{where}.model")
            if each.get("outputDimensionality") != requests[0].get("outputDimensionality"):
                message = "Every request of a batch must ask for the same outputDimensionality."
                raise InvalidRequest(message, param=f"{where}.outputDimensionality")
            _check_texts(each, f"{where}.content")


def _check_texts(fields: Fields, param: str) -> None:
    """Only text can be placed: its cost is known by its size."""
    size = base.member(fields, "outputDimensionality")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        where = param.replace("content", "outputDimensionality")
        raise InvalidRequest("outputDimensionality must be a whole number above zero.", param=where)
    content = base.member(fields, "content")
    if not isinstance(content, dict):
        raise InvalidRequest("content must be an object with parts.", param=param)
    parts = content.get("parts")
    if not isinstance(parts, list) or not parts:
        raise InvalidRequest("content.parts must be a list with at least one part.", param=f"{param}.parts")
    for place, part in enumerate(parts):
        if not isinstance(part, dict) or not isinstance(part.get("text"), str) or set(part) != {"text"}:
            raise InvalidRequest("Only parts of text can be embedded.", param=f"{param}.parts[{place}]")
