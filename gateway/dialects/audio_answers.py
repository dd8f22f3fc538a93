"""Speech and transcripts as callers get them, in the shape and format that they asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from core import clock
from gateway.dialects import audio
from upstreams import loose_json
from upstreams.audio import Segment, Sound, Transcript

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"

#: Members of a segment that this gateway can't know and that typed clients of OpenAI's format insist on.
_UNMEASURED: Final[Mapping[str, Any]] = {
    "seek": 0, "tokens": [], "temperature": 0.0, "avg_logprob": 0.0, "compression_ratio": 0.0, "no_speech_prob": 0.0,
}  # fmt: skip
#: Members of a provider's own transcript that its callers find in the plain one.
_PLAIN: Final = ("text", "languages", "logprobs", "usage")


def spoken(url: str, sound: Sound) -> bytes:
    """The answer of this gateway's own endpoint: where the sound can be fetched."""
    return msgspec.json.encode(
        {
            "created": int(clock.now().timestamp()),
            "data": [
                {
                    "url": url,
                    "content_type": sound.container.content_type,
                    "format": sound.container.extension,
                    "size_bytes": len(sound.data),
                }
            ],
        }
    )


def written(shape: str, format: str, transcript: Transcript, seconds: float) -> tuple[bytes, str]:
    """A transcript and its content type. ``seconds`` is the recording's measured length."""
    if shape == audio.GENERATIONS:
        return loose_json.encode(_own(transcript, seconds)), JSON
    if format == "json":
        return loose_json.encode(_plain(transcript, seconds)), JSON
    if format == "verbose_json":
        return loose_json.encode(_verbose(shape, transcript, seconds)), JSON
    if format == "text":
        return f"{transcript.text}\n".encode("utf-8", "replace"), TEXT
    cues = _cues(transcript, seconds)
    lines = _srt(cues) if format == "srt" else _vtt(cues)
    return "\n".join(lines).encode("utf-8", "replace"), TEXT


def _own(transcript: Transcript, seconds: float) -> dict[str, Any]:
    answer: dict[str, Any] = {"text": transcript.text}
    if transcript.language:
        answer["language"] = transcript.language
    answer["duration"] = round(seconds, 3)
    if transcript.segments:
        answer["segments"] = [{"start": each.start, "end": each.end, "text": each.text} for each in transcript.segments]
    return answer


def _plain(transcript: Transcript, seconds: float) -> dict[str, Any]:
    told: dict[str, Any] = {name: transcript.told[name] for name in _PLAIN if name in transcript.told}
    return {"usage": {"type": "duration", "seconds": round(seconds)}, **told}


def _verbose(shape: str, transcript: Transcript, seconds: float) -> dict[str, Any]:
    """OpenAI's own members as they came; a provider of another kind is put into the same words."""
    if "task" in transcript.told or "words" in transcript.told:
        return transcript.told
    return {
        "task": "translate" if shape == audio.TRANSLATIONS else "transcribe",
        "language": transcript.language,
        "duration": round(seconds, 3),
        "text": transcript.text,
        "segments": [
            {"id": place, "start": each.start, "end": each.end, "text": each.text, **_UNMEASURED}
            for place, each in enumerate(_cues(transcript, seconds))
        ],
        "usage": {"type": "duration", "seconds": round(seconds)},
    }


def _cues(transcript: Transcript, seconds: float) -> tuple[Segment, ...]:
    """The segments, or all of the text over all of the recording where the provider told none."""
    if transcript.segments or not transcript.text.strip():
        return transcript.segments
    return (Segment(0.0, seconds, transcript.text),)


def _srt(cues: Iterable[Segment]) -> Iterable[str]:
    for number, cue in enumerate(cues, start=1):
        yield from (str(number), f"{_time(cue.start, ',')} --> {_time(cue.end, ',')}", _line(cue.text), "")


def _vtt(cues: Iterable[Segment]) -> Iterable[str]:
    yield from ("WEBVTT", "")
    for cue in cues:
        yield from (f"{_time(cue.start, '.')} --> {_time(cue.end, '.')}", _line(cue.text), "")


def _line(text: str) -> str:
    """A cue's text on one line: an empty line would end it, and an arrow would begin another."""
    return " ".join(text.split()).replace("-->", "→")


def _time(seconds: float, point: str) -> str:
    milliseconds = max(0, round(seconds * 1000))
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"
