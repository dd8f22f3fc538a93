"""Passes a messages stream on as it comes, and reads from it what billing and failover need. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import structs

from upstreams import classify, loose_json, sse
from upstreams.chat_relay import HELD_LIMIT_EVENTS, PREFACE_LIMIT_BYTES
from upstreams.errors import BadAnswer, UpstreamError
from upstreams.estimate import TextCounter, text_members
from upstreams.messages_usage import JsonObject, has_counts, merge, read_usage, usage_shape
from upstreams.wire import Usage

STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

# What stands in every event that needs a look. Inside texts quotes are escaped, so that these never match there.
_TELLING = (b'"message_', b'"error"', b"[DONE]")
_BLOCK_EVENT = b'"content_block_st'
_HIDDEN_TOKENS = re.compile(rb'"estimated_tokens"\s*:\s*(\d{1,9})')
#: Blocks that begin empty and are filled by deltas; any other block is content by itself.
_FILLED_LATER = frozenset({"text", "thinking", "compaction"})


class Relay:
    """One stream on its way through; the same interface as `upstreams.chat_relay.Relay`.

    Nothing leaves before the first content, so that another target may still take over, and nothing from the event that
    bears the stop reason on, so that the call is settled before its end is told. ``usage`` grows with the stream: the
    input is known from its first event, the output is final only at its end.
    """

    def __init__(
        self, *, client_wants_usage: bool = True, choices: int = 1, secret: str = "", known: bytes = b""
    ) -> None:
        self.first_content_seen = False
        self.finished = False
        self.done = False
        self.error: UpstreamError | None = None
        self.usage: Usage | None = None
        self._secret = secret
        self._known = known
        self._framer = sse.Framer()
        self._preface: list[bytes] = []
        self._preface_bytes = 0
        self._held: list[bytes] = []
        self._block: JsonObject = {}
        self._in_container = False
        self._output_is_final = False
        self._text = _Text()
        self._message: JsonObject = {}
        self._latest_blocks = b""
        self._before = _Before()

    def feed(self, chunk: bytes) -> list[bytes]:
        """What may be sent now that ``chunk`` has arrived: slices of the upstream's own bytes."""
        self._before = _Before(self.first_content_seen, self._latest_blocks)
        if self.error is not None or self.done:
            return []
        try:
            block = self._framer.feed(chunk)
        except BadAnswer as error:
            self.error = error
            return []
        return self._take(block) if block else []

    def end_of_stream(self) -> list[bytes]:
        """Call it when the upstream has closed: takes what came without its blank line."""
        self._before = _Before(self.first_content_seen, self._latest_blocks)
        rest = self._framer.rest()
        # Half an event is nothing: the stream was cut there.
        whole = rest.strip() and _object(sse.data_of(rest) or b"") is not None
        if whole and self.error is None and not self.done:
            return self._take(rest.rstrip(b"\r\n") + b"\n\n")
        return []

    def close(self, usage: Usage | None = None) -> list[bytes]:
        """The end of a finished stream. ``usage`` is shown if the upstream sent none."""
        end = [*self._preface, *self._held]
        if usage is not None:
            for index in range(len(end) - 1, -1, -1):
                if b'"message_delta"' in end[index]:
                    end[index] = with_members(end[index], {"usage": usage_shape(usage)})
                    break
        if not self.done:
            end.append(STOP)
        self._preface, self._held = [], []
        return end

    @property
    def output_tokens_estimate(self) -> int:
        """Output tokens that have come so far, by the size of their text; grows while the stream runs."""
        estimate = self._text.estimate
        return max(estimate, self.usage.output_tokens) if self.usage is not None else estimate

    @property
    def identity(self) -> Mapping[str, Any]:
        """What an early end must fit: ``id`` and ``model``, whether the stream has ``started``, and its ``open_block``.

        As of what was handed out before the latest ``feed``, which may not have been delivered. ``open_block`` is the
        index of a block that has no end yet, else None.
        """
        found: JsonObject = {name: self._message[name] for name in ("id", "model") if name in self._message}
        return {**found, "started": self._before.started, "open_block": _open_block(self._before.blocks)}

    def billable_usage(self, input_estimate: int) -> Usage:
        """The upstream's usage; an estimate of the output, marked as such, where the stream did not come to its end."""
        if self.usage is None:
            return Usage(input_tokens=input_estimate, output_tokens=self._text.estimate, estimated=True)
        if self._output_is_final:
            return self.usage
        return structs.replace(self.usage, output_tokens=self.output_tokens_estimate, estimated=True)

    def _take(self, block: bytes) -> list[bytes]:
        """Whole events: runs with nothing to look at go through as one slice, the others one by one."""
        out: list[bytes] = []
        at, length = 0, len(block)
        while at < length and self.error is None and not self.done:
            if self.first_content_seen and not self._held:
                end = sse.end_of_plain_run(block, at, _first_telling)
                if end > at:
                    self._plain(block if end - at == length else block[at:end], out)
                    at = end
                    continue
            end = sse.end_of_event(block, at)
            self._event(block[at:end], out)
            at = end
        return [b"".join(out)] if len(out) > 1 else out

    def _plain(self, run: bytes, out: list[bytes]) -> None:
        if not sse.holds_objects(run):  # what no client could read must not reach one
            for event in sse.split(run):
                if self.error is None:
                    self._event(event, out)
            return
        self._text.add(run)
        if _BLOCK_EVENT in run:
            self._latest_blocks = run
        out.append(run)

    # ── event by event: before the first content, and where something is to be read ──────────────────────────────────
    def _event(self, event: bytes, out: list[bytes]) -> None:
        data = sse.data_of(event)
        if not data:
            self._pass_on(event, out)
            return
        value = _object(data)
        if value is None:
            if data.strip() == b"[DONE]":
                return  # some who speak this format end as others do
            self.error = BadAnswer("the upstream's stream holds something that is not JSON")
            return
        kind = value.get("type")
        if kind == "error" or value.get("error") or sse.name_of(event) == b"error":
            self.error = classify.refuse_inside(value.get("error") or value, secret=self._secret, known=self._known)
        elif kind == "message_start":
            self._start(value)
            self._pass_on(event, out)
        elif kind == "message_delta":
            self._delta(event, value, out)
        elif kind == "message_stop":
            self.done = True
            self.finished = self.finished or bool(self._message)  # else nobody has answered
            self._held.append(event)
        else:
            self._content(event, value, out)

    def _start(self, value: JsonObject) -> None:
        """A second one begins anew: the provider itself has tried again."""
        message = value.get("message")
        if isinstance(message, dict):
            self._message = message
            self._block = {}
            self._read(message.get("usage"))

    def _delta(self, event: bytes, value: JsonObject, out: list[bytes]) -> None:
        delta = value.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        self._in_container = self._in_container or bool(delta.get("container"))
        usage = value.get("usage")
        self._read(usage)
        if not delta.get("stop_reason"):
            self._pass_on(event, out)
            return
        self.finished = True
        self._output_is_final = isinstance(usage, dict) and usage.get("output_tokens") is not None
        self._held.append(event)

    def _content(self, event: bytes, value: JsonObject, out: list[bytes]) -> None:
        if _BLOCK_EVENT in event:
            self._latest_blocks = event
        if _has_content(value):
            self.first_content_seen = True
            self._text.add(event)
            if self._held:  # it was not the end after all
                self.finished = self._output_is_final = False
                out += [*self._preface, *self._held]
                self._preface, self._held = [], []
        self._pass_on(event, out)

    def _pass_on(self, event: bytes, out: list[bytes]) -> None:
        if self._held:
            self._held.append(event)
            self.done = self.done or len(self._held) > HELD_LIMIT_EVENTS  # an upstream that chatters on after its end
        elif self.first_content_seen:
            out += self._preface
            self._preface = []
            out.append(event)
        else:
            self._preface.append(event)
            self._preface_bytes += len(event)
            if self._preface_bytes > PREFACE_LIMIT_BYTES:
                self.error = BadAnswer("the upstream's stream does not come to its content")

    def _read(self, usage: Any) -> None:
        if isinstance(usage, dict) and usage:
            self._block = merge(self._block, usage)
            counted = has_counts(self._block)
            self.usage = read_usage(self._block, in_container=self._in_container) if counted else None


