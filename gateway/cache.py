"""Hypereal Cache: prompt-cache breakpoints for callers who set none of their own. Pure.

A provider caches the prefix that a breakpoint ends: tools, then the system prompt, then the messages. One behind the
tools, one behind the system prompt and one behind each of the last two user turns let the next call of a conversation
read everything that the calls before it wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from gateway.dialects.base import Fields

#: What the provider's API allows in one request.
MOST_BREAKPOINTS: Final = 4
USER_TURNS: Final = 2
#: A first system block of some clients: it changes with each version of them.
BILLING_HEADER: Final = "x-anthropic-billing-header"

_CONTROL: Final = "cache_control"
_EPHEMERAL: Final = msgspec.Raw(b'{"type":"ephemeral"}')
#: Content of user turns that may bear a breakpoint, texts aside: those must not be blank.
_MARKABLE: Final = frozenset({"image", "document", "search_result", "tool_result"})
_NOTHING: Final = (b"", b"null")

_Raws = list[msgspec.Raw]
_list_decoder = msgspec.json.Decoder(_Raws)
_object_decoder = msgspec.json.Decoder(Fields)


class Placed(NamedTuple):
    """A request with ``breakpoints`` set in it; ``own``: it came with some and was left as it is."""

    fields: Fields
    breakpoints: int
    own: bool = False


class _Block(msgspec.Struct):
    """Where a breakpoint can hide: on the block, on blocks in it, on blocks of a document's source."""

    cache_control: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()
    source: msgspec.Raw = msgspec.Raw()


_block_decoder = msgspec.json.Decoder(_Block)
_blocks_decoder = msgspec.json.Decoder(list[_Block])


class _Unreadable(Exception):
    """The request is not built as the format wants it: for the provider to say, not for us to change."""


def place(fields: Fields) -> Placed:
    """The members of a messages request with breakpoints set.

    A request that bears one of its own anywhere is left as it is, and so is one that can't be read. What is changed is
    only the block that a breakpoint stands on; everything beside it keeps its bytes.
    """
    try:
        if _bears_own(fields):
            return Placed(fields, 0, own=True)
        changed = dict(_breakpoints(fields))
    except _Unreadable:
        return Placed(fields, 0)
    breakpoints = sum(count for _, count in changed.values())
    assert breakpoints <= MOST_BREAKPOINTS
    return Placed({**fields, **{name: raw for name, (raw, _) in changed.items()}}, breakpoints)


def _bears_own(fields: Fields) -> bool:
    """Whether the request bears a breakpoint anywhere."""
    if bytes(fields.get(_CONTROL, b"")) not in _NOTHING:
        return True
    for name in ("system", "messages", "tools"):
        raw = bytes(fields.get(name, b""))
        # An escape could spell the word in another way.
        if (b"cache_control" in raw or b"\\u00" in raw) and _is_list(raw) and _marked_inside(raw):
            return True
    return False


def _breakpoints(fields: Fields) -> Iterator[tuple[str, tuple[msgspec.Raw, int]]]:
    """Each member that gets any: its new bytes and their number."""
    for name, mark in (("tools", _mark_tools), ("system", _mark_system), ("messages", _mark_turns)):
        raw = fields.get(name)
        if raw is not None and (marked := mark(raw)) is not None:
            yield name, marked


def _mark_tools(raw: msgspec.Raw) -> tuple[msgspec.Raw, int] | None:
    return _mark_last(raw, _tool_may_bear)


def _mark_system(raw: msgspec.Raw) -> tuple[msgspec.Raw, int] | None:
    return _mark_last(raw, _system_may_bear) if _is_list(raw) else _mark_text(raw)


def _mark_turns(raw: msgspec.Raw) -> tuple[msgspec.Raw, int] | None:
    """The last user turns; messages of the user that follow each other are one turn."""
    messages = _read_list(raw)
    turns = placed = 0
    in_turn = marked = False
    for index in range(len(messages) - 1, -1, -1):
        message = _read_object(messages[index])
        if _value(message, "role") != "user":
            in_turn = False
            continue
        if not in_turn:
            if turns == USER_TURNS:
                break
            turns, in_turn, marked = turns + 1, True, False
        content = message.get("content")
        if marked or content is None:
            continue
        found = _mark_last(content, _content_may_bear) if _is_list(content) else _mark_text(content)
        if found is not None:
            messages[index] = _raw({**message, "content": found[0]})
            marked, placed = True, placed + 1
    return (_raw(messages), placed) if placed else None


def _mark_last(raw: msgspec.Raw, may_bear: Callable[[Fields], bool]) -> tuple[msgspec.Raw, int] | None:
    """The list with a breakpoint on the last of its blocks that may bear one."""
    blocks = _read_list(raw)
    for index in range(len(blocks) - 1, -1, -1):
        block = _read_object(blocks[index])
        if may_bear(block):
            blocks[index] = _raw({**block, _CONTROL: _EPHEMERAL})
            return _raw(blocks), 1
    return None


def _mark_text(raw: msgspec.Raw) -> tuple[msgspec.Raw, int] | None:
    """A plain text becomes the block that it stands for."""
    text = _decode(raw)
    if not isinstance(text, str):
        raise _Unreadable
    if not text.strip() or text.startswith(BILLING_HEADER):
        return None
    return _raw([{"type": "text", "text": msgspec.Raw(raw), _CONTROL: _EPHEMERAL}]), 1


def _tool_may_bear(tool: Fields) -> bool:
    """One that is loaded later is no part of the prefix; of a whole set of tools that can't be told."""
    return not _value(tool, "defer_loading") and _value(tool, "type") != "mcp_toolset"


def _system_may_bear(block: Fields) -> bool:
    text = _text_of(block)
    return bool(text.strip()) and not text.startswith(BILLING_HEADER)


def _content_may_bear(block: Fields) -> bool:
    return bool(_text_of(block).strip()) or _value(block, "type") in _MARKABLE


def _text_of(block: Fields) -> str:
    """The text of a text block, else nothing."""
    text = _value(block, "text") if _value(block, "type") == "text" else ""
    return text if isinstance(text, str) else ""


def _marked_inside(raw: bytes) -> bool:
    try:
        blocks = _blocks_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _Unreadable from None
    return any(_is_marked(block) for block in blocks)


def _is_marked(block: _Block) -> bool:
    if bytes(block.cache_control) not in _NOTHING:
        return True
    if _is_list(block.content) and _marked_inside(bytes(block.content)):
        return True
    if bytes(block.source)[:1] != b"{":
        return False
    try:
        return _is_marked(_block_decoder.decode(block.source))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _Unreadable from None


def _is_list(raw: msgspec.Raw | bytes) -> bool:
    return bytes(memoryview(raw)[:64]).lstrip()[:1] == b"["


def _read_list(raw: msgspec.Raw) -> _Raws:
    try:
        return _list_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _Unreadable from None


def _read_object(raw: msgspec.Raw) -> Fields:
    try:
        return _object_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _Unreadable from None


def _value(fields: Fields, name: str) -> Any:
    raw = fields.get(name)
    return _decode(raw) if raw is not None else None


def _decode(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _Unreadable from None


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
