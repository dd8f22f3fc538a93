"""The catalog for pages of the web face: one snapshot a process, a few seconds old at most.

The gateway keeps its own, refreshed by notification; a page may lag a moment behind an edit, and a public page may not
cost five queries a visitor.
"""

from __future__ import annotations

import threading

from catalog.entries import Snapshot
from catalog.snapshot import build
from core import clock

MAX_AGE_SECONDS = 5.0

_lock = threading.Lock()
_held: tuple[float, Snapshot] | None = None


def current() -> Snapshot:
    """The catalog, at most MAX_AGE_SECONDS old. Other threads that ask while it is built wait for it."""
    global _held
    with _lock:
        now = clock.monotonic()
        if _held is None or now - _held[0] > MAX_AGE_SECONDS:
            _held = (now, build())
        return _held[1]


def forget() -> None:
    """Build anew at the next call."""
    global _held
    with _lock:
        _held = None
