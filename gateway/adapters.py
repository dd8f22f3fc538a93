"""Which functions speak to an upstream: one small table by endpoint kind and the provider's adapter word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import msgspec

from catalog.entries import TargetEntry
from upstreams import (
    anthropic,
    chat_collect,
    embeddings,
    gemini,
    gemini_chat,
    gemini_embed,
    messages_collect,
    openai,
    responses,
)
from upstreams.errors import UpstreamError
from upstreams.wire import Target, UpstreamRequest, Usage


class Relay(Protocol):
    """One stream on its way through; see `upstreams.chat_relay.Relay`."""

    @property
    def first_content_seen(self) -> bool: ...

    @property
    def finished(self) -> bool: ...

    @property
    def done(self) -> bool: ...

    @property
    def error(self) -> UpstreamError | None: ...

    @property
    def usage(self) -> Usage | None: ...

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
    #: Makes a whole answer what the caller expects, where the target answers in another form or format.
    answer: Callable[[bytes], bytes] | None = None
    #: Whether requests are written anew in another format, which takes a while for megabytes.
    converts: bool = False


_MESSAGES: Final = Adapter(
    build_request=anthropic.build_request,
    complete=anthropic.complete,
    collect=messages_collect.collect,
    as_stream=messages_collect.as_stream,
    relay=anthropic.Relay,
    count=Count(anthropic.count_request, anthropic.counted),
)

_GEMINI: Final = Adapter(
    build_request=gemini.build_request,
    complete=gemini.complete,
    collect=gemini.collect,
    as_stream=gemini.as_stream,
    relay=gemini.Relay,
    count=Count(gemini.count_request, gemini.counted),
    answer=gemini.merged,
)

_GEMINI_EMBED: Final = Adapter(
    build_request=gemini_embed.build_request,
    complete=gemini_embed.complete,
    collect=embeddings.collect,
    as_stream=embeddings.never_streamed,
    relay=embeddings.never_streamed,
)

_GEMINI_EMBED_BY_OPENAI: Final = replace(
    _GEMINI_EMBED,
    build_request=gemini_embed.to_openai,
    complete=embeddings.complete,
    answer=gemini_embed.from_openai,
    converts=True,
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
        count=Count(responses.count_request, responses.counted),
    ),
    ("responses.compact", "openai"): Adapter(
        build_request=responses.build_compact_request,
        complete=responses.complete,
        collect=responses.collect,
        as_stream=responses.as_stream,
        relay=responses.Relay,
    ),
    ("gemini", "gemini"): _GEMINI,
    ("gemini", "openai"): replace(
        _GEMINI,
        build_request=gemini.build_bearer_request,
        count=Count(gemini.count_bearer_request, gemini.counted),
    ),
    ("embeddings", "openai"): Adapter(
        build_request=embeddings.build_request,
        complete=embeddings.complete,
        collect=embeddings.collect,
        as_stream=embeddings.never_streamed,
        relay=embeddings.never_streamed,
    ),
    ("gemini.embed", "gemini"): replace(_GEMINI_EMBED, build_request=gemini_embed.build_one),
    ("gemini.batch_embed", "gemini"): _GEMINI_EMBED,
    ("gemini.embed", "openai"): replace(_GEMINI_EMBED_BY_OPENAI, answer=gemini_embed.one_from_openai),
    ("gemini.batch_embed", "openai"): _GEMINI_EMBED_BY_OPENAI,
}

#: Formats beside an endpoint kind's first one, which the same providers speak.
VARIANTS: Final[Mapping[str, str]] = {
    "responses.compact": "responses",
    "gemini.embed": "embeddings",
    "gemini.batch_embed": "embeddings",
}

#: By the format of the caller, the format of the target, and the adapter's word: between two formats.
CONVERSIONS: Final[Mapping[tuple[str, str, str], Adapter]] = {
    ("gemini", "chat", "openai"): Adapter(
        build_request=gemini_chat.native_to_chat_request,
        complete=openai.complete,
        collect=chat_collect.collect,
        as_stream=chat_collect.as_stream,
        relay=gemini_chat.ChatAsNative,
        answer=gemini_chat.chat_as_native,
        converts=True,
    ),
    ("chat", "gemini", "gemini"): Adapter(
        build_request=gemini_chat.chat_to_native_request,
        complete=gemini.complete,
        collect=gemini.collect,
        as_stream=gemini.as_stream,
        relay=gemini_chat.NativeAsChat,
        answer=gemini_chat.native_as_chat,
        converts=True,
    ),
}


def adapter_for(spoken: str, entry: TargetEntry) -> Adapter | None:
    """How a call in the format of that endpoint kind is put to a target; None where there is no way.

    A target that speaks the format itself is never asked in another one.
    """
    word = entry.target.adapter
    if VARIANTS.get(spoken, spoken) in entry.kinds:
        return ADAPTERS.get((spoken, word))
    for kind in sorted(entry.kinds):
        if (found := CONVERSIONS.get((spoken, kind, word))) is not None:
            return found
    return None


def chain_for(spoken: str, targets: Iterable[TargetEntry]) -> list[TargetEntry]:
    """The targets that can be asked, in order; those that a call must be converted for come behind the others."""
    targets = tuple(targets)
    if len(targets) == 1:
        return list(targets) if adapter_for(spoken, targets[0]) is not None else []
    ways = [(adapter, entry) for entry in targets if (adapter := adapter_for(spoken, entry)) is not None]
    return [entry for _, entry in sorted(ways, key=lambda way: way[0].converts)]
