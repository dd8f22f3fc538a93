"""Text to speech and cloned voices: this gateway's own endpoint and OpenAI's, as a provider and a caller see them."""

from __future__ import annotations

import base64
from typing import Any

import openai
import pytest
from openai import OpenAI

from storage import objects
from storage.models import StoredObject
from tests.audio.conftest import BY_BYTE, BY_CHARACTER, BYTE, CHARACTER, CLONES, PRICE, SPEAKS, WRITES, Maker
from tests.fakes import fish
from tests.support import sounds
from tests.support.gateway import CREDIT, Caller, Gateway

GENERATIONS = "/api/v1/audio/generations"
SPEECH = "/v1/audio/speech"


def data_url(sound: bytes, label: str = "audio/mpeg") -> str:
    return f"data:{label};base64,{base64.b64encode(sound).decode()}"


def stored(workspace_id: Any) -> list[StoredObject]:
    return list(StoredObject.objects.filter(workspace_id=workspace_id).order_by("id"))


def test_text_becomes_a_file_that_can_be_fetched(gateway: Gateway, caller: Caller, audio_model: Maker) -> None:
    sound = sounds.mp3(2.0)
    route = gateway.upstream.serve(fish.answers(sound))
    model = audio_model(SPEAKS, route)
    reply = caller.send("POST", GENERATIONS, {"model": model, "text": "Welcome.", "voice_id": "en_male_calm"})
    assert reply.status == 200, reply.body
    (made,) = reply.json["data"]
    assert (made["content_type"], made["format"], made["size_bytes"]) == ("audio/mpeg", "mp3", len(sound))
    (row,) = stored(caller.workspace.pk)
    assert (row.kind, row.source, row.content_type, row.key_id) == ("audio", "result", "audio/mpeg", caller.key.pk)
    assert row.filename in made["url"]
    with objects.open_bytes(row) as file:
        assert file.read() == sound
    asked = route.seen[0]
    assert asked.path.endswith("/v1/tts")
    assert asked.headers["model"] == f"up-{model}"
    assert asked.body == {"text": "Welcome.", "format": "mp3", "reference_id": fish.CALM_MAN}
    books = caller.settled_books()
    assert (books.transfers, books.balance, books.held) == ([PRICE], 1000 * CREDIT - PRICE, 0)
    (log,) = books.log
    assert (log["endpoint"], log["status"], log["units"], log["charged_microcredits"]) == ("audio", 200, 1, PRICE)
    assert reply.headers["x-hypereal-credits"] == "5"
    assert reply.headers["x-hypereal-usage"] == "units=1, unit=request"


def test_the_official_sdk_speaks(sdk: OpenAI, caller: Caller, audio_model: Maker) -> None:
    sound = sounds.mp3(1.0)
    model = audio_model(SPEAKS, fish.answers(sound))
    answer = sdk.audio.speech.create(model=model, voice="alloy", input="Hello there")
    assert answer.read() == sound
    assert answer.response.headers["content-type"] == "audio/mpeg"
    with sdk.audio.speech.with_streaming_response.create(model=model, voice="alloy", input="Hello there") as streamed:
        assert b"".join(streamed.iter_bytes()) == sound
    assert caller.settled_books(2).transfers == [PRICE, PRICE]


def test_openais_own_speech_is_asked_in_its_own_words(
    gateway: Gateway, sdk: OpenAI, caller: Caller, audio_model: Maker
) -> None:
    route = gateway.upstream.serve(fish.speaks(sounds.wav(1.0), "application/octet-stream"))
    model = audio_model(SPEAKS, route, adapter="openai", rates=BY_CHARACTER)
    answer = sdk.audio.speech.create(
        model=model, voice="coral", input="Grüße", response_format="wav", speed=1.5, instructions="Whisper."
    )
    assert answer.response.headers["content-type"] == "audio/wav"  # what the bytes are, whatever their label
    asked = route.seen[0]
    assert asked.path.endswith("/audio/speech")
    assert asked.headers["authorization"] == f"Bearer sk-upstream-{model}"
    assert asked.body == {
        "model": f"up-{model}", "input": "Grüße", "voice": "coral", "response_format": "wav", "speed": 1.5,
        "instructions": "Whisper.",
    }  # fmt: skip
    assert caller.settled_books().transfers == [5 * CHARACTER]


