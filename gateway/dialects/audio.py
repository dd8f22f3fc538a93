"""Speech and transcripts as callers ask for them: this gateway's own endpoint, and OpenAI's three. Pure.

One body, four shapes: all become an `AudioBody`. What the caller's member is called is kept for error messages.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from core.errors import InvalidRequest
from gateway import multipart
from gateway.dialects import base
from gateway.multipart import Form
from upstreams.audio import FORMATS

GENERATIONS: Final = "generations"
SPEECH: Final = "speech"
TRANSCRIPTIONS: Final = "transcriptions"
TRANSLATIONS: Final = "translations"

JSON_FORMATS: Final = ("json", "verbose_json")
WRITTEN_FORMATS: Final = (*JSON_FORMATS, "text", "srt", "vtt")
GRANULARITIES: Final = ("word", "segment")

#: Texts are bounded by the model's rules; this bounds what is read at all.
_MOST_TEXT_CHARACTERS: Final = 200_000
_MOST_PROMPT_CHARACTERS: Final = 8_000
_SLOWEST, _FASTEST = 0.25, 4.0
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,20}(?:[-_][A-Za-z0-9]{2,8}){0,3}")
_VOICE: Final = re.compile(r"[\w.:/@+ -]{1,200}")

#: What this gateway calls a member, by what it is called in the shape.
_TEXT: Final = {GENERATIONS: "text", SPEECH: "input"}
_VOICE_NAME: Final = {GENERATIONS: "voice_id", SPEECH: "voice"}
_FORMAT: Final = {GENERATIONS: "format", SPEECH: "response_format"}
_AUDIO: Final = {GENERATIONS: "audio"}
#: Members that would change the answer into something that is not served here.
_REFUSED: Final = ("include", "known_speaker_names", "known_speaker_references")


@dataclass(frozen=True, slots=True)
class AudioBody:
    """An understood request. ``audio`` is a file's bytes, ``audio_url`` an https or data URL; at most one is there.

    ``text_given`` tells an absent text from an empty one. ``written`` is the format of a transcript.
    """

    shape: str
    model: str
    intent: str
    canonical: bytes = field(repr=False)
    text: str = field(default="", repr=False)
    voice: str = ""
    format: str = "mp3"
    speed: float = 1.0
    instructions: str = field(default="", repr=False)
    audio: bytes | None = field(default=None, repr=False)
    audio_url: str = field(default="", repr=False)
    reference_text: str = field(default="", repr=False)
    language: str = ""
    prompt: str = field(default="", repr=False)
    temperature: float | None = None
    written: str = "json"
    granularities: tuple[str, ...] = ()

    def param(self, name: str) -> str:
        """What the caller calls one of this gateway's own members (text, voice_id, format, audio)."""
        tables = {"text": _TEXT, "voice_id": _VOICE_NAME, "format": _FORMAT}
        if name == "audio":
            return _AUDIO.get(self.shape, "file")
        return tables.get(name, {}).get(self.shape, name)


def parse(shape: str, content_type: bytes, body: bytes) -> AudioBody:
    """The request in a JSON or multipart body. Raises InvalidRequest with ``param``."""
    if multipart.is_form(content_type):
        form = multipart.read(content_type, body)
        return _understood(shape, _FormMembers(form), form.digest())
    if shape in (TRANSCRIPTIONS, TRANSLATIONS) and not content_type.lower().startswith(b"application/json"):
        raise InvalidRequest("Send the recording as multipart/form-data.", param="Content-Type")
    return _understood(shape, _JsonMembers(base.read_object(body)), hashlib.sha256(body).digest())


