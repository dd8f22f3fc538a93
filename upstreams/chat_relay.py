"""Passes a chat completion stream on as it comes, and reads from it what billing and failover need. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from upstreams import classify, loose_json, sse
from upstreams.chat_usage import read_usage, tier_of, usage_block, usage_shape
from upstreams.errors import BadAnswer, UpstreamError
from upstreams.estimate import TextCounter
from upstreams.wire import Usage

DONE = b"data: [DONE]\n\n"
PREFACE_LIMIT_BYTES = 1024 * 1024
HELD_LIMIT_EVENTS = 1000

_Fields = dict[str, msgspec.Raw]
# What tells that an event needs a look. Inside texts quotes are escaped, so that the first two never stand there. A
# member that is null tells nothing: how most streams write that, and how it may be written.
_TELLING = (b'"error"', b"[DONE]", b"event:")
_TELLING_UNLESS_NULL = tuple(
    (b'"%b"' % name, b'"%b":null' % name, re.compile(rb'"%b"(?!\s*:\s*null)' % name))
    for name in (b"usage", b"finish_reason")
)


@dataclass(slots=True)
class _Held:
    """An event kept back at the end of the stream."""

    event: bytes
    has_choices: bool
    finishes: bool
    shows_usage: bool


class Relay:
    """One stream on its way through.

    ``feed`` what arrives and send what it returns. Nothing leaves before the first content, so that another target may
    still take over, and nothing from the last finish chunk on, so that usage can be put where the caller expects it
    and the call be settled first: ``close`` returns that end. When the upstream's bytes end, call ``end_of_stream``; a
    relay that then is not ``finished`` was cut.

    ``finished``: every choice has come to its end. ``choices`` is how many were asked for; where an upstream sends
    fewer, ``[DONE]`` or the end of its bytes tells. ``error`` is an error the upstream reported inside the stream,
    already classified; the relay passes nothing on after it. ``usage`` is the last usage reported (running totals
    replace each other), None so far.
    """

    def __init__(self, *, client_wants_usage: bool, choices: int = 1, secret: str = "", known: bytes = b"") -> None:
        self.first_content_seen = False
        self.finished = False
        self.done = False
        self.error: UpstreamError | None = None
        self.usage: Usage | None = None
        self._wants_usage = client_wants_usage
        self._secret = secret
        self._known = known
        self._choices = choices
        self._running: set[Any] = set()
        self._ended: set[Any] = set()
        self._framer = sse.Framer()
        self._preface: list[bytes] = []
        self._preface_bytes = 0
        self._held: list[_Held] = []
        self._usage_block: Any = None
        self._usage_runs = False
        self._tier: str | None = None
        self._last_chunk: dict[str, Any] = {}
        self._text = TextCounter()

    def feed(self, chunk: bytes) -> list[bytes]:
        """What may be sent now that ``chunk`` has arrived: slices of the upstream's own bytes."""
        if self.error is not None or self.done:
            return []
        try:
            block = self._framer.feed(chunk)
        except BadAnswer as error:
            self.error = error
            return []
        if not block:
            return []
        return self._take(block)

    def end_of_stream(self) -> list[bytes]:
        """Call it when the upstream has closed: takes what came without its blank line."""
        rest = self._framer.rest()
        out: list[bytes] = []
        # Half an event is nothing: the stream was cut there.
        whole = rest.strip() and (rest.endswith((b"\n", b"\r")) or _is_whole(rest))
        if whole and self.error is None and not self.done:
            out = self._take(rest.rstrip(b"\r\n") + b"\n\n")
        self.finished = self.finished or (bool(self._ended) and not self._running)
        return out

    def close(self, usage: Usage | None = None) -> list[bytes]:
        """The end of a finished stream, ``[DONE]`` included. ``usage`` is shown if the upstream sent none."""
        block = self._usage_block
        if block is None and usage is not None:
            block = usage_shape(usage)
        end = [*self._preface, *(self._end_with_usage(block) if self._wants_usage else self._end_without(block)), DONE]
        self._preface, self._held = [], []
        return end

    @property
    def output_tokens_estimate(self) -> int:
        """Output tokens that have come so far, by the size of their text; grows while the stream runs."""
        estimate = self._text.tokens
        return max(estimate, self.usage.output_tokens) if self.usage is not None else estimate

    @property
    def identity(self) -> dict[str, Any]:
        """``id``, ``created`` and ``model`` of this stream, as far as known: what any chunk added to it must bear."""
        return {name: self._last_chunk[name] for name in ("id", "created", "model") if name in self._last_chunk}

    def billable_usage(self, input_estimate: int) -> Usage:
        """The upstream's usage, or an estimate marked as such."""
        if self.usage is not None:
            return self.usage
        return Usage(
            input_tokens=input_estimate,
            output_tokens=self._text.tokens,
            service_tier=self._tier,
            estimated=True,
        )

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
        """What no client could read must not reach one: a run that is not all JSON is gone through event by event."""
        if sse.holds_objects(run):
            self._text.add(run)
            out.append(run)
            return
        for event in sse.split(run):
            if self.error is None:
                self._event(event, out)

    # ---- event by event: before the first content, at the end, and where running usage comes

    def _event(self, event: bytes, out: list[bytes]) -> None:
        data = sse.data_of(event)
        if not data:
            self._pass_on(event, out)
            return
        if data.strip() == b"[DONE]":
            self.done = True
            self.finished = bool(self._last_chunk) or self.usage is not None  # else nobody has answered
            return
        chunk = _object(data)
        if chunk is None:
            self.error = BadAnswer("the upstream's stream holds something that is not JSON")
            return
        self._read_usage(chunk)
        error = chunk.get("error") if "choices" in chunk else classify.error_of(chunk)
        if error or sse.name_of(event) == b"error":
            self.error = classify.refuse_inside(error or chunk, secret=self._secret, known=self._known)
            return
        self._chunk(event, chunk, out)

    def _chunk(self, event: bytes, chunk: dict[str, Any], out: list[bytes]) -> None:
        choices = [choice for choice in chunk.get("choices") or () if isinstance(choice, dict)]
        content = finishes = False
        for choice in choices:
            content = content or _has_content(choice)
            index = choice.get("index")
            index = index if isinstance(index, int) else 0
            if choice.get("finish_reason"):
                finishes = True
                self._ended.add(index)
                self._running.discard(index)
            elif index not in self._ended:
                self._running.add(index)
        shows_usage = isinstance(chunk.get("usage"), dict)
        if shows_usage and choices and not finishes and not self._ended:
            self._usage_runs = True
        if choices:
            self._last_chunk = chunk
        if content:
            self.first_content_seen = True
            self._text.add(event)
            self._release_held(out)
        self.finished = not self._running and len(self._ended) >= self._choices
        if finishes or self._held or (shows_usage and not choices):
            self._held.append(_Held(event, bool(choices), finishes, shows_usage))
            if len(self._held) > HELD_LIMIT_EVENTS:
                self.done = True  # an upstream that chatters on after its end
            return
        self._pass_on(event, out)

    def _pass_on(self, event: bytes, out: list[bytes]) -> None:
        if self._held:
            self._held.append(_Held(event, has_choices=False, finishes=False, shows_usage=False))
        elif self.first_content_seen:
            out += self._preface
            self._preface = []
            out.append(event)
        else:
            self._preface.append(event)
            self._preface_bytes += len(event)
            if self._preface_bytes > PREFACE_LIMIT_BYTES:
                self.error = BadAnswer("the upstream's stream does not come to its content")

    def _release_held(self, out: list[bytes]) -> None:
        """It was not the end after all: with several choices, each has a finish chunk of its own."""
        if not self._held:
            return
        out += self._preface
        self._preface = []
        out += [held.event for held in self._held if self._wants_usage or held.has_choices or not held.shows_usage]
        self._held = []

    def _read_usage(self, chunk: dict[str, Any]) -> None:
        self._tier = tier_of(chunk) or self._tier
        block = usage_block(chunk)
        if block is not None:
            self._usage_block = block
            self.usage = read_usage(block, self._tier)

    # ---- the end

    def _end_with_usage(self, block: Any) -> list[bytes]:
        """For a caller who asked: one standard last chunk with empty choices, and usage nowhere else."""
        end = []
        standard = False
        for held in self._held:
            standard = standard or (held.shows_usage and not held.has_choices)
            moves = held.shows_usage and held.has_choices and not self._usage_runs
            end.append(_with_usage(held.event, None) if moves else held.event)
        if not standard and block is not None:
            end.append(self._own_chunk([], block))
        return end

    def _end_without(self, block: Any) -> list[bytes]:
        """For a caller who did not ask: usage on the last finish chunk, no chunk that has no choices for its sake."""
        kept = [held for held in self._held if held.has_choices or not held.shows_usage]
        end = [held.event for held in kept]
        if block is None or any(held.shows_usage for held in kept):
            return end
        for index in range(len(kept) - 1, -1, -1):
            if kept[index].finishes:
                end[index] = _with_usage(end[index], block)
                return end
        return [*end, self._own_chunk([{"index": 0, "delta": {}, "finish_reason": None}], block)]

    def _own_chunk(self, choices: list[dict[str, Any]], usage: Any) -> bytes:
        chunk = {"object": "chat.completion.chunk", **self.identity, "choices": choices, "usage": usage}
        return b"data: " + loose_json.encode(chunk) + b"\n\n"