def test_a_price_a_byte_counts_text_and_instructions(caller: Caller, audio_model: Maker) -> None:
    model = audio_model(SPEAKS, fish.answers(), rates=BY_BYTE)
    body = {"model": model, "voice": "nova", "input": "Grüße", "instructions": "Sing."}
    assert caller.send("POST", SPEECH, body).status == 200
    assert caller.settled_books().transfers == [(7 + 5) * BYTE]


@pytest.mark.parametrize(("wanted", "sound", "told"), [
    ("mp3", sounds.mp3(1), "audio/mpeg"),
    ("wav", sounds.wav(1), "audio/wav"),
    ("opus", b"OggS" + bytes(60) + b"OpusHead" + bytes(100), "audio/ogg"),
    ("pcm", b"\x00\x01" * 500, "audio/pcm"),
])  # fmt: skip
def test_formats(gateway: Gateway, caller: Caller, audio_model: Maker, wanted: str, sound: bytes, told: str) -> None:
    route = gateway.upstream.serve(fish.answers(sound))
    model = audio_model(SPEAKS, route)
    reply = caller.send("POST", SPEECH, {"model": model, "voice": "nova", "input": "Hi", "response_format": wanted})
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, told, sound)
    assert route.seen[0].body["format"] == wanted
    assert route.seen[0].body.get("sample_rate") == (24_000 if wanted == "pcm" else None)


def test_a_target_that_can_not_do_what_is_asked_is_passed_over(
    gateway: Gateway, caller: Caller, audio_model: Maker
) -> None:
    unable = gateway.upstream.serve(fish.answers())
    model = audio_model(SPEAKS, unable)
    body = {"model": model, "voice": "nova", "input": "Hi", "response_format": "flac"}
    reply = caller.send("POST", SPEECH, body)
    assert (reply.status, reply.error["param"]) == (400, "response_format")
    assert "mp3, opus, wav, pcm" in reply.error["message"]
    slow = caller.send("POST", GENERATIONS, {"model": model, "text": "Hi", "speed": 0.3})
    assert (slow.status, slow.error["param"]) == (400, "speed")
    assert unable.calls == 0
    assert caller.settled_books(2).holds == []


@pytest.mark.parametrize("way", ["data url", "form"])
def test_a_voice_is_cloned_after_a_recording(
    gateway: Gateway, caller: Caller, sdk: OpenAI, audio_model: Maker, way: str
) -> None:
    route, reference = gateway.upstream.serve(fish.answers(sounds.mp3(3))), sounds.wav(10.0)
    model = audio_model(CLONES, route)
    fields = {"model": model, "text": "This is my cloned voice.", "reference_text": "Good morning."}
    if way == "form":
        files = {"audio": ("voice.wav", reference, "audio/wav")}
        made: Any = sdk.post("/audio/generations", body=fields, files=files, cast_to=object,
                             options={"headers": {"content-type": "multipart/form-data"}})  # fmt: skip
    else:
        reply = caller.send("POST", GENERATIONS, {**fields, "audio": data_url(reference)})
        assert reply.status == 200, reply.body
        made = reply.json
    assert made["data"][0]["content_type"] == "audio/mpeg"
    asked = fish.speech_of(route.seen[0].headers, route.seen[0].body)
    assert asked["references"] == [{"audio": reference, "text": "Good morning."}]
    assert "reference_id" not in asked
    assert caller.settled_books().transfers == [PRICE]


