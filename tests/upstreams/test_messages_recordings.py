"""Every recorded message, through the relay, the JSON reader and the collector, to the billed tokens and charge."""

from __future__ import annotations

import json
from typing import Any

import pytest

from catalog import pricing
from tests.support import replay
from tests.support.replay import Exchange
from upstreams import anthropic, classify, messages_collect
from upstreams.errors import AccountRefused, Retryable, UpstreamError, UpstreamRefusal
from upstreams.messages_relay import Relay
from upstreams.wire import Usage

pytestmark = replay.NEEDED

COUNTS = ("input_tokens", "input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "output_tokens")


def cases(*, stream: bool | None = None, failed: bool = False, endpoint: str = "messages") -> list[Any]:
    return [
        pytest.param(exchange, id=exchange.id)
        for exchange in replay.exchanges(endpoint)
        if (exchange.status != 200) is failed and stream in (None, exchange.is_stream)
    ]


def counts_of(usage: Usage) -> dict[str, int]:
    """In the index's words; it tells what ran on another model apart."""
    parts = [part for _, part in usage.elsewhere]
    counts = (
        usage.input_tokens - sum(part.input_tokens for part in parts),
        usage.uncached_input_tokens - sum(part.uncached_input_tokens for part in parts),
        usage.cached_input_tokens - sum(part.cached_input_tokens for part in parts),
        usage.cache_write_5m_tokens - sum(part.cache_write_5m_tokens for part in parts),
        usage.cache_write_1h_tokens - sum(part.cache_write_1h_tokens for part in parts),
        usage.output_tokens - sum(part.output_tokens for part in parts),
    )
    return dict(zip(COUNTS, counts, strict=True))


def check(usage: Usage, exchange: Exchange) -> None:
    billed = exchange.facts["billed"]
    assert counts_of(usage) == {name: billed[name] for name in COUNTS}
    assert not usage.estimated
    assert dict(usage.server_tool_calls).items() >= billed.get("server_tool_calls", {}).items()
    ran = billed.get("iterations", [])
    advised = [part for part in ran if part["type"] == "advisor_message"]
    assert [(name, part.input_tokens, part.output_tokens) for name, part in usage.elsewhere] == [
        (part["model"], part["input_uncached"], part["output_tokens"]) for part in advised
    ]
    assert usage.model == next((part["model"] for part in ran if part["type"] == "fallback_message"), "")
    if "charge_microcredits" in exchange.facts:
        for price_list in ("A", "B"):
            charge = pricing.charge(replay.rates(price_list), usage)
            assert charge.amount_microcredits == exchange.charge(price_list)


@pytest.mark.parametrize("exchange", cases(stream=False))
def test_json_answers(exchange: Exchange) -> None:
    check(anthropic.complete(exchange.body), exchange)


@pytest.mark.parametrize("step", [1, 37, 4096, 10**6])
@pytest.mark.parametrize("exchange", cases(stream=True))
def test_streams(exchange: Exchange, step: int) -> None:
    stream = exchange.body
    relay = Relay()
    sent = b"".join(b"".join(relay.feed(stream[at : at + step])) for at in range(0, len(stream), step))
    sent += b"".join(relay.end_of_stream())
    assert stream.startswith(sent), "what goes through goes through unchanged"
    if "error_in_stream" in exchange.tags:
        assert isinstance(relay.error, UpstreamError)
        usage = relay.billable_usage(0)
        assert (usage.estimated, usage.input_tokens) == (True, exchange.facts["billed"]["input_tokens"])
        assert usage.output_tokens > 0
        return
    assert relay.error is None
    assert relay.finished
    check(relay.billable_usage(0), exchange)
    assert (sent + b"".join(relay.close())).rstrip(b"\n") == stream.rstrip(b"\n")
    assert (
        0 < relay.output_tokens_estimate <= max(1, relay.billable_usage(0).output_tokens) or "refusal" in exchange.tags
    )


@pytest.mark.parametrize("exchange", cases(stream=True))
def test_streams_collected_into_json(exchange: Exchange) -> None:
    if "error_in_stream" in exchange.tags:
        with pytest.raises(UpstreamError):
            messages_collect.collect(exchange.body)
        return
    answer = messages_collect.collect(exchange.body)
    check(anthropic.complete(answer), exchange)
    message = json.loads(answer)
    assert message["stop_reason"]
    assert message["content"] or "refusal" in exchange.tags


@pytest.mark.parametrize("exchange", [case for case in cases() if "cut" not in case.values[0].tags])
def test_answers_unfolded_and_folded_again(exchange: Exchange) -> None:
    whole = messages_collect.collect(exchange.body) if exchange.is_stream else exchange.body
    again = json.loads(messages_collect.collect(messages_collect.as_stream(whole)))
    assert again == json.loads(whole)


@pytest.mark.parametrize("exchange", [*cases(failed=True), *cases(failed=True, endpoint="messages.count_tokens")])
def test_failures(exchange: Exchange) -> None:
    failure = classify.refuse(exchange.status, exchange.response["headers"], exchange.body)
    if "retryable" in exchange.tags:
        assert isinstance(failure, Retryable)
    elif exchange.status == 401:
        assert isinstance(failure, AccountRefused)
    else:
        assert isinstance(failure, UpstreamRefusal)
        assert failure.status == exchange.status


@pytest.mark.parametrize("exchange", cases(endpoint="messages.count_tokens"))
def test_counts(exchange: Exchange) -> None:
    anthropic.counted(exchange.body)
