"""The adapter for Fish Audio: speech, voices after a recording, and recordings written down. Pure.

As documented (docs.fish.audio, OpenAPI of ``POST /v1/tts`` and ``POST /v1/asr``): the model is a header; a recording
inside a request for speech needs MessagePack, everything else goes as JSON; speech comes back as bare bytes in the
format that was asked for; errors are ``{"status", "message"}``, and 422 is a list of ``{"loc", "type", "msg"}``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from upstreams import audio, classify, loose_json
from upstreams.audio import Recording, Sound, Speech, Transcript
from upstreams.errors import UpstreamError
from upstreams.wire import Headers, Target, UpstreamRequest, split_base_url

FORMATS: Final = ("mp3", "opus", "wav", "pcm")
SLOWEST, FASTEST = 0.5, 2.0
#: What OpenAI's callers expect bare samples to be; this provider's own rate is another.
_PCM_HERTZ: Final = 24_000

_OWN_ID = re.compile(r"[0-9a-f]{32}")
_CALM_MAN, _LIVELY_MAN, _OTHER_MAN = (
    "bf322df2096a46f18c579d0baa36f41d",
    "802e3bc2b27e49c2995d23ef70e6ac89",
    "536d3a5e000945adb7038665781a4aca",
)
_CALM_WOMAN, _LIVELY_WOMAN = "933563129e564b19a115bedd57b7406a", "b347db033a6549378b48d00acb0d06cd"
#: Names of voices that people know from elsewhere, each as one of the public voices of this provider's documentation.
VOICES: Final[Mapping[str, str]] = {
    "en_male_calm": _CALM_MAN, "en_male_energetic": _LIVELY_MAN,
    "en_female_calm": _CALM_WOMAN, "en_female_energetic": _LIVELY_WOMAN,
    "alloy": _CALM_WOMAN, "ash": _CALM_MAN, "ballad": _OTHER_MAN, "cedar": _CALM_MAN, "coral": _LIVELY_WOMAN,
    "echo": _OTHER_MAN, "fable": _OTHER_MAN, "marin": _CALM_WOMAN, "nova": _LIVELY_WOMAN, "onyx": _CALM_MAN,
    "sage": _CALM_WOMAN, "shimmer": _LIVELY_WOMAN, "verse": _LIVELY_MAN,
}  # fmt: skip


def speech_request(target: Target, speech: Speech) -> UpstreamRequest:
    """The request for spoken text. Raises ValueError when the target's base URL is none."""
    body: dict[str, Any] = {"text": speech.text, "format": speech.format}
    if speech.voice and not speech.reference:
        body["reference_id"] = VOICES.get(speech.voice, speech.voice)
    if speech.speed != 1.0:
        body["prosody"] = {"speed": speech.speed}
    if speech.format == "pcm":
        body["sample_rate"] = _PCM_HERTZ
    if not speech.reference:
        return _request(target, "/v1/tts", "application/json", msgspec.json.encode(body))
    body["references"] = [{"audio": speech.reference, "text": speech.reference_text}]
    return _request(target, "/v1/tts", "application/msgpack", msgspec.msgpack.encode(body))


def recording_request(target: Target, recording: Recording) -> UpstreamRequest:
    """The request for a recording's words. Raises ValueError when the target's base URL is none."""
    segments = recording.timestamps or recording.segments_if_any
    fields = [("ignore_timestamps", "false" if segments else "true")]
    if recording.language:
        fields.append(("language", recording.language))
    content_type, body = audio.form(fields, "audio", recording)
    return _request(target, "/v1/asr", content_type, body)


def cannot_speak(speech: Speech) -> tuple[str, str] | None:
    """The member that this provider can't fulfil and why, None where it can do all of it."""
    if speech.format not in FORMATS:
        return "format", f"The format {speech.format} is not offered here; {', '.join(FORMATS)} are."
    if not SLOWEST <= speech.speed <= FASTEST:
        return "speed", f"The speed must lie between {SLOWEST} and {FASTEST} here."
    return None


def cannot_write(recording: Recording) -> tuple[str, str] | None:
    """As `cannot_speak`, of a recording."""
    if recording.translate:
        return "model", "This model writes down what is said in its own language; it does not translate."
    if "word" in recording.granularities:
        return "timestamp_granularities", "This model tells the times of segments, not of words."
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
    """What an answer with a failing status means. A 422 finds fault with the request, which callers know as 400."""
    status = 400 if status == 422 else status
    return classify.refuse(status, headers, _told_plainly(body), secret=secret, known=known)


def _told_plainly(body: bytes) -> bytes:
    """The list of faults of a 422 as one error that names the member; anything else as it is."""
    try:
        value = loose_json.decode(body)
    except ValueError:
        return body
    if isinstance(value, dict) and isinstance(value.get("message"), str) and "reference" in value["message"].lower():
        return msgspec.json.encode({"error": {"message": value["message"], "param": "reference_id"}})
    if not isinstance(value, list) or not value or not isinstance(value[0], dict) or "msg" not in value[0]:
        return body
    place = [str(step) for step in value[0].get("loc") or () if isinstance(step, str) and step != "body"]
    member = place[0] if place else None
    return msgspec.json.encode({"error": {"message": str(value[0]["msg"]), "param": member}})


def _request(target: Target, path: str, content_type: str, body: bytes) -> UpstreamRequest:
    origin, prefix = split_base_url(target.base_url)
    headers: Headers = (
        ("content-type", content_type),
        ("accept-encoding", "identity"),
        ("user-agent", "hypereal"),
        ("model", target.upstream_model),
    )
    if target.secret and target.options.auth != "none":
        headers = (*headers, ("authorization", f"Bearer {target.secret}"))
    query = f"?{target.options.query}" if target.options.query else ""
    return UpstreamRequest("POST", origin, f"{prefix}{path}{query}", (*headers, *target.options.headers), body)
