"""The official OpenAI library for Node against the real gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import upstream as fake
from tests.journeys import node_sdk
from tests.support.gateway import Caller, Gateway, price_of

pytestmark = pytest.mark.npm

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    return gateway.caller()


@pytest.fixture
def ask(library: Path, caller: Caller) -> Ask:
    """Runs one verb of turns.mjs: ``ask("turn", model)``; ``key`` and ``retries`` differ where a test wants it."""

    def run(verb: str, argument: str = "", *, key: str = caller.secret, retries: int = 0) -> dict[str, Any]:
        env = {"BASE_URL": f"http://127.0.0.1:{caller.port}/api/v1", "API_KEY": key, "MAX_RETRIES": str(retries)}
        return node_sdk.run(library, verb, argument, env=env)

    return run


def test_a_turn(gateway: Gateway, caller: Caller, ask: Ask) -> None:
    answer = ask("turn", gateway.model(fake.answers("Hello there", prompt=30, output=12)))
    assert answer["text"] == "Hello there"
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (30, 12)
    books = caller.settled_books()
    assert books.charged == price_of(30, 12)
    assert [str(row["request_id"]) for row in books.log] == [answer["requestId"]]


def test_a_streamed_turn(gateway: Gateway, caller: Caller, ask: Ask) -> None:
    answer = ask("stream", gateway.model(fake.answers("Hello there you", prompt=30, output=12)))
    assert answer["text"].strip() == "Hello there you"
    assert answer["usage"]["completion_tokens"] == 12
    assert caller.settled_books().charged == price_of(30, 12)


@pytest.mark.parametrize("retries", [0, 2])
def test_usage_comes_as_asked_for(gateway: Gateway, caller: Caller, ask: Ask, retries: int) -> None:
    model = gateway.model(fake.answers("Hello there you", prompt=30, output=12))
    answer = ask("streamWithUsage", model, retries=retries)
    assert answer["text"].strip() == "Hello there you"
    [usage] = answer["usages"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["choices"]) == (30, 12, 0)
    assert caller.settled_books().charged == price_of(30, 12)


def test_the_library_puts_a_stream_together(gateway: Gateway, caller: Caller, ask: Ask) -> None:
    answer = ask("runner", gateway.model(fake.answers("Hello there you", prompt=30, output=12)))
    assert answer["text"].strip() == "Hello there you"
    assert answer["usage"]["total_tokens"] == 42
    assert caller.settled_books().charged == price_of(30, 12)


def test_each_error_raises_its_own_class(gateway: Gateway, caller: Caller, ask: Ask) -> None:
    unknown = ask("turn", "none-such")
    assert (unknown["failed"], unknown["status"], unknown["param"]) == ("BadRequestError", 400, "model")
    assert unknown["requestId"]
    assert "none-such" in unknown["message"]
    working = gateway.model(fake.answers())
    stranger = ask("turn", working, key="ck_nothing")
    assert (stranger["failed"], stranger["type"]) == ("AuthenticationError", "authentication_error")
    poor = ask("stream", working, key=gateway.caller(credits=1).secret)
    assert (poor["failed"], poor["status"], poor["type"]) == ("APIError", 402, "insufficient_credits")
    assert ask("model", "none-such")["failed"] == "NotFoundError"
    broken = ask("turn", gateway.model(fake.fails(500)))
    assert broken["failed"] == "InternalServerError"
    assert caller.settled_books().charged == 0


def test_what_the_library_tries_again_is_billed_once(gateway: Gateway, caller: Caller, ask: Ask) -> None:
    model = gateway.model(fake.first(2, fake.fails(500), fake.answers("Hello", prompt=30, output=12)))
    assert ask("turn", model, retries=2)["text"] == "Hello"
    assert caller.settled_books(2).charged == price_of(30, 12)


def test_a_broken_stream_raises(gateway: Gateway, caller: Caller, ask: Ask) -> None:
    async def cut(talk: fake.Conversation) -> None:
        await talk.start()
        await talk.chunk("Hello there")
        await talk.taken()
        talk.cut()

    broken = ask("stream", gateway.model(cut))
    assert broken["failed"] == "APIError"
    assert broken["message"]
    [row] = caller.settled_books().log
    assert row["error_type"]


def test_a_loop_that_is_left_early_is_billed_and_says_so(gateway: Gateway, caller: Caller, ask: Ask) -> None:
    async def endless(talk: fake.Conversation) -> None:
        await talk.start()
        while True:
            await talk.chunk("word ")
            await asyncio.sleep(0.05)

    assert ask("leave", gateway.model(endless)) == {"left": True}
    [row] = caller.settled_books().log
    assert row["client_disconnected"]
    assert row["charged_microcredits"] > 0


def test_models_are_listed(gateway: Gateway, ask: Ask) -> None:
    model = gateway.model(fake.answers())
    assert model in ask("models")["found"]
    assert ask("model", model)["id"] == model
