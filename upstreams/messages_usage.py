"""Reads the usage block of Anthropic's messages: additive counts, running totals, and passes that it leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import structs

from upstreams.chat_usage import token_count
from upstreams.wire import Usage

JsonObject = dict[str, Any]

#: Iterations that the top level of a usage block counts already; whatever else ran comes on top of it.
_COUNTED_ABOVE = frozenset({"message", "fallback_message"})
#: What the provider calls a region when it names none.
NO_REGION = frozenset({"", "global", "not_available"})
#: The name under which an answer that ran code in a container is priced: the provider reports no time of use.
CODE_EXECUTION = "code_execution"
_COUNTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def merge(known: JsonObject, newer: JsonObject) -> JsonObject:
    """What a stream has told so far: totals replace each other, and null leaves what was known."""
    return {**known, **{name: value for name, value in newer.items() if value is not None}}


def read_usage(block: JsonObject, *, in_container: bool = False) -> Usage:
    """Tokens to bill, from a usage block as it stands at the end of an answer.

    ``input_tokens`` there is only what no cache had a part in; reads and writes come on top. A compaction pass is not
    in the top level, nor is what ran on another model. ``in_container``: the answer ran code.
    """
    listed = block.get("iterations")
    iterations = [part for part in listed if isinstance(part, dict)] if isinstance(listed, list) else []
    usage = _one_pass(block, iterations)
    elsewhere: list[tuple[str, Usage]] = []
    for part in iterations:
        if part.get("type") not in _COUNTED_ABOVE:
            one = _one_pass(part)
            usage = _together(usage, one)
            if model := _text(part, "model"):
                elsewhere.append((model, one))
    details = block.get("output_tokens_details")
    return structs.replace(
        usage,
        reasoning_tokens=token_count(details.get("thinking_tokens")) if isinstance(details, dict) else 0,
        service_tier=_tier(block),
        server_tool_calls=tuple(_server_tools(block, in_container)),
        model=next((_text(part, "model") for part in iterations if part.get("type") == "fallback_message"), ""),
        elsewhere=tuple(elsewhere),
    )


def has_counts(block: Any) -> bool:
    """Whether a usage block counts a prompt, which none is without: else it is no better than an estimate."""
    return isinstance(block, dict) and (
        any(token_count(block.get(name)) for name in _COUNTS) or bool(block.get("iterations"))
    )


def usage_shape(usage: Usage) -> JsonObject:
    """A usage block in Anthropic's words, for a stream whose upstream sent none."""
    return {
        "input_tokens": usage.uncached_input_tokens,
        "cache_creation_input_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
    }


def _one_pass(block: JsonObject, iterations: list[JsonObject] | None = None) -> Usage:
    """The counts of one block. In a stream only its first block, and iterations, split the writes by their life.

    What a later total adds to a split is taken to live five minutes.
    """
    cached = token_count(block.get("cache_read_input_tokens"))
    written = token_count(block.get("cache_creation_input_tokens"))
    for_an_hour = _for_an_hour(block)
    if iterations:
        counted = [part for part in iterations if part.get("type") in _COUNTED_ABOVE]
        for_an_hour = max(for_an_hour, sum(map(_for_an_hour, counted)))
    for_an_hour = min(for_an_hour, written)
    return Usage(
        input_tokens=token_count(block.get("input_tokens")) + cached + written,
        cached_input_tokens=cached,
        cache_write_5m_tokens=written - for_an_hour,
        cache_write_1h_tokens=for_an_hour,
        output_tokens=token_count(block.get("output_tokens")),
    )


def _for_an_hour(block: JsonObject) -> int:
    split = block.get("cache_creation")
    return token_count(split.get("ephemeral_1h_input_tokens")) if isinstance(split, dict) else 0


def _together(one: Usage, other: Usage) -> Usage:
    return structs.replace(
        one,
        input_tokens=one.input_tokens + other.input_tokens,
        cached_input_tokens=one.cached_input_tokens + other.cached_input_tokens,
        cache_write_5m_tokens=one.cache_write_5m_tokens + other.cache_write_5m_tokens,
        cache_write_1h_tokens=one.cache_write_1h_tokens + other.cache_write_1h_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
    )


def _tier(block: JsonObject) -> str | None:
    """What decides the rates: a faster mode, a region that was named, or the service tier."""
    speed = _text(block, "speed")
    if speed not in ("", "standard"):
        return speed
    region = _text(block, "inference_geo")
    if region not in NO_REGION:
        return tier_of_region(region)
    return _text(block, "service_tier") or None


def tier_of_region(region: str) -> str:
    """The service tier of the catalog that has the rates of inference in ``region``."""
    return f"inference_geo_{region}"


def _server_tools(block: JsonObject, in_container: bool) -> Iterator[tuple[str, int]]:
    """Uses of tools that the provider runs. Its searches and fetches run code of their own that costs nothing more."""
    uses = block.get("server_tool_use")
    searched = False
    for name, value in uses.items() if isinstance(uses, dict) else ():
        if count := token_count(value):
            searched = True
            yield str(name), count
    if in_container and not searched:
        yield CODE_EXECUTION, 1


def _text(block: JsonObject, name: str) -> str:
    value = block.get(name)
    return value if isinstance(value, str) else ""
