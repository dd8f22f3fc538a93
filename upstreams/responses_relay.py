"""Passes a stream of the Responses format on as it comes, and reads from it what billing and failover need. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from upstreams import classify, loose_json, sse
from upstreams.errors import BadAnswer, UpstreamError
from upstreams.estimate import TextCounter, text_members
from upstreams.responses_usage import response_usage, server_tool
from upstreams.wire import Usage

PREFACE_LIMIT_BYTES = 4 * 1024 * 1024

#: The events that end a stream in order.
ENDS = frozenset({"response.completed", "response.incomplete"})
_FAILURES = frozenset({"error", "response.failed", "response.cancelled"})
# What tells the caller nothing yet: an upstream that fails behind it can still be replaced by another.
_BEGINNINGS = frozenset({"response.created", "response.queued", "response.in_progress"})
_OPENINGS = frozenset({"response.output_item.added", "response.content_part.added"})
_EMPTY_WHEN_OPENED = frozenset({"message", "reasoning", "output_text", "refusal", "reasoning_text", "summary_text"})
# Codes of a failed response that are the caller's own fault, beside those that every format knows.
_CALLER_CODES = frozenset({
    "bio_policy", "cyber_policy", "empty_image_file", "failed_to_download_image", "image_content_policy_violation",
    "image_file_not_found", "image_file_too_large", "image_parse_error", "image_too_large", "image_too_small",
    "invalid_base64_image", "invalid_image", "invalid_image_format", "invalid_image_mode", "invalid_image_url",
    "unsupported_image_media_type",
})  # fmt: skip
# What tells that an event needs a look; that texts may hold the same words costs no more than the look.
_TELLING = re.compile(
    rb"response\.(?:completed|incomplete|failed|cancelled|output_item\.done)"
    rb'|event:\s?error|"type"\s*:\s*"error"|"error"\s*:\s*[{"]|\[DONE\]'
)
_SEQUENCE_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d{1,9})')
_TEXT_MEMBERS = text_members("delta")
_Object = dict[str, Any]


class Relay:
    """One stream on its way through; the protocol is that of `upstreams.chat_relay.Relay`.

    The event that ends it is held back until ``close``, so that the call can be settled first. The format knows no
    ``[DONE]``: what an upstream sends behind that event is dropped.
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
        self._end = b""
        self._response: _Object = {}
        self._tools: Counter[str] = Counter()
        self._text = TextCounter(_TEXT_MEMBERS)
        self._last = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """What may be sent now that ``chunk`` has arrived: slices of the upstream's own bytes."""
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
        if not rest.strip() or self.error is not None or self.done:
            return []
        data = sse.data_of(rest)
        if not rest.endswith((b"\n", b"\r")) and (data is None or _object(data) is None):
            return []  # half an event is nothing: the stream was cut there
        return self._take(rest.rstrip(b"\r\n") + b"\n\n")

    def close(self, usage: Usage | None = None) -> list[bytes]:
        """The end of a finished stream. What the upstream said of its usage stays as it is, also where that is null."""
        end = [*self._preface, self._end]
        self._preface, self._end = [], b""
        return end

    @property
    def output_tokens_estimate(self) -> int:
        """Output tokens that have come so far, by the size of their text; grows while the stream runs."""
        estimate = self._text.tokens
        return max(estimate, self.usage.output_tokens) if self.usage is not None else estimate

    @property
    def identity(self) -> Mapping[str, Any]:
        """What an event of our own must go on from: the upstream's ``response`` object and the next number."""
        numbers = _SEQUENCE_NUMBER.findall(self._last)
        return {"response": self._response, "sequence_number": int(numbers[-1]) + 1 if numbers else 0}

    def billable_usage(self, input_estimate: int) -> Usage:
        """The upstream's usage, or an estimate marked as such."""
        if self.usage is not None:
            return self.usage
        return Usage(
            input_tokens=input_estimate,
            output_tokens=self._text.tokens,
            server_tool_calls=tuple(sorted(self._tools.items())),
            estimated=True,
        )

    def _take(self, block: bytes) -> list[bytes]:
        """Whole events: runs with nothing to look at go through as one slice, the others one by one."""
        out: list[bytes] = []
        at, length = 0, len(block)
        while at < length and self.error is None and not self.done:
            end = at
            if self.first_content_seen:
                found = _TELLING.search(block, at)
                end = sse.start_of_event(block, at, found.start()) if found else length
            if end > at:
                self._plain(block if end - at == length else block[at:end], out)
            else:
                end = sse.end_of_event(block, at)
                self._event(block[at:end], out)
            at = end
        return [b"".join(out)] if len(out) > 1 else out

    def _plain(self, run: bytes, out: list[bytes]) -> None:
        """What no client could read must not reach one: a run that is not all JSON is gone through event by event."""
        if sse.holds_objects(run):
            self._count(run)
            out.append(run)
            return
        for event in sse.split(run):
            if self.error is None:
                self._event(event, out)

    def _count(self, run: bytes) -> None:
        self._last = run
        if b'"delta"' in run:  # texts outside of deltas repeat them
            self._text.add(run)

    def _event(self, event: bytes, out: list[bytes]) -> None:
        data = sse.data_of(event)
        if not data:
            self._pass_on(event, out)
            return
        if data.strip() == b"[DONE]":
            self.done = True
            return
        value = _object(data)
        if value is None:
            self.error = BadAnswer("the upstream's stream holds something that is not JSON")
            return
        kind = value.get("type") or sse.name_of(event).decode("latin-1")
        if kind in _FAILURES or (not kind and classify.error_of(value)):
            self._fail(value)
            return
        response = value.get("response")
        if kind in ENDS and isinstance(response, dict):
            self.usage = response_usage(response, self._tools)
            self._end = event
            self._response = self._response or response
            self.finished = self.done = True
            return
        if kind in _BEGINNINGS and isinstance(response, dict):
            self._response = response
        item = value.get("item")
        if kind == "response.output_item.done" and isinstance(item, dict) and (name := server_tool(item)):
            self._tools[name] += 1
        self.first_content_seen = self.first_content_seen or _is_content(str(kind), value)
        self._count(event)
        self._pass_on(event, out)

    def _fail(self, value: _Object) -> None:
        response = value.get("response")
        if isinstance(response, dict):
            self.usage = response_usage(response, self._tools)
        self.error = failure(value, secret=self._secret, known=self._known)

    def _pass_on(self, event: bytes, out: list[bytes]) -> None:
        if self.first_content_seen:
            out += self._preface
            self._preface = []
            out.append(event)
            return
        self._preface.append(event)
        self._preface_bytes += len(event)
        if self._preface_bytes > PREFACE_LIMIT_BYTES:
            self.error = BadAnswer("the upstream's stream does not come to its content")


def failure(value: Mapping[str, Any], *, secret: str = "", known: bytes = b"") -> UpstreamError:
    """What a failed response means, or the event that tells of it."""
    response = value.get("response")
    error = response.get("error") if isinstance(response, dict) else classify.error_of(value)
    if isinstance(error, dict) and str(error.get("code")) in _CALLER_CODES:
        error = {**error, "type": "invalid_request_error"}
    return classify.refuse_inside(error or {}, secret=secret, known=known)


def _is_content(kind: str, value: _Object) -> bool:
    """Whether an event brings something to the reader, were it only that a tool begins to run."""
    if not kind.startswith("response.") or kind in _BEGINNINGS:
        return False
    if kind not in _OPENINGS:
        return True
    opened = value.get("item") or value.get("part")
    return isinstance(opened, dict) and opened.get("type") not in _EMPTY_WHEN_OPENED


def _object(data: bytes) -> _Object | None:
    try:
        value = loose_json.decode(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
