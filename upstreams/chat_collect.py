"""Between a chat completion as a stream and as one JSON object, for upstreams that answer in the other form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from upstreams import classify, loose_json, sse
from upstreams.chat_usage import usage_block
from upstreams.errors import BadAnswer, ConnectionLost

_JOINED = frozenset({"content", "refusal", "reasoning", "reasoning_content", "arguments", "transcript", "data"})


def collect(stream: bytes, *, secret: str = "", known: bytes = b"") -> bytes:
    """A whole stream as the ``chat.completion`` it would have been.

    Raises UpstreamError for an error inside the stream, ConnectionLost if it has no end, BadAnswer if it has no chunk.
    """
    framer = sse.Framer()
    block = framer.feed(stream)
    events = sse.split(block) if block else []
    if rest := framer.rest().strip():
        events.append(rest)
    completion = _Completion()
    for event in events:
        data = sse.data_of(event)
        if not data:
            continue
        if data.strip() == b"[DONE]":
            completion.ended = True
            break
        chunk = _object(data)
        error = chunk.get("error") if "choices" in chunk else classify.error_of(chunk)
        if error:
            raise classify.refuse_inside(error, secret=secret, known=known)
        completion.add(chunk)
    return completion.encode()


def as_stream(answer: bytes) -> bytes:
    """A whole ``chat.completion`` as the stream it could have been; feed it to a Relay. Raises BadAnswer."""
    completion = _object(answer)
    base = {**completion, "object": "chat.completion.chunk"}
    usage = base.pop("usage", None)
    chunks = []
    choices = completion.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        message = choice.get("message")
        delta = dict(message) if isinstance(message, dict) else {}
        if isinstance(calls := delta.get("tool_calls"), list):
            delta["tool_calls"] = [{"index": i, **call} for i, call in enumerate(calls) if isinstance(call, dict)]
        piece = {"index": choice.get("index", 0), "delta": delta, "finish_reason": None}
        if choice.get("logprobs"):
            piece["logprobs"] = choice["logprobs"]
        end = {"index": piece["index"], "delta": {}, "finish_reason": choice.get("finish_reason") or "stop"}
        chunks += [{**base, "choices": [piece]}, {**base, "choices": [end]}]
    if usage:
        chunks.append({**base, "choices": [], "usage": usage})
    return b"".join(b"data: " + loose_json.encode(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


class _Completion:
    """Grows chunk by chunk."""

    def __init__(self) -> None:
        self.ended = False
        self._top: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def add(self, chunk: dict[str, Any]) -> None:
        for name, value in chunk.items():
            if name not in ("choices", "object", "usage", "obfuscation") and value not in (None, "", 0):
                self._top[name] = value
        usage = usage_block(chunk)
        if usage is not None:
            self._top["usage"] = usage  # the last one: running totals replace each other
        for choice in chunk.get("choices") or ():
            if isinstance(choice, dict):
                self._add_choice(choice)

    def _add_choice(self, piece: dict[str, Any]) -> None:
        index = piece.get("index")
        index = index if isinstance(index, int) else 0
        choice = self._choices.setdefault(
            index, {"index": index, "message": {"role": "assistant", "content": None}, "finish_reason": None}
        )
        for name, value in piece.items():
            if name in ("delta", "message") and isinstance(value, dict):
                _merge(choice["message"], value)
            elif name == "logprobs" and isinstance(value, dict):
                _merge(choice.setdefault("logprobs", {}), value)
            elif name != "index" and value:
                choice[name] = value

    def encode(self) -> bytes:
        choices = [self._choices[index] for index in sorted(self._choices)]
        if not choices:
            raise BadAnswer("the upstream's stream holds no completion")
        if not self.ended and not any(choice["finish_reason"] for choice in choices):
            raise ConnectionLost("the upstream's stream ends in the middle")
        for choice in choices:
            choice["finish_reason"] = choice["finish_reason"] or "stop"
            choice.setdefault("logprobs", None)
            for call in choice["message"].get("tool_calls", ()):
                call.pop("index", None)
        return loose_json.encode({**self._top, "object": "chat.completion", "choices": choices})


def _merge(message: dict[str, Any], delta: dict[str, Any]) -> None:
    """Adds a delta: texts that come in pieces are joined, lists go on, the rest is replaced."""
    for name, value in delta.items():
        if value is None:
            continue
        old = message.get(name)
        if name == "tool_calls" and isinstance(value, list):
            _merge_calls(message.setdefault(name, []), value)
        elif name in _JOINED and isinstance(old, str) and isinstance(value, str):
            message[name] = old + value
        elif isinstance(value, list):
            message[name] = [*old, *value] if isinstance(old, list) else value
        elif isinstance(value, dict):
            target = old if isinstance(old, dict) else {}
            _merge(target, value)
            message[name] = target
        elif value != "" or old is None:
            message[name] = value


def _merge_calls(calls: list[dict[str, Any]], pieces: Iterable[Any]) -> None:
    """Pieces of one call share an index; where a provider leaves it out, a new id begins a new call."""
    for position, piece in enumerate(pieces):
        if not isinstance(piece, dict):
            continue
        index = piece.get("index")
        if not isinstance(index, int):
            begins = piece.get("id") and all(call.get("id") != piece["id"] for call in calls)
            index = len(calls) if begins else max(position, len(calls) - 1)
        call = next((call for call in calls if call.get("index") == index), None)
        if call is None:
            call = {"index": index}
            calls.append(call)
        _merge(call, piece)


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = loose_json.decode(data)
    except ValueError:
        raise classify.not_json(data, "") from None
    if not isinstance(value, dict):
        raise BadAnswer("the upstream's stream holds something that is not an object")
    return value
