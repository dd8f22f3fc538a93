"""Exchanges of our own writing, in the shapes that providers use."""

from __future__ import annotations

import json
from typing import Any

IDENTITY = {"id": "chatcmpl-t1", "object": "chat.completion.chunk", "created": 1760000000, "model": "provider-model"}
USAGE = {
    "prompt_tokens": 21,
    "completion_tokens": 3,
    "total_tokens": 24,
    "prompt_tokens_details": {"cached_tokens": 16},
}
DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **members: Any) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return event({**IDENTITY, "choices": [choice], **members})


ROLE = chunk({"role": "assistant", "content": ""}, usage=None)
HELLO = chunk({"content": "Hello"}, usage=None)
WORLD = chunk({"content": ' world\u2028and "error" [done]'}, usage=None)
FINISH = chunk({}, "stop", usage=None)
USAGE_ONLY = event({**IDENTITY, "choices": [], "usage": USAGE})
STREAM = [ROLE, HELLO, WORLD, FINISH, USAGE_ONLY, DONE]

COMPLETION = {
    "id": "chatcmpl-t2",
    "object": "chat.completion",
    "created": 1760000000,
    "model": "provider-model",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello world"},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": USAGE,
}


def objects(stream: bytes) -> list[Any]:
    """The JSON values of a stream's events, ``[DONE]`` as text."""
    found: list[Any] = []
    for part in stream.split(b"\n\n"):
        if part.startswith(b"data: "):
            found.append("[DONE]" if part == b"data: [DONE]" else json.loads(part[6:]))
    return found
