"""The wire formats that are measured: what is asked, what the upstream answers, and how a right answer is told.

Every answer reports the same tokens as used, says about as many words and streams one event a token, so that formats
differ by their form alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: What every answer reports as used.
PROMPT_TOKENS: Final = 100
OUTPUT_TOKENS: Final = 50

_WORDS: Final = ("ten", "grey", "geese", "glide", "over", "calm", "lakes", "while", "reeds", "bend", "low", "and")
_ANSWER_WORDS: Final = 120
_TEXT: Final = " ".join(_WORDS[number % len(_WORDS)] for number in range(_ANSWER_WORDS))
_TOKENS: Final = [_WORDS[number % len(_WORDS)] + " " for number in range(OUTPUT_TOKENS)]
_SYSTEM: Final = "You are a terse assistant."
_PROMPT: Final = "Write a haiku of two lines about geese. "
_SAID: Final = [{"role": "user", "content": _PROMPT}]


@dataclass(frozen=True, slots=True)
class Format:
    """One wire format. ``kind`` and ``adapter`` are the catalog's words, ``path`` stands behind a base URL."""

    name: str
    kind: str
    adapter: str
    path: str
    #: What a call asks beside its model, and what a streamed one asks on top of that.
    asked: Mapping[str, Any]
    asked_of_stream: Mapping[str, Any]
    #: A whole answer, about 1 KB, and a stream, event by event.
    answer: bytes = field(repr=False)
    events: tuple[bytes, ...] = field(repr=False)
    #: What the last event of every right stream holds.
    last_word: bytes

    def body(self, model: str, *, stream: bool) -> bytes:
        """The body of one call."""
        streamed = {"stream": True, **self.asked_of_stream} if stream else {}
        return _json({"model": model, **self.asked, **streamed})

    def fault(self, body: bytes, *, stream: bool) -> str:
        """What is wrong with an answer, empty for a right one.

        Some gateways write answers anew: same members, another spacing.
        """
        if not stream:
            right = len(body) > len(self.answer) * 0.8 and b'"usage"' in body
            return "" if right else f"odd answer: {body[:160]!r}"
        events = count(body)
        if events < OUTPUT_TOKENS or self.last_word not in body[-4096:]:
            return f"{events} events, ending in {body[-160:]!r}"
        return ""


def count(stream: bytes) -> int:
    """How many events a stream has."""
    return stream.count(b"data:")


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


# ── Chat completions ─────────────────────────────────────────────────────────────────────────────────────────────────
_CHAT_IDENTITY: Final = {
    "id": "chatcmpl-bench",
    "created": 1_767_225_600,
    "model": "bench",
    "system_fingerprint": "fp_1",
}
_CHAT_USAGE: Final = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": PROMPT_TOKENS + OUTPUT_TOKENS,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}


def _chat_answer() -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": _TEXT, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return _json({**_CHAT_IDENTITY, "object": "chat.completion", "choices": [choice], "usage": _CHAT_USAGE})


