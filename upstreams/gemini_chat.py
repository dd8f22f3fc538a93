"""Adapters between two formats: Gemini's own towards the caller and chat completions upstream, and the other way round.

Billing never looks at what was converted: usage, errors and the end of a stream are read by the relay of the format
that the target speaks, and only what it lets out is written anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from upstreams import (
    chat_relay,
    gemini,
    gemini_answers,
    gemini_from_chat,
    gemini_relay,
    gemini_to_chat,
    loose_json,
    openai,
    sse,
)
from upstreams.errors import UpstreamError
from upstreams.gemini_usage import usage_shape
from upstreams.wire import Target, UpstreamRequest, Usage

_Fields = Mapping[str, msgspec.Raw]
_SourceRelay = chat_relay.Relay | gemini_relay.Relay


def native_to_chat_request(target: Target, fields: _Fields, *, stream: bool) -> UpstreamRequest:
    """A native call for a target that speaks chat completions. Raises UnknownHere for what can't be said there."""
    return openai.build_request(target, _raw(gemini_to_chat.request(_decoded(fields))), stream=stream)


def chat_to_native_request(target: Target, fields: _Fields, *, stream: bool) -> UpstreamRequest:
    """A chat call for a target that speaks Gemini's format. Raises UnknownHere for what can't be said there."""
    return gemini.build_request(target, _raw(gemini_from_chat.request(_decoded(fields))), stream=stream)


def chat_as_native(body: bytes) -> bytes:
    """A whole completion as the native answer that the caller expects."""
    return loose_json.encode(gemini_answers.whole_to_native(gemini_answers.decoded(body)))


def native_as_chat(body: bytes) -> bytes:
    """A whole native answer as the completion that the caller expects."""
    return loose_json.encode(gemini_answers.whole_to_chat(gemini_answers.decoded(gemini.merged(body))))


class _Converted:
    """A stream on its way through, in other words; the same interface as `upstreams.chat_relay.Relay`."""

    def __init__(self, source: _SourceRelay, wants_usage: bool) -> None:
        self._source = source
        self._wants_usage = wants_usage

    def feed(self, chunk: bytes) -> list[bytes]:
        """What may be sent now that ``chunk`` has arrived."""
        return self._written(self._source.feed(chunk))

    def end_of_stream(self) -> list[bytes]:
        """Call it when the upstream has closed."""
        return self._written(self._source.end_of_stream())

    @property
    def first_content_seen(self) -> bool:
        return self._source.first_content_seen

    @property
    def finished(self) -> bool:
        return self._source.finished

    @property
    def done(self) -> bool:
        return self._source.done

    @property
    def error(self) -> UpstreamError | None:
        return self._source.error

    @property
    def usage(self) -> Usage | None:
        return self._source.usage

    @property
    def output_tokens_estimate(self) -> int:
        return self._source.output_tokens_estimate

    def billable_usage(self, input_estimate: int) -> Usage:
        """What the target's own words come to."""
        return self._source.billable_usage(input_estimate)

    def _written(self, blocks: Iterable[bytes]) -> list[bytes]:
        out = [event for block in blocks for event in self._events(block)]
        return [b"".join(out)] if len(out) > 1 else out

    def _events(self, block: bytes) -> list[bytes]:
        """Whole events of the target's, as events of the caller's format."""
        found = []
        for event in sse.split(block):
            data = sse.data_of(event)
            if data and data.strip() != b"[DONE]":
                found += [_event(each) for each in self._converted(gemini_answers.decoded(data))]
        return found

    def _converted(self, value: dict[str, Any]) -> Iterable[dict[str, Any]]:
        raise NotImplementedError


class NativeAsChat(_Converted):
    """A native stream for a caller who asked for a chat stream. Usage stands where that caller expects it."""

    def __init__(self, *, client_wants_usage: bool, choices: int = 1, secret: str = "", known: bytes = b"") -> None:
        super().__init__(gemini_relay.Relay(choices=choices, secret=secret, known=known), client_wants_usage)
        self._writer = gemini_answers.ToChat()

    def close(self, usage: Usage | None = None) -> list[bytes]:
        """The end of a finished stream, ``[DONE]`` included. ``usage`` is shown if the upstream sent none."""
        shown = self._source.usage or usage
        end = [each for block in self._source.close() for each in self._pieces(block)]
        block = gemini_answers.chat_usage(shown) if shown is not None else None
        if block is not None and self._wants_usage:
            end.append({**self.identity, "object": "chat.completion.chunk", "choices": [], "usage": block})
        elif block is not None and end:
            end[-1]["usage"] = block
        return [*map(_event, end), chat_relay.DONE]

    @property
    def identity(self) -> dict[str, Any]:
        """``id``, ``created`` and ``model`` of this stream, as far as known."""
        return self._writer.identity

    def _pieces(self, block: bytes) -> list[dict[str, Any]]:
        datas = [data for event in sse.split(block) if (data := sse.data_of(event))]
        return [chunk for data in datas for chunk in self._writer.chunks(gemini_answers.decoded(data))]

    def _converted(self, value: dict[str, Any]) -> Iterable[dict[str, Any]]:
        return self._writer.chunks(value)


class ChatAsNative(_Converted):
    """A chat stream for a caller who asked for a native one: its last piece bears the usage."""

    def __init__(self, *, client_wants_usage: bool, choices: int = 1, secret: str = "", known: bytes = b"") -> None:
        source = chat_relay.Relay(client_wants_usage=True, choices=choices, secret=secret, known=known)
        super().__init__(source, client_wants_usage)
        self._writer = gemini_answers.ToNative()

    def close(self, usage: Usage | None = None) -> list[bytes]:
        """The end of a finished stream. ``usage`` is shown if the upstream sent none."""
        pieces: list[dict[str, Any]] = []
        for event in sse.split(b"".join(self._source.close())):
            data = sse.data_of(event)
            if data and data.strip() != b"[DONE]":
                pieces += self._writer.pieces(gemini_answers.decoded(data))
        shown = self._source.usage or usage
        kept = [piece for piece in pieces if "candidates" in piece]
        if shown is not None:
            kept = kept or [dict(self.identity)]
            kept[-1]["usageMetadata"] = usage_shape(shown)
        return [_event(piece) for piece in kept]

    @property
    def identity(self) -> dict[str, Any]:
        """``responseId`` and ``modelVersion`` of this stream, as far as known."""
        return self._writer.identity

    def _converted(self, value: dict[str, Any]) -> Iterable[dict[str, Any]]:
        # What only counts waits for the end: some clients expect a candidate in every piece.
        return [piece for piece in self._writer.pieces(value) if "candidates" in piece]


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + loose_json.encode(value) + b"\n\n"


def _decoded(fields: _Fields) -> dict[str, Any]:
    """The members of a body. Raises UnknownHere for one that can't be read whole: it is no fault of the target's."""
    found = {}
    for name, value in fields.items():
        try:
            found[name] = loose_json.decode(bytes(value))
        except ValueError:
            raise gemini_from_chat.cannot("What this member holds", name) from None
    return found


def _raw(fields: Mapping[str, Any]) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(loose_json.encode(value)) for name, value in fields.items()}
