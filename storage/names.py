"""Names of files that are safe to show, to send in a header and to save under on any system."""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote

from storage.models import FILENAME_LENGTH

_MOST_BYTES: Final = FILENAME_LENGTH
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]+')
_ENDINGS: Final = {
    "image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp", "video/mp4": "mp4",
    "video/webm": "webm", "video/quicktime": "mov", "audio/mpeg": "mp3", "audio/wav": "wav", "audio/ogg": "ogg",
    "audio/flac": "flac", "audio/aac": "aac", "audio/mp4": "m4a",
}  # fmt: skip


def clean(name: str, media_type: str = "") -> str:
    """``name`` without folders, control characters and what systems forbid; never empty, never hidden."""
    # Invisible characters that turn the direction of text make "gpj.exe" out of "exe.jpg": they go (category Cf).
    base = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    base = "".join(sign for sign in base if unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    base = _FORBIDDEN.sub("_", base).strip(" .")
    if not base:
        ending = _ENDINGS.get(media_type)
        base = f"file.{ending}" if ending else "file"
    return _short(base)


def _short(name: str) -> str:
    """At most `_MOST_BYTES` of UTF-8, the ending kept."""
    if len(name.encode()) <= _MOST_BYTES:
        return name
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending.encode()) > 16:
        stem, ending = name, ""
    room = _MOST_BYTES - len(f".{ending}".encode()) if ending else _MOST_BYTES
    cut = stem.encode()[:room].decode(errors="ignore").rstrip(" .")
    return f"{cut}.{ending}" if ending else cut


def disposition(name: str, *, inline: bool) -> str:
    """The Content-Disposition of a file (RFC 6266): ASCII for old clients, UTF-8 for all others."""
    plain = re.sub(r"[^\x20-\x7e]|[\"\\%;]", "_", name)
    word = "inline" if inline else "attachment"
    return f"{word}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
