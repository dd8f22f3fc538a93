"""Recordings that a caller names by address: fetched through the guarded way out, or refused before any money moves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.audio.conftest import BY_SECOND, CLONES, PRICE, SECOND, WRITES, Maker
from tests.fakes import fish
from tests.fakes import upstream as fake
from tests.support import sounds
from tests.support.gateway import CREDIT, Caller, Gateway

GENERATIONS = "/v1/audio/generations"

#: Addresses that lead to where nobody may send this server.
INSIDE = (
    "http://example.com/a.mp3",  # no TLS
    "https://127.0.0.1/a.mp3",
    "https://127.1/a.mp3",
    "https://2130706433/a.mp3",
    "https://0x7f000001/a.mp3",
    "https://localhost/a.mp3",
    "https://localhost.localdomain/a.mp3",
    "https://[::1]/a.mp3",
    "https://[::ffff:127.0.0.1]/a.mp3",
    "https://0.0.0.0/a.mp3",
    "https://10.0.0.1/a.mp3",
    "https://172.16.0.1/a.mp3",
    "https://192.168.1.1/a.mp3",
    "https://169.254.169.254/latest/meta-data/",
    "https://[fd00:ec2::254]/latest/meta-data/",
    "https://metadata.google.internal/computeMetadata/v1/",
    "https://100.64.0.1/a.mp3",
    "https://user:secret@example.com/a.mp3",
    "https://example.com:22/a.mp3\r\nHost: inside",
    "https:///a.mp3",
    "https://",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "ftp://example.com/a.mp3",
    "//127.0.0.1/a.mp3",
)


@pytest.mark.parametrize("url", INSIDE)
@pytest.mark.parametrize("can", [CLONES, WRITES], ids=["clone", "asr"])
def test_no_address_leads_inside(
    gateway: Gateway, caller: Caller, ready: dict[str, tuple[str, fake.Route]], url: str, can: dict[str, Any]
) -> None:
    model, route = ready["clone" if can is CLONES else "asr"]
    reply = caller.send("POST", GENERATIONS, {"model": model, "text": "Hello", "audio": url})
    assert (reply.status, reply.error["param"]) == (400, "audio"), reply.body
    assert route.calls == 0
    books = caller.settled_books()
    assert (books.holds, books.balance) == ([], 1000 * CREDIT)


@pytest.fixture
def ready(gateway: Gateway) -> dict[str, tuple[str, fake.Route]]:
    """Two models for the whole table."""
    if not _ready:
        can: dict[str, Any]
        for name, can in (("clone", CLONES), ("asr", WRITES)):
            route = gateway.upstream.serve(fish.answers())
            _ready[name] = gateway.model(route, rates=BY_SECOND, kind="audio", adapter="fish", **can), route
    return _ready


_ready: dict[str, tuple[str, fake.Route]] = {}


@contextmanager
def somewhere(gateway: Gateway, behaviour: fake.Behaviour) -> Iterator[tuple[Caller, fake.Route]]:
    """A caller of a gateway whose operator lets recordings be fetched from this machine, and a server there."""
    server = gateway.with_settings(EGRESS_ALLOW=f"reference_audio=127.0.0.1:{gateway.upstream.port}")
    yield gateway.caller(server=server), gateway.upstream.serve(behaviour)


def file(data: bytes, content_type: str = "audio/mpeg") -> fake.Behaviour:
    async def behave(talk: fake.Conversation) -> None:
        await talk.json(data, headers={"content-type": content_type})

    return behave


def test_a_recording_is_fetched_and_billed_by_its_length(gateway: Gateway, audio_model: Maker) -> None:
    recording = sounds.wav(12.3)
    provider = gateway.upstream.serve(fish.answers())
    model = audio_model(WRITES, provider, rates=BY_SECOND)
    with somewhere(gateway, file(recording)) as (caller, place):
        reply = caller.send("POST", GENERATIONS, {"model": model, "audio": f"{place.base_url}/recording.mp3"})
    assert (reply.status, reply.json["duration"]) == (200, 12.3)
    assert fish.form_of(provider.seen[0].headers, provider.seen[0].body).files["audio"][0].data == recording
    assert reply.headers["x-hypereal-reserved-credits"] == "0.13"  # known before it was reserved
    assert caller.settled_books().transfers == [13 * SECOND]


def test_a_voice_is_cloned_after_a_fetched_recording(gateway: Gateway, audio_model: Maker) -> None:
    recording = sounds.wav(30)
    provider = gateway.upstream.serve(fish.answers())
    model = audio_model(CLONES, provider)
    body = {"model": model, "text": "This is my cloned voice."}
    with somewhere(gateway, file(recording)) as (caller, place):
        reply = caller.send("POST", GENERATIONS, {**body, "audio": f"{place.base_url}/reference-30s.mp3"})
    assert reply.status == 200, reply.body
    assert fish.speech_of(provider.seen[0].headers, provider.seen[0].body)["references"][0]["audio"] == recording
    assert caller.settled_books().transfers == [PRICE]


def redirects(to: str) -> fake.Behaviour:
    async def behave(talk: fake.Conversation) -> None:
        await talk.json(b"", 302, {"location": to})

    return behave


async def endless(talk: fake.Conversation) -> None:
    await talk.start("audio/wav")
    piece = bytes(1024 * 1024)
    for _ in range(30):
        await talk.send(piece)
    await talk.end()


async def broken_off(talk: fake.Conversation) -> None:
    await talk.start("audio/wav")
    await talk.send(sounds.wav(5)[:1000])
    await asyncio.sleep(0)
    talk.cut()


#: What may be wrong with what an address leads to, and the word that tells of it.
WRONG: dict[str, tuple[fake.Behaviour, str]] = {
    "not there": (fake.fails(404), "404"),
    "forbidden": (fake.fails(403), "403"),
    "a page": (file(b"<!doctype html><p>Not found", "text/html"), "no audio file"),
    "a picture": (file(b"\x89PNG\r\n\x1a\n" + bytes(100), "audio/mpeg"), "no audio file"),
    "nothing": (file(b""), "no audio file"),
    "too short": (file(sounds.wav(9.5)), "at least 10"),
    "too long": (file(sounds.wav(61)), "at most 60"),
    "too large": (endless, "larger than"),
    "broken off": (broken_off, "fetched"),
    "leads inside": (redirects("https://169.254.169.254/latest/"), "fetched"),
    "leads to a file": (redirects("file:///etc/passwd"), "fetched"),
    "leads on": (redirects("?again"), "leads on too often"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_there_is_told(gateway: Gateway, audio_model: Maker, name: str) -> None:
    behaviour, word = WRONG[name]
    provider = gateway.upstream.serve(fish.answers())
    model = audio_model(CLONES, provider)
    with somewhere(gateway, behaviour) as (caller, place):
        body = {"model": model, "text": "Hello", "audio": f"{place.base_url}/a.mp3"}
        reply = caller.send("POST", GENERATIONS, body)
    assert (reply.status, reply.error["param"]) == (400, "audio"), reply.body
    assert word in reply.error["message"]
    assert (provider.calls, caller.settled_books().holds) == (0, [])


def test_a_redirect_is_followed(gateway: Gateway, audio_model: Maker) -> None:
    model = audio_model(WRITES, fish.answers())
    there = gateway.upstream.serve(file(sounds.wav(3)))
    with somewhere(gateway, redirects(f"{there.base_url}/b.wav")) as (caller, place):
        reply = caller.send("POST", GENERATIONS, {"model": model, "audio": f"{place.base_url}/a.wav"})
    assert (reply.status, there.calls) == (200, 1)
    assert caller.settled_books().transfers == [PRICE]


def test_the_operators_exception_is_for_recordings_alone(gateway: Gateway, audio_model: Maker) -> None:
    """What may be fetched as a recording's address is still refused on a gateway without that setting."""
    place = gateway.upstream.serve(file(sounds.wav(3)))
    caller = gateway.caller()
    body = {"model": audio_model(WRITES, fish.answers()), "audio": f"{place.base_url}/a.wav"}
    reply = caller.send("POST", GENERATIONS, body)
    assert (reply.status, reply.error["param"], place.calls) == (400, "audio", 0)
