"""What stands before a call for sound: the minute's allowance, intents, receipts, the faces that callers see."""

from __future__ import annotations

from core import ids
from tests.audio.conftest import BY_CHARACTER, CHARACTER, FLAT, PRICE, SPEAKS, WRITES, Maker
from tests.audio.test_transcripts import send_form
from tests.fakes import fish
from tests.support import http, sounds
from tests.support.gateway import Caller, Gateway, wait_for_the_minute

SPEECH = "/v1/audio/speech"
GENERATIONS = "/v1/audio/generations"


def test_the_minutes_allowance_holds_for_good_and_bad_bodies(gateway: Gateway, audio_model: Maker) -> None:
    caller = gateway.caller(server=gateway.with_settings(RATE_LIMIT_PER_MINUTE="3"))
    model = audio_model(SPEAKS, fish.answers())
    wait_for_the_minute()
    good = {"model": model, "voice": "nova", "input": "Hi"}
    large = {**good, "voice": 5, "instructions": "x" * 20_000}  # read in a thread, and counted all the same
    statuses = [caller.send("POST", SPEECH, body).status for body in (good, large, {"model": model}, good, large)]
    assert statuses == [200, 400, 400, 429, 429]
    assert caller.settled_books(5).transfers == [PRICE]


def test_an_intent_takes_the_cheapest_for_this_very_text(gateway: Gateway) -> None:
    intent = f"say-{ids.uuid7().hex[-8:]}"
    flat, by_character = gateway.upstream.serve(fish.answers()), gateway.upstream.serve(fish.answers())
    columns = {**SPEAKS, "intents": [intent], "media": {"max_text_bytes": 10_000}}
    gateway.model(flat, rates=FLAT, kind="audio", adapter="fish", **columns)
    gateway.model(by_character, rates=BY_CHARACTER, kind="audio", adapter="fish", **columns)
    caller = gateway.caller()
    assert caller.send("POST", GENERATIONS, {"intent": intent, "text": "Hi"}).status == 200
    assert (flat.calls, by_character.calls) == (0, 1)
    assert caller.send("POST", GENERATIONS, {"intent": intent, "text": "x" * 5_000}).status == 200
    assert (flat.calls, by_character.calls) == (1, 1)
    assert caller.settled_books(2).transfers == [2 * CHARACTER, PRICE]


def test_the_receipt_names_unit_and_number(gateway: Gateway, caller: Caller, audio_model: Maker) -> None:
    model = audio_model(SPEAKS, fish.answers(), rates=BY_CHARACTER)
    reply = caller.send("POST", SPEECH, {"model": model, "voice": "nova", "input": "Twelve chars"})
    caller.settled_books()
    receipt = caller.send("GET", f"/v1/receipts/{reply.headers['x-request-id']}").json
    assert (receipt["endpoint"], receipt["model"]) == ("/v1/audio/generations", model)
    told = str(receipt)
    assert "'units': 12" in told and "character" in told


def test_a_page_of_another_origin_may_call(caller: Caller, audio_model: Maker) -> None:
    model = audio_model(WRITES, fish.answers())
    asked = http.send(caller.port, "OPTIONS", "/v1/audio/transcriptions", None, {"origin": "https://app.test"})
    assert (asked.status, asked.headers["access-control-allow-origin"]) == (204, "*")
    assert "POST" in asked.headers["access-control-allow-methods"]
    answered = send_form(caller, {"model": model}, sounds.wav(2))
    assert answered.status == 200


def test_without_a_key(gateway: Gateway) -> None:
    for path in ("generations", "speech", "transcriptions", "translations"):
        reply = http.send(gateway.port, "POST", f"/v1/audio/{path}", {"model": "audio-tts", "text": "Hi"}, {})
        assert (reply.status, reply.error["type"]) == (401, "authentication_error")
        assert http.send(gateway.port, "GET", f"/api/v1/audio/{path}", None, {}).status == 405
