"""A conversation goes to the same one of equal targets, so that the prompt cache which it filled is read again.

Which one is computed, not remembered: every process finds the same target without sharing anything (rendezvous
hashing), and a target that comes or goes moves only its own share. Health goes first: the order made here is the order
in which targets are asked, and those that are left out are passed over as ever.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any, Final
from uuid import UUID

import msgspec

from catalog.entries import TargetEntry
from gateway.dialects.base import Call

#: Headers by which clients name a conversation: OpenCode's, Claude Code's, Codex's.
_SESSION_HEADERS: Final = (
    b"x-session-affinity", b"x-session-id", b"x-claude-code-session-id", b"session-id", b"session_id", b"thread-id",
    b"conversation-id", b"conversation_id",
)  # fmt: skip
#: Members that name a conversation, or the person behind it.
_SESSION_MEMBERS: Final = ("prompt_cache_key", "conversation", "safety_identifier", "user")
#: What stands in front of a conversation, and the list that it grows at the end of.
_FRONT: Final = ("system", "instructions", "systemInstruction", "system_instruction")
_GROWING: Final = ("messages", "input", "contents")
_LEADING: Final = 2
_MOST_CHARACTERS: Final = 16_384
#: Claude Code's first system block changes with each of its versions.
_CHANGING: Final = "x-anthropic-billing-header"
_WEIGHT_BYTES: Final = 8


def has_equals(chain: Sequence[TargetEntry]) -> bool:
    """Whether two targets stand at one position, so that it matters who asks."""
    return any(one.position == other.position for one, other in pairwise(chain))


def ordered(
    chain: Sequence[TargetEntry], headers: Mapping[bytes, bytes], call: Call, workspace_id: UUID
) -> list[TargetEntry]:
    """``chain`` with targets of equal position in the order of this conversation.

    Those that a call must be converted for are no equals of those that speak its format.
    """
    identity = identity_of(headers, call, workspace_id)
    return [
        entry
        for _, equals in groupby(chain, key=lambda entry: (call.spoken in entry.kinds, entry.position))
        for entry in sorted(equals, key=lambda entry: _weight(identity, entry), reverse=True)
    ]


def identity_of(headers: Mapping[bytes, bytes], call: Call, workspace_id: UUID) -> bytes:
    """What stays the same over the calls of a conversation, as a digest; two workspaces never share one.

    What the client says comes first. A response that its provider keeps, and one that goes on from such a one, can be
    told apart by nothing that both bear: there it is the workspace, so that what is gone on from is found.
    """
    words = hashlib.blake2b(workspace_id.bytes, digest_size=16)
    for word in _said(headers, call):
        words.update(word)
        return words.digest()
    if call.kind == "responses" and _is_kept(call.fields):
        return words.digest()
    words.update(call.model.encode())
    for text in _leading(call.fields):
        words.update(text.encode("utf-8", "replace"))
    return words.digest()


def _is_kept(fields: Mapping[str, msgspec.Raw]) -> bool:
    return "previous_response_id" in fields or bytes(fields.get("store", b"")) != b"false"


def _said(headers: Mapping[bytes, bytes], call: Call) -> Iterator[bytes]:
    """Names of the conversation, the most telling first."""
    fields = call.fields
    if "prompt_cache_key" in fields:
        yield from _as_bytes(fields["prompt_cache_key"])
    for name in _SESSION_HEADERS:
        if value := headers.get(name):
            yield value
    if call.kind == "messages" and "metadata" in fields:
        metadata = _decoded(fields["metadata"])
        user = metadata.get("user_id") if isinstance(metadata, dict) else None
        if isinstance(user, str) and user:
            yield user.encode("utf-8", "replace")
    for member in _SESSION_MEMBERS:
        if member in fields:
            yield from _as_bytes(fields[member])


def _as_bytes(raw: msgspec.Raw) -> Iterator[bytes]:
    value = bytes(raw)
    if value not in (b"null", b'""', b"{}"):
        yield value


def _leading(fields: Mapping[str, msgspec.Raw]) -> Iterator[str]:
    """The text that a conversation begins with: instructions and the first messages, without marks of caching."""
    for name in _FRONT:
        if name in fields:
            yield from _texts(_decoded(fields[name]))
    for name in _GROWING:
        if name in fields:
            for item in _first(fields[name]):
                yield from _texts(item)


def _first(raw: msgspec.Raw) -> list[Any]:
    """The first items of a list, or the value itself, without decoding what follows."""
    try:
        items = msgspec.json.decode(raw, type=list[msgspec.Raw])
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return [_decoded(raw)]
    return [_decoded(item) for item in items[:_LEADING]]


def _texts(value: Any) -> Iterator[str]:
    """Every text inside, in order; what only tells how to cache is left out."""
    if isinstance(value, str):
        if not value.startswith(_CHANGING):
            yield value[:_MOST_CHARACTERS]
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name in sorted(value):
            if name not in ("cache_control", "id", "type"):
                yield from _texts(value[name])
    elif value is not None:
        yield json.dumps(value)


def _decoded(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _weight(identity: bytes, entry: TargetEntry) -> bytes:
    return hashlib.blake2b(identity + entry.id.bytes, digest_size=_WEIGHT_BYTES).digest()
