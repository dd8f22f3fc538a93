"""Anthropic's and Google's libraries for Node against the real gateway."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import gemini, messages
from tests.fakes import upstream as chat
from tests.gateway import messages as messages_calls
from tests.gateway import test_gemini as gemini_calls
from tests.journeys import node_sdk
from tests.support.gateway import CREDIT, Caller, Gateway, price_of

pytestmark = pytest.mark.npm

Ask = Callable[..., dict[str, Any]]
#: The script of each vendor, and its base URL below the site's.
PLACES = {"messages": "/api", "gemini": "/api/v1/gemini"}


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    return gateway.caller()


@pytest.fixture
def ask(library: Path, caller: Caller) -> Ask:
    """Runs one verb of a script: ``ask("messages", "turn", model)``."""

    def run(vendor: str, verb: str, model: str, *, key: str = caller.secret, retries: int = 0) -> dict[str, Any]:
        base_url = f"http://127.0.0.1:{caller.port}{PLACES[vendor]}"
        env = {"BASE_URL": base_url, "API_KEY": key, "MAX_RETRIES": str(retries)}
        return node_sdk.run(library, verb, model, script=f"{vendor}.mjs", env=env)

    return run


# ── Anthropic ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_message(gateway: Gateway, caller: Caller, ask: Ask) -> None:
    counts = messages.usage(30, 12, read=1000)
    answer = ask("messages", "turn", messages_calls.model(gateway, messages.answers(counts=counts)))
    assert (answer["text"], answer["usage"]["cache_read_input_tokens"]) == ("Hello there", 1000)
    books = caller.settled_books()
    assert books.transfers == [messages_calls.price_of(30, 12, 1000)]
    assert answer["hypereal"]["credits"] == books.charged / CREDIT
    assert answer["requestId"] == str(books.log[0]["request_id"])


def test_a_streamed_message(gateway: Gateway, caller: Caller, ask: Ask) -> None:
    content = messages.text("Hello there you")
    slug = messages_calls.model(gateway, messages.answers(content, counts=messages.usage(30, 12)))
    answer = ask("messages", "stream", slug)
    assert (answer["text"].strip(), answer["pieces"], answer["usage"]["output_tokens"]) == ("Hello there you", 3, 12)
    assert caller.settled_books().transfers == [messages_calls.price_of(30, 12)]


def test_a_message_that_calls_a_tool(gateway: Gateway, ask: Ask) -> None:
    content = messages.thinking("hm"), messages.tool_use("weather", city="Ürümqi")
    answer = ask("messages", "tool", messages_calls.model(gateway, messages.answers(*content, stop="tool_use")))
    assert (answer["stopped"], answer["call"]["input"]) == ("tool_use", {"city": "Ürümqi"})


def test_tokens_are_counted_for_nothing(gateway: Gateway, caller: Caller, ask: Ask) -> None:
    assert ask("messages", "count", messages_calls.model(gateway, messages.answers())) == {"input_tokens": 42}
    assert caller.books().log == []


def test_each_error_of_messages_raises_its_own_class(gateway: Gateway, caller: Caller, ask: Ask) -> None:
    fine = messages_calls.model(gateway, messages.answers())
    unknown = ask("messages", "turn", "none-such")
    assert (unknown["failed"], unknown["status"], unknown["type"]) == ("BadRequestError", 400, "invalid_request_error")
    assert unknown["requestId"]
    assert ask("messages", "turn", fine, key="ck_nothing")["failed"] == "AuthenticationError"
    poor = ask("messages", "stream", fine, key=gateway.caller(credits=1).secret)
    assert (poor["status"], poor["type"]) == (402, "insufficient_credits")
    busy = messages_calls.model(gateway, messages.fails(529, "overloaded_error"))
    assert ask("messages", "turn", busy)["failed"] == "ServiceUnavailableError"
    broken = messages.streams(messages.start(messages.usage()), messages.opened(), messages.words("half a"), cut=True)
    failed = ask("messages", "stream", messages_calls.model(gateway, broken))
    assert "broke off" in failed["message"]
    assert caller.settled_books(3).holds == ["voided", "posted"]


def test_what_the_library_tries_again_is_billed_once(gateway: Gateway, caller: Caller, ask: Ask) -> None:
    well = messages.answers(counts=messages.usage(30, 12))
    model = messages_calls.model(gateway, chat.first(2, messages.fails(500), well))
    assert ask("messages", "turn", model, retries=2)["text"] == "Hello there"
    assert caller.settled_books(2).charged == messages_calls.price_of(30, 12)


# ── Google ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("verb", ["turn", "stream"])
def test_content_is_generated(gateway: Gateway, caller: Caller, ask: Ask, verb: str) -> None:
    counts = gemini.usage(100, 50, cached=20, thoughts=10)
    answer = ask("gemini", verb, gemini_calls.model(gateway, gemini.answers(gemini.text("Hello there"), counts=counts)))
    assert (answer["text"], answer["usage"]["totalTokenCount"]) == ("Hello there", 150)
    assert caller.settled_books().transfers == [price_of(100, 50, cached=20)]


def test_content_that_calls_a_function(gateway: Gateway, ask: Ask) -> None:
    slug = gemini_calls.model(gateway, gemini.answers(gemini.call("weather", city="Ürümqi")))
    assert ask("gemini", "tool", slug)["call"]["args"] == {"city": "Ürümqi"}


def test_errors_of_content_are_googles(gateway: Gateway, caller: Caller, ask: Ask) -> None:
    unknown = ask("gemini", "turn", "none-such")
    assert (unknown["failed"], "none-such" in unknown["message"]) == ("ApiError", True)
    stranger = ask("gemini", "stream", gemini_calls.model(gateway, gemini.answers()), key="ck_nothing")
    assert (stranger["failed"], stranger["status"]) == ("ApiError", 401)
    assert caller.settled_books().charged == 0
