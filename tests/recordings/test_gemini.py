"""Every recorded exchange of Gemini's own format through the real gateway, to the exact charge (C-GEM, C-CHAT-4).

Each runs once under either price list of the recordings folder; one of them forces rounding. Tools that are billed by
use have a price of zero there, as the index knows none.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jsonschema
import pytest
import pytest_django
from google.genai import types

from tests.recordings.whole_index import PRICE_LISTS, Figures, Models, Ran, cases, models_of
from tests.support import replay
from tests.support.gateway import Caller, Gateway
from tests.support.http import Reply
from tests.support.replay import Exchange

pytestmark = replay.NEEDED

WHOLE, STREAM, COUNT = "generateContent", "streamGenerateContent", "countTokens"
ENDPOINTS = (WHOLE, STREAM, COUNT)
FREE_TOOLS = (("file_search", 0), ("google_search", 0), ("url_context", 0))
#: What our caller is told when the only target answers so.
TOLD = {
    "gemini-generate-429-retry-info": (503, "overloaded_error", "UNAVAILABLE"),
    "gemini-generate-err-400-key": (502, "upstream_error", "UNAVAILABLE"),
    "gemini-generate-err-503": (503, "overloaded_error", "UNAVAILABLE"),
    "gemini-generate-name-suggestion-google": (404, "invalid_request_error", "NOT_FOUND"),
}
#: So many answers at least must satisfy the published schema.
LEAST_VALID = 12

ran = Ran()


@pytest.fixture(scope="module")
def models(upstream: Any, _gateway_session: Gateway, django_db_blocker: pytest_django.DjangoDbBlocker) -> Models:
    """A model for each exchange and price list, whose only provider answers with that exchange."""

    def new_model(exchange: Exchange, price_list: str) -> str:
        return _gateway_session.new_model(
            upstream.base(exchange.id),
            kind="gemini",
            adapter="gemini",
            rates=replace(replay.rates(price_list), server_tools=FREE_TOOLS),
            max_output_tokens=65_536,
        )

    return models_of(_gateway_session, django_db_blocker, ENDPOINTS, new_model)


def ask(caller: Caller, exchange: Exchange, model: str, method: str, query: str = "") -> Reply:
    return caller.send("POST", f"/v1/gemini/v1beta/models/{model}:{method}{query}", exchange.request)


def check_bill(caller: Caller, exchange: Exchange, reply: Reply, price_list: str) -> None:
    books = caller.settled_books()
    [row] = books.log
    billed = exchange.facts["billed"]
    assert str(row["request_id"]) == reply.headers["x-request-id"]
    assert (row["endpoint"], row["status"], row["estimated"]) == ("gemini", 200, False)
    assert (row["input_tokens"], row["output_tokens"]) == (billed["input_tokens"], billed["output_tokens"])
    assert (row["cached_input_tokens"], row["cache_write_tokens"]) == (billed["cache_read"], 0)
    assert (books.held, books.charged, sum(books.transfers)) == (0, exchange.charge(price_list), books.charged)


@pytest.mark.parametrize("price_list", PRICE_LISTS)
@pytest.mark.parametrize("exchange", cases([WHOLE], lambda exchange: exchange.status == 200))
def test_answers(gateway: Gateway, models: Models, exchange: Exchange, price_list: str) -> None:
    caller = gateway.caller(credits=5000)
    reply = ask(caller, exchange, models[exchange.id, price_list], WHOLE)
    assert (reply.status, reply.body) == (200, exchange.body)
    check_bill(caller, exchange, reply, price_list)
    assert float(reply.headers["x-hypereal-credits"]) == (exchange.charge(price_list) or 0) / 1_000_000
    check_types(exchange, [reply.json])
    ran.cases.add((exchange.id, price_list))


@pytest.mark.parametrize("price_list", PRICE_LISTS)
@pytest.mark.parametrize("exchange", cases([STREAM]))
def test_streams(gateway: Gateway, models: Models, exchange: Exchange, price_list: str) -> None:
    """As events to the byte, whatever form the provider chose, and as one list."""
    caller = gateway.caller(credits=5000)
    model = models[exchange.id, price_list]
    reply = ask(caller, exchange, model, STREAM, "?alt=sse")
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"].startswith("text/event-stream")
    sent = pieces_of(exchange)
    if exchange.is_stream:
        assert reply.body == exchange.body
    assert [json.loads(line[6:]) for line in reply.body.splitlines() if line.startswith(b"data: ")] == sent
    check_bill(caller, exchange, reply, price_list)
    other = gateway.caller(credits=5000)
    listed = ask(other, exchange, model, STREAM)
    assert listed.headers["content-type"] == "application/json; charset=utf-8"
    assert listed.json == sent
    check_bill(other, exchange, listed, price_list)
    check_types(exchange, sent)
    ran.cases.add((exchange.id, price_list))


def pieces_of(exchange: Exchange) -> list[Any]:
    if not exchange.is_stream:
        return list(exchange.response["body"])
    lines = exchange.body.replace(b"\r\n", b"\n").split(b"\n")
    return [json.loads(line.partition(b"data:")[2]) for line in lines if line.startswith(b"data:")]


def check_types(exchange: Exchange, pieces: list[Any]) -> None:
    """By the published schema, and by the official library."""
    for piece in pieces:
        types.GenerateContentResponse._from_response(response=snake_named(copy.deepcopy(piece)), kwargs={})
    if all(fits(piece, "GenerateContentResponse") for piece in pieces):
        ran.valid.add(exchange.id)


def snake_named(piece: dict[str, Any]) -> dict[str, Any]:
    """The members that the library takes from an answer, under the names that it gives them."""
    names = {"candidates": "candidates", "usageMetadata": "usage_metadata", "modelVersion": "model_version"}
    names |= {"responseId": "response_id", "promptFeedback": "prompt_feedback"}
    return {ours: piece[theirs] for theirs, ours in names.items() if theirs in piece}


def fits(value: Any, name: str) -> bool:
    schema = {"$ref": f"#/$defs/{name}", "$defs": schemas()["$defs"]}
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


@lru_cache
def schemas() -> dict[str, Any]:
    """The published schema of Google's generateContent, loosened to what real answers hold."""
    path = replay.FOLDER.parents[1] / "specs" / "gemini-generatecontent-schema.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("price_list", PRICE_LISTS)
