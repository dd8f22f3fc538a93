"""Passes a stream of Gemini's own format on as it comes, and reads from it what billing and failover need. Pure."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from upstreams import classify, gemini_parts, loose_json, sse
from upstreams.chat_relay import HELD_LIMIT_EVENTS, PREFACE_LIMIT_BYTES
from upstreams.errors import BadAnswer, UpstreamError
from upstreams.gemini_parts import JsonObject
from upstreams.gemini_usage import ToolsUsed, has_counts, read_usage, usage_shape
from upstreams.messages_relay import with_members
from upstreams.wire import Usage


class Relay:
    """One stream on its way through; the same interface as `upstreams.chat_relay.Relay`.

    Nothing leaves before the first content, so that another target may still take over, and nothing from the last
    finish reason on, so that the call is settled before its end is told. Only events with data go on: Google's clients
    break at comments. ``usage`` is the last running total, None while nothing was counted.
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
        self._choices = choices
        self._running: set[int] = set()
        self._ended: set[int] = set()
        self._framer = sse.Framer()
        self._preface: list[bytes] = []
        self._preface_bytes = 0
        self._held: list[bytes] = []
        self._block: JsonObject = {}
        self._counted_last = False
        self._tools = ToolsUsed()
        self._shown_tokens = 0
        self._identity: JsonObject = {}

    def feed(self, chunk: bytes) -> list[bytes]:
        """What may be sent now that ``chunk`` has arrived: the upstream's own bytes."""
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
        rest = self._framer.rest()
        out: list[bytes] = []
        # Half an event is nothing: the stream was cut there.
        if rest.strip() and self.error is None and not self.done and _object(sse.data_of(rest) or b"") is not None:
            out = self._take(rest.rstrip(b"\r\n") + b"\n\n")
        self.finished = self.finished or (bool(self._ended) and not self._running)
        return out

    def close(self, usage: Usage | None = None) -> list[bytes]:
        """The end of a finished stream. ``usage`` is shown if the upstream sent none."""
        end = [*self._preface, *self._held]
        block = self._block or (usage_shape(usage) if usage is not None else None)
        if block and end and not any(b'"usageMetadata"' in event for event in end):
            end[-1] = with_members(end[-1], {"usageMetadata": block})
        self._preface, self._held = [], []
        return end

    @property
    def output_tokens_estimate(self) -> int:
        """Output tokens that have come so far, by what was shown and by running totals."""
        return max(self._shown_tokens, self.usage.output_tokens) if self.usage is not None else self._shown_tokens

    @property
    def identity(self) -> JsonObject:
        """``responseId`` and ``modelVersion`` of this stream, as far as known."""
        return self._identity

    def billable_usage(self, input_estimate: int) -> Usage:
        """The upstream's usage; an estimate, marked as such, where its last count came before its last content."""
        if self.usage is None:
            tools = tuple(self._tools.counts(self._identity.get("modelVersion")).items())
            return Usage(input_estimate, output_tokens=self._shown_tokens, server_tool_calls=tools, estimated=True)
        if self.finished and self._counted_last:
            return self.usage
        return structs.replace(self.usage, output_tokens=self.output_tokens_estimate, estimated=True)

    def _take(self, block: bytes) -> list[bytes]:
        out: list[bytes] = []
        for event in sse.split(block):
            if self.error is None and not self.done:
                self._event(event, out)
        return [b"".join(out)] if len(out) > 1 else out

    def _event(self, event: bytes, out: list[bytes]) -> None:
        data = sse.data_of(event)
        if not data:
            return
        if data.strip() == b"[DONE]":  # some who speak this format end as others do
            self.done = True
            self.finished = self.finished or (bool(self._ended) and not self._running)
            return
        piece = _object(data)
        if piece is None:
            self.error = BadAnswer("the upstream's stream holds something that is not JSON")
        elif error := (piece.get("error") if "candidates" in piece else classify.error_of(piece)):
            self.error = classify.refuse_inside(error, secret=self._secret, known=self._known)
        else:
            self._piece(event, piece, out)

    def _piece(self, event: bytes, piece: JsonObject, out: list[bytes]) -> None:
        self._identity |= {name: piece[name] for name in ("responseId", "modelVersion") if piece.get(name)}
        content = finishes = False
        for candidate in gemini_parts.candidates_of(piece):
            self._tools.see(candidate)
            content = content or any(map(gemini_parts.has_content, gemini_parts.parts_of(candidate)))
            index = gemini_parts.index_of(candidate)
            if gemini_parts.finish_of(candidate):
                finishes = True
                self._ended.add(index)
                self._running.discard(index)
            elif index not in self._ended:
                self._running.add(index)
        blocked = bool(gemini_parts.block_reason(piece)) and not gemini_parts.candidates_of(piece)
        self._read(piece.get("usageMetadata"), content=content)
        if content:
            self.first_content_seen = True
            self._shown_tokens += gemini_parts.tokens_in(piece)
            if self._held:  # it was not the end after all
                out += [*self._preface, *self._held]
                self._preface, self._held = [], []
        self.finished = blocked or (not self._running and len(self._ended) >= self._choices)
        if finishes or blocked or self._held:
            self._hold(event)
        else:
            self._pass_on(event, out)

    def _hold(self, event: bytes) -> None:
        self._held.append(event)
        self.done = len(self._held) > HELD_LIMIT_EVENTS  # an upstream that chatters on after its end

    def _pass_on(self, event: bytes, out: list[bytes]) -> None:
        if self.first_content_seen:
            out += [*self._preface, event]
            self._preface = []
            return
        self._preface.append(event)
        self._preface_bytes += len(event)
        if self._preface_bytes > PREFACE_LIMIT_BYTES:
            self.error = BadAnswer("the upstream's stream does not come to its content")

    def _read(self, block: Any, *, content: bool) -> None:
        if has_counts(block):
            self._block = block
            self._counted_last = True
        elif content:
            self._counted_last = False
        if self._block:
            self.usage = read_usage(self._block, self._tools.counts(self._identity.get("modelVersion")))


def _object(data: bytes) -> JsonObject | None:
    try:
        value = loose_json.decode(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
