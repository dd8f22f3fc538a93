"""The adapter for OpenAI's speech and transcriptions, and for every provider and server that speaks them. Pure.

As documented (``POST /audio/speech``, ``/audio/transcriptions``, ``/audio/translations``): speech is JSON in and bytes
out, recordings are forms in and JSON out. A recording to sound like goes as ``ref_audio``, a data URL, which OpenAI
does not know and servers of open models (vLLM-Omni) do.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from upstreams import audio, classify, openai
from upstreams.audio import Recording, Sound, Speech, Transcript
from upstreams.errors import UpstreamError
from upstreams.wire import Target, UpstreamRequest

SLOWEST, FASTEST = 0.25, 4.0
#: Where the caller leaves the choice: OpenAI has no voice of its own choosing.
USUAL_VOICE = "alloy"


def speech_request(target: Target, speech: Speech) -> UpstreamRequest:
    """The request for spoken text. Raises ValueError when the target's base URL is none."""
    body: dict[str, Any] = {
        "input": speech.text,
        "voice": speech.voice or USUAL_VOICE,
        "response_format": speech.format,
    }
    if speech.speed != 1.0:
        body["speed"] = speech.speed
    if speech.instructions:
        body["instructions"] = speech.instructions
    if speech.reference:
        container = audio.container_of(speech.reference) or audio.WAV
        encoded = base64.b64encode(speech.reference).decode()
        body["ref_audio"] = f"data:{container.content_type};base64,{encoded}"
        if speech.reference_text:
            body["ref_text"] = speech.reference_text
    fields = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in body.items()}
    return _labelled(openai.request_to(target, "/audio/speech", fields, stream=False), accept="*/*")


def recording_request(target: Target, recording: Recording) -> UpstreamRequest:
    """The request for a recording's words. Raises ValueError when the target's base URL is none."""
    # Only Whisper tells segments; a model after it refuses to be asked.
    segments = recording.timestamps or (recording.segments_if_any and "whisper" in target.upstream_model)
    fields = [("model", target.upstream_model), ("response_format", "verbose_json" if segments else "json")]
    if recording.language and not recording.translate:
        fields.append(("language", recording.language))
    if recording.prompt:
        fields.append(("prompt", recording.prompt))
    if recording.temperature is not None:
        fields.append(("temperature", f"{recording.temperature:g}"))
    fields += [("timestamp_granularities[]", each) for each in recording.granularities if not recording.translate]
    content_type, body = audio.form(fields, "file", recording)
    path = "/audio/translations" if recording.translate else "/audio/transcriptions"
    request = openai.request_to(target, path, {}, stream=False)
    return msgspec.structs.replace(_labelled(request, content_type=content_type), body=body)


def cannot_speak(speech: Speech) -> tuple[str, str] | None:
    """The member that can't be fulfilled and why, None where all of it can be."""
    if not SLOWEST <= speech.speed <= FASTEST:
        return "speed", f"The speed must lie between {SLOWEST} and {FASTEST}."
    return None


def cannot_write(_recording: Recording) -> tuple[str, str] | None:
    """Nothing is known beforehand: what a model can't do, the provider says."""
    return None


def sound(body: bytes, speech: Speech, *, secret: str = "") -> Sound:
    """The spoken text of a 200. Raises UpstreamError."""
    return audio.read_sound(body, speech.format, secret=secret, known=speech.text.encode("utf-8", "replace"))


def transcript(body: bytes, *, secret: str = "") -> Transcript:
    """The words of a 200. Raises UpstreamError."""
    return audio.read_transcript(body, secret=secret)


def refuse(
    status: int, headers: Mapping[str, str], body: bytes, *, secret: str = "", known: bytes = b""
) -> UpstreamError:
    """What an answer with a failing status means."""
    return classify.refuse(status, headers, body, secret=secret, known=known)


def _labelled(request: UpstreamRequest, *, accept: str = "", content_type: str = "") -> UpstreamRequest:
    """``request`` with these in place of the labels of JSON."""
    given = {"accept": accept, "content-type": content_type}
    return msgspec.structs.replace(
        request, headers=tuple((name, given.get(name) or value) for name, value in request.headers)
    )
