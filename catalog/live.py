"""The catalog for pages of the web face: one snapshot a process, a few seconds old at most.

The gateway keeps its own, refreshed by notification; a page may lag a moment behind an edit, and a public page may not
cost five queries and a thousand small templates a visitor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

from django.utils.asyncio import async_unsafe

from catalog.entries import Snapshot
from catalog.snapshot import build
from core import clock

MAX_AGE_SECONDS = 5.0


class _Held:
    """A snapshot and what was made of it. A rebuild that changed nothing keeps both."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.snapshot: Snapshot | None = None
        self.read_at = 0.0
        self.made: dict[Hashable, str] = {}


_held = _Held()


def current() -> Snapshot:
    """The catalog, at most MAX_AGE_SECONDS old. Other threads that ask while it is built wait for it."""
    return _fresh()[0]


def made(key: Hashable, make: Callable[[Snapshot], str]) -> str:
    """What ``make`` writes of the current catalog, made once until the catalog changes.

    Keys come from a small set (an endpoint kind and a language), so nothing is ever thrown out.
    """
    snapshot, shelf = _fresh()
    if key not in shelf:
        shelf[key] = make(snapshot)
    return shelf[key]


@async_unsafe("The catalog of pages is read from the database every few seconds: not on an event loop.")
def _fresh() -> tuple[Snapshot, dict[Hashable, str]]:
    """The snapshot and its own shelf, taken together: another thread may be putting both in place anew."""
    with _held.lock:
        now = clock.monotonic()
        if _held.snapshot is None or now - _held.read_at > MAX_AGE_SECONDS:
            fresh = build()
            if fresh != _held.snapshot:
                _held.snapshot, _held.made = fresh, {}
            _held.read_at = now
        return _held.snapshot, _held.made


def forget() -> None:
    """Build anew at the next call."""
    with _held.lock:
        _held.snapshot, _held.made = None, {}
