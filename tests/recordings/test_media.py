"""Recorded pictures, speech and transcripts through the real gateway: what comes out, and what each costs."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.audio.conftest import BY_CHARACTER, BY_SECOND, CHARACTER, SECOND, SPEAKS, WRITES
from tests.images.provider import MEDIA, PICTURE, RATES
from tests.support import replay, sounds
from tests.support.gateway import CREDIT, Gateway
from tests.support.replay import Exchange

pytestmark = replay.NEEDED

PICTURES = ("images.generations", "images.edits")
SPEECH = ("audio.speech", "tts")
TRANSCRIPTS = ("audio.transcriptions", "asr")
FIELDS: dict[str, Any] = {"max_output_tokens": None, "default_max_output_tokens": None}
DATA_URL = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
RECORDING = f"data:audio/wav;base64,{base64.b64encode(sounds.wav(2)).decode()}"


def each_with_its_model(
    gateway: Gateway, upstream: Any, endpoints: Sequence[str], kind: str, **columns: Any
) -> list[tuple[Exchange, str]]:
    """Every exchange of these endpoints, and a model that answers with it."""
    made = [
        (exchange, gateway.new_model(upstream.base(exchange.id), kind=kind, adapter=_adapter(exchange), **columns))
        for endpoint in endpoints
        for exchange in replay.exchanges(endpoint)
    ]
    gateway.until_known(made[-1][1])
    return made


def _adapter(exchange: Exchange) -> str:
    return "fish" if exchange.facts["provider"] == "fish-audio" else "openai"


def test_pictures(gateway: Gateway, upstream: Any, figures: Callable[[str], None]) -> None:
    """The index says how many images each exchange is billed for: eight credits each."""
    made = each_with_its_model(gateway, upstream, PICTURES, "images", media=MEDIA, rates=RATES, **FIELDS)
    for exchange, model in made:
        caller, edited = gateway.caller(), exchange.facts["endpoint"] == "images.edits"
        asked = {"model": model, "prompt": "a boat", "n": exchange.request.get("n", 2)}
        path = "/v1/images/edits" if edited else "/v1/images/generations"
        body = {**asked, "response_format": "b64_json", **({"image": DATA_URL} if edited else {})}
        reply, billed = caller.send("POST", path, body), exchange.facts["billed"]
        assert reply.status == exchange.status, (exchange.id, reply.body)
        books = caller.settled_books()
        assert (books.charged, books.held) == (billed.get("images", 0) * 8 * CREDIT, 0), exchange.id
        if exchange.status == 200:
            told = exchange.response["body"]
            assert reply.json["data"] == told["data"], exchange.id
            assert {name: reply.json.get(name) for name in ("usage", "quality", "size", "background")} == {
                name: told.get(name) for name in ("usage", "quality", "size", "background")
            }
        else:
            assert reply.error["param"] == exchange.response["body"]["error"]["param"]
    figures(f"recorded pictures: {len(made)} exchanges")


def test_speech(gateway: Gateway, upstream: Any, figures: Callable[[str], None]) -> None:
    made = each_with_its_model(gateway, upstream, SPEECH, "audio", rates=BY_CHARACTER, **FIELDS, **SPEAKS)
    for exchange, model in made:
        caller, asked = gateway.caller(), exchange.request
        body = {
            "model": model, "input": asked.get("input") or asked["text"], "voice": asked.get("voice", "alloy"),
            "response_format": asked.get("response_format") or asked["format"],
        }  # fmt: skip
        reply = caller.send("POST", "/v1/audio/speech", body)
        assert (reply.status, reply.body) == (200, base64.b64decode(exchange.response["body_base64"])), exchange.id
        assert reply.headers["content-type"] == exchange.response["headers"]["content-type"]
        books = caller.settled_books()
        assert (books.charged, books.held) == (exchange.facts["billed"]["characters"] * CHARACTER, 0), exchange.id
    figures(f"recorded speech: {len(made)} exchanges")


def test_transcripts(gateway: Gateway, upstream: Any, figures: Callable[[str], None]) -> None:
    """Billed by the seconds of the recording that was sent, whatever the provider counts; a text is needed."""
    made = each_with_its_model(gateway, upstream, TRANSCRIPTS, "audio", rates=BY_SECOND, **FIELDS, **WRITES)
    for exchange, model in made:
        caller, told = gateway.caller(), exchange.response["body"]
        has_text = isinstance(told.get("text"), str)
        reply = caller.send("POST", "/v1/audio/generations", {"model": model, "audio": RECORDING})
        books = caller.settled_books()
        assert (books.charged, books.held) == (2 * SECOND if has_text else 0, 0), exchange.id
        if not has_text:  # a text/plain answer that its recorder kept with its headers
            assert reply.status == 502, exchange.id
            continue
        assert (reply.status, reply.json["text"]) == (200, told["text"]), exchange.id
        spoken = [{name: each[name] for name in ("start", "end", "text")} for each in told.get("segments") or ()]
        assert reply.json.get("segments", []) == spoken, exchange.id
        again = caller.send("POST", "/v1/audio/transcriptions", {"model": model, "file": RECORDING})
        assert (again.status, again.json["text"]) == (200, told["text"]), exchange.id
        if "usage" in told:
            assert again.json["usage"] == told["usage"]
    figures(f"recorded transcripts: {len(made)} exchanges")


def test_nothing_of_the_index_was_left_out() -> None:
    listed = {entry["endpoint"] for entry in replay.index()["fixtures"]}
    assert {each for each in listed if each.startswith(("images", "audio"))} <= {*PICTURES, *SPEECH, *TRANSCRIPTS}
    for endpoint in (*PICTURES, *SPEECH, *TRANSCRIPTS):
        assert replay.exchanges(endpoint), endpoint


@pytest.mark.parametrize("fault", [{"malformed": 1}, {"cut": 40}, {"reset": 1}, {"status": 503}])
def test_a_broken_picture_costs_nothing(gateway: Gateway, upstream: Any, fault: dict[str, int]) -> None:
    base = upstream.base("openai-images-gpt-image-2-usage", **fault)
    model, caller = gateway.model(base, kind="images", media=MEDIA, rates=RATES, **FIELDS), gateway.caller()
    reply = caller.send("POST", "/v1/images/generations", {"model": model, "prompt": "a boat", "n": 2})
    assert reply.status in (502, 503)
    books = caller.settled_books()
    assert (books.charged, books.held, books.balance) == (0, 0, 1000 * CREDIT)