@pytest.mark.parametrize("exchange", cases([WHOLE], lambda exchange: exchange.status != 200))
def test_failures_cost_nothing_and_are_told_cleanly(
    gateway: Gateway, models: Models, exchange: Exchange, price_list: str
) -> None:
    caller = gateway.caller(credits=500)
    reply = ask(caller, exchange, models[exchange.id, price_list], WHOLE)
    books = caller.settled_books()
    [row] = books.log
    assert (books.charged, books.held, books.holds, books.transfers) == (0, 0, ["voided"], [])
    assert (row["status"], row["error_type"]) == (reply.status, reply.error["type"])
    assert reply.error["code"] == reply.status
    assert (reply.status, reply.error["type"], reply.error["status"]) == TOLD[exchange.id]
    assert ("retry-after" in reply.headers) == (reply.status == 503)
    assert "key" not in reply.error["message"].lower()
    ran.cases.add((exchange.id, price_list))


@pytest.mark.parametrize("price_list", PRICE_LISTS)
@pytest.mark.parametrize("exchange", cases([COUNT]))
def test_counts_of_tokens(gateway: Gateway, models: Models, exchange: Exchange, price_list: str) -> None:
    caller = gateway.caller()
    reply = ask(caller, exchange, models[exchange.id, price_list], COUNT)
    assert (reply.status, reply.body) == (200, exchange.body)
    assert fits(reply.json, "CountTokensResponse")
    assert caller.books().log == []
    ran.cases.add((exchange.id, price_list))


def test_every_exchange_of_the_index_ran(request: pytest.FixtureRequest, figures: Figures) -> None:
    """Last of the file."""
    ran.check(request, figures, "recorded exchanges of Gemini's format", ENDPOINTS, LEAST_VALID)
