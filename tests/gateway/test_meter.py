"""What a call reserves, when it asks for more, and what it costs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from catalog import pricing
from catalog.entries import ModelEntry, PriceEntry
from catalog.pricing import ContextTier, Rates, TokenRates
from core.ids import uuid7
from gateway.dialects.base import Call
from gateway.dialects.openai_chat import DIALECT
from gateway.limits import Limits
from gateway.meter import Meter, output_ceiling
from tests.support.gateway import RATES, price_of
from upstreams.estimate import ceiling_input_tokens
from upstreams.wire import Usage

LIMITS = Limits(step_output_tokens=100, default_output_tokens=500)


def call(**fields: Any) -> Call:
    return DIALECT.parse(
        json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 300}], **fields}).encode()
    )


def model(rates: Rates = RATES, most: int | None = 4000, default: int | None = 1000) -> ModelEntry:
    return ModelEntry(
        uuid7(), "m", "m", "v", ("chat",), datetime.now(UTC), max_output_tokens=most, default_max_output_tokens=default,
        price=PriceEntry(uuid7(), 1, rates),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "most", "default", "expected"),
    [
        ({}, 4000, 1000, 1000), ({}, 4000, None, 4000), ({}, None, None, 500), ({"n": 3}, 4000, 1000, 3000),
        ({"max_tokens": 50}, 4000, 1000, 50), ({"max_tokens": 9000}, 4000, 1000, 4000),
        ({"max_tokens": 9000}, None, None, 9000),
        ({"max_tokens": 3000, "n": 2}, 4000, 1000, 6000), ({"max_tokens": 9000, "n": 2}, 4000, 1000, 8000),
    ],
)  # fmt: skip
def test_the_output_ceiling(fields: dict[str, Any], most: int | None, default: int | None, expected: int) -> None:
    assert output_ceiling(call(**fields), model(most=most, default=default), LIMITS) == expected


def test_a_whole_call_reserves_all_and_a_stream_a_step() -> None:
    whole, stream = call(max_tokens=1000), call(max_tokens=1000, stream=True)
    reserved = Meter.of(whole, model(), LIMITS).reserved_microcredits
    assert reserved == ceiling_input_tokens(whole.body) * 1000 + 1000 * 4000
    meter = Meter.of(stream, model(), LIMITS)
    assert meter.granted_tokens == 100
    assert meter.reserved_microcredits == ceiling_input_tokens(stream.body) * 1000 + 100 * 4000
    assert meter.extend_above_tokens == 50
    assert meter.next_tokens(51) == 200
    assert meter.next_tokens(730) == 830
    meter.granted_tokens = 200
    assert meter.extend_above_tokens == 150
    assert meter.microcredits_for(200) - meter.microcredits_for(100) == 100 * 4000


def test_a_short_stream_asks_for_more_only_beyond_its_ceiling() -> None:
    meter = Meter.of(call(max_tokens=60, stream=True), model(), LIMITS)
    assert (meter.granted_tokens, meter.extend_above_tokens) == (60, 60)


def test_the_dearest_rates_are_kept_by_price_and_context() -> None:
    rates = Rates(tokens=RATES.tokens, long_context=(ContextTier(200, TokenRates(input=9_000_000_000, output=1)),))
    entry = model(rates)
    for fields in ({}, {"user": "y" * 900}, {}):
        this = call(max_tokens=10, **fields)
        expected = pricing.ceiling(rates, ceiling_input_tokens(this.body), 10)
        assert Meter.of(this, entry, LIMITS).reserved_microcredits == expected


def test_charges_and_what_the_cache_saved() -> None:
    meter = Meter.of(call(), model(), LIMITS)
    usage = Usage(input_tokens=100, cached_input_tokens=60, output_tokens=5)
    charged = meter.charge(usage).amount_microcredits
    assert charged == price_of(100, 5, cached=60)
    assert meter.saved_microcredits(usage, charged) == price_of(100, 5) - charged
    assert meter.saved_microcredits(Usage(input_tokens=100), 1) == 0
