"""Recorded exchanges beside the main formats: compaction, counting a prompt, Google's batches of embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support import replay
from tests.support.gateway import Gateway
from tests.support.replay import Exchange

pytestmark = replay.NEEDED

ENDPOINTS = ("responses.compact", "responses.input_tokens", "batchEmbedContents")
ran: set[tuple[str, str]] = set()


def only(endpoint: str) -> list[Any]:
    return [pytest.param(exchange, id=exchange.id) for exchange in replay.exchanges(endpoint)]


@pytest.mark.parametrize("price_list", ["A", "B"])
@pytest.mark.parametrize("exchange", only("responses.compact"))
def test_compactions(gateway: Gateway, upstream: Any, exchange: Exchange, price_list: str) -> None:
    rates = replay.rates(price_list)
    model = gateway.model(upstream.base(exchange.id), kind="responses", rates=rates, max_output_tokens=None)
    caller = gateway.caller()
    reply = caller.send("POST", "/v1/responses/compact", {**exchange.request, "model": model})
    assert (reply.status, reply.body) == (200, exchange.body)
    books = caller.settled_books()
    assert (books.charged, books.held) == (exchange.charge(price_list), 0)
    ran.add((exchange.facts["endpoint"], price_list))


@pytest.mark.parametrize("exchange", only("responses.input_tokens"))
def test_counts(gateway: Gateway, upstream: Any, exchange: Exchange) -> None:
    model, caller = gateway.model(upstream.base(exchange.id), kind="responses"), gateway.caller()
    reply = caller.send("POST", "/v1/responses/input_tokens", {**exchange.request, "model": model})
    assert (reply.status, reply.body) == (200, exchange.body)
    assert (caller.books().log, caller.books().transfers) == ([], [])
    ran.add((exchange.facts["endpoint"], ""))


@pytest.mark.parametrize("exchange", only("batchEmbedContents"))
def test_batches_of_embeddings(gateway: Gateway, upstream: Any, exchange: Exchange) -> None:
    """The recorded one fails: what the provider says of its own name of the model is not the caller's business."""
    columns: dict[str, Any] = {"max_output_tokens": None, "default_max_output_tokens": None}
    model = gateway.model(upstream.base(exchange.id), kind="embeddings", adapter="gemini", **columns)
    caller = gateway.caller()
    [asked] = exchange.request["requests"]
    body = {"requests": [{**asked, "model": f"models/{model}"}]}
    reply = caller.send("POST", f"/v1/gemini/v1beta/models/{model}:batchEmbedContents", body)
    books = caller.settled_books()
    assert (reply.status, books.charged, books.held) == (books.log[0]["status"], 0, 0)
    assert reply.status in (404, 502)
    ran.add((exchange.facts["endpoint"], ""))


def test_all_of_them_ran(request: pytest.FixtureRequest, figures: Callable[[str], None]) -> None:
    """Last of the file. A run that was narrowed to single cases proves nothing here."""
    listed = [entry for entry in replay.index()["fixtures"] if entry["endpoint"] in ENDPOINTS]
    collected = sum(item.path == request.node.path for item in request.session.items)
    if collected <= len(listed):
        pytest.skip("the run is narrowed")
    figures(f"recorded compactions, counts and batches of embeddings: {len(listed)} exchanges")
    assert {endpoint for endpoint, _ in ran} == set(ENDPOINTS)