class _Before:
    """The state of a relay before its latest piece: whether anything had left, and the latest block events."""

    __slots__ = ("blocks", "started")

    def __init__(self, started: bool = False, blocks: bytes = b"") -> None:
        self.started = started
        self.blocks = blocks


class _Text(TextCounter):
    """Text of messages, and thinking that is not shown but counted out in steps."""

    __slots__ = ("_hidden",)

    def __init__(self) -> None:
        super().__init__(TEXT_MEMBERS)
        self._hidden = 0

    @property
    def estimate(self) -> int:
        return self.tokens + self._hidden

    def add(self, block: bytes) -> None:
        super().add(block)
        if b'"estimated_tokens"' in block:
            self._hidden += sum(map(int, _HIDDEN_TOKENS.findall(block)))


TEXT_MEMBERS = text_members("text", "partial_json", "thinking", "content")


def with_members(event: bytes, members: Mapping[str, Any]) -> bytes:
    """The event with these members at the top level of its data; all its other members keep their bytes."""
    changed = loose_json.with_members(sse.data_of(event) or b"{}", members)
    return sse.with_data(event, changed.replace(b"\r", b" ").replace(b"\n", b" "))


def _first_telling(block: bytes, start: int, stop: int) -> int:
    """Where the first word that needs a look stands; ``stop`` where there is none before it."""
    end = stop
    for word in _TELLING:
        if (found := block.find(word, start, end)) >= 0:
            end = found
    return end


def _has_content(value: JsonObject) -> bool:
    """Whether an event brings something to the reader; an empty text, a ping or a block's end do not."""
    kind = value.get("type")
    if kind == "content_block_start":
        block = value.get("content_block")
        if not isinstance(block, dict):
            return False
        if block.get("type") not in _FILLED_LATER:
            return True
        return any(block.get(name) for name in ("text", "thinking", "content"))
    if kind == "content_block_delta":
        delta = value.get("delta")
        return isinstance(delta, dict) and any(part for name, part in delta.items() if name != "type")
    return False


def _open_block(blocks: bytes) -> int | None:
    """The index of the block that the last block event in ``blocks`` opened; None where that was a block's end."""
    start = blocks.rfind(_BLOCK_EVENT)
    if start < 0:
        return None
    begin = sse.start_of_event(blocks, 0, start)
    value = _object(sse.data_of(blocks[begin : sse.end_of_event(blocks, begin)]) or b"")
    if value is None or value.get("type") != "content_block_start":
        return None
    index = value.get("index")
    return index if isinstance(index, int) else None


def _object(data: bytes) -> JsonObject | None:
    try:
        value = loose_json.decode(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
