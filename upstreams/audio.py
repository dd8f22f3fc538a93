"""Speech between the gateway and its adapters: what is asked for, what comes back, what sound is in bytes. Pure.

What an answer is, is told from its bytes: providers label sound as ``application/octet-stream``, errors as sound, and
pages of a proxy as anything.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from upstreams import classify, loose_json
from upstreams.errors import BadAnswer, UpstreamError

#: Formats of speech as callers name them: OpenAI's words.
FORMATS: Final = ("mp3", "opus", "aac", "flac", "wav", "pcm")


class Container(NamedTuple):
    """A kind of audio file."""

    content_type: str
    extension: str


WAV: Final = Container("audio/wav", "wav")
MP3: Final = Container("audio/mpeg", "mp3")
AAC: Final = Container("audio/aac", "aac")
FLAC: Final = Container("audio/flac", "flac")
OGG: Final = Container("audio/ogg", "ogg")
MP4: Final = Container("audio/mp4", "m4a")
WEBM: Final = Container("audio/webm", "webm")
AIFF: Final = Container("audio/aiff", "aiff")
#: Bare samples (24 kHz, 16 bits, little-endian, as OpenAI defines them): they have no mark to be known by.
PCM: Final = Container("audio/pcm", "pcm")

_WAV_HEADER_BYTES: Final = 44
#: More than any recording lasts: what is beyond is no time (NaN, infinity, a number of a thousand digits).
_MOST_SECONDS: Final = 1e7


@dataclass(frozen=True, slots=True)
class Speech:
    """Text to be spoken. ``voice`` is empty for the provider's usual one; ``reference`` is a recording to sound like.

    ``speed`` 1 is usual. ``reference_text`` is what is said in the reference, where the caller knows it.
    """

    text: str
    voice: str = ""
    format: str = "mp3"
    speed: float = 1.0
    instructions: str = ""
    reference: bytes = field(default=b"", repr=False)
    reference_text: str = ""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording to be written down: ``container`` and ``seconds`` are measured on its bytes, not believed.

    ``timestamps`` asks for segments, ``segments_if_any`` for those that cost nothing to ask for; ``translate`` asks for
    English, whatever is spoken.
    """

    data: bytes = field(repr=False)
    container: Container
    seconds: float
    language: str = ""
    prompt: str = ""
    temperature: float | None = None
    timestamps: bool = False
    segments_if_any: bool = False
    granularities: tuple[str, ...] = ()
    translate: bool = False

    @property
    def filename(self) -> str:
        """A name with the ending that the bytes deserve: providers tell formats by it."""
        return f"audio.{self.container.extension}"


@dataclass(frozen=True, slots=True)
class Sound:
    """Spoken text."""

    data: bytes = field(repr=False)
    container: Container


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a recording, in seconds from its beginning."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said. ``told`` has every member of the provider's answer, for callers who speak its format."""

    text: str
    language: str = ""
    duration: float | None = None
    segments: tuple[Segment, ...] = ()
    told: dict[str, Any] = field(default_factory=dict, repr=False)


def container_of(data: bytes) -> Container | None:
    """The kind of audio file that these bytes begin; None for what is none."""
    head = data[:64]
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return WAV
    if head.startswith(b"fLaC"):
        return FLAC
    if head.startswith(b"OggS"):
        return OGG
    if head[4:8] == b"ftyp":
        return MP4
    if head.startswith(b"\x1aE\xdf\xa3"):
        return WEBM
    if head.startswith(b"FORM") and head[8:12] in (b"AIFF", b"AIFC"):
        return AIFF
    if head.startswith(b"ID3"):
        return MP3
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        layer = head[1] & 0x06  # AAC's frames have the same mark as MP3's, with no layer
        return AAC if not layer else MP3
    return None


def read_sound(body: bytes, wanted: str, *, secret: str = "", known: bytes = b"") -> Sound:
    """The sound in a 200. Raises UpstreamError where there is none: nothing, an error as JSON, a page."""
    container = container_of(body)
    if container is None:
        if not body:
            raise BadAnswer("the upstream answered with no sound", status=200)
        _refuse_text(body, secret, known)
        if wanted != "pcm":
            raise BadAnswer("the upstream's answer is no sound that can be recognized", status=200)
        container = PCM
    if container is WAV and len(body) <= _WAV_HEADER_BYTES:
        raise BadAnswer("the upstream answered with a sound of no length", status=200)
    return Sound(body, container)


def read_transcript(body: bytes, *, secret: str = "", known: bytes = b"") -> Transcript:
    """The words in a 200. An empty text is an answer: there may be nothing said. Raises UpstreamError."""
    try:
        value = loose_json.decode(body)
    except ValueError:
        raise classify.not_json(body, "") from None
    if not isinstance(value, dict) or value.get("error") or not isinstance(value.get("text"), str):
        raise _refusal(body, secret, known)
    duration = _time(value.get("duration"))
    return Transcript(
        text=value["text"],
        language=value["language"] if isinstance(value.get("language"), str) else "",
        duration=duration if duration is not None and duration >= 0 else None,
        segments=tuple(_segments(value.get("segments"))),
        told=value,
    )


def form(fields: Iterable[tuple[str, str]], name: str, recording: Recording) -> tuple[str, bytes]:
    """A ``multipart/form-data`` body with one file, and the Content-Type that announces it."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\ncontent-disposition: form-data; name="{field_name}"\r\n\r\n{value}\r\n'.encode()
        for field_name, value in fields
    ]
    head = (
        f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"; filename="{recording.filename}"\r\n'
        f"content-type: {recording.container.content_type}\r\n\r\n"
    )
    body = b"".join([*parts, head.encode(), recording.data, f"\r\n--{boundary}--\r\n".encode()])
    return f"multipart/form-data; boundary={boundary}", body


def _refuse_text(body: bytes, secret: str, known: bytes) -> None:
    """Raise what a JSON object or a page in place of sound means; bare samples pass."""
    if body[:256].lstrip()[:1] == b"<":
        raise classify.not_json(body, "")
    try:
        value = loose_json.decode(body) if body[:256].lstrip()[:1] in (b"{", b"[") else None
    except ValueError:
        return
    if value is not None:
        raise _refusal(body, secret, known)


def _refusal(body: bytes, secret: str, known: bytes) -> UpstreamError:
    error = classify.error_in(body)
    if error is None:
        return BadAnswer("the upstream's answer holds nothing of what was asked for", status=200)
    return classify.refuse_inside(error, secret=secret, known=known)


def _segments(value: Any) -> Iterable[Segment]:
    for each in value if isinstance(value, list) else ():
        if not isinstance(each, dict):
            continue
        start, end = _time(each.get("start")), _time(each.get("end"))
        if start is not None and end is not None:
            yield Segment(start, end, str(each.get("text", "")))


def _time(value: Any) -> float | None:
    """Seconds of a recording as a provider tells them, None for what is no such time."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_MOST_SECONDS < value < _MOST_SECONDS:
        return None
    return float(value)
