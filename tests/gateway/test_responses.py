"""Responses through the real gateway, and what wallet, log and ledger show afterwards (C-RESP)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from catalog.pricing import Rates, ServiceTier, TokenRates
from tests.fakes import responses as fake
from tests.fakes import upstream as chat
from tests.fakes.upstream import Conversation
from tests.support import http as client
from tests.support.gateway import CREDIT, QUICK, RATES, Caller, Gateway, price_of, wait_for
from tests.support.http import Reply

SEARCH_MICROCREDITS = 3 * CREDIT
WITH_SEARCH = Rates(tokens=RATES.tokens, server_tools=(("web_search_call", SEARCH_MICROCREDITS),))
#: As Codex sends them.
CODEX_TOOLS = [
    {"type": "function", "name": "shell", "parameters": {"type": "object"}, "strict": False},
    {"type": "namespace", "name": "apps", "description": "", "tools": [{"type": "function", "name": "x"}]},
    {"type": "custom", "name": "apply_patch", "format": {"type": "grammar"}},
    {"type": "web_search", "external_web_access": True},
]


def ask(caller: Caller, name: str, *, headers: dict[str, str] | None = None, **fields: Any) -> Reply:
    return caller.send("POST", "/v1/responses", {"model": name, "input": "Say hello", **fields}, **(headers or {}))


def types(reply: Reply) -> list[str]:
    return [value["type"] for value in reply.events]


def serve(gateway: Gateway, *behaviours: chat.Behaviour | chat.Route, **columns: Any) -> str:
    return gateway.model(*behaviours, kind="responses", **columns)


def test_an_answer_goes_through_to_the_byte_and_is_billed(gateway: Gateway) -> None:
    route = gateway.upstream.serve(fake.answers(prompt=30, output=12))
    model, caller = serve(gateway, route), gateway.caller()
    reply = ask(caller, model, store=True, previous_response_id="resp_1", include=["x"], hypereal={"cache": False})
    assert (reply.status, reply.json) == (200, fake.response(prompt=30, output=12))
    assert reply.headers["x-hypereal-model"] == model
    [seen] = route.seen
    assert seen.path.endswith("/responses")
    assert seen.body == {
        "model": f"up-{model}", "input": "Say hello", "store": True, "previous_response_id": "resp_1", "include": ["x"],
    }  # fmt: skip
    books = caller.settled_books()
    [row] = books.log
    assert (row["endpoint"], row["status"], row["stream"]) == ("responses", 200, False)
    assert books.charged == price_of(30, 12) == row["charged_microcredits"]
    assert (books.balance, books.held) == (1000 * CREDIT - books.charged, 0)


def test_a_stream_goes_through_to_the_byte_and_is_billed(gateway: Gateway) -> None:
    whole = fake.response("one two three", prompt=30, output=12)
    route = gateway.upstream.serve(fake.answers("one two three", prompt=30, output=12))
    caller = gateway.caller()
    reply = ask(caller, serve(gateway, route), stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.body == b"".join(fake.stream_of(whole))
    assert "stream_options" not in route.seen[0].body
    books = caller.settled_books()
    [row] = books.log
    assert (row["stream"], row["estimated"], row["output_tokens"]) == (True, False, 12)
    assert books.charged == price_of(30, 12)


def test_an_incomplete_response_is_a_whole_answer(gateway: Gateway) -> None:
    details: dict[str, Any] = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    caller = gateway.caller()
    reply = ask(caller, serve(gateway, fake.answers(prompt=9, output=5, **details)), stream=True, max_output_tokens=5)
    assert types(reply)[-1] == "response.incomplete"
    assert caller.settled_books().charged == price_of(9, 5)


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_what_codex_sends_is_passed_on_and_searches_are_billed(gateway: Gateway) -> None:
    search = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search"}}
    opened = {**search, "id": "ws_2", "action": {"type": "open_page"}}
    output = [search, opened, fake.message("found")]
    route = gateway.upstream.serve(
        fake.sends(*fake.stream_of(fake.response("found", 30, 12) | {"output": output}), pause=0)
    )
    caller = gateway.caller()
    reply = ask(
        caller, serve(gateway, route, rates=WITH_SEARCH), stream=True, tools=CODEX_TOOLS, tool_choice="auto",
        parallel_tool_calls=False, reasoning={"summary": "auto"}, store=False, prompt_cache_key="k",
        include=["reasoning.encrypted_content"], client_metadata={"a": "b"},
    )  # fmt: skip
    assert {"response.output_item.done", "response.completed"} <= set(types(reply))
    body = route.seen[0].body
    assert body["tools"] == CODEX_TOOLS
    assert (body["client_metadata"], body["prompt_cache_key"]) == ({"a": "b"}, "k")
    assert caller.settled_books().charged == price_of(30, 12) + SEARCH_MICROCREDITS


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "web_search"}, "tools[1]"),
        ({"type": "web_search_preview_2025_03_11"}, "tools[1]"),
        ({"type": "image_generation"}, "tools[1]"),
        ({"type": "file_search", "vector_store_ids": []}, "tools[1]"),
        ({"type": "code_interpreter", "container": {"type": "auto"}}, "tools[1]"),
        ({"type": "shell", "environment": {"type": "container_auto"}}, "tools[1]"),
        ({"type": "namespace", "name": "x", "tools": [{"type": "web_search"}]}, "tools[1]"),
    ],
)
def test_tools_without_a_price_are_refused_before_anything_happens(
    gateway: Gateway, tool: dict[str, Any], param: str
) -> None:
    route = gateway.upstream.serve(fake.answers())
    caller = gateway.caller()
    reply = ask(caller, serve(gateway, route), tools=[{"type": "function", "name": "f"}, tool])
    assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")
    assert (reply.error["param"], reply.error["code"]) == (param, "tool_not_offered")
    assert (route.calls, caller.settled_books().holds) == (0, [])


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"), ({"input": 3}, "input"), ({"input": {}}, "input"), ({"model": ""}, "model"),
        ({"background": True}, "background"), ({"stream": "yes"}, "stream"),
        ({"conversation": "conv_1"}, "conversation"), ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"previous_response_id": 7}, "previous_response_id"),
        ({"previous_response_id": "a" * 201}, "previous_response_id"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"tools": {}}, "tools"), ({"tools": ["x"]}, "tools"), ({"service_tier": "priority"}, "service_tier"),
    ],
)  # fmt: skip
def test_bad_fields_are_named(gateway: Gateway, fields: dict[str, Any], param: str) -> None:
    route = gateway.upstream.serve(fake.answers())
    caller = gateway.caller()
    reply = ask(caller, serve(gateway, route), **fields)
    assert (reply.status, reply.error["param"]) == (400, param)
    assert (route.calls, caller.settled_books().charged) == (0, 0)


def test_a_model_of_another_endpoint_names_its_own(gateway: Gateway) -> None:
    caller = gateway.caller()
    model = gateway.model(chat.answers())
    reply = ask(caller, model)
    assert (reply.status, reply.error["param"]) == (400, "model")
    assert "/v1/chat/completions" in reply.error["message"]
    assert "available_models" in reply.error
    claude = gateway.model(chat.answers(), kind="messages")
    assert "/v1/messages" in ask(caller, claude).error["message"]


def test_a_key_is_needed_to_call_but_not_to_hear_that_there_are_no_sockets(gateway: Gateway) -> None:
    assert client.send(gateway.port, "POST", "/v1/responses", {"model": "m", "input": "x"}).status == 401
    sock = {"connection": "Upgrade", "upgrade": "websocket"}
    assert client.send(gateway.port, "GET", "/v1/responses", None, sock).status == 426
    assert client.send(gateway.port, "GET", "/v1/responses").status == 404
    assert client.send(gateway.port, "DELETE", "/v1/responses").status == 405


def test_a_service_tier_with_a_price_is_billed_as_the_answer_names_it(gateway: Gateway) -> None:
    dear = TokenRates(input=2000 * CREDIT, output=8000 * CREDIT)
    rates = Rates(tokens=RATES.tokens, service_tiers=(ServiceTier("priority", dear),))
    caller = gateway.caller()
    model = serve(gateway, fake.answers(prompt=10, output=5, service_tier="priority"), rates=rates)
    assert ask(caller, model, service_tier="priority", stream=True).status == 200
    assert caller.settled_books().charged == 10 * 2000 + 5 * 8000


# ── the other form than was asked for (C-RESP-3) ─────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("accept", "events"),
    [
        ({"accept": "application/json"}, False), ({"accept": "application/json; q=1, application/problem+json"}, False),
        ({"accept": "*/*"}, True), ({}, True), ({"accept": "text/event-stream, application/json"}, True),
    ],
)  # fmt: skip
def test_an_upstream_that_always_streams(gateway: Gateway, accept: dict[str, str], events: bool) -> None:
    whole = fake.response("one two", 30, 12)
    stream = b"".join(fake.stream_of(whole))
    caller = gateway.caller()
    reply = ask(caller, serve(gateway, fake.sends(stream, pause=0)), headers=accept)
    assert reply.status == 200
    if events:
        assert (reply.headers["content-type"], reply.body) == ("text/event-stream", stream)
    else:
        assert (reply.headers["content-type"], reply.json) == ("application/json", whole)
    assert caller.settled_books().charged == price_of(30, 12)


def test_items_that_the_last_event_leaves_out_are_collected_from_the_others(gateway: Gateway) -> None:
    events = fake.stream_of(fake.response("one two", 30, 12))[:-1]
    empty = fake.event("response.completed", response=fake.response("", 30, 12) | {"output": []})
    caller = gateway.caller()
    reply = ask(caller, serve(gateway, fake.sends(*events, empty, pause=0)), headers={"accept": "application/json"})
    assert reply.json["output"] == [fake.message("one two")]


def test_an_upstream_that_does_not_stream(gateway: Gateway) -> None:
    whole = fake.response("one two", 30, 12)

    async def never_streams(talk: Conversation) -> None:
        await talk.json(whole)

    caller = gateway.caller()
    reply = ask(caller, serve(gateway, never_streams), stream=True)
    assert {"response.output_text.delta", "response.output_item.done"} <= set(types(reply))
    assert reply.events[-1]["response"] == whole
    assert caller.settled_books().charged == price_of(30, 12)


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "failure",
    [
        *(fake.failed(code, "see https://internal.example")
          for code in ("server_error", "insufficient_quota", "rate_limit_exceeded")),
        fake.event("error", code="server_error", message="x", param=None), b"data: {broken\n\n", b"",
        b"data: [DONE]\n\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_before_content_leads_to_the_next_target(gateway: Gateway, failure: bytes, stream: bool) -> None:
    failing = fake.sends(fake.beginning() + failure)
    good = gateway.upstream.serve(fake.answers(prompt=30, output=12))
    caller = gateway.caller()
    reply = ask(caller, serve(gateway, failing, good), stream=stream)
    assert (reply.status, good.calls) == (200, 1)
    assert b"internal.example" not in reply.body
    assert caller.settled_books().charged == price_of(30, 12)


@pytest.mark.parametrize("code", ["invalid_prompt", "image_content_policy_violation", "context_length_exceeded"])
def test_a_failure_that_is_the_callers_own_is_passed_on(gateway: Gateway, code: str) -> None:
    other = gateway.upstream.serve(fake.answers())
    caller = gateway.caller()
    reply = ask(caller, serve(gateway, fake.sends(fake.beginning() + fake.failed(code, "too bad")), other), stream=True)
    assert (reply.status, reply.error["code"], reply.error["message"]) == (400, code, "too bad")
    assert other.calls == 0
    books = caller.settled_books()
    assert (books.charged, books.holds) == (0, ["voided"])


#: What breaks a stream in its middle, and the code by which a client decides.
BREAKS = [
    ([fake.failed("insufficient_quota")], "server_error", 502),  # our account, never the caller's
    ([fake.failed("rate_limit_exceeded")], "server_error", 503),
    ([fake.failed("invalid_prompt", "no")], "invalid_prompt", 400),
    ([fake.failed("context_length_exceeded", "no")], "context_length_exceeded", 400),
    ([fake.event("error", code="server_error", message="x", param=None)], "server_error", 502),
    ([b'data: {"error":{"message":"x","type":"server_error"}}\n\n'], "server_error", 502),
    ([b"data: [DONE]\n\n"], "server_error", 502),
]


@pytest.mark.parametrize(("events", "code", "status"), BREAKS)
def test_a_break_in_the_middle_is_one_failed_response(
    gateway: Gateway, events: list[bytes], code: str, status: int
) -> None:
    behaviour = fake.sends(fake.beginning(), fake.delta("sixteen letters!", 7), *events, then_cut=True, pause=0.25)
    caller = gateway.caller(credits=500)
    reply = ask(caller, serve(gateway, behaviour), stream=True)
    assert reply.status == 200
    assert types(reply) == [
        "response.created", "response.in_progress", "response.output_text.delta", "response.failed",
    ]  # fmt: skip
    last = reply.events[-1]
    assert (last["sequence_number"], last["response"]["id"]) == (8, fake.ID)
    assert (last["response"]["status"], last["response"]["error"]["code"]) == ("failed", code)
    assert reply.body.split(b"\n\n")[-2].startswith(b"event: response.failed\n")
    books = caller.settled_books()
    [row] = books.log
    assert (row["status"], row["estimated"], row["output_tokens"]) == (status, True, 4)
    assert books.charged == price_of(row["input_tokens"], 4)
    assert (books.balance, books.held) == (500 * CREDIT - books.charged, 0)


def test_a_failed_response_that_tells_its_usage_is_billed_by_it(gateway: Gateway) -> None:
    told = fake.failed("server_error", usage=fake.response(prompt=20, output=3)["usage"])
    caller = gateway.caller()
    ask(caller, serve(gateway, fake.sends(fake.beginning(), fake.delta("some words"), told)), stream=True)
    [row] = caller.settled_books().log
    assert (row["estimated"], row["charged_microcredits"]) == (False, price_of(20, 3))


def test_silence_is_filled_and_a_failure_behind_it_is_told_inside(gateway: Gateway) -> None:
    async def late(talk: Conversation) -> None:
        await talk.gone(1.0)
        await talk.json({"error": {"message": "boom"}}, 500)

    caller = gateway.caller(credits=500, server=gateway.with_settings(**QUICK))
    reply = ask(caller, serve(gateway, late), stream=True)
    assert reply.body.startswith(b": keep-alive\n\n")
    [failed] = reply.events
    assert (failed["type"], failed["response"]["error"]["code"]) == ("response.failed", "server_error")
    assert failed["response"]["id"].removeprefix("resp_") == reply.headers["x-request-id"].replace("-", "")
    books = caller.settled_books()
    assert (books.balance, books.held, books.holds) == (500 * CREDIT, 0, ["voided"])


def test_a_stream_beyond_the_credits_ends_in_order_and_bills_what_came(gateway: Gateway) -> None:
    async def endless(talk: Conversation) -> None:
        await talk.start()
        await talk.send(fake.beginning())
        number = 2
        while True:
            await talk.send(fake.delta("sixteen letters!", number))
            number += 1
            await talk.pause(0.02)

    route = gateway.upstream.serve(endless)
    caller = gateway.caller(credits=1000)
    caller.limit(2 * CREDIT)  # 500 tokens of output at most
    reply = ask(caller, serve(gateway, route), stream=True, max_output_tokens=4000)
    last = reply.events[-1]
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "incomplete")
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["response"]["id"] == fake.ID
    assert "limit" in last["response"]["hypereal"]["stopped"]
    assert last["sequence_number"] > reply.events[-2]["sequence_number"]
    books = caller.settled_books()
    [row] = books.log
    assert (row["status"], row["output_tokens"]) == (200, last["response"]["usage"]["output_tokens"])
    assert 100 < row["output_tokens"] <= 500
    assert books.spent == books.charged <= 2 * CREDIT
    wait_for(lambda: route.seen[0].ended == "gateway gone")


def test_a_caller_who_leaves_pays_for_what_came(gateway: Gateway) -> None:
    route = gateway.upstream.serve(fake.sends(fake.beginning(), *[fake.delta("sixteen letters!")] * 500, pause=0.02))
    caller = gateway.caller(credits=500)
    body = {"model": serve(gateway, route), "input": "x", "stream": True}
    with client.opened(caller.port, "POST", "/v1/responses", body, caller.headers({})) as stream:
        assert stream.line().startswith(b"event: response.created")
        stream.leave()
    [row] = caller.settled_books().log
    assert (row["client_disconnected"], row["estimated"]) == (True, True)
    assert row["charged_microcredits"] == price_of(row["input_tokens"], row["output_tokens"]) > 0


def test_the_end_needs_no_last_word(gateway: Gateway) -> None:
    """An upstream that keeps its connection open behind the end does not keep the caller waiting."""

    async def lingers(talk: Conversation) -> None:
        await talk.start()
        for each in fake.stream_of(fake.response("one", 4, 2)):
            await talk.send(each)
        await talk.gone()

    caller = gateway.caller()
    reply = ask(caller, serve(gateway, lingers), stream=True)
    assert types(reply)[-1] == "response.completed"
    assert caller.settled_books().charged == price_of(4, 2)


def test_the_same_idempotency_key_gives_the_stored_answer(gateway: Gateway) -> None:
    route = gateway.upstream.serve(fake.answers(prompt=30, output=12))
    model, caller = serve(gateway, route), gateway.caller()
    first, again = (ask(caller, model, headers={"idempotency-key": "k1"}) for _ in range(2))
    assert (first.body, route.calls) == (again.body, 1)
    assert json.loads(again.body)["id"] == fake.ID
    assert caller.settled_books().charged == price_of(30, 12)
