"""Reads what a response object says it used: tokens, and the tools that the provider ran and bills by use. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from msgspec import structs

from upstreams.chat_usage import has_counts, read_usage, tier_of, token_count
from upstreams.wire import Usage

JsonObject = dict[str, Any]

#: Output items that stand for one use of a tool of the provider's, where nothing in them says otherwise.
SERVER_TOOLS = frozenset({
    "code_interpreter_call", "document_search_call", "file_search_call", "image_generation_call", "mcp_call",
    "tool_search_call", "web_search_call", "x_search_call",
})  # fmt: skip

#: What a web search item does beside searching: it opens what it found, which is part of the search.
_NO_SEARCH = frozenset({"open_page", "find_in_page", "find"})


def response_usage(response: Mapping[str, Any], seen: Mapping[str, int] = MappingProxyType({})) -> Usage | None:
    """What the call used, None where the response bears no usage.

    ``seen`` are uses of server tools that a stream has shown so far: some upstreams leave items out at the end.
    """
    block = response.get("usage")
    if not isinstance(block, dict) or not (has_counts(block) or block.get("input_tokens") == 0):
        return None  # nothing at all costs what only ends a tool's own call: there zero is what the provider means
    usage = read_usage(block, tier_of(dict(response)))
    return structs.replace(usage, server_tool_calls=tuple(merged(tools_of(response), seen).items()))


def tools_of(response: Mapping[str, Any]) -> dict[str, int]:
    """Uses of server tools by the name of their output item, from the items and from the provider's own counts."""
    output = response.get("output")
    counts = Counter(
        name
        for item in (output if isinstance(output, list) else ())
        if isinstance(item, dict) and (name := server_tool(item))
    )
    return merged(counts, _told(response))


def server_tool(item: Mapping[str, Any]) -> str | None:
    """The name under which an output item is billed by use, None for one that is not."""
    kind = item.get("type")
    if kind not in SERVER_TOOLS or item.get("execution") == "client":
        return None
    action = item.get("action")
    if kind == "web_search_call" and isinstance(action, dict) and action.get("type") in _NO_SEARCH:
        return None
    return str(kind)


def merged(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """The larger count of each: two accounts of the same uses."""
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in sorted({*one, *other})}


def usage_shape(usage: Usage) -> JsonObject:
    """A usage block in the words of this format."""
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cache_write_tokens": written, "cached_tokens": usage.cached_input_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _told(response: Mapping[str, Any]) -> dict[str, int]:
    """Counts that OpenAI puts beside the usage, and xAI into it."""
    told: dict[str, int] = {}
    tools = response.get("tool_usage")
    search = tools.get("web_search") if isinstance(tools, dict) else None
    if isinstance(search, dict) and (count := token_count(search.get("num_requests"))):
        told["web_search_call"] = count
    usage = response.get("usage")
    details = usage.get("server_side_tool_usage_details") if isinstance(usage, dict) else None
    for name, value in details.items() if isinstance(details, dict) else ():
        if count := token_count(value):
            told[str(name).removesuffix("s")] = count
    return told
