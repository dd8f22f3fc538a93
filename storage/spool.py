"""Bytes on their way into the storage: in a file without a name, so that nothing is left of it whatever happens."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from django.conf import settings

from core.errors import RequestTooLarge
from storage.sniffing import HEAD_BYTES

#: What is read from a file at a time.
PIECE_BYTES = 256 * 1024


class Spool:
    """A file that grows piece by piece, with its size, its SHA-256 and its first bytes."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.size_bytes = 0
        self.head = b""
        self.file: IO[bytes] = tempfile.TemporaryFile(dir=folder())  # noqa: SIM115  (`close` closes it)
        self._hash = hashlib.sha256()

    def write(self, piece: bytes) -> None:
        """Add ``piece``. Raises RequestTooLarge above the limit, OSError where the disk is full."""
        self.size_bytes += len(piece)
        if self.size_bytes > self.most_bytes:
            raise too_large(self.most_bytes)
        if len(self.head) < HEAD_BYTES:
            self.head += piece[: HEAD_BYTES - len(self.head)]
        self._hash.update(piece)
        self.file.write(piece)

    def fill(self, content: bytes | Iterable[bytes] | IO[bytes]) -> None:
        """Add all of ``content``. Raises as `write`."""
        if isinstance(content, bytes):
            self.write(content)
        elif hasattr(content, "read"):
            while piece := content.read(PIECE_BYTES):
                self.write(piece)
        else:
            for piece in content:
                self.write(piece)

    @property
    def sha256(self) -> str:
        """Of what was written, in hex."""
        return self._hash.hexdigest()

    def clear(self) -> None:
        """Begin anew: what was written is forgotten."""
        self.file.seek(0)
        self.file.truncate()
        self.size_bytes, self.head, self._hash = 0, b"", hashlib.sha256()

    def close(self) -> None:
        """Let go of the bytes."""
        self.file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def too_large(most_bytes: int) -> RequestTooLarge:
    """The refusal of a file above the limit."""
    return RequestTooLarge(
        f"The file is larger than {most_bytes} bytes.", param="file", extra={"limit_bytes": most_bytes}
    )


def folder() -> str | None:
    """Where bytes wait: on the storage's own disk, since /tmp may be memory. None where that can't be."""
    folder = Path(settings.STORAGE_DIR)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return str(folder)
