"""A silent stream shows life every 15 s, in its format's own way, on a clock that runs faster (C-CHAT-6, C-MSG-3).

A silence of 40 s has to show keep-alives at 15 and at 30 s; here 15 s are the gateway's KEEPALIVE seconds.
"""

from __future__ import annotations

import asyncio
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
from tests.support.gateway import QUICK, Gateway

KEEPALIVE = float(QUICK["GATEWAY_KEEPALIVE_SECONDS"])
SILENCE = KEEPALIVE * 40 / 15
SLACK = KEEPALIVE * 0.45


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


def pausing(form: Format, before: int) -> Behaviour:
    """A provider that falls silent ahead of event number ``before``."""

    async def behave(talk: Conversation) -> None:
        for number, event in enumerate(form.events()):
            if number == before:
                await asyncio.sleep(SILENCE)
            if number == 0:
                await talk.start()
            await talk.send(event)
        await talk.end()

    return behave


def heard(gateway: Gateway, form: Format, before: int) -> tuple[float, list[tuple[float, bytes]]]:
    """When the stream was asked for, and each piece of it with the moment of its arrival."""
    model = gateway.model(pausing(form, before), kind=form.kind, adapter=form.adapter)
    caller = gateway.caller()
    body = {"model": model, "stream": True, **form.fields}
    pieces = []
    asked = time.monotonic()
    with http.opened(gateway.port, "POST", form.path, body, caller.headers({})) as stream:
        while piece := stream.response.read1(65_536):
            pieces.append((time.monotonic(), piece))
    return asked, pieces


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_silence_before_the_first_byte_shows_two_keepalives(gateway: Gateway, name: str) -> None:
    form = FORMATS[name]
    asked, pieces = heard(gateway, form, 0)
    assert [piece for _, piece in pieces[:2]] == [form.keepalive] * 2
    for number, (moment, _) in enumerate(pieces[:2], 1):
        assert 0 <= moment - asked - number * KEEPALIVE < SLACK
    whole = b"".join(piece for _, piece in pieces)
    assert whole.count(form.keepalive) == 2
    assert form.last in whole


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_silence_in_the_middle_shows_two_keepalives(gateway: Gateway, name: str) -> None:
    form = FORMATS[name]
    _, pieces = heard(gateway, form, form.begun)
    at = [number for number, (_, piece) in enumerate(pieces) if piece == form.keepalive]
    assert at == [at[0], at[0] + 1], pieces
    spoke = pieces[at[0] - 1][0]
    for number, place in enumerate(at, 1):
        assert abs(pieces[place][0] - spoke - number * KEEPALIVE) < SLACK
    assert form.last in pieces[-1][1]


def test_a_failure_behind_a_keepalive_is_told_inside_the_stream(gateway: Gateway) -> None:
    async def late_failure(talk: Conversation) -> None:
        await asyncio.sleep(SILENCE)
        await talk.json({"error": {"message": "no", "type": "server_error"}}, 500)

    told = {"chat": b'"error"', "messages": b"event: error", "responses": b"response.failed"}
    for name, form in FORMATS.items():
        model = gateway.model(late_failure, kind=form.kind, adapter=form.adapter)
        caller = gateway.caller()
        reply = caller.send("POST", form.path, {"model": model, "stream": True, **form.fields})
        assert reply.status == 200
        assert reply.body.startswith(form.keepalive)
        assert told[name] in reply.body
        assert form.last not in reply.body
        books = caller.settled_books()
        assert (books.charged, books.held, books.log[0]["status"]) == (0, 0, 502)
