"""Reads the usage block of Gemini's own format: running totals, thinking beside the answer, tokens by modality."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from upstreams.chat_usage import token_count
from upstreams.wire import Usage

JsonObject = dict[str, Any]

#: The name under which searches are priced, and that of pages that were fetched.
GOOGLE_SEARCH, URL_CONTEXT = "google_search", "url_context"
#: Vertex tells the speed class in these words.
_TRAFFIC = {"ON_DEMAND_PRIORITY": "priority", "ON_DEMAND_FLEX": "flex"}
#: Generations that are billed by the prompt that was grounded, however many searches that took.
_BILLED_BY_PROMPT = re.compile(r"gemini-[12](?:[.-]|$)")


def has_counts(block: Any) -> bool:
    """Whether a usage block counts anything yet; the first ones of a stream may only tell a traffic type."""
    return isinstance(block, dict) and any(
        token_count(block.get(name)) for name in ("promptTokenCount", "totalTokenCount")
    )


def read_usage(block: JsonObject, tools: Mapping[str, int] | None = None) -> Usage:
    """Tokens to bill, from a usage block as it stands at the end of an answer. ``tools``: uses of server tools.

    Cached tokens are a part of the prompt. What tools brought in comes on top of it; so does thinking on top of the
    candidates, but for models that count it there: what the total leaves beside the input is right for all of them.
    """
    prompt = token_count(block.get("promptTokenCount"))
    brought_in = token_count(block.get("toolUsePromptTokenCount"))
    candidates = token_count(block.get("candidatesTokenCount"))
    thoughts = token_count(block.get("thoughtsTokenCount"))
    total = token_count(block.get("totalTokenCount"))
    given = prompt + brought_in
    output = max(candidates, total - given) if total else candidates + thoughts
    cached = min(token_count(block.get("cachedContentTokenCount")), given)
    sound = _audio(block, "promptTokensDetails") + _audio(block, "toolUsePromptTokensDetails")
    sound -= _audio(block, "cacheTokensDetails")
    return Usage(
        input_tokens=given,
        cached_input_tokens=cached,
        output_tokens=output,
        reasoning_tokens=min(thoughts, output),
        service_tier=service_tier(block.get("serviceTier")) or _TRAFFIC.get(str(block.get("trafficType"))),
        server_tool_calls=tuple((tools or {}).items()),
        audio_input_tokens=min(max(0, sound), given - cached),
        audio_output_tokens=min(_audio(block, "candidatesTokensDetails"), output),
    )


def usage_shape(usage: Usage) -> JsonObject:
    """A usage block in Gemini's words. Members that would be zero are left out, as Google does."""
    thoughts = min(usage.reasoning_tokens, usage.output_tokens)
    shape: JsonObject = {
        "promptTokenCount": usage.input_tokens,
        "cachedContentTokenCount": usage.cached_input_tokens,
        "candidatesTokenCount": usage.output_tokens - thoughts,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
    shape = {name: count for name, count in shape.items() if count or name in ("promptTokenCount", "totalTokenCount")}
    if usage.audio_input_tokens:
        shape["promptTokensDetails"] = [
            {"modality": "TEXT", "tokenCount": usage.input_tokens - usage.audio_input_tokens},
            {"modality": "AUDIO", "tokenCount": usage.audio_input_tokens},
        ]
    if usage.audio_output_tokens:
        shape["candidatesTokensDetails"] = [{"modality": "AUDIO", "tokenCount": usage.audio_output_tokens}]
    return shape


def service_tier(value: Any) -> str | None:
    """A service tier's name as prices bear it; None for none and for the one that means "not said"."""
    name = value.lower().removeprefix("service_tier_") if isinstance(value, str) else ""
    return name if name not in ("", "unspecified") else None


class ToolsUsed:
    """Uses of the tools that the provider runs and bills, over all pieces of one answer."""

    __slots__ = ("_pages", "_queries")

    def __init__(self) -> None:
        self._queries: set[str] = set()
        self._pages: set[str] = set()

    def see(self, candidate: Mapping[str, Any]) -> None:
        """Take in one candidate; a stream repeats what it told before."""
        grounding = candidate.get("groundingMetadata")
        if isinstance(grounding, dict):
            for name in ("webSearchQueries", "imageSearchQueries"):
                self._queries.update(_texts(grounding.get(name)))
        fetched = candidate.get("urlContextMetadata")
        pages = fetched.get("urlMetadata") if isinstance(fetched, dict) else None
        for page in pages if isinstance(pages, list) else ():
            if isinstance(page, dict):
                self._pages.update(_texts([page.get("retrievedUrl")]))

    def counts(self, model_version: Any) -> dict[str, int]:
        """Uses by the name of their price; older generations count one search for the whole prompt."""
        searches = len(self._queries)
        if isinstance(model_version, str) and _BILLED_BY_PROMPT.search(model_version):
            searches = min(searches, 1)
        return {name: count for name, count in ((GOOGLE_SEARCH, searches), (URL_CONTEXT, len(self._pages))) if count}


def tools_of(candidates: Iterable[Any], model_version: Any) -> dict[str, int]:
    """Uses of server tools in a whole answer."""
    used = ToolsUsed()
    for candidate in candidates:
        if isinstance(candidate, dict):
            used.see(candidate)
    return used.counts(model_version)


def _audio(block: JsonObject, name: str) -> int:
    details = block.get(name)
    return sum(
        token_count(part.get("tokenCount"))
        for part in (details if isinstance(details, list) else ())
        if isinstance(part, dict) and part.get("modality") == "AUDIO"
    )


def _texts(values: Any) -> Iterator[str]:
    for value in values if isinstance(values, list) else ():
        if isinstance(value, str) and value:
            yield value
