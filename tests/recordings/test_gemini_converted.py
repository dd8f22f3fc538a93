"""Recorded exchanges whose caller speaks another format than the provider: the exact charge, and types that fit.

What Google sent, to a caller of ``/chat/completions``; what providers of chat completions sent, to a caller of
``/gemini``. Billing must not notice the conversion.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import pytest_django
from google.genai import types
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from catalog.models import Model
from tests.support import replay
from tests.support.gateway import Gateway
from tests.support.http import Reply
from tests.support.replay import Exchange
from upstreams import sse

pytestmark = replay.NEEDED

PRICES = "B"  # the list that forces rounding
TO_CHAT, TO_NATIVE = "chat", "gemini"
FREE_TOOLS = (("file_search", 0), ("google_search", 0), ("url_context", 0))
CONTENTS = [{"role": "user", "parts": [{"text": "Say hello"}]}]

ran: set[tuple[str, str]] = set()


def served(exchange: Exchange) -> bool:
    """A whole answer, or a stream that has an end, with a price of its own."""
    broken = {"error_in_stream", "error_in_200", "no_finish"} & set(exchange.tags)
    return exchange.status == 200 and not broken and "charge_microcredits" in exchange.facts


def exchanges(spoken: str) -> list[Exchange]:
    names = ("generateContent", "streamGenerateContent") if spoken == TO_CHAT else ("chat.completions",)
    return [exchange for name in names for exchange in replay.exchanges(name) if served(exchange)]


@pytest.fixture(scope="module")
def models(
    upstream: Any, _gateway_session: Gateway, django_db_blocker: pytest_django.DjangoDbBlocker
) -> dict[tuple[str, str], str]:
    made = {}
    with _gateway_session.connected(django_db_blocker):
        for spoken in (TO_CHAT, TO_NATIVE):
            other = "gemini" if spoken == TO_CHAT else "chat"
            for exchange in exchanges(spoken):
                made[exchange.id, spoken] = _gateway_session.new_model(
                    upstream.base(exchange.id),
                    kind=other,
                    adapter="gemini" if other == "gemini" else "openai",
                    rates=replace(replay.rates(PRICES), server_tools=FREE_TOOLS),
                    max_output_tokens=128_000,
                    enabled=False,
                )
        for spoken in (TO_CHAT, TO_NATIVE):
            slugs = [slug for (_, wanted), slug in made.items() if wanted == spoken]
            Model.objects.filter(slug__in=slugs).update(endpoints=[spoken], enabled=True)
        for slug in [*made.values()][-1:]:
            _gateway_session.until_known(slug)
    return made


def cases(spoken: str) -> list[Any]:
    return [pytest.param(exchange, id=exchange.id) for exchange in exchanges(spoken)]


def check_bill(caller: Any, exchange: Exchange) -> None:
    books = caller.settled_books()
    [row] = books.log
    assert row["estimated"] is False
    assert (books.held, books.charged, sum(books.transfers)) == (0, exchange.charge(PRICES), books.charged)


@pytest.mark.parametrize("exchange", cases(TO_CHAT))
def test_google_s_answers_for_a_caller_of_chat(gateway: Gateway, models: Any, exchange: Exchange) -> None:
    caller = gateway.caller(credits=5000)
    stream = exchange.facts["stream"]
    reply = caller.chat(models[exchange.id, TO_CHAT], stream=stream)
    assert reply.status == 200, reply.body
    check_bill(caller, exchange)
    if stream:
        assert reply.events[-1] == "[DONE]"
        chunks = [ChatCompletionChunk.model_validate(event) for event in reply.events[:-1]]
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == exchange.facts["billed"]["output_tokens"]
        assert chunks[-1].choices[0].finish_reason
        called = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    else:
        completion = ChatCompletion.model_validate(reply.json)
        assert completion.usage is not None
        assert completion.usage.prompt_tokens == exchange.facts["billed"]["input_tokens"]
        called = completion.choices[0].message.tool_calls or []  # type: ignore[assignment]
    assert bool(called) == ("tool_call_out" in exchange.tags)
    ran.add((exchange.id, TO_CHAT))


@pytest.mark.parametrize("exchange", cases(TO_NATIVE))
def test_chat_answers_for_a_caller_of_gemini(gateway: Gateway, models: Any, exchange: Exchange) -> None:
    caller = gateway.caller(credits=5000)
    model = models[exchange.id, TO_NATIVE]
    method = "streamGenerateContent?alt=sse" if exchange.is_stream else "generateContent"
    reply = caller.send("POST", f"/v1/gemini/v1beta/models/{model}:{method}", {"contents": CONTENTS})
    assert reply.status == 200, reply.body
    check_bill(caller, exchange)
    pieces = pieces_of(reply) if exchange.is_stream else [reply.json]
    for piece in pieces:
        types.GenerateContentResponse.model_validate(piece)  # it takes no member that it does not know
    assert pieces[-1]["usageMetadata"]["totalTokenCount"] >= exchange.facts["billed"]["output_tokens"]
    assert pieces[-1]["candidates"][0]["finishReason"]
    parts = [part for piece in pieces for each in piece["candidates"] for part in each["content"]["parts"]]
    assert any("functionCall" in part for part in parts) == (b'"arguments"' in exchange.body)
    ran.add((exchange.id, TO_NATIVE))


def pieces_of(reply: Reply) -> list[Any]:
    return [json.loads(data) for event in sse.split(reply.body) if (data := sse.data_of(event))]


def test_every_exchange_ran(request: pytest.FixtureRequest, figures: Callable[[str], None]) -> None:
    """Last of the file. A run that was narrowed to single cases proves nothing here."""
    wanted = {(exchange.id, spoken) for spoken in (TO_CHAT, TO_NATIVE) for exchange in exchanges(spoken)}
    if sum(item.path == request.node.path for item in request.session.items) <= len(wanted):
        pytest.skip("the run is narrowed")
    figures(f"recorded answers converted between Gemini and chat, to the exact charge: {len(ran)} of {len(wanted)}")
    assert ran == wanted
