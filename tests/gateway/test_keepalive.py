"""A silent stream shows life every 15 s, in its format's own way, on a clock that runs faster (C-CHAT-6, C-MSG-3).

A silence of 40 s has to show keep-alives at 15 and at 30 s; here 15 s are the seconds of KEEPALIVE. The silence lasts
until the caller has seen both, and both must have come when the third was not due yet.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fakes import messages as speech
from tests.fakes import responses
from tests.fakes import upstream as chat
from tests.fakes.upstream import Behaviour, Conversation
from tests.support import http
from tests.support.gateway import Caller, Gateway

#: Seconds. Much shorter, and a machine that stands still for a moment would make two of them come as one.
KEEPALIVE = 2.0
#: How much later than due one may come, in seconds: the machine's share. None may come early.
SLACK = 1.8
EARLY = 0.1


@dataclass(frozen=True)
class Format:
    """One wire format: its address, body, stream, and what fills silence in it."""

    kind: str
    adapter: str
    path: str
    fields: dict[str, Any]
    events: Callable[[], list[bytes]]
    keepalive: bytes
    #: Events until its content has begun.
    begun: int
    last: bytes


def chat_events() -> list[bytes]:
    return [chat.event("Hello"), chat.event(" there"), chat.event(finish="stop", usage=chat.usage(9, 2)), chat.DONE]


TURN = [{"role": "user", "content": "Say hello"}]
FORMATS = {
    "chat": Format(
        "chat", "openai", "/v1/chat/completions", {"messages": TURN}, chat_events, b": keep-alive\n\n", 1, b"[DONE]"
    ),
    "messages": Format(
        "messages",
        "anthropic",
        "/v1/messages",
        {"messages": TURN, "max_tokens": 99},
        lambda: speech.events(speech.message()),
        b'event: ping\ndata: {"type":"ping"}\n\n',
        4,
        b"message_stop",
    ),
    "responses": Format(
        "responses",
        "openai",
        "/v1/responses",
        {"input": "Say hello"},
        lambda: responses.stream_of(responses.response()),
        b": keep-alive\n\n",
        4,
        b"response.completed",
    ),
}


def pausing(form: Format, before: int, go_on: threading.Event) -> Behaviour:
    """A provider that falls silent ahead of event number ``before``, until it is told to go on."""

    async def behave(talk: Conversation) -> None:
        for number, event in enumerate(form.events()):
            if number == before:
                await talk.until(go_on)
            if number == 0:
                await talk.start()
            await talk.send(event)
        await talk.end()

    return behave


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    """Somebody at a gateway whose silences are as long as this file says."""
    return gateway.caller(server=gateway.with_settings(GATEWAY_KEEPALIVE_SECONDS=str(KEEPALIVE)))


def heard(gateway: Gateway, caller: Caller, form: Format, before: int) -> tuple[float, list[tuple[float, bytes]]]:
    """When the stream was asked for, and each piece of it with the moment of its arrival.

    The provider goes on once two keep-alives have come.
    """
    go_on = threading.Event()
    model = gateway.model(pausing(form, before, go_on), kind=form.kind, adapter=form.adapter)
    body = {"model": model, "stream": True, **form.fields}
    pieces: list[tuple[float, bytes]] = []
    asked = time.monotonic()
    with http.opened(caller.port, "POST", form.path, body, caller.headers({})) as stream:
        while piece := stream.response.read1(65_536):
            pieces.append((time.monotonic(), piece))
            if sum(each == form.keepalive for _, each in pieces) == 2:
                go_on.set()
    return asked, pieces


def check_moments(silent_since: float, moments: list[float]) -> None:
    """Each came when it was due, after the first, the second silence."""
    assert len(moments) == 2
    for number, moment in enumerate(moments, 1):
        assert -EARLY <= moment - silent_since - number * KEEPALIVE < SLACK


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_silence_before_the_first_byte_shows_two_keepalives(gateway: Gateway, caller: Caller, name: str) -> None:
    form = FORMATS[name]
    asked, pieces = heard(gateway, caller, form, 0)
    assert [piece for _, piece in pieces[:2]] == [form.keepalive] * 2
    check_moments(asked, [moment for moment, _ in pieces[:2]])
    whole = b"".join(piece for _, piece in pieces)
    assert whole.count(form.keepalive) == 2
    assert form.last in whole


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_silence_in_the_middle_shows_two_keepalives(gateway: Gateway, caller: Caller, name: str) -> None:
    form = FORMATS[name]
    _, pieces = heard(gateway, caller, form, form.begun)
    at = [number for number, (_, piece) in enumerate(pieces) if piece == form.keepalive]
    assert at == [at[0], at[0] + 1], pieces
    check_moments(pieces[at[0] - 1][0], [pieces[place][0] for place in at])
    assert form.last in pieces[-1][1]


def test_a_failure_behind_a_keepalive_is_told_inside_the_stream(gateway: Gateway) -> None:
    told = {"chat": b'"error"', "messages": b"event: error", "responses": b"response.failed"}
    for name, form in FORMATS.items():
        go_on = threading.Event()

        async def late_failure(talk: Conversation, go_on: threading.Event = go_on) -> None:
            await talk.until(go_on)
            await talk.json({"error": {"message": "no", "type": "server_error"}}, 500)

        model = gateway.model(late_failure, kind=form.kind, adapter=form.adapter)
        caller = gateway.caller(server=gateway.with_settings(GATEWAY_KEEPALIVE_SECONDS=str(KEEPALIVE)))
        body = {"model": model, "stream": True, **form.fields}
        with http.opened(caller.port, "POST", form.path, body, caller.headers({})) as stream:
            begun = stream.response.read(len(form.keepalive))
            go_on.set()
            rest = stream.rest()
        assert stream.status == 200
        assert begun == form.keepalive
        assert told[name] in rest
        assert form.last not in rest
        books = caller.settled_books()
        assert (books.charged, books.held, books.log[0]["status"]) == (0, 0, 502)
