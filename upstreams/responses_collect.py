"""Between a response as a stream and as one JSON object, for upstreams that answer in the other form. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from upstreams import classify, loose_json, sse
from upstreams.errors import BadAnswer, ConnectionLost
from upstreams.responses_relay import ENDS, failure

_Object = dict[str, Any]


class _End(msgspec.Struct):
    response: msgspec.Raw


def collect(stream: bytes, *, secret: str = "", known: bytes = b"") -> bytes:
    """A whole stream as the response that its last event holds, to the byte.

    Raises UpstreamError for a failure inside the stream, ConnectionLost where it has no end.
    """
    framer = sse.Framer()
    block = framer.feed(stream)
    events = sse.split(block) if block else []
    if rest := framer.rest().strip():
        events.append(rest)
    items: dict[int, Any] = {}
    for event in events:
        data = sse.data_of(event)
        if not data or data.strip() == b"[DONE]":
            continue
        value = _object(data)
        kind = value.get("type") or sse.name_of(event).decode("latin-1")
        if kind in ("error", "response.failed", "response.cancelled") or (not kind and classify.error_of(value)):
            raise failure(value, secret=secret, known=known)
        if kind == "response.output_item.done":
            index = value.get("output_index")
            items[index if isinstance(index, int) else len(items)] = value.get("item")
        if kind in ENDS and isinstance(value.get("response"), dict):
            return _response_in(data, value["response"], items)
    raise ConnectionLost("the upstream's stream ends in the middle")


def as_stream(answer: bytes) -> bytes:
    """A whole response as the stream it could have been; feed it to a Relay. Raises BadAnswer."""
    response = _object(answer)
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    output = response.get("output")
    values: list[_Object] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(output if isinstance(output, list) else ()):
        if isinstance(item, dict):
            values += _item_events(index, item)
    kind = "response.incomplete" if response.get("status") == "incomplete" else "response.completed"
    values.append({"type": kind, "response": response})
    return b"".join(_event({**value, "sequence_number": number}) for number, value in enumerate(values))


def _response_in(data: bytes, response: _Object, items: dict[int, Any]) -> bytes:
    """The response's own bytes. Some upstreams leave it without the items that their stream has shown."""
    if items and not response.get("output"):
        return loose_json.encode({**response, "output": [items[index] for index in sorted(items)]})
    try:
        return bytes(msgspec.json.decode(data, type=_End).response)
    except (msgspec.DecodeError, msgspec.ValidationError):  # a lone surrogate
        return loose_json.encode(response)


def _item_events(index: int, item: _Object) -> list[_Object]:
    place = {"output_index": index}
    named = {**place, "item_id": item.get("id", "")}
    opened = {**item, "status": "in_progress"} if "status" in item else dict(item)
    between: list[_Object] = []
    content = item.get("content")
    if item.get("type") == "message" and isinstance(content, list):
        opened["content"] = []
        for number, part in enumerate(content):
            if isinstance(part, dict):
                between += _part_events({**named, "content_index": number}, part)
    elif item.get("type") == "function_call":
        opened["arguments"] = ""
        between = _text_events(named, "function_call_arguments", "arguments", item)
    elif item.get("type") == "custom_tool_call":
        opened["input"] = ""
        between = _text_events(named, "custom_tool_call_input", "input", item)
    return [
        {"type": "response.output_item.added", **place, "item": opened},
        *between,
        {"type": "response.output_item.done", **place, "item": item},
    ]


def _part_events(place: _Object, part: _Object) -> list[_Object]:
    member = "refusal" if part.get("type") == "refusal" else "text"
    texts = _text_events(place, "refusal" if member == "refusal" else "output_text", member, part)
    return [
        {"type": "response.content_part.added", **place, "part": {**part, member: ""}},
        *texts,
        {"type": "response.content_part.done", **place, "part": part},
    ]


def _text_events(place: _Object, what: str, member: str, whole: _Object) -> list[_Object]:
    """One delta with all of a text, and the event that repeats it."""
    text = whole.get(member)
    if not isinstance(text, str) or not text:
        return []
    more: _Object = {"logprobs": []} if what == "output_text" else {}
    name = {"name": whole.get("name", "")} if what == "function_call_arguments" else {}
    return [
        {"type": f"response.{what}.delta", **place, "delta": text, **more},
        {"type": f"response.{what}.done", **place, **name, member: text, **more},
    ]


def _event(value: _Object) -> bytes:
    return f"event: {value['type']}\n".encode() + b"data: " + loose_json.encode(value) + b"\n\n"


def _object(data: bytes) -> _Object:
    try:
        value = loose_json.decode(data)
    except ValueError:
        raise classify.not_json(data, "") from None
    if not isinstance(value, dict):
        raise BadAnswer("the upstream's stream holds something that is not an object")
    return value
