"""The length of a WebM recording, as browsers make them: told in its head, or read from its last block. Pure.

A recorder that writes as it hears can't go back to its head, so the times of clusters and blocks count (Matroska, RFC
9559; EBML, RFC 8794). Elements are stepped over, not built.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

_SEGMENT, _INFO, _SCALE, _DURATION = 0x18538067, 0x1549A966, 0x2AD7B1, 0x4489
_CLUSTER, _CLUSTER_TIME, _SIMPLE_BLOCK, _GROUP, _BLOCK = 0x1F43B675, 0xE7, 0xA3, 0xA0, 0xA1
_MASTERS: Final = frozenset({_SEGMENT, _INFO, _CLUSTER, _GROUP})
_USUAL_SCALE: Final = 1_000_000
_NANOSECONDS: Final = 1e9
#: What a block holds after the time at which it begins: Opus speaks in pieces of 20 ms, and recorders put 60 in one.
_LAST_BLOCK_SECONDS: Final = 0.06
#: Four hours of blocks; what has more is made to keep a reader busy.
_MOST_ELEMENTS: Final = 300_000


def seconds(data: bytes) -> float:
    """How long the recording lasts: the later of what its head and its last block say; zero where neither tells."""
    scale, named, cluster, last = _USUAL_SCALE, 0.0, 0, 0
    for name, start, end in _elements(data):
        if name == _SCALE:
            scale = int.from_bytes(data[start:end]) or _USUAL_SCALE
        elif name == _DURATION and end - start in (4, 8):
            named = struct.unpack(">f" if end - start == 4 else ">d", data[start:end])[0]
        elif name == _CLUSTER_TIME:
            cluster = int.from_bytes(data[start:end])
        elif name in (_SIMPLE_BLOCK, _BLOCK):
            _track, start = _number(data, start, keep_mark=False)
            last = max(last, cluster + int.from_bytes(data[start : start + 2], signed=True))
    heard = last * scale / _NANOSECONDS + _LAST_BLOCK_SECONDS if last else 0.0
    return max(named * scale / _NANOSECONDS, heard)


def _elements(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Every element with the place of its content, in order; containers are entered."""
    place = 0
    for _ in range(_MOST_ELEMENTS):
        if place >= len(data):
            return
        name, place = _number(data, place, keep_mark=True)
        length_at = place
        length, place = _number(data, place, keep_mark=False)
        unknown = length == (1 << 7 * (place - length_at)) - 1  # a recorder does not know what will come
        end = len(data) if unknown else min(place + length, len(data))
        if name in _MASTERS:
            continue
        yield name, place, end
        place = end


def _number(data: bytes, place: int, *, keep_mark: bool) -> tuple[int, int]:
    """A number of variable length and the place behind it. Raises ValueError."""
    if place >= len(data) or not data[place]:
        raise ValueError("no number here")
    size = 9 - data[place].bit_length()
    if place + size > len(data):
        raise ValueError("cut off")
    value = int.from_bytes(data[place : place + size])
    return (value if keep_mark else value & (1 << 7 * size) - 1), place + size
