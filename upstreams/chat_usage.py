"""Reads the usage block of chat-shaped answers: OpenAI's, and all who speak its format with words of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard

from upstreams.wire import Usage

JsonObject = dict[str, Any]

#: The members that OpenAI itself uses. In a block of no others nothing needs to be looked for under foreign names.
_OWN = frozenset(
    {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"}
)
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens")
_OWN_DETAILS = frozenset({"cached_tokens", "audio_tokens"})


def usage_block(answer: JsonObject) -> JsonObject | None:
    """The usage object of a completion or of a chunk, or None. Groq hides it in ``x_groq`` unless asked."""
    usage = answer.get("usage")
    if has_counts(usage):
        return usage
    groq = answer.get("x_groq")
    if isinstance(groq, dict):
        usage = groq.get("usage")
        if has_counts(usage):
            return usage
    return None


def has_counts(block: Any) -> TypeGuard[JsonObject]:
    """Whether a usage block counts anything: one without a number above zero tells no more than none at all."""
    return isinstance(block, dict) and any(token_count(block.get(name)) for name in _COUNTS)


def read_usage(block: JsonObject, service_tier: str | None = None) -> Usage:
    """Tokens to bill, from a chat-shaped usage block.

    Cached and written tokens are parts of the input here, under half a dozen names. Output is the larger of what is
    reported and what total minus input leaves: some upstreams keep reasoning out of the completion count but bill it.
    """
    total_input = token_count(block.get("prompt_tokens")) or token_count(block.get("input_tokens"))
    reported_output = token_count(block.get("completion_tokens")) or token_count(block.get("output_tokens"))
    output = max(reported_output, token_count(block.get("total_tokens")) - total_input)
    input_details = _details(block, "prompt_tokens_details", "input_tokens_details")
    output_details = _details(block, "completion_tokens_details", "output_tokens_details")
    audio_input = token_count(input_details.get("audio_tokens"))
    written_5m = written_1h = 0
    server_tools: tuple[tuple[str, int], ...] = ()
    if _OWN.issuperset(block) and _OWN_DETAILS.issuperset(input_details):
        cached = min(token_count(input_details.get("cached_tokens")), total_input)
    else:
        cached = min(_cached(block, input_details), total_input)
        written_5m, written_1h = _written(block, input_details, cached, total_input)
        audio_input -= token_count(_details(input_details, "cached_tokens_details").get("audio_tokens"))
        server_tools = tuple(_server_tools(block))
    uncached = total_input - cached - written_5m - written_1h
    reasoning = token_count(output_details.get("reasoning_tokens")) or token_count(block.get("reasoning_tokens"))
    return Usage(
        input_tokens=total_input,
        cached_input_tokens=cached,
        cache_write_5m_tokens=written_5m,
        cache_write_1h_tokens=written_1h,
        output_tokens=output,
        reasoning_tokens=reasoning or output - reported_output,
        service_tier=service_tier,
        server_tool_calls=server_tools,
        audio_input_tokens=min(max(0, audio_input), uncached),
        audio_output_tokens=min(token_count(output_details.get("audio_tokens")), output),
    )


def tier_of(answer: JsonObject) -> str | None:
    """The service tier an answer says it was served on."""
    tier = answer.get("service_tier")
    return tier if isinstance(tier, str) and tier else None


def usage_shape(usage: Usage) -> dict[str, Any]:
    """A usage block in OpenAI's words, for a stream whose upstream sent none."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _cached(block: JsonObject, details: JsonObject) -> int:
    return max(
        token_count(details.get("cached_tokens")),
        token_count(details.get("cache_read_tokens")),
        token_count(block.get("prompt_cache_hit_tokens")),
        token_count(block.get("cached_tokens")),
        token_count(block.get("cache_read_input_tokens")),
    )


def _written(block: JsonObject, details: JsonObject, cached: int, total_input: int) -> tuple[int, int]:
    """Tokens written to a cache for 5 minutes and for an hour.

    OpenRouter reports a Gemini cache's storage fee as a write of the very tokens that it also reports as read. Those
    are not input a second time.
    """
    written = max(
        token_count(details.get("cache_write_tokens")),
        token_count(details.get("cache_creation_tokens")),
        token_count(block.get("cache_creation_input_tokens")),
    )
    if cached + written > total_input:
        written = min(max(0, written - cached), total_input - cached)
    split = block.get("cache_creation") or details.get("cache_creation_token_details")
    for_an_hour = token_count(split.get("ephemeral_1h_input_tokens")) if isinstance(split, dict) else 0
    for_an_hour = min(for_an_hour, written)
    return written - for_an_hour, for_an_hour


def _server_tools(block: JsonObject) -> Iterator[tuple[str, int]]:
    """Uses of tools that the provider runs and bills by the piece."""
    seen = set()
    for member in ("server_tool_use", "server_tool_use_details"):
        uses = block.get(member)
        for name, value in uses.items() if isinstance(uses, dict) else ():
            count = token_count(value)
            tool = str(name).removesuffix("_requests").removesuffix("_calls")
            if count and tool not in seen:
                seen.add(tool)
                yield tool, count
    for member, tool in (("num_sources_used", "search_source"), ("num_search_queries", "search_query")):
        if count := token_count(block.get(member)):
            yield tool, count


def _details(block: JsonObject, *names: str) -> JsonObject:
    for name in names:
        value = block.get(name)
        if isinstance(value, dict):
            return value
    return {}


def token_count(value: Any) -> int:
    """A token count; 0 for null, text and negative numbers."""
    if type(value) is int:
        return value if 0 < value < 10**12 else 0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e12:
        return 0
    return int(value)
