"""Every recorded response and embedding, through the relay, the JSON reader and the collector, to the billed tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from catalog import pricing
from tests.support import replay
from tests.support.replay import Exchange
from upstreams import classify, embeddings, responses, sse
from upstreams.errors import AccountRefused, UpstreamError, UpstreamRefusal
from upstreams.responses_relay import Relay
from upstreams.wire import Usage

pytestmark = replay.NEEDED

PRICE_LISTS = ("A", "B")


def cases(endpoint: str = "responses", *, stream: bool = False, failed: bool = False) -> list[Any]:
    return [
        pytest.param(exchange, id=exchange.id)
        for exchange in replay.exchanges(endpoint)
        if exchange.is_stream is stream and (exchange.status != 200) is failed
    ]


def check(usage: Usage | None, exchange: Exchange) -> None:
    """Without usage upstream nothing is expected but that nobody invents any."""
    billed = exchange.facts["billed"]
    if billed is None:
        assert usage is None or usage.estimated
        return
    assert usage is not None and not usage.estimated
    assert (usage.input_tokens, usage.output_tokens) == (billed["input_tokens"], billed["output_tokens"])
    if exchange.facts["endpoint"] == "responses":
        assert (usage.uncached_input_tokens, usage.cached_input_tokens) == (
            billed["input_uncached"],
            billed["cache_read"],
        )
        assert usage.cache_write_5m_tokens == billed.get("cache_write", 0)
        assert usage.reasoning_tokens == billed["reasoning_in_output"]
        assert dict(usage.server_tool_calls) == billed.get("server_tool_calls", {})
    for price_list in PRICE_LISTS:
        assert pricing.charge(replay.rates(price_list), usage).amount_microcredits == exchange.charge(price_list)


@pytest.mark.parametrize("exchange", cases())
def test_json_answers(exchange: Exchange) -> None:
    check(responses.complete(exchange.body), exchange)


@pytest.mark.parametrize("exchange", cases())
def test_json_answers_as_streams(exchange: Exchange) -> None:
    answer = exchange.response["body"]
    if answer["status"] == "queued":
        return
    stream = responses.as_stream(exchange.body)
    relay = Relay()
    sent = b"".join([*relay.feed(stream), *relay.close()])
    assert sent == stream
    check(relay.usage, exchange)
    assert json.loads(responses.collect(stream)) == answer
    kinds = [json.loads(sse.data_of(event) or b"")["type"] for event in sse.split(stream)]
    assert kinds.count("response.output_item.done") == len(answer["output"])
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")


@pytest.mark.parametrize("step", [1, 7, 1000, 10**7])
@pytest.mark.parametrize("exchange", cases(stream=True))
def test_streams(exchange: Exchange, step: int) -> None:
    stream, relay = exchange.body, Relay()
    sent = b"".join(b"".join(relay.feed(stream[at : at + step])) for at in range(0, len(stream), step))
    sent += b"".join(relay.end_of_stream())
    assert stream.startswith(sent), "what goes through goes through unchanged"
    if "no_usage" in exchange.tags:  # it fails behind its beginnings: nothing went out, another target may serve
        assert isinstance(relay.error, AccountRefused)
        assert (sent, relay.first_content_seen, relay.finished) == (b"", False, False)
        return
    assert (relay.error, relay.finished, relay.done) == (None, True, True)
    assert relay.first_content_seen
    sent += b"".join(relay.close())
    assert sent == stream.removesuffix(b"data: [DONE]\n\n")
    check(relay.usage, exchange)


@pytest.mark.parametrize("exchange", cases(stream=True))
def test_streams_collected_into_json(exchange: Exchange) -> None:
    if "no_usage" in exchange.tags:
        with pytest.raises(UpstreamError):
            responses.collect(exchange.body)
        return
    answer = responses.collect(exchange.body)
    assert answer in exchange.body, "the response's own bytes"
    check(responses.complete(answer), exchange)


@pytest.mark.parametrize("exchange", cases(stream=True))
def test_the_estimate_while_it_runs_comes_near(exchange: Exchange) -> None:
    billed = exchange.facts["billed"]
    relay = Relay()
    for event in sse.split(exchange.body)[:-1]:
        relay.feed(event)
    if billed is None or relay.usage is not None:
        return
    visible = billed["output_tokens"] - billed["reasoning_in_output"]
    assert 0 <= relay.output_tokens_estimate <= 4 * max(visible, billed["output_tokens"], 8)


@pytest.mark.parametrize("endpoint", ["responses", "embeddings"])
def test_failures(endpoint: str) -> None:
    for case in cases(endpoint, failed=True):
        [exchange] = case.values
        failure = classify.refuse(exchange.status, exchange.response["headers"], exchange.body)
        code = exchange.response["body"]["error"]["code"]
        if code == "insufficient_quota":
            assert isinstance(failure, AccountRefused)
        else:
            assert isinstance(failure, UpstreamRefusal)
            assert (failure.status, failure.code) == (exchange.status, code)


@pytest.mark.parametrize("exchange", cases("embeddings"))
def test_embeddings(exchange: Exchange) -> None:
    check(embeddings.complete(exchange.body), exchange)
