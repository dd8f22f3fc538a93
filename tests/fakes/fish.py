"""Fish Audio as documented: what it wants in a request, and what it answers. Behaviours for `tests.fakes.upstream`."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway import multipart
from tests.fakes.upstream import Behaviour, Conversation
from tests.support import sounds

#: A public voice of the documentation.
CALM_MAN = "bf322df2096a46f18c579d0baa36f41d"
SEGMENTS = [{"text": "Good morning.", "start": 0.0, "end": 1.5}, {"text": "It rains.", "start": 1.5, "end": 2.75}]


def answers(sound: bytes = b"", text: str = "Good morning. It rains.", segments: Any = SEGMENTS) -> Behaviour:
    """A provider in good health: refuses what its documentation says it refuses."""

    async def behave(talk: Conversation) -> None:
        fault = _fault(talk)
        if fault is not None:
            await talk.json(*fault)
        elif talk.seen.path.endswith("/v1/tts"):
            await speaks(sound or sounds.mp3(2.0))(talk)
        else:
            form = form_of(talk.seen.headers, talk.body)
            told = form.text("ignore_timestamps") == "false"
            await talk.json({"text": text, "duration": 2.75, "segments": segments if told else []})

    return behave


def speaks(sound: bytes, content_type: str = "audio/mpeg") -> Behaviour:
    """Answers everything with these bytes, in chunks as they are made."""

    async def behave(talk: Conversation) -> None:
        await talk.start(content_type)
        for place in range(0, len(sound), 16_384):
            await talk.send(sound[place : place + 16_384])
        await talk.end()

    return behave


def fails(status: int, message: str, headers: dict[str, str] | None = None) -> Behaviour:
    """An error in the provider's form."""

    async def behave(talk: Conversation) -> None:
        await talk.json({"status": status, "message": message}, status, headers)

    return behave


def finds_fault(member: str, message: str) -> Behaviour:
    """A 422: a list of faults."""

    async def behave(talk: Conversation) -> None:
        await talk.json([{"loc": ["body", member], "type": "value_error", "msg": message, "in": "body"}], 422)

    return behave


def speech_of(headers: dict[str, str], body: Any) -> dict[str, Any]:
    """A request for speech, decoded."""
    if headers["content-type"] == "application/msgpack":
        decoded: dict[str, Any] = msgspec.msgpack.decode(body)
        return decoded
    return dict(body)


def form_of(headers: dict[str, str], body: bytes) -> multipart.Form:
    """A request to write down, read."""
    return multipart.read(headers["content-type"].encode("latin-1"), body)


def _fault(talk: Conversation) -> tuple[Any, int] | None:
    headers = talk.seen.headers
    if not headers.get("authorization", "").startswith("Bearer "):
        return {"status": 401, "message": "Unauthorized"}, 401
    if talk.seen.path.endswith("/v1/tts"):
        if not headers.get("model"):
            return [{"loc": ["header", "model"], "type": "missing", "msg": "Field required"}], 422
        request = speech_of(headers, talk.body)
        if not request.get("text"):
            return [{"loc": ["body", "text"], "type": "missing", "msg": "Field required"}], 422
        if request.get("format", "mp3") not in ("mp3", "wav", "pcm", "opus"):
            return [{"loc": ["body", "format"], "type": "enum", "msg": "Input should be wav, pcm, mp3 or opus"}], 422
        return None
    if talk.seen.path.endswith("/v1/asr"):
        missing = not form_of(headers, talk.body).files.get("audio")
        return ([{"loc": ["body", "audio"], "type": "missing", "msg": "Field required"}], 422) if missing else None
    return {"status": 404, "message": "Not Found"}, 404