def _chat_events() -> tuple[bytes, ...]:
    deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}, *({"content": word} for word in _TOKENS), {}]
    chunks = [_chat_chunk([_chat_choice(delta)]) for delta in deltas]
    chunks.append({**_chat_chunk([]), "usage": _CHAT_USAGE})
    return (*(b"data: " + _json(chunk) + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n")


def _chat_choice(delta: dict[str, str]) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None if delta else "stop"}


def _chat_chunk(choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {**_CHAT_IDENTITY, "object": "chat.completion.chunk", "choices": choices}


CHAT: Final = Format(
    name="chat",
    kind="chat",
    adapter="openai",
    path="/chat/completions",
    asked={"max_tokens": 256, "messages": [{"role": "system", "content": _SYSTEM}, *_SAID]},
    asked_of_stream={"stream_options": {"include_usage": True}},
    answer=_chat_answer(),
    events=_chat_events(),
    last_word=b"[DONE]",
)


# ── Messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────
_MESSAGE: Final = {
    "id": "msg_bench",
    "type": "message",
    "role": "assistant",
    "model": "bench",
    "stop_sequence": None,
}
_MESSAGE_USAGE: Final = {
    "input_tokens": PROMPT_TOKENS,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "service_tier": "standard",
}


def _message_answer() -> bytes:
    content = [{"type": "text", "text": _TEXT}]
    usage = {**_MESSAGE_USAGE, "output_tokens": OUTPUT_TOKENS}
    return _json({**_MESSAGE, "content": content, "stop_reason": "end_turn", "usage": usage})


def _message_events() -> tuple[bytes, ...]:
    begun: dict[str, Any] = {
        **_MESSAGE,
        "content": [],
        "stop_reason": None,
        "usage": {**_MESSAGE_USAGE, "output_tokens": 1},
    }
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    return (
        _named("message_start", message=begun),
        _named("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *(_named("content_block_delta", index=0, delta={"type": "text_delta", "text": word}) for word in _TOKENS),
        _named("content_block_stop", index=0),
        _named("message_delta", delta=ended, usage={"output_tokens": OUTPUT_TOKENS}),
        _named("message_stop"),
    )


def _named(kind: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _json({"type": kind, **members}))


MESSAGES: Final = Format(
    name="messages",
    kind="messages",
    adapter="anthropic",
    path="/messages",
    asked={"max_tokens": 256, "system": _SYSTEM, "messages": _SAID},
    asked_of_stream={},
    answer=_message_answer(),
    events=_message_events(),
    last_word=b"message_stop",
)


# ── Responses ────────────────────────────────────────────────────────────────────────────────────────────────────────
_RESPONSE: Final = {
    "id": "resp_bench",
    "object": "response",
    "created_at": 1_767_225_600,
    "error": None,
    "incomplete_details": None,
    "model": "bench",
    "parallel_tool_calls": True,
    "store": False,
    "tool_choice": "auto",
    "tools": [],
}
_RESPONSE_USAGE: Final = {
    "input_tokens": PROMPT_TOKENS,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": OUTPUT_TOKENS,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": PROMPT_TOKENS + OUTPUT_TOKENS,
}
_PLACE: Final = {"item_id": "msg_bench", "output_index": 0, "content_index": 0}


def _item(text: str | None) -> dict[str, Any]:
    """The one item of output; None where it has only begun."""
    part: dict[str, Any] = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    status, content = ("in_progress", []) if text is None else ("completed", [part])
    return {"id": "msg_bench", "type": "message", "status": status, "role": "assistant", "content": content}


def _response(text: str) -> dict[str, Any]:
    return {**_RESPONSE, "status": "completed", "output": [_item(text)], "usage": _RESPONSE_USAGE}


def _response_events() -> tuple[bytes, ...]:
    text = "".join(_TOKENS)
    begun = {**_RESPONSE, "status": "in_progress", "output": [], "usage": None}
    empty = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
    sent: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        ("response.output_item.added", {"output_index": 0, "item": _item(None)}),
        ("response.content_part.added", {**_PLACE, "part": empty}),
        *(("response.output_text.delta", {**_PLACE, "delta": word, "logprobs": []}) for word in _TOKENS),
        ("response.output_text.done", {**_PLACE, "text": text, "logprobs": []}),
        ("response.content_part.done", {**_PLACE, "part": {**empty, "text": text}}),
        ("response.output_item.done", {"output_index": 0, "item": _item(text)}),
        ("response.completed", {"response": _response(text)}),
    ]
    return tuple(_named(kind, sequence_number=number, **members) for number, (kind, members) in enumerate(sent))


RESPONSES: Final = Format(
    name="responses",
    kind="responses",
    adapter="openai",
    path="/responses",
    asked={"max_output_tokens": 256, "instructions": _SYSTEM, "input": _PROMPT, "store": False},
    asked_of_stream={},
    answer=_json(_response(_TEXT)),
    events=_response_events(),
    last_word=b"response.completed",
)

#: The formats that are measured beside chat.
OTHERS: Final = (MESSAGES, RESPONSES)
FORMATS: Final = (CHAT, *OTHERS)
