"""What may be asked of a speech model: the catalog's rules on texts and on the bytes of recordings. No Django, no I/O.

How long a recording is decides what it may be used for and, with some models, what it costs, so it is measured on the
bytes. A file whose length can't be told is refused: it could be anything.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from dataclasses import dataclass, field
from typing import Final

from tinytag import TinyTag

from catalog.media import MediaRules
from catalog.pricing import Units
from core.errors import InvalidRequest
from media import adts, webm
from upstreams.audio import AAC, MP3, WAV, WEBM, Container, container_of

#: What OpenAI takes at most, and about what a form within the gateway's bodies can carry.
MOST_RECORDING_BYTES: Final = 25 * 1024 * 1024
_MOST_MP3_BYTES_PER_SECOND: Final = 320_000 // 8
_KNOWN: Final = "WAV, MP3, FLAC, OGG, Opus, M4A, AAC, WebM or AIFF"


@dataclass(frozen=True, slots=True)
class Measured:
    """A recording, and what its bytes say of it. ``seconds`` is more than zero."""

    data: bytes = field(repr=False)
    container: Container
    seconds: float


def check_text(rules: MediaRules, text: str, param: str) -> None:
    """Raises InvalidRequest for a text that is none, can't be written in UTF-8, or is longer than the rules allow."""
    if not text.strip():
        raise InvalidRequest(f"{param} must be the text to speak.", param=param)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidRequest(f"{param} holds half of a character: it is not valid Unicode.", param=param) from None
    if rules.max_text_bytes and size > rules.max_text_bytes:
        raise InvalidRequest(
            f"{param} has {size} bytes (UTF-8), and this model takes at most {rules.max_text_bytes}.",
            param=param,
            code="text_too_long",
            extra={"limit_bytes": rules.max_text_bytes},
        )


def check_recording(rules: MediaRules, recording: Measured, param: str) -> None:
    """Raises InvalidRequest for a recording that is longer, or as a reference shorter, than the rules allow."""
    if rules.max_audio_seconds and recording.seconds > rules.max_audio_seconds:
        raise InvalidRequest(
            f"The recording lasts {recording.seconds:.1f} seconds, and this model takes at most "
            f"{rules.max_audio_seconds}.",
            param=param,
            code="audio_too_long",
            extra={"limit_seconds": rules.max_audio_seconds},
        )
    if recording.seconds < rules.min_reference_seconds:
        raise InvalidRequest(
            f"The recording lasts {recording.seconds:.1f} seconds, and this model needs at least "
            f"{rules.min_reference_seconds}.",
            param=param,
            code="audio_too_short",
            extra={"least_seconds": rules.min_reference_seconds},
        )


def measured(data: bytes, param: str) -> Measured:
    """What the bytes are and how long they sound. Raises InvalidRequest for what is no sound or tells no length."""
    if len(data) > MOST_RECORDING_BYTES:
        raise InvalidRequest(
            f"The recording has {len(data)} bytes, and at most {MOST_RECORDING_BYTES} are taken.",
            param=param,
            code="audio_too_large",
            extra={"limit_bytes": MOST_RECORDING_BYTES},
        )
    container = container_of(data)
    if container is None:
        raise InvalidRequest(f"{param} is no audio file that is known here: send {_KNOWN}.", param=param)
    seconds = _seconds(data, container)
    if not math.isfinite(seconds) or seconds <= 0:
        raise InvalidRequest(
            f"How long the recording lasts can't be read from it ({container.extension}). Send a whole file: {_KNOWN}.",
            param=param,
            code="audio_unreadable",
        )
    return Measured(data, container, seconds)


def decoded(url: str, param: str) -> bytes:
    """The bytes of a base64 data URL. Raises InvalidRequest."""
    head, comma, encoded = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise InvalidRequest(f"{param} must be an https URL or a base64 data URL.", param=param)
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{param} is a data URL whose base64 can't be read.", param=param) from None


def units_of_text(unit: str, text: str, instructions: str = "") -> Units:
    """What spoken text counts as under a price of that unit; a flat price counts the request."""
    if unit == "character":
        return Units(len(text))
    if unit == "byte":
        return Units(len(text.encode()) + len(instructions.encode()))
    return Units(1)


def units_of_recording(unit: str, seconds: float) -> Units:
    """What a recording counts as: begun seconds, or one request."""
    return Units(max(1, math.ceil(seconds - 1e-6)) if unit == "second" else 1)


def _seconds(data: bytes, container: Container) -> float:
    """Zero where the length can't be told."""
    try:
        if container is AAC:
            return adts.seconds(data)
        if container is WEBM:
            return webm.seconds(data)
        tag = TinyTag.get(filename=f"x.{container.extension}", file_obj=io.BytesIO(data), tags=False)
        seconds = float(tag.duration or 0.0)
    except Exception:  # whatever a parser of strangers' bytes stumbles over, the file is not readable
        return 0.0
    if container is WAV and tag.samplerate and tag.channels and tag.bitdepth:
        # A recorder that can't go back to its head leaves the largest number there.
        seconds = min(seconds, len(data) * 8 / (tag.samplerate * tag.channels * tag.bitdepth))
    if container is MP3:
        # A header may count fewer frames than there are: no MP3 says more in a second than this.
        seconds = max(seconds, (len(data) - _id3_bytes(data)) / _MOST_MP3_BYTES_PER_SECOND) if seconds else 0.0
    return seconds


def _id3_bytes(data: bytes) -> int:
    """The size of the tag (with its cover pictures) in front of an MP3's sound."""
    if not data.startswith(b"ID3") or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return min(len(data), size + 10)
