"""Identifiers made by this process, never by the database.

After a crash PostgreSQL may hand out identity values again that were lost with the last unflushed log; a surviving
gateway would then settle a stranger's hold. UUIDv7 (RFC 9562) has no such memory and sorts by time.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from datetime import UTC, datetime
from uuid import UUID, SafeUUID

_lock = threading.Lock()
_last = 0
_POOL_BYTES = 4096
_TAIL = (1 << 62) - 1
_new, _set = object.__new__, object.__setattr__
_UNKNOWN = SafeUUID.unknown
#: A minute in the stamp's units. Ids stay in order over smaller steps back of the clock; a larger one is believed.
_LARGEST_STEP_BACK = 60_000 << 12
#: Random numbers of 64 bits fetched in advance: a system call for each id would cost more than all the rest of it, and
#: give the interpreter's lock away each time.
_pool: list[int] = []
os.register_at_fork(after_in_child=_pool.clear)  # a child must never draw what its parent draws


def uuid7() -> UUID:
    """A new UUIDv7: 48 bits of Unix milliseconds, 12 bits that keep one process's ids in order, 62 random bits."""
    global _last
    now_ns = time.time_ns()
    stamp = (now_ns // 1_000_000 << 12) | (now_ns % 1_000_000 * 4096 // 1_000_000)
    with _lock:
        if stamp <= _last <= stamp + _LARGEST_STEP_BACK:
            stamp = _last + 1
        _last = stamp
        if not _pool:
            _pool.extend(struct.unpack(f">{_POOL_BYTES // 8}Q", os.urandom(_POOL_BYTES)))
        random = _pool.pop()
    return _uuid((stamp >> 12 << 80) | (0x7 << 76) | ((stamp & 0xFFF) << 64) | (0b10 << 62) | (random & _TAIL))


def beside(identifier: UUID) -> UUID:
    """The id next to a UUIDv7, of the same moment and always the same: for a second row that follows from a first."""
    return _uuid(identifier.int & ~_TAIL | (identifier.int + 1) & _TAIL)


def _uuid(number: int) -> UUID:
    """As ``UUID(int=number)``, which spends three times as long on looking which of its six arguments is given."""
    made = _new(UUID)
    _set(made, "int", number)
    _set(made, "is_safe", _UNKNOWN)
    return made


def time_of(identifier: UUID) -> datetime:
    """The moment (UTC, milliseconds) that a UUIDv7 carries."""
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC)


def first_at(moment: datetime) -> UUID:
    """The smallest UUIDv7 of a moment: a bound for range scans over ids that stand for times."""
    return UUID(int=(int(moment.timestamp() * 1000) << 80) | (0x7 << 76) | (0b10 << 62))


def parse(text: str) -> UUID | None:
    """The UUID in ``text``, or None where it is none."""
    try:
        return UUID(text)
    except (ValueError, AttributeError, TypeError):
        return None
