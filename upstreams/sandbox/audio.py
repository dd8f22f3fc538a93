"""Speech as tones and transcripts as counts: nothing is said or heard, yet everything is a file that plays.

The same text is always the same melody, a tone a word, so that people hear that it is theirs.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import math
import re
import wave
from array import array
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from tinytag import TinyTag

from upstreams import loose_json
from upstreams.audio import FORMATS, container_of
from upstreams.sandbox.server import Bytes, Stream, Whole

HERTZ: Final = 16_000
MOST_CHARACTERS: Final = 4096
MOST_WORDS: Final = 120
_LOUDNESS: Final = 9_000
_TONE_SECONDS, _PAUSE_SECONDS, _FADE_SECONDS = 0.16, 0.06, 0.01
#: Two octaves of a scale without dissonance, from the A below middle C.
_PITCHES: Final = tuple(220.0 * 2 ** (step / 12) for step in (0, 2, 4, 7, 9, 12, 14, 16, 19, 21))
_SEGMENT_SECONDS: Final = 5.0
_WORD: Final = re.compile(r"\w+")


class Speech:
    """Answers ``POST …/audio/speech``."""

    async def answer(self, body: bytes) -> Whole | Stream | Bytes:
        """A WAV file whatever format was asked for; a fault in the request gets OpenAI's 400."""
        try:
            request = loose_json.decode(body)
        except ValueError:
            return _fault("We could not parse the JSON body of your request.")
        if not isinstance(request, dict) or not isinstance(request.get("model"), str) or not request["model"]:
            return _fault("you must provide a model parameter", "model")
        text = request.get("input")
        if not isinstance(text, str) or not 1 <= len(text) <= MOST_CHARACTERS:
            return _fault(f"'input' must be a text of 1 to {MOST_CHARACTERS} characters.", "input")
        if request.get("response_format", "mp3") not in FORMATS:
            return _fault(f"'response_format' must be one of {', '.join(FORMATS)}.", "response_format")
        samples = await asyncio.to_thread(melody, text, str(request.get("voice", "")))
        if request.get("response_format") == "pcm":
            return Bytes(samples, "audio/pcm")
        return Bytes(wav(samples), "audio/wav")


class Transcriptions:
    """Answers ``POST …/audio/transcriptions`` and ``…/audio/translations``."""

    async def answer(self, body: bytes) -> Whole | Stream | Bytes:
        """How long the recording lasts, in words; a fault in the request gets OpenAI's 400."""
        fields, data = await asyncio.to_thread(_form, body)
        if data is None:
            return _fault("you must provide a file", "file")
        if container_of(data) is None:
            return _fault("Invalid file format.", "file")
        return Whole(await asyncio.to_thread(transcript, data, fields))


def melody(text: str, voice: str) -> bytes:
    """Samples (16 bits, little-endian, one channel): a tone a word; a voice sings higher or lower."""
    shift = hashlib.sha256(voice.encode("utf-8", "replace")).digest()[0] % 3
    pause = bytes(2 * int(_PAUSE_SECONDS * HERTZ))
    words = _WORD.findall(text.lower())[:MOST_WORDS] or [text]
    return b"".join(_tone(_pitch_of(word, shift), min(len(word), 12)) + pause for word in words)


def wav(samples: bytes) -> bytes:
    """The samples as a file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(HERTZ)
        writer.writeframes(samples)
    return file.getvalue()


@lru_cache(maxsize=1)
def sample() -> bytes:
    """A recording of half a minute, as a file."""
    samples = melody("a recording that stands for any other", "")
    most = 2 * 30 * HERTZ
    return wav((samples * (most // len(samples) + 1))[:most])


def transcript(data: bytes, fields: Mapping[str, str]) -> dict[str, Any]:
    """What is written down of a recording: a sentence for every five seconds."""
    seconds = _seconds(data)
    ends = [min(seconds, (place + 1) * _SEGMENT_SECONDS) for place in range(max(1, math.ceil(seconds / 5)))][:1000]
    segments: list[dict[str, Any]] = [
        {
            "id": place, "seek": 0, "start": round(place * _SEGMENT_SECONDS, 2), "end": round(end, 2),
            "text": f"The sandbox heard part {place + 1} of this recording.", "tokens": [], "temperature": 0.0,
            "avg_logprob": 0.0, "compression_ratio": 0.0, "no_speech_prob": 0.0,
        }
        for place, end in enumerate(ends)
    ]  # fmt: skip
    answer: dict[str, Any] = {
        "text": " ".join(segment["text"] for segment in segments),
        "usage": {"type": "duration", "seconds": math.ceil(seconds)},
    }
    if fields.get("response_format") != "verbose_json":
        return answer
    said = {"task": "transcribe", "language": fields.get("language") or "english", "duration": round(seconds, 2)}
    return {**said, **answer, "segments": segments}


@lru_cache(maxsize=256)
def _tone(hertz: float, length: int) -> bytes:
    count = int((_TONE_SECONDS + 0.02 * length) * HERTZ)
    fade = int(_FADE_SECONDS * HERTZ)
    step = 2 * math.pi * hertz / HERTZ
    samples = array("h")
    for place in range(count):
        swell = min(1.0, place / fade, (count - place) / fade)
        samples.append(int(_LOUDNESS * swell * math.sin(step * place)))
    if samples.itemsize != 2:  # pragma: no cover  (no such machine is known)
        raise RuntimeError("a short is not two bytes here")
    return samples.tobytes()


def _pitch_of(word: str, shift: int) -> float:
    digest = hashlib.sha256(word.encode("utf-8", "replace")).digest()
    return _PITCHES[digest[0] % (len(_PITCHES) - 2) + shift]


def _seconds(data: bytes) -> float:
    """How long it lasts; a second where that can't be told: the sandbox refuses nothing for it."""
    try:
        return max(0.1, float(TinyTag.get(filename="x", file_obj=io.BytesIO(data), tags=False).duration or 1.0))
    except Exception:  # a parser of strangers' bytes
        return 1.0


def _form(body: bytes) -> tuple[dict[str, str], bytes | None]:
    """The members of a form and the last file in it. Its boundary is its first line."""
    fields: dict[str, str] = {}
    files: list[bytes] = []
    header, value, names, data = bytearray(), bytearray(), {}, bytearray()

    def end_header() -> None:
        names[header.decode("latin-1").lower()] = value.decode("latin-1")
        header.clear()
        value.clear()

    def end_part() -> None:
        _, options = parse_options_header(names.get("content-disposition", ""))
        if b"filename" in options:
            files.append(bytes(data))
        else:
            fields[options.get(b"name", b"").decode("latin-1")] = data.decode("utf-8", "replace")
        names.clear()
        data.clear()

    boundary = body[:300].split(b"\r\n", 1)[0].removeprefix(b"--")
    callbacks: Any = {
        "on_header_field": lambda chunk, start, end: header.extend(chunk[start:end]),
        "on_header_value": lambda chunk, start, end: value.extend(chunk[start:end]),
        "on_header_end": end_header,
        "on_part_data": lambda chunk, start, end: data.extend(memoryview(chunk)[start:end]),
        "on_part_end": end_part,
    }
    try:
        MultipartParser(boundary, callbacks).write(body)
    except (FormParserError, UnicodeDecodeError):
        return {}, None
    return fields, files[-1] if files else None


def _fault(message: str, param: str | None = None) -> Whole:
    return Whole({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}}, 400)
