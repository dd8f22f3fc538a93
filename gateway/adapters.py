"""Which functions speak to an upstream: one small table by endpoint kind and the provider's adapter word."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import msgspec

from upstreams import anthropic, chat_collect, embeddings, messages_collect, openai, responses
from upstreams.errors import UpstreamError
from upstreams.wire import Target, UpstreamRequest, Usage


class Relay(Protocol):
    """One stream on its way through; see `upstreams.chat_relay.Relay`."""

    first_content_seen: bool
    finished: bool
    done: bool
    error: UpstreamError | None
    usage: Usage | None

    def feed(self, chunk: bytes) -> list[bytes]: ...

    def end_of_stream(self) -> list[bytes]: ...

    def close(self, usage: Usage | None = None) -> list[bytes]: ...

    @property
    def output_tokens_estimate(self) -> int: ...

    @property
    def identity(self) -> Mapping[str, Any]: ...

    def billable_usage(self, input_estimate: int) -> Usage: ...


class BuildRequest(Protocol):
    def __call__(self, target: Target, fields: Mapping[str, msgspec.Raw], *, stream: bool) -> UpstreamRequest: ...


class Complete(Protocol):
    def __call__(self, body: bytes, *, input_estimate: int, secret: str, known: bytes) -> Usage: ...


class Collect(Protocol):
    def __call__(self, stream: bytes, *, secret: str, known: bytes) -> bytes: ...


class OpenRelay(Protocol):
    def __call__(self, *, client_wants_usage: bool, choices: int, secret: str, known: bytes) -> Relay: ...


class BuildCount(Protocol):
    def __call__(self, target: Target, fields: Mapping[str, msgspec.Raw]) -> UpstreamRequest: ...


class CheckCount(Protocol):
    def __call__(self, body: bytes, *, secret: str, known: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Count:
    """How a target is asked to count a prompt's tokens; ``check`` raises UpstreamError for what is no such answer."""

    build_request: BuildCount
    check: CheckCount


@dataclass(frozen=True, slots=True)
class Adapter:
    """The few functions by which one wire format is spoken to a provider. All pure."""

    build_request: BuildRequest
    complete: Complete
    collect: Collect
    as_stream: Callable[[bytes], bytes]
    relay: OpenRelay
    #: None where the format has no way to count without answering.
    count: Count | None = None


_MESSAGES: Final = Adapter(
    build_request=anthropic.build_request,
    complete=anthropic.complete,
    collect=messages_collect.collect,
    as_stream=messages_collect.as_stream,
    relay=anthropic.Relay,
    count=Count(anthropic.count_request, anthropic.counted),
)

ADAPTERS: Final[Mapping[tuple[str, str], Adapter]] = {
    ("chat", "openai"): Adapter(
        build_request=openai.build_request,
        complete=openai.complete,
        collect=chat_collect.collect,
        as_stream=chat_collect.as_stream,
        relay=openai.Relay,
    ),
    ("messages", "anthropic"): _MESSAGES,
    # Some who speak several vendors' formats: they want the key where OpenAI's clients put it.
    ("messages", "openai"): replace(
        _MESSAGES,
        build_request=anthropic.build_bearer_request,
        count=Count(anthropic.count_bearer_request, anthropic.counted),
    ),
    ("responses", "openai"): Adapter(
        build_request=responses.build_request,
        complete=responses.complete,
        collect=responses.collect,
        as_stream=responses.as_stream,
        relay=responses.Relay,
    ),
    ("embeddings", "openai"): Adapter(
        build_request=embeddings.build_request,
        complete=embeddings.complete,
        collect=embeddings.collect,
        as_stream=embeddings.never_streamed,
        relay=embeddings.never_streamed,
    ),
}
