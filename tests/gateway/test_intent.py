"""An intent in place of a model: the cheapest that is qualified, that the key may call, and that is up (C-ROUTE-2)."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.pricing import Rates, TokenRates
from core import ids
from keys.models import ApiKey
from tests.fakes import messages as speech
from tests.fakes import responses
from tests.fakes import upstream as fake
from tests.support.gateway import CREDIT, Gateway


def rates(credits: int) -> Rates:
    each = credits * CREDIT
    return Rates(tokens=TokenRates(input=each, cached_input=each, cache_write_5m=each, output=each))


def an_intent() -> str:
    """An intent that no other test's models are qualified for."""
    return f"test-{ids.uuid7().hex[-10:]}"


TURN = [{"role": "user", "content": "Say hello"}]
KINDS: dict[str, tuple[str, str, dict[str, Any], Any]] = {
    "chat": ("openai", "/v1/chat/completions", {"messages": TURN}, fake.answers),
    "messages": ("anthropic", "/v1/messages", {"messages": TURN, "max_tokens": 9}, speech.answers),
    "responses": ("openai", "/v1/responses", {"input": "Say hello"}, responses.answers),
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_cheapest_qualified_model_of_the_endpoint_serves(gateway: Gateway, kind: str) -> None:
    adapter, path, fields, answers = KINDS[kind]
    intent, made = an_intent(), {}
    for name, price, intents in (("dear", 900, [intent]), ("cheap", 300, [intent]), ("unqualified", 10, [])):
        made[name] = gateway.new_model(answers(), rates=rates(price), kind=kind, adapter=adapter, intents=intents)
    gateway.until_known(made["unqualified"])
    caller = gateway.caller()
    reply = caller.send("POST", path, {"intent": intent, **fields})
    assert (reply.status, reply.headers["x-hypereal-model"]) == (200, made["cheap"])
    pinned = caller.send("POST", path, {"intent": intent, "model": made["dear"], **fields})
    assert pinned.headers["x-hypereal-model"] == made["dear"]
    assert [row["model"] for row in caller.settled_books(2).log] == [made["cheap"], made["dear"]]


def test_the_intent_never_goes_upstream(gateway: Gateway) -> None:
    intent, route = an_intent(), gateway.upstream.serve(fake.answers())
    gateway.model(route, intents=[intent])
    assert gateway.caller().send("POST", "/v1/chat/completions", {"intent": intent, "messages": TURN}).status == 200
    assert "intent" not in route.seen[0].body


def test_a_key_gets_the_cheapest_that_it_may_call(gateway: Gateway) -> None:
    intent = an_intent()
    cheap = gateway.new_model(fake.answers(), rates=rates(300), intents=[intent])
    dear = gateway.model(fake.answers(), rates=rates(900), intents=[intent])
    caller = gateway.caller(allowed_models=[dear])
    reply = caller.send("POST", "/v1/chat/completions", {"intent": intent, "messages": TURN})
    assert (reply.status, reply.headers["x-hypereal-model"]) == (200, dear)
    ApiKey.objects.filter(pk=caller.key.pk).update(allowed_models=["another"])
    other = gateway.caller(allowed_models=["another"])
    refused = other.send("POST", "/v1/chat/completions", {"intent": intent, "messages": TURN})
    assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
    assert cheap in refused.error["message"]


def test_a_model_whose_targets_are_left_out_is_passed_over(gateway: Gateway) -> None:
    intent = an_intent()
    cheap = gateway.new_model(fake.fails(401), rates=rates(300), intents=[intent])
    dear = gateway.model(fake.answers(), rates=rates(900), intents=[intent])
    caller = gateway.caller()
    assert caller.chat(cheap).status == 502  # its only target is left out from now on
    reply = caller.send("POST", "/v1/chat/completions", {"intent": intent, "messages": TURN})
    assert (reply.status, reply.headers["x-hypereal-model"]) == (200, dear)


def test_an_unknown_intent_names_those_that_are_known(gateway: Gateway) -> None:
    intent = an_intent()
    gateway.model(fake.answers(), intents=[intent])
    reply = gateway.caller().send("POST", "/v1/chat/completions", {"intent": "no-such-thing", "messages": TURN})
    assert (reply.status, reply.error["param"], reply.error["code"]) == (400, "intent", "intent_not_found")
    assert intent in reply.error["available_intents"]
