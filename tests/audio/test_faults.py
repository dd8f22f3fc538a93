"""What goes wrong at providers and with callers: each call ends charged exactly once or not at all."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from typing import Any

import pytest

from tests.audio.conftest import BY_CHARACTER, CHARACTER, PRICE, SPEAKS, WRITES, Maker
from tests.audio.test_transcripts import send_form
from tests.fakes import fish
from tests.fakes import upstream as fake
from tests.support import sounds
from tests.support.gateway import CREDIT, Caller, Gateway

SPEECH = "/v1/audio/speech"
SOUND = sounds.mp3(1.0)
OPENAI_ERROR = {"error": {"message": "It broke.", "type": "server_error", "code": None}}


def speak(caller: Caller, model: str, **more: Any) -> Any:
    headers = more.pop("headers", {})
    return caller.send("POST", SPEECH, {"model": model, "voice": "nova", "input": "Hello", **more}, **headers)


def assert_nothing_paid(caller: Caller, status: int) -> None:
    books = caller.settled_books()
    assert (books.transfers, books.balance, books.held, books.holds) == ([], 1000 * CREDIT, 0, ["voided"])
    assert books.log[0]["status"] == status
    assert books.log[0]["charged_microcredits"] == 0


async def cut(talk: fake.Conversation) -> None:
    """Breaks off in the middle of its sound."""
    await talk.start("audio/mpeg")
    await talk.send(SOUND[:5000])
    talk.cut()


async def short(talk: fake.Conversation) -> None:
    """Promises more bytes than come."""
    await talk.json(SOUND[:400], headers={"content-type": "audio/mpeg", "content-length": str(len(SOUND))})
    talk.cut()


def whole(body: bytes, content_type: str = "audio/mpeg", status: int = 200) -> fake.Behaviour:
    async def behave(talk: fake.Conversation) -> None:
        await talk.json(body, status, {"content-type": content_type})

    return behave


#: By name: how a provider fails, and what the caller gets where nobody else is there.
FAILURES: dict[str, tuple[fake.Behaviour, int]] = {
    "500": (fish.fails(500, "it broke"), 502),
    "503": (fish.fails(503, "busy"), 503),
    "429": (fish.fails(429, "too many", {"retry-after": "0"}), 503),
    "401": (fish.fails(401, "No permission -- see authorization schemes"), 502),
    "402": (fish.fails(402, "No payment -- see charging schemes"), 502),
    "nothing": (whole(b""), 502),
    "a file of no length": (whole(sounds.wav(0), "audio/wav"), 502),
    "an error in a 200": (whole(json.dumps(OPENAI_ERROR).encode(), "audio/mpeg"), 502),
    "an account error in a 200": (whole(b'{"error": {"message": "no", "code": "insufficient_quota"}}'), 502),
    "a page": (whole(b"<!doctype html><title>Sign in</title>", "audio/mpeg"), 502),
    "text": (whole(b"your sound will be ready soon", "audio/mpeg"), 502),
    "a cut": (cut, 502),
    "a short answer": (short, 502),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_call_that_nobody_serves_costs_nothing(caller: Caller, audio_model: Maker, name: str) -> None:
    behaviour, status = FAILURES[name]
    reply = speak(caller, audio_model(SPEAKS, behaviour))
    assert reply.status == status
    assert "fish" not in reply.body.decode().lower()
    assert_nothing_paid(caller, status)


@pytest.mark.parametrize("name", FAILURES)
def test_the_next_target_serves_and_one_charge_is_made(
    gateway: Gateway, caller: Caller, audio_model: Maker, name: str
) -> None:
    good = gateway.upstream.serve(fish.answers(SOUND))
    reply = speak(caller, audio_model(SPEAKS, FAILURES[name][0], good, rates=BY_CHARACTER))
    assert (reply.status, reply.body, good.calls) == (200, SOUND, 1)
    assert int(reply.headers["x-hypereal-attempts"]) >= 2
    books = caller.settled_books()
    assert (books.transfers, books.holds) == ([5 * CHARACTER], ["posted"])


#: How a provider finds the caller's own words wrong, and what is told of it.
REFUSALS: dict[str, tuple[fake.Behaviour, int, str | None, str]] = {
    "422 on the text": (fish.finds_fault("text", "Text is offensive"), 400, "text", "offensive"),
    "422 on the voice": (fish.finds_fault("reference_id", "Not a voice"), 400, "voice_id", "Not a voice"),
    "400 on the voice": (fish.fails(400, "Reference not found"), 400, "voice_id", "Reference not found"),
    "400": (fish.fails(400, "Text is empty"), 400, None, "Text is empty"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_the_callers_fault_is_told_and_not_tried_elsewhere(
    gateway: Gateway, caller: Caller, audio_model: Maker, name: str
) -> None:
    behaviour, status, param, word = REFUSALS[name]
    other = gateway.upstream.serve(fish.answers())
    model = audio_model(SPEAKS, behaviour, other)
    reply = caller.send("POST", "/v1/audio/generations", {"model": model, "text": "Hello", "voice_id": "x"})
    assert (reply.status, reply.error["param"], other.calls) == (status, param, 0)
    assert word in reply.error["message"]
    assert_nothing_paid(caller, status)


def test_a_refusal_names_the_member_as_openais_callers_know_it(caller: Caller, audio_model: Maker) -> None:
    reply = speak(caller, audio_model(SPEAKS, fish.finds_fault("reference_id", "Not a voice")))
    assert (reply.status, reply.error["param"]) == (400, "voice")
    refuses = fake.fails(400, "Too long.", param="input", type="invalid_request_error", code="string_above_max_length")
    model = audio_model(SPEAKS, refuses, adapter="openai")
    own = caller.send("POST", "/v1/audio/generations", {"model": model, "text": "Hello"})
    assert (own.status, own.error["param"], own.error["message"]) == (400, "text", "Too long.")
    assert caller.settled_books(2).transfers == []


def test_a_transcript_that_is_none(caller: Caller, audio_model: Maker) -> None:
    model = audio_model(WRITES, whole(b'{"words": []}', "application/json"))
    assert send_form(caller, {"model": model}, sounds.wav(2)).status == 502
    assert_nothing_paid(caller, 502)


def test_a_transcript_from_the_next_target(caller: Caller, audio_model: Maker) -> None:
    model = audio_model(WRITES, whole(b"<html>", "text/html"), fish.answers())
    reply = send_form(caller, {"model": model}, sounds.wav(2))
    assert reply.json["text"] == "Good morning. It rains."
    assert caller.settled_books().transfers == [PRICE]


@pytest.mark.parametrize("way", ["silent", "dripping"])
def test_a_provider_that_takes_too_long_is_given_up(gateway: Gateway, audio_model: Maker, way: str) -> None:
    async def slow(talk: fake.Conversation) -> None:
        if way == "silent":
            await talk.gone()
            return
        await talk.start("audio/mpeg")
        for byte in SOUND:
            await talk.send(bytes([byte]))
            await asyncio.sleep(0.1)

    server = gateway.with_settings(GATEWAY_MEDIA_SECONDS="1.5")
    caller = gateway.caller(server=server)
    reply = speak(caller, audio_model(SPEAKS, slow))
    assert (reply.status, reply.error["type"]) == (504, "timeout_error")
    assert_nothing_paid(caller, 504)


def test_who_leaves_pays_for_what_was_made(gateway: Gateway, caller: Caller, audio_model: Maker) -> None:
    asked, go_on = threading.Event(), threading.Event()

    async def slow(talk: fake.Conversation) -> None:
        asked.set()
        await asyncio.to_thread(go_on.wait, 60)
        await fish.answers(SOUND)(talk)

    model = audio_model(SPEAKS, slow)
    connection = http.client.HTTPConnection("127.0.0.1", caller.port, timeout=90)
    body = json.dumps({"model": model, "voice": "nova", "input": "Hello"})
    connection.request("POST", SPEECH, body, caller.headers({"content-type": "application/json"}))
    assert asked.wait(60)
    connection.close()
    go_on.set()
    books = caller.settled_books()
    assert (books.transfers, books.log[0]["status"]) == ([PRICE], 200)


def test_a_sound_is_replayed_with_its_content_type(gateway: Gateway, caller: Caller, audio_model: Maker) -> None:
    route = gateway.upstream.serve(fish.answers(SOUND))
    model = audio_model(SPEAKS, route)
    name = {"headers": {"idempotency_key": f"once-{model}"}}
    first, again = speak(caller, model, **name), speak(caller, model, **name)
    assert (first.body, again.body, again.headers["content-type"]) == (SOUND, SOUND, "audio/mpeg")
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["x-request-id"] == first.headers["x-request-id"]
    assert speak(caller, model, input="Another text", **name).status == 409
    assert (route.calls, caller.settled_books().transfers) == (1, [PRICE])


def test_a_form_with_another_boundary_is_the_same_request(gateway: Gateway, caller: Caller, audio_model: Maker) -> None:
    route = gateway.upstream.serve(fish.answers())
    model, recording = audio_model(WRITES, route), sounds.wav(2)
    replies = []
    for boundary in ("frontier", "another-one"):
        head = f"--{boundary}\r\ncontent-disposition: form-data; name="
        body = (
            f'{head}"model"\r\n\r\n{model}\r\n{head}"file"; filename="a.wav"\r\n\r\n'.encode()
            + recording
            + f"\r\n--{boundary}--\r\n".encode()
        )
        kind = f"multipart/form-data; boundary={boundary}"
        replies.append(
            caller.send("POST", "/v1/audio/transcriptions", body, content_type=kind, idempotency_key=f"form-{model}")
        )
    assert [reply.status for reply in replies] == [200, 200]
    assert replies[1].headers["idempotency-replayed"] == "true"
    assert (route.calls, caller.settled_books().transfers) == (1, [PRICE])


def test_a_very_large_sound_is_not_kept_for_repeats(gateway: Gateway, caller: Caller, audio_model: Maker) -> None:
    large = SOUND * (17 * 1024 * 1024 // len(SOUND) + 1)
    route = gateway.upstream.serve(whole(large))
    model = audio_model(SPEAKS, route)
    name = {"headers": {"idempotency_key": f"large-{model}"}}
    assert len(speak(caller, model, **name).body) == len(large)
    again = speak(caller, model, **name)
    assert (again.status, again.error["param"]) == (409, "Idempotency-Key")
    assert (route.calls, caller.settled_books().transfers) == (1, [PRICE])


def test_a_repeat_of_a_failed_call_is_a_new_one(gateway: Gateway, caller: Caller, audio_model: Maker) -> None:
    route = gateway.upstream.serve(fake.first(2, fish.fails(500, "broke"), fish.answers(SOUND)))
    model = audio_model(SPEAKS, route)
    name = {"headers": {"idempotency_key": f"again-{model}"}}
    assert speak(caller, model, **name).status == 502
    assert speak(caller, model, **name).status == 200
    assert caller.settled_books(2).transfers == [PRICE]
