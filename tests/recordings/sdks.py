"""The vendors' libraries for Python read recorded exchanges through the gateway: nothing of an answer gets lost."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent

from tests.support.gateway import Caller

#: By the path of an endpoint: the types of its answers, whole and event by event.
_TYPES: dict[str, tuple[Any, Any]] = {
    "/chat/completions": (ChatCompletion, openai.Stream[ChatCompletionChunk]),
    "/responses": (Response, openai.Stream[ResponseStreamEvent]),
    "/embeddings": (CreateEmbeddingResponse, None),
    "/v1/messages?beta=true": (BetaMessage, anthropic.Stream[BetaRawMessageStreamEvent]),
}
SECONDS = 90


def read(caller: Caller, path: str, body: dict[str, Any]) -> list[Any]:
    """What the library made of the answer to ``body``, turned to JSON again: one value, or one an event.

    Raises the library's own errors.
    """
    origin, kind, events = f"http://127.0.0.1:{caller.port}/api", *_TYPES[path]
    client: Any
    if "messages" in path:
        client = anthropic.Anthropic(api_key=caller.secret, base_url=origin, max_retries=0, timeout=SECONDS)
    else:
        client = openai.OpenAI(api_key=caller.secret, base_url=f"{origin}/v1", max_retries=0, timeout=SECONDS)
    with client:
        if not body.get("stream"):
            return [as_json(client.post(path, body=body, cast_to=kind))]
        return [as_json(event) for event in client.post(path, body=body, cast_to=kind, stream=True, stream_cls=events)]


def as_json(read: Any) -> Any:
    """A value of a library's own type, with every member that came."""
    return read.to_dict(mode="json", use_api_names=True, exclude_unset=True, warnings=False)
