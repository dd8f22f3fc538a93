"""Between a message as a stream and as one JSON object, for upstreams that answer in the other form."""

from __future__ import annotations

from typing import Any

from upstreams import classify, loose_json, sse
from upstreams.errors import BadAnswer, ConnectionLost
from upstreams.messages_relay import STOP
from upstreams.messages_usage import JsonObject, merge

#: Members of a delta whose pieces are joined; what else is text there replaces what was before.
_JOINED = frozenset({"text", "thinking", "content", "partial_json"})
_PARTIAL = "partial_json"


def collect(stream: bytes, *, secret: str = "", known: bytes = b"") -> bytes:
    """A whole stream as the ``message`` it would have been.

    Raises UpstreamError for an error inside the stream, ConnectionLost if it has no end, BadAnswer if it holds no
    message.
    """
    framer = sse.Framer()
    block = framer.feed(stream)
    events = sse.split(block) if block else []
    if rest := framer.rest().strip():
        events.append(rest)
    message = _Message()
    for event in events:
        data = sse.data_of(event)
        if not data or data.strip() == b"[DONE]":
            continue
        value = _object(data)
        if value.get("type") == "error" or value.get("error") or sse.name_of(event) == b"error":
            raise classify.refuse_inside(value.get("error") or value, secret=secret, known=known)
        message.add(value)
        if message.stopped:
            break
    return message.encode()


def as_stream(answer: bytes) -> bytes:
    """A whole ``message`` as the stream it could have been; feed it to a Relay. Raises BadAnswer."""
    message = _object(answer)
    content = message.get("content")
    end = {"stop_reason": message.get("stop_reason") or "end_turn", "stop_sequence": message.get("stop_sequence")}
    end |= {name: message[name] for name in ("stop_details", "container") if message.get(name) is not None}
    usage = message.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    opening = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    opening["usage"] = {**usage, "output_tokens": 0} if usage else {}
    closing: JsonObject = {"type": "message_delta", "delta": end, "usage": usage}
    if "context_management" in message:
        closing["context_management"] = opening.pop("context_management")
    events = [_event({"type": "message_start", "message": opening})]
    for index, block in enumerate(content if isinstance(content, list) else ()):
        opened, deltas = _unfolded(block if isinstance(block, dict) else {})
        events.append(_event({"type": "content_block_start", "index": index, "content_block": opened}))
        events += [_event({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas]
        events.append(_event({"type": "content_block_stop", "index": index}))
    return b"".join([*events, _event(closing), STOP])


class _Message:
    """Grows event by event."""

    def __init__(self) -> None:
        self.stopped = False
        self._message: JsonObject | None = None
        self._usage: JsonObject = {}
        self._blocks: dict[int, JsonObject] = {}
        self._ended = False

    def add(self, value: JsonObject) -> None:
        kind = value.get("type")
        if kind == "message_start" and isinstance(value.get("message"), dict):
            self._message = dict(value["message"])  # a second one begins anew: the provider itself has tried again
            self._usage = merge({}, self._message.get("usage") or {})
            self._blocks = {}
        elif kind == "content_block_start" and isinstance(value.get("content_block"), dict):
            self._blocks[_index(value)] = dict(value["content_block"])
        elif kind == "content_block_delta" and isinstance(value.get("delta"), dict):
            _apply(self._blocks.setdefault(_index(value), {}), value["delta"])
        elif kind == "message_delta":
            self._end(value)
        elif kind == "message_stop":
            self.stopped = self._ended = True

    def _end(self, value: JsonObject) -> None:
        if self._message is None:
            return
        delta = value.get("delta")
        if isinstance(delta, dict):
            self._message |= delta
            self._ended = self._ended or bool(delta.get("stop_reason"))
        usage = value.get("usage")
        if isinstance(usage, dict):
            self._usage = merge(self._usage, usage)
        self._message |= {name: part for name, part in value.items() if name not in ("type", "delta", "usage")}

    def encode(self) -> bytes:
        if self._message is None:
            raise BadAnswer("the upstream's stream holds no message")
        if not self._ended:
            raise ConnectionLost("the upstream's stream ends in the middle")
        content = [_finished(self._blocks[index]) for index in sorted(self._blocks)]
        message = {**self._message, "content": content}
        if self._usage:
            message["usage"] = self._usage
        return loose_json.encode(message)


def _unfolded(block: JsonObject) -> tuple[JsonObject, list[JsonObject]]:
    """A block as it begins in a stream, and the deltas that fill it: clients read texts and inputs from those only."""
    kind = block.get("type")
    if kind == "text":
        cited = block.get("citations")
        citations = cited if isinstance(cited, list) else []
        opened = {**block, "text": "", **({"citations": []} if citations else {})}
        deltas = [{"type": "citations_delta", "citation": citation} for citation in citations]
        return opened, [*deltas, {"type": "text_delta", "text": block.get("text") or ""}]
    if kind == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": block.get("thinking") or ""}]
        deltas.append({"type": "signature_delta", "signature": block.get("signature") or ""})
        return {**block, "thinking": "", "signature": ""}, deltas
    if kind == "compaction":
        return {**block, "content": None}, [{"type": "compaction_delta", "content": block.get("content")}]
    if "input" in block:
        text = loose_json.encode(block["input"]).decode("utf-8", "surrogatepass")
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": text}]
    return block, []


def _apply(block: JsonObject, delta: JsonObject) -> None:
    for name, value in delta.items():
        old = block.get(name)
        if name == "type":
            continue
        if name == "citation":
            cited = block.get("citations")
            block["citations"] = [*(cited if isinstance(cited, list) else ()), value]
        elif name in _JOINED and isinstance(old, str) and isinstance(value, str):
            block[name] = old + value
        elif value is not None or old is None:
            block[name] = value


def _finished(block: JsonObject) -> JsonObject:
    """The block with the input that came as pieces of JSON text; one that was cut off stays as it began."""
    text = block.pop(_PARTIAL, None)
    if text:
        try:
            block["input"] = loose_json.decode(text.encode("utf-8", "surrogatepass"))
        except ValueError:
            pass
    block.pop("estimated_tokens", None)
    return block


def _event(value: JsonObject) -> bytes:
    return b"event: " + str(value["type"]).encode() + b"\ndata: " + loose_json.encode(value) + b"\n\n"


def _index(value: JsonObject) -> int:
    index = value.get("index")
    return index if isinstance(index, int) else 0


def _object(data: bytes) -> JsonObject:
    try:
        value: Any = loose_json.decode(data)
    except ValueError:
        raise classify.not_json(data, "") from None
    if not isinstance(value, dict):
        raise BadAnswer("the upstream's stream holds something that is not an object")
    return value
