"""Compaction and counting beside ``/responses``: one is billed as an answer is, the other costs nothing."""

from __future__ import annotations

from typing import Any

import openai

from tests.fakes import upstream as fake
from tests.fakes.upstream import Conversation
from tests.support.gateway import Gateway, price_of

COMPACTED = {
    "id": "resp_2",
    "object": "response.compaction",
    "created_at": 1,
    "output": [{"type": "compaction", "id": "cmp_1", "encrypted_content": "c2hvcnQ="}],
    "usage": {"input_tokens": 30, "output_tokens": 12, "total_tokens": 42},
}


def says(value: Any, status: int = 200) -> fake.Behaviour:
    async def behave(talk: Conversation) -> None:
        await talk.json(value, status)

    return behave


def test_a_compaction_goes_through_and_is_billed(gateway: Gateway) -> None:
    route = gateway.upstream.serve(says(COMPACTED))
    model, caller = gateway.model(route, kind="responses"), gateway.caller()
    asked = {"model": model, "input": [{"role": "user", "content": "long"}], "hypereal": {"cache": False}}
    reply = caller.send("POST", "/v1/responses/compact", asked)
    assert (reply.status, reply.json) == (200, COMPACTED)
    [seen] = route.seen
    assert seen.path.endswith("/responses/compact")
    assert seen.body == {"model": f"up-{model}", "input": asked["input"]}
    books = caller.settled_books()
    assert (books.charged, books.held) == (price_of(30, 12), 0)
    assert books.log[0]["endpoint"] == "responses"


def test_the_official_library_compacts(gateway: Gateway) -> None:
    model, caller = gateway.model(says(COMPACTED), kind="responses"), gateway.caller()
    url = f"http://127.0.0.1:{caller.port}/api/v1"
    with openai.OpenAI(api_key=caller.secret, base_url=url, max_retries=0) as client:
        compacted = client.responses.compact(model=model, input="a long story")
    assert compacted.output[0].type == "compaction"
    assert compacted.usage.output_tokens == 12


def test_a_failed_compaction_costs_nothing(gateway: Gateway) -> None:
    model, caller = gateway.model(says({"error": {"message": "no"}}, 500), kind="responses"), gateway.caller()
    reply = caller.send("POST", "/v1/responses/compact", {"model": model, "input": "long"})
    assert (reply.status, reply.json["error"]["type"]) == (502, "upstream_error")
    books = caller.settled_books()
    assert (books.charged, books.held, books.log[0]["error_type"]) == (0, 0, "upstream_error")


def test_a_compaction_is_never_a_stream(gateway: Gateway) -> None:
    model, caller = gateway.model(says(COMPACTED), kind="responses"), gateway.caller()
    reply = caller.send("POST", "/v1/responses/compact", {"model": model, "input": "long", "stream": True})
    assert (reply.status, reply.json["error"]["param"]) == (400, "stream")


def test_tokens_are_counted_without_a_trace_in_the_books(gateway: Gateway) -> None:
    route = gateway.upstream.serve(says({"object": "response.input_tokens", "input_tokens": 51}))
    model, caller = gateway.model(route, kind="responses"), gateway.caller(credits=0)
    url = f"http://127.0.0.1:{caller.port}/api/v1"
    with openai.OpenAI(api_key=caller.secret, base_url=url, max_retries=0) as client:
        counted = client.responses.input_tokens.count(model=model, input="What is the weather in Paris?")
    assert counted.input_tokens == 51
    [seen] = route.seen
    assert seen.path.endswith("/responses/input_tokens")
    assert seen.body == {"model": f"up-{model}", "input": "What is the weather in Paris?"}
    books = caller.books()
    assert (books.log, books.holds, books.transfers) == ([], [], [])


def test_a_count_that_is_none_is_an_upstreams_error(gateway: Gateway) -> None:
    model, caller = gateway.model(says({"object": "list"}), kind="responses"), gateway.caller()
    reply = caller.send("POST", "/v1/responses/input_tokens", {"model": model, "input": "x"})
    assert (reply.status, reply.json["error"]["type"]) == (502, "upstream_error")
