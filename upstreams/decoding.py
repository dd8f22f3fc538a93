"""Bodies that come compressed although ``identity`` was asked for."""

from __future__ import annotations

import zlib

from upstreams.errors import BadAnswer

PIECE_BYTES = 64 * 1024


class Inflater:
    """Undoes gzip or deflate piece by piece, so that a bomb never unfolds at once."""

    __slots__ = ("_engine", "_fresh", "_gzip", "_pending")

    def __init__(self, encoding: str) -> None:
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise BadAnswer("the upstream's answer has a content encoding that nobody asked for")
        self._gzip = encoding != "deflate"
        self._engine = zlib.decompressobj(zlib.MAX_WBITS | (16 if self._gzip else 0))
        self._pending = b""
        self._fresh = True

    def feed(self, data: bytes) -> None:
        """Add compressed bytes."""
        self._pending += data

    def take(self, limit: int = PIECE_BYTES) -> bytes:
        """The next decompressed bytes, at most ``limit``; empty when more input is needed. Raises BadAnswer."""
        while self._pending:
            if self._engine.eof:
                self._next_member()
                continue
            out = self._inflate(limit)
            if out:
                return out
        return b""

    def finish(self) -> None:
        """Called at the end of the body. Raises BadAnswer if the compressed data is cut."""
        if not self._engine.eof and not self._fresh:
            raise BadAnswer("the upstream's compressed answer is cut")

    def _inflate(self, limit: int) -> bytes:
        try:
            out = self._engine.decompress(self._pending, limit)
        except zlib.error:
            out = self._inflate_raw(limit)
        self._fresh = False
        self._pending = self._engine.unused_data if self._engine.eof else self._engine.unconsumed_tail
        return out

    def _inflate_raw(self, limit: int) -> bytes:
        """Some servers send deflate without its zlib envelope; only the first bytes can tell."""
        if self._gzip or not self._fresh:
            raise BadAnswer("the upstream's compressed answer is damaged") from None
        self._engine = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            return self._engine.decompress(self._pending, limit)
        except zlib.error:
            raise BadAnswer("the upstream's compressed answer is damaged") from None

    def _next_member(self) -> None:
        """gzip may come as several members in a row; anything behind deflate is noise."""
        if not self._gzip:
            self._pending = b""
            return
        self._engine = zlib.decompressobj(zlib.MAX_WBITS | 16)
