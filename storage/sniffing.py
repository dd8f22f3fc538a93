"""What a file is, from its first bytes. Whoever sends it may claim anything; browsers act on what we say it is."""

from __future__ import annotations

from typing import Final

import puremagic

from storage.models import Kind

#: How many bytes of the beginning are looked at.
HEAD_BYTES: Final = 4096
UNKNOWN: Final = "application/octet-stream"

#: What is told apart, by the names that signatures go under. All else is served as bytes without a meaning: HTML, SVG,
#: XML and scripts would run on our origin.
_KNOWN: Final = {
    "image/png": "image/png",
    "image/jpeg": "image/jpeg",
    "image/gif": "image/gif",
    "image/webp": "image/webp",
    "image/avif": "image/avif",
    "image/bmp": "image/bmp",
    "image/tiff": "image/tiff",
    "video/mp4": "video/mp4",
    "video/quicktime": "video/quicktime",
    "video/webm": "video/webm",
    "audio/mpeg": "audio/mpeg",
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "audio/wav": "audio/wav",
    "audio/flac": "audio/flac",
    "audio/aac": "audio/aac",
    "audio/mp4": "audio/mp4",
    "audio/ogg": "audio/ogg",
    "application/ogg": "audio/ogg",
    "application/pdf": "application/pdf",
    "application/zip": "application/zip",
}
_NAMELESS: Final = {".m4a": "audio/mp4"}
_ZIP: Final = b"PK\x03\x04"
#: Containers that hold sound, moving pictures or both: the bytes at the beginning don't say which.
_EITHER: Final = frozenset({"mp4", "webm", "ogg"})
_OF_KIND: Final = {Kind.IMAGE: "image/", Kind.VIDEO: "video/", Kind.AUDIO: "audio/"}


def content_type(head: bytes, claimed: str = "") -> str:
    """The media type of a file that begins with ``head``, `UNKNOWN` for what may not be named.

    ``claimed`` decides only whether a container that can hold both is a video or sound.
    """
    found = _signature(head)
    family, _slash, container = found.partition("/")
    said = claimed.partition(";")[0].strip().lower()
    if container in _EITHER and family in ("audio", "video") and said in (f"audio/{container}", f"video/{container}"):
        return said
    return found


def kind_of(media_type: str) -> Kind:
    """The kind that a media type belongs to."""
    return next((kind for kind, prefix in _OF_KIND.items() if media_type.startswith(prefix)), Kind.FILE)


def fits(kind: str, media_type: str) -> bool:
    """Whether a file of that media type may be called one of ``kind``."""
    prefix = _OF_KIND.get(Kind(kind))
    return prefix is None or media_type.startswith(prefix)


def claim_for(kind: str, claimed: str, media_type: str) -> str:
    """``media_type``, or its sibling that fits ``kind`` where the container can hold either and no claim decides."""
    family, _slash, container = media_type.partition("/")
    if container in _EITHER and not claimed and kind in (Kind.AUDIO, Kind.VIDEO) and family in ("audio", "video"):
        return f"{kind}/{container}"
    return media_type


def _signature(head: bytes) -> str:
    if head.startswith(_ZIP):  # documents of offices are archives too, and as such they are kept
        return "application/zip"
    try:
        found = puremagic.magic_string(head[:HEAD_BYTES])
    except (puremagic.PureError, ValueError):
        return UNKNOWN
    best = [match for match in found if match.confidence == found[0].confidence]
    for match in best:
        name = _KNOWN.get(match.mime_type) or _NAMELESS.get(match.extension)
        if name:
            return name
    return UNKNOWN