def _first_telling(block: bytes, start: int, stop: int) -> int:
    """Where the first word that needs a look (usage, finish, error, end) stands; ``stop`` where none does."""
    end = stop
    for word in _TELLING:
        if (found := block.find(word, start, end)) >= 0:
            end = found
    for member, null, telling in _TELLING_UNLESS_NULL:
        if block.count(member, start, end) != block.count(null, start, end) and (
            match := telling.search(block, start, end)
        ):
            end = match.start()
    return end


def _has_content(choice: dict[str, Any]) -> bool:
    """Whether a choice brings something to the reader; a role, an empty text or filter results do not."""
    for part in (choice.get("delta"), choice.get("message")):
        if isinstance(part, dict):
            for name, value in part.items():
                if value and name != "role" and name != "index":
                    return True
    return bool(choice.get("text"))


def _is_whole(rest: bytes) -> bool:
    data = sse.data_of(rest)
    return data is not None and (data.strip() == b"[DONE]" or _object(data) is not None)


def _with_usage(event: bytes, usage: Any) -> bytes:
    """The event with other usage; all its other members keep their bytes."""
    data = sse.data_of(event) or b"{}"
    try:
        fields = msgspec.json.decode(data, type=_Fields)
        fields["usage"] = msgspec.Raw(loose_json.encode(usage))
        changed = msgspec.json.encode(fields)
    except (msgspec.DecodeError, msgspec.ValidationError):
        changed = loose_json.encode({**loose_json.decode(data), "usage": usage})
    return sse.with_data(event, changed.replace(b"\r", b" ").replace(b"\n", b" "))


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        value = loose_json.decode(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
