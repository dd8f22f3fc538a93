"""Embeddings through the real gateway: what goes through, and what the books show afterwards (C-PLUS-1)."""

from __future__ import annotations

import base64
import struct
from typing import Any

import openai
import pytest

from catalog.pricing import Rates, TokenRates
from tests.fakes import upstream as fake
from tests.fakes.upstream import Conversation
from tests.support.gateway import CREDIT, Caller, Gateway
from tests.support.http import Reply

#: One credit a thousand tokens; vectors cost nothing.
RATES = Rates(tokens=TokenRates(input=1000 * CREDIT, output=0))
VECTORS = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]


def answer(prompt: int | None = 12, data: Any = VECTORS) -> dict[str, Any]:
    usage = {} if prompt is None else {"usage": {"prompt_tokens": prompt, "total_tokens": prompt}}
    return {"object": "list", "data": data, "model": "fake", **usage}


def embeds(value: Any, status: int = 200) -> fake.Behaviour:
    async def behave(talk: Conversation) -> None:
        await talk.json(value, status)

    return behave


def serve(gateway: Gateway, *behaviours: fake.Behaviour | fake.Route) -> str:
    columns: dict[str, Any] = {"max_output_tokens": None, "default_max_output_tokens": None}
    return gateway.model(*behaviours, kind="embeddings", rates=RATES, **columns)


def ask(caller: Caller, name: str, **fields: Any) -> Reply:
    return caller.send("POST", "/v1/embeddings", {"model": name, "input": "Some words to place", **fields})


@pytest.mark.parametrize("given", ["words", ["two", "texts"], [1, 2, 3], [[1, 2], [3]]])
def test_an_answer_goes_through_to_the_byte_and_its_prompt_is_billed(gateway: Gateway, given: Any) -> None:
    route = gateway.upstream.serve(embeds(answer()))
    model, caller = serve(gateway, route), gateway.caller()
    reply = ask(caller, model, input=given, encoding_format="base64", dimensions=2, user="u", hypereal={"x": 1})
    assert (reply.status, reply.json) == (200, answer())
    assert route.seen[0].path.endswith("/embeddings")
    assert route.seen[0].body == {
        "model": f"up-{model}", "input": given, "encoding_format": "base64", "dimensions": 2, "user": "u",
    }  # fmt: skip
    books = caller.settled_books()
    [row] = books.log
    assert (row["endpoint"], row["input_tokens"], row["output_tokens"], row["stream"]) == ("embeddings", 12, 0, False)
    assert (books.charged, books.held) == (12 * 1000, 0)
    assert books.balance == 1000 * CREDIT - books.charged


@pytest.mark.parametrize("told", [None, 0])
def test_without_a_count_the_input_is_estimated(gateway: Gateway, told: int | None) -> None:
    caller = gateway.caller()
    assert ask(caller, serve(gateway, embeds(answer(told)))).status == 200
    [row] = caller.settled_books().log
    assert (row["estimated"], row["charged_microcredits"]) == (True, row["input_tokens"] * 1000)
    assert row["input_tokens"] > 0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"), ({"input": ""}, "input"), ({"input": []}, "input"), ({"input": {"a": 1}}, "input"),
        ({"input": 3}, "input"), ({"model": ""}, "model"), ({"model": "none-such"}, "model"),
    ],
)  # fmt: skip
def test_bad_fields_are_named(gateway: Gateway, fields: dict[str, Any], param: str) -> None:
    route = gateway.upstream.serve(embeds(answer()))
    caller = gateway.caller()
    reply = ask(caller, serve(gateway, route), **fields)
    assert (reply.status, reply.error["param"]) == (400, param)
    assert (route.calls, caller.settled_books().charged) == (0, 0)


def test_a_chat_model_makes_no_embeddings(gateway: Gateway) -> None:
    reply = ask(gateway.caller(), gateway.model(fake.answers()))
    assert (reply.status, reply.error["code"]) == (400, "wrong_endpoint")
    assert "/v1/chat/completions" in reply.error["message"]


def test_a_small_balance_is_refused_before_anything_goes_upstream(gateway: Gateway) -> None:
    route = gateway.upstream.serve(embeds(answer()))
    caller = gateway.caller(credits=199)
    reply = ask(caller, serve(gateway, route))
    assert (reply.status, reply.error["type"]) == (402, "insufficient_credits")
    assert (reply.error["required_credits"], reply.error["available_credits"], route.calls) == (200, 199, 0)


def test_a_refusal_is_passed_on_and_costs_nothing(gateway: Gateway) -> None:
    error = {"message": "too many tokens", "type": "invalid_request_error", "param": "input", "code": None}
    caller = gateway.caller()
    reply = ask(caller, serve(gateway, embeds({"error": error}, 400)))
    assert (reply.status, reply.error) == (400, error)
    books = caller.settled_books()
    assert (books.charged, books.held, books.holds) == (0, 0, ["voided"])


def test_the_official_sdk_reads_what_it_asked_for_as_base64(gateway: Gateway) -> None:
    packed = base64.b64encode(struct.pack("<2f", 0.25, -0.5)).decode()
    route = gateway.upstream.serve(embeds(answer(data=[{**VECTORS[0], "embedding": packed}])))
    model, caller = serve(gateway, route), gateway.caller()
    with openai.OpenAI(api_key=caller.secret, base_url=f"http://127.0.0.1:{caller.port}/v1", max_retries=0) as sdk:
        made = sdk.embeddings.create(model=model, input=["words"])
        with pytest.raises(openai.BadRequestError):
            sdk.embeddings.create(model="none-such", input="x")
    assert made.data[0].embedding == [0.25, -0.5]
    assert made.usage.prompt_tokens == 12
    assert route.seen[0].body["encoding_format"] == "base64"
    assert caller.settled_books(rows=2).charged == 12 * 1000
