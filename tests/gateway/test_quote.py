"""A quote is what the hold would be, by the same code, and does nothing else."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from billing.models import Hold
from catalog.pricing import Rates, TokenRates
from tests.fakes import upstream as fake
from tests.fakes.upstream import Conversation
from tests.support.gateway import (
    CREDIT,
    PATIENCE,
    RATES_WITH_TIERS,
    Caller,
    Gateway,
    body_of,
    wait_for,
    wait_for_the_minute,
)
from tests.support.http import Reply

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
BODIES: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "x" * 900}], "max_tokens": 777},
    "chat-stream": {"messages": [{"role": "user", "content": "ü" * 900}], "max_tokens": 777, "stream": True},
    "messages": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 300},
    "responses": {"input": "Hello there", "max_output_tokens": 120},
    "embeddings": {"input": ["one", "two"]},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]},
}
PATHS = {
    "chat": CHAT, "chat-stream": CHAT, "messages": MESSAGES, "responses": RESPONSES, "embeddings": "/v1/embeddings",
    "gemini": "/v1/gemini",
}  # fmt: skip


def quote(caller: Caller, body: Any, prefix: str = "/v1", **headers: str) -> Reply:
    return caller.send("POST", f"{prefix}/quote", body, **headers)


def kind_of(name: str) -> str:
    return name.removesuffix("-stream")


def model_for(gateway: Gateway, name: str, behaviour: fake.Behaviour | None = None) -> str:
    kind = kind_of(name)
    adapter = {"messages": "anthropic", "gemini": "gemini"}.get(kind, "openai")
    return gateway.model(behaviour or fake.answers(), kind=kind, adapter=adapter)


@pytest.mark.parametrize("name", BODIES)
def test_a_quote_is_the_hold_to_the_microcredit(gateway: Gateway, name: str) -> None:
    arrived, leave = threading.Event(), threading.Event()

    async def wait(talk: Conversation) -> None:
        arrived.set()
        await talk.until(leave)
        await talk.json({"error": {"message": "no", "type": "server_error"}}, 400)

    caller, model = gateway.caller(), model_for(gateway, name, wait)
    body = {"model": model, **BODIES[name]}
    quoted = quote(caller, body)
    assert quoted.status == 200, quoted.body
    calling = threading.Thread(target=caller.send, args=("POST", PATHS[name], body))
    calling.start()
    try:
        assert arrived.wait(PATIENCE)
        [hold] = Hold.objects.filter(wallet_id=caller.workspace.pk)
    finally:
        leave.set()
        calling.join()
    assert round(quoted.json["reservation_credits"] * CREDIT) == hold.amount_microcredits
    assert quoted.json["price"]["id"] == str(hold.price_id)
    assert quoted.json["endpoint"] == PATHS[name]
    assert quoted.json["model"] == model
    assert quoted.json["likely_credits"] > 0
    if name != "chat-stream":  # a stream reserves a step of what it is likely to use
        assert quoted.json["likely_credits"] <= quoted.json["reservation_credits"]


@pytest.mark.parametrize("name", BODIES)
def test_a_wrapped_body_is_quoted_as_it_is_sent(gateway: Gateway, name: str) -> None:
    caller, model = gateway.caller(), model_for(gateway, name)
    body = {"model": model, **BODIES[name]}
    bare = quote(caller, body)
    for endpoint in (PATHS[name], "/api" + PATHS[name], PATHS[name].removeprefix("/v1/"), kind_of(name)):
        wrapped = quote(caller, {"endpoint": endpoint, "body": body}, prefix="/api/v1")
        assert (wrapped.status, wrapped.json) == (200, bare.json)


def test_google_s_method_paths_have_quotes(gateway: Gateway) -> None:
    caller, model = gateway.caller(), model_for(gateway, "gemini")
    endpoint = f"/v1/gemini/v1beta/models/{model}:generateContent"
    reply = quote(caller, {"endpoint": endpoint, "body": BODIES["gemini"]})
    assert (reply.status, reply.json["model"]) == (200, model)


def test_nothing_happens(gateway: Gateway) -> None:
    route = gateway.upstream.serve(fake.answers())
    caller, model = gateway.caller(), gateway.model(route)
    body = body_of(model, max_tokens=10)
    for _ in range(3):
        assert quote(caller, body, idempotency_key="one").status == 200
    assert quote(caller, {"model": model}).status == 400
    assert caller.chat(model, max_tokens=10, headers={"idempotency_key": "one"}).status == 200  # the key is still free
    books = caller.settled_books()
    assert route.calls == 1
    assert (len(books.log), len(books.holds), books.held) == (1, 1, 0)


def test_who_has_nothing_is_told_all_the_same(gateway: Gateway) -> None:
    caller, model = gateway.caller(credits=0), gateway.model(fake.answers())
    reply = quote(caller, body_of(model, max_tokens=10))
    assert reply.status == 200
    assert reply.json["min_balance_credits"] == 200
    assert caller.books().log == []


def test_the_likely_price_is_an_estimate_at_the_ordinary_rates(gateway: Gateway) -> None:
    caller, model = gateway.caller(), gateway.model(fake.answers(), rates=RATES_WITH_TIERS)
    found = quote(caller, body_of(model, "x" * 4000, max_tokens=4000)).json
    tokens_in, tokens_out = found["likely_input_tokens"], found["likely_output_tokens"]
    assert 1000 <= tokens_in <= 1050
    assert tokens_out == 500
    assert found["output_ceiling_tokens"] == found["reserved_output_tokens"] == 4000
    assert round(found["likely_credits"] * CREDIT) == tokens_in * 1000 + tokens_out * 4000
    short = quote(caller, body_of(model, max_tokens=7)).json
    assert short["likely_output_tokens"] == 7


def test_output_without_a_price_is_not_guessed(gateway: Gateway) -> None:
    rates = Rates(tokens=TokenRates(input=1000 * CREDIT, output=0))
    caller, model = gateway.caller(), gateway.model(fake.answers(), kind="embeddings", rates=rates)
    assert quote(caller, {"model": model, "input": "words"}).json["likely_output_tokens"] == 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "no-such-model", **BODIES["chat"]}, "model"),
        ({"messages": []}, "model"),
        ({"model": "x"}, "endpoint"),
        ({"endpoint": "/v1/models", "body": {}}, "endpoint"),
        ({"endpoint": "/v1/quote", "body": {}}, "endpoint"),
        ({"endpoint": "/v1/receipts/1", "body": {}}, "endpoint"),
        ({"endpoint": "/v1/messages/count_tokens", "body": {}}, "endpoint"),
        ({"endpoint": "/nowhere", "body": {}}, "endpoint"),
        ({"endpoint": 7, "body": {}}, "endpoint"),
        ({"endpoint": CHAT, "body": []}, None),
        ([], None),
    ],
    ids=json.dumps,
)
def test_what_can_t_be_quoted_is_refused_as_the_call_would_be(gateway: Gateway, body: Any, param: str | None) -> None:
    caller = gateway.caller()
    reply = quote(caller, body)
    assert (reply.status, reply.error["type"], reply.error.get("param")) == (400, "invalid_request_error", param)
    assert caller.books().log == []


def test_a_key_is_needed_and_its_models_are_kept_to(gateway: Gateway) -> None:
    model = gateway.model(fake.answers())
    nobody = gateway.caller()
    object.__setattr__(nobody, "secret", "ck_unknown")
    assert quote(nobody, body_of(model)).status == 401
    narrow = gateway.caller(allowed_models=["another"])
    reply = quote(narrow, body_of(model))
    assert (reply.status, reply.error["type"]) == (403, "permission_error")


def test_quotes_count_as_requests(gateway: Gateway) -> None:
    server = gateway.with_settings(RATE_LIMIT_PER_MINUTE="3")
    caller, model = gateway.caller(server=server), gateway.model(fake.answers())
    wait_for(lambda: quote(caller, body_of(model)).status in (200, 429), 10.0)
    wait_for_the_minute()
    found = [quote(caller, body_of(model)) for _ in range(8)]
    assert found[-1].status == 429
    assert found[-1].headers["retry-after"]
