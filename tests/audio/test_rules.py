"""Every audio model of the catalog × every rule that it has: 400 with ``param``, nothing asked, nothing reserved."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from catalog import media, source
from tests.audio.conftest import Maker
from tests.audio.test_transcripts import send_form
from tests.fakes import fish
from tests.support import sounds
from tests.support.gateway import Caller, Gateway

GENERATIONS = "/v1/audio/generations"
AUDIO_MODELS = {slug: entry for slug, entry in source.read().models.items() if "audio" in entry.endpoints}


def data_url(sound: bytes) -> str:
    return f"data:audio/wav;base64,{base64.b64encode(sound).decode()}"


def wav_that_lasts(seconds: int) -> bytes:
    """Eight samples a second: hours in a few kilobytes."""
    return sounds.wav(seconds, hertz=8)


def broken(slug: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Every way to break a rule of that model: its name, the members, and the one that is named."""
    entry = AUDIO_MODELS[slug]
    rules = media.parse(entry.media)
    speaks, clones = "speech" in entry.capabilities, "voice_cloning" in entry.capabilities
    good = {"audio": data_url(wav_that_lasts(20))} if clones else {}
    if speaks:
        yield "no text", {**good}, "text"
        yield "an empty text", {**good, "text": " "}, "text"
        yield "a text too long", {**good, "text": "ü" * (rules.max_text_bytes // 2) + "x"}, "text"
        yield "a number for a text", {**good, "text": 5}, "text"
        yield "an unknown format", {**good, "text": "Hi", "format": "midi"}, "format"
        yield "a wild speed", {**good, "text": "Hi", "speed": 9}, "speed"
        yield "a list of voices", {**good, "text": "Hi", "voice_id": ["a", "b"]}, "voice_id"
        yield "a hostile voice", {**good, "text": "Hi", "voice_id": "a\r\nb: c"}, "voice_id"
    if speaks and not clones:
        yield "a recording", {"text": "Hi", "audio": data_url(sounds.wav(20))}, "audio"
    if clones or not speaks:
        text = {"text": "Hi"} if speaks else {}
        yield "no recording", {**text}, "audio"
        yield "no sound", {**text, "audio": data_url(b"GIF89a")}, "audio"
        yield "a broken file", {**text, "audio": data_url(b"RIFF\x00\x00\x00\x00WAVEfmt ")}, "audio"
        yield "no base64", {**text, "audio": "data:audio/wav;base64,%%%"}, "audio"
        yield "a bare name", {**text, "audio": "recording.wav"}, "audio"
        yield "a number", {**text, "audio": 5}, "audio"
        yield "too long a recording", {**text, "audio": data_url(wav_that_lasts(rules.max_audio_seconds + 1))}, "audio"
    if rules.min_reference_seconds:
        short = data_url(sounds.wav(rules.min_reference_seconds - 0.2))
        yield "too short a recording", {"text": "Hi", "audio": short}, "audio"


CASES = [(slug, name, members, param) for slug in AUDIO_MODELS for name, members, param in broken(slug)]


@pytest.mark.parametrize(
    ("slug", "name", "members", "param"), CASES, ids=[f"{slug}-{name}" for slug, name, _, _ in CASES]
)
def test_a_broken_rule_is_named_and_reserves_nothing(
    gateway: Gateway, rule_models: dict[str, Any], rule_caller: Caller, slug: str, name: str,
    members: dict[str, Any], param: str,
) -> None:  # fmt: skip
    model, route = rule_models[slug]
    reply = rule_caller.send("POST", GENERATIONS, {"model": model, **members})
    assert (reply.status, reply.error["type"]) == (400, "invalid_request_error"), reply.body
    assert reply.error["param"] == param, reply.error
    assert route.calls == 0
    assert rule_caller.books().holds == []


@pytest.mark.parametrize("slug", AUDIO_MODELS)
def test_what_the_rules_allow_is_served(gateway: Gateway, audio_model: Maker, caller: Caller, slug: str) -> None:
    """The longest text and the longest recording pass, and cost what the catalog says."""
    entry, rules = AUDIO_MODELS[slug], media.parse(AUDIO_MODELS[slug].media)
    assert entry.price is not None
    can = {"capabilities": list(entry.capabilities), "media": dict(entry.media)}
    model = audio_model(can, fish.answers(), rates=entry.price.rates)
    members: dict[str, Any] = {"text": "x" * rules.max_text_bytes} if rules.max_text_bytes else {}
    if rules.max_audio_seconds:
        members["audio"] = data_url(wav_that_lasts(rules.max_audio_seconds))
    reply = caller.send("POST", GENERATIONS, {"model": model, **members})
    assert reply.status == 200, reply.body
    unit = entry.price.rates.unit
    quantity = {"request": 1, "second": rules.max_audio_seconds}.get(unit, rules.max_text_bytes)
    assert caller.settled_books().transfers == [quantity * entry.price.rates.unit_price()]


def test_the_longest_recording_of_openais_shape(gateway: Gateway, rule_models: Any, rule_caller: Caller) -> None:
    model, _route = rule_models["whisper-1"]
    reply = send_form(rule_caller, {"model": model}, wav_that_lasts(14_401))
    assert (reply.status, reply.error["param"], reply.error["limit_seconds"]) == (400, "file", 14_400)


_models: dict[str, Any] = {}
_callers: list[Caller] = []


@pytest.fixture
def rule_models(gateway: Gateway) -> dict[str, Any]:
    """One model of the test's own for each of the catalog, with its rules, abilities and price."""
    if not _models:
        for slug, entry in AUDIO_MODELS.items():
            assert entry.price is not None
            route = gateway.upstream.serve(fish.answers())
            can = dict[str, Any](capabilities=list(entry.capabilities), media=dict(entry.media))
            rates = entry.price.rates
            _models[slug] = gateway.new_model(route, rates=rates, kind="audio", adapter="fish", **can), route
        for model, _route in _models.values():
            gateway.until_known(model)
    return _models


@pytest.fixture
def rule_caller(gateway: Gateway) -> Caller:
    """One payer for all broken rules: none of them is paid for."""
    if not _callers:
        _callers.append(gateway.caller())
    return _callers[0]
