"""Text to speech over this gateway's own endpoint and OpenAI's, with the exact sums."""

from __future__ import annotations

from openai import OpenAI

from tests.audio.conftest import PRICE, SPEAKS, Maker
from tests.fakes import fish
from tests.support import sounds
from tests.support.gateway import CREDIT, Caller, Gateway


def test_text_becomes_a_file_that_can_be_fetched(gateway: Gateway, caller: Caller, audio_model: Maker) -> None:
    sound = sounds.mp3(2.0)
    route = gateway.upstream.serve(fish.answers(sound))
    model = audio_model(SPEAKS, route)
    reply = caller.send("POST", "/api/v1/audio/generations", {"model": model, "text": "Welcome.", "voice_id": "alloy"})
    assert reply.status == 200, reply.body
    (made,) = reply.json["data"]
    assert made["content_type"] == "audio/mpeg"
    assert made["format"] == "mp3"
    asked = route.seen[0]
    assert asked.path.endswith("/v1/tts")
    assert asked.headers["model"] == f"up-{model}"
    assert asked.body == {"text": "Welcome.", "format": "mp3", "reference_id": "933563129e564b19a115bedd57b7406a"}
    books = caller.settled_books()
    assert books.transfers == [PRICE]
    assert books.balance == 1000 * CREDIT - PRICE
    assert books.held == 0
    (row,) = books.log
    assert (row["endpoint"], row["status"], row["units"], row["charged_microcredits"]) == ("audio", 200, 1, PRICE)
    assert reply.headers["x-hypereal-credits"] == "5"


def test_the_official_sdk_speaks(sdk: OpenAI, caller: Caller, audio_model: Maker) -> None:
    sound = sounds.mp3(1.0)
    model = audio_model(SPEAKS, fish.answers(sound))
    answer = sdk.audio.speech.create(model=model, voice="alloy", input="Hello there")
    assert answer.read() == sound
    assert answer.response.headers["content-type"] == "audio/mpeg"
    with sdk.audio.speech.with_streaming_response.create(model=model, voice="alloy", input="Hello there") as streamed:
        assert b"".join(streamed.iter_bytes()) == sound
    assert caller.settled_books(2).transfers == [PRICE, PRICE]
