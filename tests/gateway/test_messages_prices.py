"""What costs more than tokens at one price: other models, other tiers, tools that the provider runs (C-MSG-5)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from catalog.pricing import Rates, TokenRates
from tests.fakes import messages as anthropic
from tests.gateway.messages import RATES, ask, body, model, price_of
from tests.support.gateway import CREDIT, Gateway

#: Ten times as dear.
DEAR = Rates(tokens=TokenRates(input=10_000 * CREDIT, cached_input=1000 * CREDIT, output=40_000 * CREDIT))
ADVISED = {
    **anthropic.usage(30, 10),
    "iterations": [{"type": "message", "input_tokens": 30, "output_tokens": 10}],
}


def advised(name: str, fresh: int, output: int) -> dict[str, Any]:
    part = {"type": "advisor_message", "model": name, "input_tokens": fresh, "output_tokens": output}
    return {**ADVISED, "iterations": [*ADVISED["iterations"], part]}


@pytest.mark.parametrize("stream", [False, True])
def test_an_advisor_is_billed_at_its_own_price(gateway: Gateway, stream: bool) -> None:
    dear = model(gateway, anthropic.answers(), rates=DEAR)
    counts = advised(f"{dear}-20260301", 500, 7)
    pieces = anthropic.events(anthropic.message())
    pieces[-2] = anthropic.end(counts)
    slug = model(gateway, anthropic.streams(*pieces) if stream else anthropic.answers(counts=counts))
    tool = {"type": "advisor_20260301", "name": "advisor", "model": dear}
    caller = gateway.caller()
    assert ask(caller, slug, tools=[tool], stream=stream).status == 200
    books = caller.settled_books()
    assert books.transfers == [price_of(30, 10) + 10 * price_of(500, 7)]
    assert (books.log[0]["input_tokens"], books.log[0]["output_tokens"]) == (530, 17)


def test_a_key_that_may_not_call_the_advisors_model_may_not_be_advised(gateway: Gateway) -> None:
    dear = model(gateway, anthropic.answers(), rates=DEAR)
    slug = model(gateway, anthropic.answers())
    tool = {"type": "advisor_20260301", "name": "advisor", "model": dear}
    reply = ask(gateway.caller(allowed_models=[slug]), slug, tools=[tool])
    assert (reply.status, reply.error["type"]) == (403, "permission_error")


def test_the_reservation_is_at_the_dearest_model(gateway: Gateway) -> None:
    dear = model(gateway, anthropic.answers(), rates=DEAR)
    slug = model(gateway, anthropic.answers(), max_output_tokens=8000)
    caller = gateway.caller(credits=203)
    assert ask(caller, slug, max_tokens=2000).status == 200
    reply = ask(caller, slug, max_tokens=2000, fallbacks=[{"model": dear, "max_tokens": 5500}])
    assert reply.status == 402
    assert reply.error["required_credits"] > 40 * 5.5


def test_what_a_fallback_served_costs_its_price(gateway: Gateway) -> None:
    dear = model(gateway, anthropic.answers(), rates=DEAR)
    counts = {
        **anthropic.usage(412, 64),
        "iterations": [
            {"type": "message", "model": "the-first", "input_tokens": 408, "output_tokens": 0},
            {"type": "fallback_message", "model": dear, "input_tokens": 412, "output_tokens": 64},
        ],
    }
    caller = gateway.caller()
    reply = ask(caller, model(gateway, anthropic.answers(counts=counts)), fallbacks=[{"model": dear}])
    assert reply.status == 200
    assert caller.settled_books().transfers == [10 * price_of(412, 64)]


def test_a_model_that_nobody_foresaw_costs_what_was_asked_for(gateway: Gateway) -> None:
    caller = gateway.caller()
    slug = model(gateway, anthropic.answers(counts=advised("some-new-model", 500, 7)))
    assert ask(caller, slug).status == 200
    assert caller.settled_books().transfers == [price_of(530, 17)]


def test_a_compaction_pass_is_billed(gateway: Gateway) -> None:
    part = {"type": "compaction", "input_tokens": 60_000, "output_tokens": 500}
    counts = {**ADVISED, "iterations": [part, *ADVISED["iterations"]]}
    caller = gateway.caller()
    assert ask(caller, model(gateway, anthropic.answers(counts=counts))).status == 200
    assert caller.settled_books().transfers == [price_of(60_030, 510)]


def test_a_faster_mode_has_its_rates(gateway: Gateway) -> None:
    caller = gateway.caller()
    slug = model(gateway, anthropic.answers(counts={**anthropic.usage(30, 10), "speed": "fast"}))
    assert ask(caller, slug, speed="fast").status == 200
    assert caller.settled_books().transfers == [6 * price_of(30, 10)]


def test_searches_are_billed_by_use(gateway: Gateway) -> None:
    counts = {**anthropic.usage(30, 10), "server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 0}}
    caller = gateway.caller()
    tool = {"type": "web_search_20260209", "name": "web_search"}
    assert ask(caller, model(gateway, anthropic.answers(counts=counts)), tools=[tool]).status == 200
    assert caller.settled_books().transfers == [price_of(30, 10) + 3 * 5 * CREDIT]


def test_a_tool_without_a_price_is_not_passed_on_wherever_it_is_defined(gateway: Gateway) -> None:
    free = Rates(tokens=RATES.tokens)
    route = gateway.upstream.serve(anthropic.answers())
    slug = model(gateway, route, rates=free)
    caller = gateway.caller()
    search = {"type": "web_search_20250305", "name": "web_search"}
    reply = ask(caller, slug, tools=[{"name": "mine", "input_schema": {}}, search])
    assert (reply.status, reply.error["param"], reply.error["code"]) == (400, "tools[1]", "tool_not_offered")
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": search}}
    said = [{"role": "user", "content": [{"type": "text", "text": "hi"}, added]}]
    reply = ask(caller, slug, messages=said)
    assert (reply.status, reply.error["param"]) == (400, "messages[0]")
    spelled = json.dumps(body(slug, messages=said)).replace("tool_addition", "tool\\u005faddition")
    reply = caller.send("POST", "/v1/messages", spelled.encode())
    assert (reply.status, reply.error["param"]) == (400, "messages[0]")
    assert route.calls == 0
    reference = {"type": "tool_addition", "tool": {"type": "tool_reference", "tool_name": "mine"}}
    assert (
        ask(caller, slug, messages=[{"role": "user", "content": [{"type": "text", "text": "é"}, reference]}]).status
        == 200
    )


@pytest.mark.parametrize(
    "kind", ["custom", "bash_20250124", "text_editor_20250728", "memory_20250818", "tool_search_tool_bm25_20251119"]
)
def test_tools_that_cost_their_tokens_only_pass(gateway: Gateway, kind: str) -> None:
    route = gateway.upstream.serve(anthropic.answers())
    slug = model(gateway, route, rates=Rates(tokens=RATES.tokens))
    assert ask(gateway.caller(), slug, tools=[{"type": kind, "name": "t"}]).status == 200
    assert route.seen[0].body["tools"][0]["type"] == kind


def test_a_cache_that_is_only_filled(gateway: Gateway) -> None:
    answer = anthropic.message(counts=anthropic.usage(0, 0, written=4000), stop="max_tokens")
    caller = gateway.caller()
    reply = ask(caller, model(gateway, anthropic.answers(counts=answer["usage"])), max_tokens=0)
    assert reply.status == 200
    assert caller.settled_books().transfers == [price_of(0, 0, written=4000)]
