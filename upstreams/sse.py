"""Server-sent events as bytes: incremental, pure, the same events however the network cuts them.

An event here is its raw bytes, blank line included, so that relaying it changes nothing. Lines end in LF, CRLF or CR
and in nothing else: U+2028 is text.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from upstreams.errors import BadAnswer

EVENT_LIMIT_BYTES = 64 * 1024 * 1024

#: How far ahead is searched first, then ever farther: where each event tells something, what lies behind it is searched
#: again for each one, and the whole rest of a long block would take seconds.
_LOOK_AHEAD_BYTES = 2048

_BLANK = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_BOM = b"\xef\xbb\xbf"
_NEXT_OBJECT = re.compile(rb"\n\n(?:event:[^\n]*\n)?data:")


class _Object(msgspec.Struct):
    """Any JSON object: its members are checked and skipped, nothing of them is built."""


_object = msgspec.json.Decoder(_Object).decode
_objects = msgspec.json.Decoder(list[_Object]).decode


class Framer:
    """Turns pieces of a stream into whole events."""

    __slots__ = ("_carry", "_searched")

    def __init__(self) -> None:
        self._carry = bytearray()
        self._searched = 0

    def feed(self, chunk: bytes) -> bytes:
        """Everything up to the last event boundary seen so far; empty while an event is incomplete.

        Raises BadAnswer when one event grows beyond any sensible size.
        """
        if not self._carry:
            end = _last_boundary(chunk)
            if end == len(chunk):
                return chunk
            self._carry += chunk[end:] if end else chunk
            self._searched = 0
            return chunk[:end]
        carry = self._carry
        carry += chunk
        end = _last_boundary(carry, max(0, self._searched - 4))
        if not end:
            self._searched = len(carry)
            if len(carry) > EVENT_LIMIT_BYTES:
                raise BadAnswer("an event of the upstream's stream is too long")
            return b""
        block = bytes(carry[:end])
        del carry[:end]
        self._searched = 0
        return block

    def rest(self) -> bytes:
        """What is left at the end of the stream: an event without its blank line, or part of one."""
        rest = bytes(self._carry)
        self._carry.clear()
        self._searched = 0
        return rest


def _last_boundary(data: bytes | bytearray, start: int = 0) -> int:
    """The end of the last whole event; 0 if there is none.

    A CR at the very end does not count yet: an LF may follow that belongs to it.
    """
    if b"\r" not in data:
        found = data.rfind(b"\n\n", start)
        return found + 2 if found >= 0 else 0
    end = 0
    for match in _BLANK.finditer(data, start):
        if match.end() < len(data) or data[-1] != 13:
            end = match.end()
    return end


def split(block: bytes) -> list[bytes]:
    """The events of a block that ends on an event boundary, each with its bytes as they came."""
    if b"\r" not in block:
        parts = block.split(b"\n\n")
        last = parts.pop()
        events = [part + b"\n\n" for part in parts]
        if last:
            events.append(last)
        return events
    events, start = [], 0
    for match in _BLANK.finditer(block):
        events.append(block[start : match.end()])
        start = match.end()
    if start < len(block):
        events.append(block[start:])
    return events


def end_of_plain_run(block: bytes, start: int, first_telling: Callable[[bytes, int, int], int]) -> int:
    """How far ``block`` holds nothing that needs a look, up to an event boundary.

    ``first_telling(block, start, stop)`` is where the first word that needs one stands, ``stop`` where there is none.
    """
    length, ahead = len(block), _LOOK_AHEAD_BYTES
    while start < length:
        stop = length if length - start <= ahead else end_of_event(block, start + ahead)
        end = first_telling(block, start, stop)
        if end < stop:
            return start_of_event(block, start, end)
        start = stop
        ahead *= 2
    return length


def end_of_event(block: bytes, start: int) -> int:
    """Where the event that begins at ``start`` ends, in a block that ends on an event boundary."""
    line = block.find(b"\n", start)
    if line > start and block[line - 1] != 13:  # nothing here looks farther than it must: a block may hold thousands
        found = block.find(b"\n\n", line)
        if found >= 0 and block.find(b"\r", start, found) < 0:
            return found + 2
    match = _BLANK.search(block, start)
    return match.end() if match else len(block)


def start_of_event(block: bytes, start: int, inside: int) -> int:
    """Where the event that holds the byte ``inside`` begins, not before ``start``."""
    if block.find(b"\r", start, inside) < 0:
        found = block.rfind(b"\n\n", start, inside)
        return found + 2 if found >= 0 else start
    begin = start
    for match in _BLANK.finditer(block, start, inside):
        begin = match.end()
    return begin


def holds_objects(block: bytes) -> bool:
    """Whether the data of every event in the block is one JSON object, told for a fraction of what parsing costs.

    False may also mean that it stands in a way that only a look at each event can tell: in several lines, between
    comments, behind other line ends.
    """
    start = 5 if block.startswith(b"data:") else block.find(b"\ndata:") + 6 if block.startswith(b"event:") else 0
    if not start:
        return False
    data = block[start:]
    try:
        if data.find(b"\n\n") + 2 == len(data):
            _object(data)
            return True
        try:  # nearly always all of them begin alike
            _objects(b"[%b]" % data.replace(b"\n\n" + block[:start], b","))
        except msgspec.DecodeError:
            _objects(b"[%b]" % _NEXT_OBJECT.sub(b",", data))
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def data_of(event: bytes) -> bytes | None:
    """The event's data, several lines joined by LF; None where it has none (comments, blank lines)."""
    if event.startswith(b"data:") and event.count(b"\n") <= 2 and b"\r" not in event:
        first, _, second = event.partition(b"\n")
        if not second.strip(b"\n"):
            return first[6:] if first[5:6] == b" " else first[5:]
    lines = [value for name, value in fields_of(event) if name == b"data"]
    return b"\n".join(lines) if lines else None


def name_of(event: bytes) -> bytes:
    """The event's type as its last ``event:`` line gives it; empty where there is none."""
    if b"event" not in event:
        return b""
    names = [value for name, value in fields_of(event) if name == b"event"]
    return names[-1] if names else b""


def fields_of(event: bytes) -> list[tuple[bytes, bytes]]:
    """Field names and values in order, comments left out."""
    fields = []
    for line in event.removeprefix(_BOM).splitlines():  # bytes split at CR, LF and CRLF only
        name, _, value = line.partition(b":")
        if name:
            fields.append((name, value.removeprefix(b" ")))
    return fields


def with_data(event: bytes, data: bytes) -> bytes:
    """The same event with other data, which must hold no line end; other fields and line ends stay."""
    newline = b"\r\n" if event.endswith(b"\r\n") else b"\n"
    kept = [line for line in event.splitlines() if line and not line.startswith(b"data")]
    return newline.join([*kept, b"data: " + data, b"", b""])
