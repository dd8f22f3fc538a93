"""Every recorded response and embedding through the real gateway: what comes, and the exact charge (C-RESP-2).

Each runs once under either price list of the recordings folder; one of them forces rounding. Tools that are billed by
use have a price of zero there, as the index knows none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
import pytest_django

from tests.recordings import sdks
from tests.recordings.whole_index import PRICE_LISTS, Figures, Models, Ran, cases, models_of
from tests.support import replay
from tests.support.gateway import Caller, Gateway
from tests.support.http import Reply
from tests.support.replay import Exchange
from upstreams.responses_usage import SERVER_TOOLS

pytestmark = replay.NEEDED

ENDPOINTS = ("responses", "embeddings")
#: Fails inside a 200, behind its first events: nothing was delivered, and what it says of our account stays with us.
FAILS_INSIDE = "openai-responses-s-error-1"
#: Our account's trouble, told with a status that would be the caller's.
OUR_ACCOUNT = "openai-responses-error-1"
#: Would be answered later, elsewhere; that is not offered.
BACKGROUND = "openai-responses-background-mode-with-tool-vcr"
#: So many answers at least must satisfy the vendor's schemas; some providers' own do not.
LEAST_VALID = 24

ran = Ran()


@pytest.fixture(scope="module")
def models(upstream: Any, _gateway_session: Gateway, django_db_blocker: pytest_django.DjangoDbBlocker) -> Models:
    """A model for each exchange and price list, whose only provider answers with that exchange."""
    free = tuple((name, 0) for name in sorted(SERVER_TOOLS))

    def new_model(exchange: Exchange, price_list: str) -> str:
        return _gateway_session.new_model(
            upstream.base(exchange.id),
            kind=exchange.facts["endpoint"],
            rates=replace(replay.rates(price_list), server_tools=free),
            max_output_tokens=None,
        )

    return models_of(_gateway_session, django_db_blocker, ENDPOINTS, new_model)


def ask(caller: Caller, exchange: Exchange, model: str, **fields: Any) -> Reply:
    """As it was recorded, but for tiers that the price lists don't have."""
    body = {**exchange.request, "model": model, **fields}
    body.pop("service_tier", None)
    return caller.send("POST", f"/v1/{exchange.facts['endpoint']}", body, accept="application/json")


def is_answer(exchange: Exchange) -> bool:
    return exchange.status == 200 and exchange.id not in (FAILS_INSIDE, BACKGROUND)


@pytest.mark.parametrize("price_list", PRICE_LISTS)
@pytest.mark.parametrize("exchange", cases(ENDPOINTS, is_answer))
def test_answers(gateway: Gateway, models: Models, exchange: Exchange, price_list: str) -> None:
    caller = gateway.caller()
    reply = ask(caller, exchange, models[exchange.id, price_list])
    assert reply.status == 200, reply.body
    books = caller.settled_books()
    [row], billed = books.log, exchange.facts["billed"]
    assert (books.held, books.charged, sum(books.transfers)) == (0, row["charged_microcredits"], books.charged)
    assert (books.charged, row["estimated"]) == (exchange.charge(price_list), False)
    assert (row["input_tokens"], row["output_tokens"]) == (billed["input_tokens"], billed["output_tokens"])
    assert row["cached_input_tokens"] == billed.get("cache_read", 0)
    if exchange.is_stream:  # the format knows no last word
        assert reply.body == exchange.body.removesuffix(b"data: [DONE]\n\n")
    else:
        assert reply.body == exchange.body
    if fits(exchange, reply):
        ran.valid.add(exchange.id)
    ran.cases.add((exchange.id, price_list))


def fits(exchange: Exchange, reply: Reply) -> bool:
    """Whether the answer satisfies the published schema."""
    if exchange.facts["endpoint"] == "embeddings":
        name, values = "CreateEmbeddingResponse", [reply.json]
    elif exchange.is_stream:
        name, values = "ResponseStreamEvent", reply.events
    else:
        name, values = "Response", [reply.json]
    schema = {"$ref": f"#/components/schemas/{name}", "components": replay.schemas()["components"]}
    validator = jsonschema.Draft202012Validator(schema)
    return all(validator.is_valid(value) for value in values)


@pytest.mark.parametrize("exchange", cases(ENDPOINTS, is_answer))
def test_the_official_library_reads_all_of_it(gateway: Gateway, models: Models, exchange: Exchange) -> None:
    body = {**exchange.request, "model": models[exchange.id, "A"]}
    body.pop("service_tier", None)
    got = sdks.read(gateway.caller(), f"/{exchange.facts['endpoint']}", body)
    assert got == (list(data_of(exchange.body)) if exchange.is_stream else [exchange.response["body"]])


@pytest.mark.parametrize("exchange", cases(ENDPOINTS, lambda exchange: is_answer(exchange) and exchange.is_stream))
def test_streams_for_callers_who_asked_for_none(gateway: Gateway, models: Models, exchange: Exchange) -> None:
    caller = gateway.caller()
    reply = ask(caller, exchange, models[exchange.id, "A"], stream=False)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    last = [value for value in data_of(exchange.body) if value["type"] == "response.completed"]
    assert reply.json == last[0]["response"]
    assert caller.settled_books().charged == exchange.charge("A")


def data_of(stream: bytes) -> Iterator[Any]:
    for line in stream.split(b"\n"):
        if line.startswith(b"data:") and b"[DONE]" not in line:
            yield json.loads(line[5:])


@pytest.mark.parametrize("price_list", PRICE_LISTS)
@pytest.mark.parametrize("exchange", cases(ENDPOINTS, lambda exchange: not is_answer(exchange)))
def test_failures_cost_nothing_and_are_told_cleanly(
    gateway: Gateway, models: Models, exchange: Exchange, price_list: str
) -> None:
    caller = gateway.caller(credits=500)
    reply = ask(caller, exchange, models[exchange.id, price_list])
    books = caller.settled_books()
    [row] = books.log
    assert (books.charged, books.held, books.transfers) == (0, 0, [])
    assert (row["status"], row["error_type"]) == (reply.status, reply.error["type"])
    if exchange.id in (FAILS_INSIDE, OUR_ACCOUNT):
        assert (reply.status, reply.error["type"]) == (502, "upstream_error")
        assert "quota" not in reply.error["message"]
    elif exchange.id == BACKGROUND:
        assert (reply.status, reply.error["param"]) == (400, "background")
    else:
        theirs = exchange.response["body"]["error"]
        assert reply.status == exchange.status
        assert {name: reply.error[name] for name in theirs} == theirs
    ran.cases.add((exchange.id, price_list))


@pytest.mark.parametrize("name", [FAILS_INSIDE, OUR_ACCOUNT])
@pytest.mark.parametrize("stream", [False, True])
def test_trouble_with_our_account_leads_to_the_next_target(
    gateway: Gateway, upstream: Any, name: str, stream: bool
) -> None:
    wanted = "openai-responses-s-phase-1" if stream else "openai-responses-phase-1"
    good = next(each for each in replay.exchanges("responses") if each.id == wanted)
    model = gateway.model(upstream.base(name), upstream.base(good.id), kind="responses", rates=replay.rates("A"))
    caller = gateway.caller()
    reply = caller.send("POST", "/v1/responses", {"model": model, "input": "x", "stream": stream})
    assert (reply.status, reply.body) == (200, good.body)
    assert caller.settled_books().charged == good.charge("A")


def test_every_exchange_of_the_index_ran(request: pytest.FixtureRequest, figures: Figures) -> None:
    """Last of the file."""
    ran.check(request, figures, "recorded responses and embeddings", ENDPOINTS, LEAST_VALID)
