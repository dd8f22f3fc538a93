"""Messages through the real gateway: what goes upstream, what comes back, and what the books show (C-MSG)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes import messages as anthropic
from tests.fakes.upstream import Conversation
from tests.gateway.messages import ask, body, kinds, model, price_of
from tests.support import http
from tests.support.gateway import CREDIT, QUICK, Gateway


def test_a_whole_answer_is_billed_logged_and_told(gateway: Gateway) -> None:
    caller = gateway.caller(credits=1000)
    route = gateway.upstream.serve(
        anthropic.answers(counts=anthropic.usage(100, 50, read=2000, written=500, for_an_hour=200))
    )
    slug = model(gateway, route)
    reply = ask(caller, slug)
    assert reply.status == 200, reply.body
    charged = price_of(100, 50, 2000, 500, 200)
    saved = price_of(2600, 50) - charged
    answer = reply.json
    told = answer.pop("hypereal")
    assert answer == anthropic.message(counts=anthropic.usage(100, 50, read=2000, written=500, for_an_hour=200))
    assert told == {
        "request_id": reply.headers["x-request-id"],
        "model": slug,
        "provider": f"{slug}-p0",
        "target": f"{slug}-p0//up-{slug}",
        "attempts": 1,
        "credits": charged / CREDIT,
        "cache": {
            "mode": "auto",
            "breakpoints": 1,
            "read_tokens": 2000,
            "write_tokens": 500,
            "saved_credits": saved / CREDIT,
        },
    }
    assert reply.headers["request-id"] == reply.headers["x-request-id"]
    assert reply.headers["x-hypereal-credits"] == str(charged / CREDIT)
    assert reply.headers["x-hypereal-cache"] == "auto"
    assert reply.headers["x-hypereal-cache-read-tokens"] == "2000"
    assert reply.headers["x-hypereal-cache-write-tokens"] == "500"
    assert reply.headers["x-hypereal-cache-saved-credits"] == str(saved / CREDIT)
    books = caller.books()
    assert (books.balance, books.held, books.transfers) == (1000 * CREDIT - charged, 0, [charged])
    [row] = books.log
    assert str(row["request_id"]) == reply.headers["request-id"]
    assert (row["endpoint"], row["status"], row["model"], row["estimated"]) == ("messages", 200, slug, False)
    assert (row["input_tokens"], row["cached_input_tokens"], row["cache_write_tokens"]) == (2600, 2000, 500)
    assert (row["output_tokens"], row["saved_microcredits"]) == (50, saved)


def test_a_stream_is_relayed_untouched_billed_and_told_at_its_end(gateway: Gateway) -> None:
    caller = gateway.caller(credits=1000)
    counts = anthropic.usage(100, 50, read=2000)
    answer = anthropic.message(anthropic.thinking("hm"), anthropic.text("Hello there you"), counts=counts)
    slug = model(gateway, anthropic.streams(*anthropic.events(answer)))
    reply = ask(caller, slug, stream=True)
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["x-hypereal-cache-read-tokens"] == "2000"
    assert reply.headers["request-id"] == reply.headers["x-request-id"]
    sent = anthropic.events(answer)
    assert reply.body.startswith(b"".join(sent[:-2]))
    assert reply.body.endswith(sent[-1])
    charged = price_of(100, 50, 2000)
    last = reply.events[-2]
    told = last.pop("hypereal")
    assert last == json.loads(sent[-2].split(b"data: ")[1])
    assert told["credits"] == charged / CREDIT
    assert told["cache"]["saved_credits"] == (price_of(2100, 50) - charged) / CREDIT
    books = caller.books()
    assert (books.balance, books.held, books.transfers) == (1000 * CREDIT - charged, 0, [charged])
    assert books.log[0]["stream"] is True


def test_what_goes_upstream(gateway: Gateway) -> None:
    route = gateway.upstream.serve(anthropic.answers())
    slug = model(gateway, route)
    caller = gateway.caller()
    asked: dict[str, Any] = {
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
        "metadata": {"user_id": "u"},
        "stop_sequences": ["\u2028"],
        "unheard_of": [1, {"a": None}],
        "hypereal": {"cache": False},
    }
    headers = {
        "anthropic-version": "2026-10-21",
        "anthropic-beta": "interleaved-thinking-2025-05-14,effort-2025-11-24",
        "x-app": "cli",
        "x-stainless-lang": "js",
        "anthropic-dangerous-direct-browser-access": "true",
    }
    assert ask(caller, slug, "?beta=true", headers, **asked).status == 200
    [seen] = route.seen
    assert seen.path.endswith("/v1/messages?beta=true")
    assert seen.body == {name: value for name, value in body(f"up-{slug}", **asked).items() if name != "hypereal"}
    assert seen.headers["x-api-key"] == f"sk-upstream-{slug}"
    assert seen.headers["anthropic-version"] == "2026-10-21"
    assert seen.headers["anthropic-beta"] == "interleaved-thinking-2025-05-14,effort-2025-11-24"
    assert not {"authorization", "x-app", "x-stainless-lang"} & set(seen.headers)
    assert caller.secret not in str(seen)


def test_without_a_version_the_first_one_is_spoken(gateway: Gateway) -> None:
    route = gateway.upstream.serve(anthropic.answers())
    ask(gateway.caller(), model(gateway, route))
    [seen] = route.seen
    assert seen.headers["anthropic-version"] == "2023-06-01"
    assert "anthropic-beta" not in seen.headers
    assert "?" not in seen.path


@pytest.mark.parametrize("path", ["/v1/messages", "/api/v1/messages", "/api/v1/messages/?beta=true"])
@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
def test_keys_and_paths(gateway: Gateway, path: str, header: str) -> None:
    caller = gateway.caller()
    slug = model(gateway, anthropic.answers())
    key = {header: caller.secret if header == "x-api-key" else f"Bearer {caller.secret}"}
    assert http.send(caller.port, "POST", path, body(slug), key).status == 200


def test_a_provider_of_many_formats_gets_its_key_as_a_bearer(gateway: Gateway) -> None:
    route = gateway.upstream.serve(anthropic.answers())
    slug = gateway.new_model(route, kind="messages", adapter="openai")
    gateway.until_known(slug)
    assert ask(gateway.caller(), slug).status == 200
    assert route.seen[0].headers["authorization"] == f"Bearer sk-upstream-{slug}"
    assert "x-api-key" not in route.seen[0].headers


def test_breakpoints_are_set_where_the_caller_sets_none(gateway: Gateway) -> None:
    route = gateway.upstream.serve(anthropic.answers())
    slug = model(gateway, route)
    caller = gateway.caller()
    fields: dict[str, Any] = {"system": "Be brief.", "tools": [{"name": "look", "input_schema": {"type": "object"}}]}
    marked = {"type": "ephemeral"}
    reply = ask(caller, slug, **fields)
    assert reply.json["hypereal"]["cache"]["breakpoints"] == 3
    sent = route.seen[-1].body
    assert sent["system"] == [{"type": "text", "text": "Be brief.", "cache_control": marked}]
    assert sent["tools"][0]["cache_control"] == marked
    assert sent["messages"][0]["content"] == [{"type": "text", "text": "Say hello", "cache_control": marked}]
    own = {**fields, "system": [{"type": "text", "text": "Be brief.", "cache_control": {**marked, "ttl": "1h"}}]}
    reply = ask(caller, slug, **own)
    assert reply.json["hypereal"]["cache"]["mode"] == reply.headers["x-hypereal-cache"] == "own"
    assert route.seen[-1].body["system"] == own["system"]
    assert route.seen[-1].body["tools"] == fields["tools"]
    reply = ask(caller, slug, **fields, hypereal={"cache": False})
    assert reply.json["hypereal"]["cache"]["mode"] == "off"
    assert route.seen[-1].body == body(f"up-{slug}", **fields)


def test_a_model_of_another_endpoint_is_sent_there(gateway: Gateway) -> None:
    caller = gateway.caller()
    slug = model(gateway, anthropic.answers())
    reply = caller.chat(slug)
    assert (reply.status, reply.error["param"]) == (400, "model")
    assert "/v1/messages" in reply.error["message"]
    other = gateway.model(anthropic.answers())
    reply = ask(caller, other)
    assert reply.status == 400
    assert "/v1/chat/completions" in reply.error["message"]
    assert slug in reply.error["available_models"]
    assert other not in reply.error["available_models"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": "no-such-model"}, "model"),
        ({"messages": []}, "messages"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"hypereal": 1}, "hypereal"),
        ({"hypereal": {"cache": "often"}}, "hypereal.cache"),
        ({"tools": [{"type": "code_execution_20260120", "name": "code_execution"}]}, "tools[0]"),
        ({"tools": [{"name": "mine"}, {"type": "hologram_20300101", "name": "x"}]}, "tools[1]"),
        ({"tools": [{"type": "advisor_20260301", "name": "advisor", "model": "nobody"}]}, "tools[0].model"),
        ({"fallbacks": [{"model": "nobody"}]}, "fallbacks[0].model"),
        ({"fallbacks": "default"}, "fallbacks"),
        ({"speed": "ludicrous"}, "speed"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"service_tier": "priority"}, "service_tier"),
    ],
    ids=str,
)
def test_bad_requests_are_refused_before_anything_happens(gateway: Gateway, change: dict[str, Any], param: str) -> None:
    route = gateway.upstream.serve(anthropic.answers())
    slug = model(gateway, route)
    caller = gateway.caller(credits=500)
    reply = http.send(caller.port, "POST", "/v1/messages", {**body(slug), **change}, caller.headers({}))
    assert (reply.status, reply.json["type"], reply.error["type"]) == (400, "error", "invalid_request_error")
    assert reply.error["param"] == param
    assert reply.json["request_id"] == reply.headers["request-id"] == reply.headers["x-request-id"]
    assert route.calls == 0
    books = caller.settled_books()
    assert (books.balance, books.holds, books.log[0]["status"]) == (500 * CREDIT, [], 400)


def test_errors_bear_the_formats_shape(gateway: Gateway) -> None:
    reply = http.send(gateway.port, "POST", "/v1/messages", body("x"), {})
    assert (reply.status, reply.json["type"], reply.error["type"]) == (401, "error", "authentication_error")
    assert reply.headers["request-id"] == reply.json["request_id"]
    reply = http.send(gateway.port, "GET", "/v1/messages", None, {})
    assert (reply.status, reply.json["type"]) == (405, "error")
    poor = gateway.caller(credits=1)
    reply = ask(poor, model(gateway, anthropic.answers()))
    assert (reply.status, reply.error["type"]) == (402, "insufficient_credits")
    assert reply.error["required_credits"] > reply.error["available_credits"] == 1


def test_a_spend_limit_of_ours_is_not_shown(gateway: Gateway) -> None:
    async def spent(talk: Conversation) -> None:
        details = {"error_code": "enforced_spend_limit_reached"}
        error = {"type": "rate_limit_error", "message": "limit", "details": details}
        await talk.json({"type": "error", "error": error}, 429)

    caller = gateway.caller()
    route = gateway.upstream.serve(spent)
    reply = ask(caller, model(gateway, route))
    assert (reply.status, reply.error["type"]) == (502, "upstream_error")
    assert "limit" not in reply.error["message"]
    assert route.calls == 1


def test_the_callers_own_fault_is_passed_on(gateway: Gateway) -> None:
    second = gateway.upstream.serve(anthropic.answers())
    slug = model(gateway, anthropic.fails(400, "invalid_request_error", "messages.0: bad role"), second)
    caller = gateway.caller(credits=300)
    reply = ask(caller, slug)
    assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")
    assert reply.error["message"] == "messages.0: bad role"
    assert second.calls == 0
    assert caller.settled_books().balance == 300 * CREDIT


def test_silence_is_filled_with_pings_also_before_the_first_byte(gateway: Gateway) -> None:
    async def slow(talk: Conversation) -> None:
        await talk.gone(0.6)
        await anthropic.answers()(talk)

    caller = gateway.caller(server=gateway.with_settings(**QUICK))
    reply = ask(caller, model(gateway, slow), stream=True)
    assert reply.body.startswith(b'event: ping\ndata: {"type":"ping"}\n\n')
    assert kinds(reply)[1] == "message_start"
    assert kinds(reply)[-1] == "message_stop"


def test_an_error_in_mid_stream_is_told_and_what_came_is_billed(gateway: Gateway) -> None:
    pieces = [anthropic.start(anthropic.usage(312, 0, read=2048)), anthropic.opened()]
    pieces += [anthropic.words("sixteen letters!") for _ in range(10)]

    async def broken(talk: Conversation) -> None:
        await talk.start()
        for piece in pieces:
            await talk.send(piece)
        await talk.taken()
        await talk.send(anthropic.event("error", error={"type": "overloaded_error", "message": "Overloaded"}))

    caller = gateway.caller(credits=500)
    reply = ask(caller, model(gateway, broken), stream=True)
    assert reply.body.startswith(b"".join(pieces))
    assert reply.events[-1]["type"] == "error"
    assert reply.events[-1]["error"]["type"] == "overloaded_error"
    assert reply.events[-1]["request_id"] == reply.headers["request-id"]
    books = caller.settled_books()
    [row] = books.log
    assert (row["estimated"], row["input_tokens"], row["cached_input_tokens"]) == (True, 2360, 2048)
    assert (row["output_tokens"], row["error_type"], row["status"]) == (40, "overloaded_error", 503)
    assert books.transfers == [price_of(312, 40, read=2048)]


def test_a_stream_that_outgrows_the_balance_ends_in_order(gateway: Gateway) -> None:
    pieces = [anthropic.start(anthropic.usage(10, 0)), anthropic.opened()]
    pieces += [anthropic.words("sixteen letters!" * 1024) for _ in range(40)]

    async def long(talk: Conversation) -> None:
        await talk.start()
        for piece in pieces:
            await talk.send(piece)
            await talk.gone(0.02)

    caller = gateway.caller(credits=202)
    slug = model(gateway, long, max_output_tokens=200_000)
    reply = ask(caller, slug, stream=True, max_tokens=190_000)
    assert kinds(reply)[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    last = reply.events[-2]
    assert last["delta"]["stop_reason"] == "max_tokens"
    assert "balance" in last["hypereal"]["stopped"]
    books = caller.settled_books()
    assert last["hypereal"]["credits"] == books.charged / CREDIT
    assert books.balance >= 0
    assert books.log[0]["error_type"] == "insufficient_credits"


def test_an_upstream_that_always_streams_is_collected(gateway: Gateway) -> None:
    answer = anthropic.message(anthropic.thinking("hm"), anthropic.tool_use("look", at="\u2028", n=[1, 2]))
    caller = gateway.caller()
    reply = ask(caller, model(gateway, anthropic.streams(*anthropic.events(answer))))
    assert reply.headers["content-type"] == "application/json"
    assert reply.json["content"] == answer["content"]
    assert reply.json["hypereal"]["credits"] == price_of(100, 50) / CREDIT


def test_an_upstream_that_never_streams_is_unfolded(gateway: Gateway) -> None:
    answer = anthropic.message(anthropic.thinking("hm"), anthropic.tool_use("look", at=1))

    async def whole(talk: Conversation) -> None:
        await talk.json(answer)

    caller = gateway.caller()
    reply = ask(caller, model(gateway, whole), stream=True)
    assert kinds(reply)[0] == "message_start"
    assert kinds(reply)[-2:] == ["message_delta", "message_stop"]
    assert caller.settled_books().transfers == [price_of(100, 50)]


def test_the_same_key_gives_the_same_answer_again(gateway: Gateway) -> None:
    caller = gateway.caller()
    slug = model(gateway, anthropic.answers())
    first, again = (ask(caller, slug, headers={"idempotency-key": "k1"}) for _ in range(2))
    assert again.json == first.json
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["request-id"] == first.headers["request-id"] == first.json["hypereal"]["request_id"]
    assert len(caller.settled_books().transfers) == 1
