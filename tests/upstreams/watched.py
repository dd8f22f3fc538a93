"""Bytes that tell how much of them was searched."""

from __future__ import annotations

from typing import Any


class Watched(bytes):
    """Counts how many of its bytes were searched."""

    searched = 0

    def find(self, word: Any, start: Any = 0, end: Any = None) -> int:
        found = super().find(word, start, end)
        self.searched += (found if found >= 0 else len(self) if end is None else end) - start
        return found

    def count(self, word: Any, start: Any = 0, end: Any = None) -> int:
        self.searched += (len(self) if end is None else end) - start
        return super().count(word, start, end)