class _JsonMembers:
    """Members of a JSON object."""

    def __init__(self, fields: Mapping[str, msgspec.Raw]) -> None:
        self._fields = dict(fields)

    def text(self, name: str, most_characters: int = 200) -> str:
        return base.text(self._fields, name, most_characters)

    def value(self, name: str) -> Any:
        return base.member(self._fields, name)

    def words(self, name: str) -> list[str]:
        value = base.member(self._fields, name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise InvalidRequest(f"{name} must be a list of texts.", param=name)
        return value

    def file(self, _name: str) -> bytes | None:
        return None


class _FormMembers:
    """Members of a form: every value is a text."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def text(self, name: str, most_characters: int = 200) -> str:
        return self._form.text(name, most_characters)

    def value(self, name: str) -> Any:
        """A text that is a JSON value as that, any other as itself."""
        written = self._form.text(name, 2_000)
        if not written:
            return None
        try:
            return msgspec.json.decode(written)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return written

    def words(self, name: str) -> list[str]:
        return self._form.fields.get(name, [])

    def file(self, name: str) -> bytes | None:
        files = self._form.files.get(name, [])
        if len(files) > 1:
            raise InvalidRequest(f"{name} must be one file.", param=name)
        return files[0].data if files else None


_Members = _JsonMembers | _FormMembers


def _understood(shape: str, members: _Members, canonical: bytes) -> AudioBody:
    model, intent = members.text("model"), members.text("intent") if shape == GENERATIONS else ""
    if not model and not intent:
        raise InvalidRequest("The member model is missing: name the model to call.", param="model")
    spoken: dict[str, Any] = _speech(shape, members) if shape in (GENERATIONS, SPEECH) else {}
    heard: dict[str, Any] = _recording(shape, members) if shape != SPEECH else {}
    return AudioBody(shape, model, intent, canonical, **spoken, **heard)


def _speech(shape: str, members: _Members) -> dict[str, Any]:
    format_name = _FORMAT[shape]
    wanted = members.text(format_name) or "mp3"
    if wanted not in FORMATS:
        raise InvalidRequest(f"{format_name} must be one of {', '.join(FORMATS)}.", param=format_name)
    if members.text("stream_format") not in ("", "audio"):
        raise InvalidRequest("Speech is answered as audio, not as events.", param="stream_format")
    return {
        "text": members.text(_TEXT[shape], _MOST_TEXT_CHARACTERS),
        "voice": _voice(shape, members),
        "format": wanted,
        "speed": _number(members, "speed", _SLOWEST, _FASTEST) or 1.0,
        "instructions": members.text("instructions", _MOST_PROMPT_CHARACTERS),
    }


def _voice(shape: str, members: _Members) -> str:
    name = _VOICE_NAME[shape]
    value = members.value(name)
    if isinstance(value, dict):  # OpenAI's custom voices: {"id": …}
        value = value.get("id")
        if value is None:
            raise InvalidRequest(f"{name} must be a text or an object with an id.", param=name)
    if value is not None and not isinstance(value, str):
        value = str(value) if isinstance(members, _FormMembers) and isinstance(value, int) else 0
    if not value:
        if shape == SPEECH or value == 0:
            raise InvalidRequest(f"{name} must be the name of a voice.", param=name)
        return ""
    if not _VOICE.fullmatch(value):
        raise InvalidRequest(f"{name} must be the name of a voice.", param=name)
    return str(value)


def _recording(shape: str, members: _Members) -> dict[str, Any]:
    name = _AUDIO.get(shape, "file")
    found: dict[str, Any] = {
        "language": members.text("language"),
        "prompt": members.text("prompt", _MOST_PROMPT_CHARACTERS),
        "temperature": _number(members, "temperature", 0.0, 1.0),
        "audio": members.file(name),
    }
    if found["language"] and not _LANGUAGE.fullmatch(found["language"]):
        raise InvalidRequest("language must be a language's code, such as en.", param="language")
    if found["audio"] is None:
        found["audio_url"] = _source(name, members)
    if shape == GENERATIONS:
        return {**found, "reference_text": members.text("reference_text", _MOST_PROMPT_CHARACTERS)}
    if found["audio"] is None and not found["audio_url"]:
        raise InvalidRequest(f"The member {name} is missing: send the recording.", param=name)
    if members.value("stream") not in (None, False):
        raise InvalidRequest("Transcripts are answered in one piece.", param="stream")
    for refused in _REFUSED:
        if members.words(refused):
            raise InvalidRequest(f"{refused} is not offered here.", param=refused)
    written = members.text("response_format") or "json"
    if written not in WRITTEN_FORMATS:
        raise InvalidRequest(f"response_format must be one of {', '.join(WRITTEN_FORMATS)}.", param="response_format")
    return {**found, "written": written, "granularities": _granularities(members, written)}


def _source(name: str, members: _Members) -> str:
    """An https or data URL, empty where there is none."""
    # A data URL is as long as its recording, which the body's own bound bounds.
    url = members.text(name, 64 * 1024 * 1024).strip()
    if url and not url[:8].lower().startswith(("https://", "data:", "http://")):
        raise InvalidRequest(f"{name} must be an https URL, a base64 data URL or a file.", param=name)
    return url


def _granularities(members: _Members, written: str) -> tuple[str, ...]:
    words = members.words("timestamp_granularities")
    if any(each not in GRANULARITIES for each in words):
        raise InvalidRequest(
            f"timestamp_granularities must be of {', '.join(GRANULARITIES)}.", param="timestamp_granularities"
        )
    if words and written != "verbose_json":
        raise InvalidRequest(
            "timestamp_granularities need the response_format verbose_json.", param="timestamp_granularities"
        )
    return tuple(dict.fromkeys(words))


def _number(members: _Members, name: str, least: float, most: float) -> float | None:
    value = members.value(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidRequest(f"{name} must be a number.", param=name)
    if not least <= value <= most:
        raise InvalidRequest(f"{name} must lie between {least:g} and {most:g}.", param=name)
    return float(value)
