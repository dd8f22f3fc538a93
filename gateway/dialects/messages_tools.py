"""What a messages request asks for that is billed beside its tokens, or at another model's price. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from core.errors import InvalidRequest
from gateway.dialects.base import Fields
from upstreams.messages_usage import CODE_EXECUTION

Named = tuple[str, str]

#: Tools that cost their tokens only: those that the caller runs, and those that find other tools.
_FREE: Final = frozenset({
    "", "custom", "bash", "browser_toolset", "computer", "computer_toolset", "mcp_toolset", "memory", "text_editor",
    "tool_search_tool_bm25", "tool_search_tool_regex",
})  # fmt: skip
#: Tools that the provider runs, by their name in a price: that of the count in the usage of an answer.
_BILLED: Final = {
    "web_search": "web_search_requests",
    "web_fetch": "web_fetch_requests",
    "code_execution": CODE_EXECUTION,
}
_ADVISOR: Final = "advisor"
_DATE: Final = re.compile(r"_20\d{6}$")


class _Tool(msgspec.Struct):
    """What of a tool tells who runs it."""

    type: Any = None
    model: Any = None


class _Addition(msgspec.Struct):
    """A tool that is added in the middle of a conversation: a reference, or a definition of its own."""

    definition: _Tool | None = None


class _Block(msgspec.Struct):
    type: Any = None
    tool: msgspec.Raw = msgspec.Raw()


class _Message(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw()


class _Fallback(msgspec.Struct):
    model: str
    max_tokens: int | None = None
    speed: str | None = None


_tools_decoder = msgspec.json.Decoder(list[_Tool] | None)
_messages_decoder = msgspec.json.Decoder(list[_Message])
_blocks_decoder = msgspec.json.Decoder(list[_Block])
_addition_decoder = msgspec.json.Decoder(_Addition)
_fallbacks_decoder = msgspec.json.Decoder(list[_Fallback] | None)


def wanted(fields: Fields, body: bytes) -> tuple[tuple[Named, ...], tuple[Named, ...]]:
    """Tools that are billed by use, and other models that may take part; each with the member that asks for it.

    Raises InvalidRequest where that can't be read, or names no model.
    """
    by_use: list[Named] = []
    models: list[Named] = []
    for tool, param in _tools(fields, body):
        kind = _DATE.sub("", tool.type) if isinstance(tool.type, str) else ""
        if kind == _ADVISOR:
            if not isinstance(tool.model, str) or not tool.model:
                raise InvalidRequest("An advisor must name its model.", param=f"{param}.model")
            models.append((tool.model, f"{param}.model"))
        elif kind not in _FREE:
            by_use.append((_BILLED.get(kind, kind), param))
    models += [(fallback.model, f"fallbacks[{index}].model") for index, fallback in enumerate(_fallbacks(fields))]
    return tuple(by_use), tuple(models)


def fallback_ceilings(fields: Fields) -> list[int]:
    """The ``max_tokens`` that fallbacks name for themselves. Raises InvalidRequest."""
    return [fallback.max_tokens for fallback in _fallbacks(fields) if fallback.max_tokens is not None]


def _tools(fields: Fields, body: bytes) -> Iterator[tuple[_Tool, str]]:
    raw = fields.get("tools")
    if raw is not None:
        try:
            tools = _tools_decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise InvalidRequest("tools must be a list of objects.", param="tools") from None
        for index, tool in enumerate(tools or ()):
            yield tool, f"tools[{index}]"
    # An escape could spell the word in another way.
    if b"tool_addition" in body or b"\\u00" in body:
        yield from _defined_inside(fields)


def _defined_inside(fields: Fields) -> Iterator[tuple[_Tool, str]]:
    try:
        messages = _messages_decoder.decode(fields["messages"])
        for index, message in enumerate(messages):
            if bytes(memoryview(message.content)[:64]).lstrip()[:1] != b"[":
                continue
            for block in _blocks_decoder.decode(message.content):
                if block.type == "tool_addition" and (added := _addition_decoder.decode(block.tool)).definition:
                    yield added.definition, f"messages[{index}]"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("messages hold a tool that can't be read.", param="messages") from None


def _fallbacks(fields: Fields) -> list[_Fallback]:
    raw = fields.get("fallbacks")
    if raw is None:
        return []
    try:
        fallbacks = _fallbacks_decoder.decode(raw) or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = "fallbacks must be a list of objects that name a model: the provider's own choice has no price here."
        raise InvalidRequest(message, param="fallbacks", code="fallbacks_not_offered") from None
    for index, fallback in enumerate(fallbacks):
        if fallback.speed not in (None, "standard"):
            raise InvalidRequest("This speed is not offered for a fallback.", param=f"fallbacks[{index}].speed")
    return fallbacks