def test_a_reference_reaches_servers_of_open_models(gateway: Gateway, caller: Caller, audio_model: Maker) -> None:
    route, reference = gateway.upstream.serve(fish.speaks(sounds.mp3(1))), sounds.wav(11.0)
    model = audio_model(CLONES, route, adapter="openai")
    body = {"model": model, "text": "Hello.", "audio": data_url(reference, "audio/x-whatever")}
    assert caller.send("POST", GENERATIONS, body).status == 200
    assert route.seen[0].body["ref_audio"] == data_url(reference, "audio/wav")


@pytest.mark.parametrize(("path", "can", "word"), [
    (SPEECH, CLONES, "/v1/audio/generations"), (SPEECH, WRITES, "/v1/audio/transcriptions"),
])  # fmt: skip
def test_a_model_of_another_endpoint_is_told_where_to_go(
    caller: Caller, audio_model: Maker, path: str, can: dict[str, Any], word: str
) -> None:
    model = audio_model(can, fish.answers())
    reply = caller.send("POST", path, {"model": model, "voice": "nova", "input": "Hi"})
    assert (reply.status, reply.error["param"]) == (400, "model")
    assert word in reply.error["message"]


def test_events_are_refused_clearly(sdk: OpenAI, audio_model: Maker) -> None:
    model = audio_model(SPEAKS, fish.answers())
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.audio.speech.create(model=model, voice="nova", input="Hi", stream_format="sse")
    assert refused.value.param == "stream_format"


def test_a_sound_that_can_not_be_stored_is_not_lost(
    gateway: Gateway, audio_model: Maker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    blocked = tmp_path_factory.mktemp("blocked") / "a file, no folder"
    blocked.write_text("")
    server = gateway.with_settings(STORAGE_DIR=str(blocked))
    caller, sound = gateway.caller(server=server), sounds.mp3(1)
    model = audio_model(SPEAKS, fish.answers(sound))
    reply = caller.send("POST", GENERATIONS, {"model": model, "text": "Hi"})
    assert (reply.status, reply.json["data"][0]["url"]) == (200, data_url(sound))
    assert caller.settled_books().transfers == [PRICE]


def test_a_key_that_may_not_call_the_model(gateway: Gateway, audio_model: Maker) -> None:
    route = gateway.upstream.serve(fish.answers())
    model = audio_model(SPEAKS, route)
    caller = gateway.caller(allowed_models=["another"])
    reply = caller.send("POST", SPEECH, {"model": model, "voice": "nova", "input": "Hi"})
    assert reply.status == 403
    assert (route.calls, caller.settled_books().holds) == (0, [])


def test_a_quote_is_what_the_call_would_hold(caller: Caller, audio_model: Maker) -> None:
    model = audio_model(SPEAKS, fish.answers(), rates=BY_CHARACTER)
    for body in (
        {"model": model, "text": "Twelve chars"},
        {"endpoint": SPEECH, "body": {"model": model, "input": "Twelve chars", "voice": "nova"}},
    ):
        reply = caller.send("POST", "/v1/quote", body)
        assert reply.status == 200, reply.body
        assert (reply.json["reservation_credits"], reply.json["unit"], reply.json["units"]) == (0.018, "character", 12)
    assert caller.books().log == []


def test_somebody_without_enough_credits(gateway: Gateway, audio_model: Maker) -> None:
    route = gateway.upstream.serve(fish.answers())
    model, poor = audio_model(SPEAKS, route), gateway.caller(credits=4)
    reply = poor.send("POST", SPEECH, {"model": model, "voice": "nova", "input": "Hi"})
    assert (reply.status, reply.error["type"], route.calls) == (402, "insufficient_credits", 0)
    exact = gateway.caller(credits=5)
    assert exact.send("POST", SPEECH, {"model": model, "voice": "nova", "input": "Hi"}).status == 200
    assert exact.settled_books().balance == 0
