"""What a call costs, to the microcredit (C-CHAT-4, C-MSG-5, C-IMG-2)."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.pricing import (
    ContextTier,
    NotPriced,
    Rates,
    ServiceTier,
    TokenRates,
    Units,
    blended,
    ceiling,
    charge,
    scaled,
    split_input,
    together,
    unit_ceiling,
)
from tests.catalog.values import tokens
from upstreams.wire import Usage

MTOK = 1_000_000

SONNET = Rates(tokens=tokens(input="3", cached_input="0.3", cache_write_5m="3.75", cache_write_1h="6", output="15"))
TIERED = Rates(
    tokens=tokens(input="2.5", cached_input="0.25", output="15"),
    long_context=(ContextTier(272_000, tokens(input="5", cached_input="0.5", output="22.5")),),
    service_tiers=(
        ServiceTier("flex", tokens(input="1.25", cached_input="0.125", output="7.5")),
        ServiceTier("priority", tokens(input="5", cached_input="0.5", output="30")),
    ),
    server_tools=(("web_search_call", 1_000_000), ("tool_search_call", 0)),
)
PICTURES = Rates(unit="image", unit_prices=(("1K", 8_000_000), ("4K", 32_000_000)))


@pytest.mark.parametrize(
    ("usage", "microcredits"),
    [
        (Usage(), 0),
        (Usage(input_tokens=1_000, output_tokens=100), 450_000),
        (Usage(input_tokens=1_000, cached_input_tokens=1_000), 30_000),
        (Usage(input_tokens=1_000, cache_write_5m_tokens=400, cache_write_1h_tokens=600), 150_000 + 360_000),
        # The four input buckets at once: 21 plain, 1,200 read, 1,300 and 4,000 written.
        (
            Usage(
                input_tokens=6_521,
                cached_input_tokens=1_200,
                cache_write_5m_tokens=1_300,
                cache_write_1h_tokens=4_000,
                output_tokens=40,
            ),
            2_989_800,
        ),
    ],
)
def test_it_charges_each_bucket_at_its_own_rate(usage: Usage, microcredits: int) -> None:
    assert charge(SONNET, usage).amount_microcredits == microcredits


def test_one_rounding_half_up_at_the_end() -> None:
    half = Rates(tokens=TokenRates(input=500_000, output=500_000))
    assert charge(half, Usage(input_tokens=1)).amount_microcredits == 1  # 0.5 goes up
    assert charge(half, Usage(input_tokens=1, output_tokens=1)).amount_microcredits == 1  # 0.5 + 0.5, not 1 + 1
    less = Rates(tokens=TokenRates(input=499_999, output=1))
    assert charge(less, Usage(input_tokens=1)).amount_microcredits == 0


@pytest.mark.parametrize(("input_tokens", "above", "rate"), [(272_000, 0, 250), (272_001, 272_000, 500)])
def test_a_long_context_moves_the_whole_call(input_tokens: int, above: int, rate: int) -> None:
    cost = charge(TIERED, Usage(input_tokens=input_tokens))
    assert (cost.above_input_tokens, cost.amount_microcredits) == (above, input_tokens * rate)


def test_the_tier_counts_cached_input_too() -> None:
    cost = charge(TIERED, Usage(input_tokens=300_000, cached_input_tokens=299_000))
    assert cost.amount_microcredits == 1_000 * 500 + 299_000 * 50


@pytest.mark.parametrize(
    ("tier", "microcredits", "named"),
    [
        (None, 1_000 * 250, None),
        ("default", 1_000 * 250, None),
        ("auto", 1_000 * 250, None),
        ("priority", 1_000 * 500, "priority"),
        ("flex", 1_000 * 125, "flex"),
    ],
)
def test_the_tier_that_the_answer_names_is_billed(tier: str | None, microcredits: int, named: str | None) -> None:
    cost = charge(TIERED, Usage(input_tokens=1_000, service_tier=tier))
    assert (cost.amount_microcredits, cost.service_tier, cost.unpriced) == (microcredits, named, ())


def test_an_unknown_service_tier_is_billed_as_usual_and_made_seen() -> None:
    cost = charge(SONNET, Usage(input_tokens=1_000, service_tier="priority"))
    assert (cost.amount_microcredits, cost.unpriced) == (300_000, ("service_tier:priority",))
    assert not SONNET.knows_service_tier("priority")
    assert TIERED.knows_service_tier("priority")
    assert SONNET.knows_service_tier("standard")


def test_long_context_and_speed_class_together_cost_the_dearer() -> None:
    long_flex = Usage(input_tokens=300_000, output_tokens=10, service_tier="flex")
    assert charge(TIERED, long_flex).amount_microcredits == 300_000 * 500 + 10 * 2_250
    long_priority = Usage(input_tokens=300_000, output_tokens=10, service_tier="priority")
    assert charge(TIERED, long_priority).amount_microcredits == 300_000 * 500 + 10 * 3_000


def test_a_table_that_leaves_a_bucket_out_does_not_make_it_cheaper() -> None:
    rates = Rates(
        tokens=tokens(input="0.5", audio_input="1", output="3"),
        service_tiers=(ServiceTier("fast", tokens(input="0.9", output="5.4")),),
    )
    sound = Usage(input_tokens=1_000, audio_input_tokens=1_000, service_tier="fast")
    assert charge(rates, sound).amount_microcredits == 1_000 * 100


def test_server_tools_cost_per_use_and_unpriced_ones_are_named() -> None:
    calls = (("web_search_call", 3), ("tool_search_call", 2), ("image_generation_call", 1))
    cost = charge(TIERED, Usage(input_tokens=4, server_tool_calls=calls))
    assert cost.amount_microcredits == 3_000_000 + 1_000
    assert cost.unpriced == ("image_generation_call",)
    assert [line.bucket for line in cost.lines] == ["input", "web_search_call", "tool_search_call"]


@pytest.mark.parametrize(
    ("usage", "buckets"),
    [
        # Read and written are the same tokens (the write is a storage fee): 7 plain, 2,161 read, nothing written.
        (Usage(input_tokens=2_168, cached_input_tokens=2_161, cache_write_5m_tokens=2_161), (7, 2_161, 0, 0)),
        (Usage(input_tokens=10, cache_write_5m_tokens=12), (0, 0, 10, 0)),
        (Usage(input_tokens=10, cache_write_5m_tokens=8, cache_write_1h_tokens=8), (0, 0, 2, 8)),
        (Usage(input_tokens=10, cached_input_tokens=40), (0, 40, 0, 0)),
        (Usage(input_tokens=-5, cached_input_tokens=-1, cache_write_5m_tokens=-2), (0, 0, 0, 0)),
    ],
)
def test_contradictory_counts_never_go_negative(usage: Usage, buckets: tuple[int, int, int, int]) -> None:
    split = split_input(usage)
    names = ("input", "cached_input", "cache_write_5m", "cache_write_1h")
    assert tuple(split[name] for name in names) == buckets


def test_a_missing_cached_rate_is_the_plain_one() -> None:
    plain = Rates(tokens=tokens(input="2", output="4"))
    assert charge(plain, Usage(input_tokens=100, cached_input_tokens=90)).amount_microcredits == 100 * 200
    assert plain.tokens.of("cache_write_1h") == plain.tokens.input


def test_sound_has_its_own_rate() -> None:
    rates = Rates(tokens=tokens(input="2.5", output="10", audio_input="32", audio_output="64"))
    usage = Usage(input_tokens=30, audio_input_tokens=20, output_tokens=7, audio_output_tokens=5)
    assert charge(rates, usage).amount_microcredits == 10 * 250 + 20 * 3_200 + 2 * 1_000 + 5 * 6_400


def test_parts_under_several_prices_are_rounded_once() -> None:
    half = Rates(tokens=TokenRates(input=500_000, output=0))
    parts = [charge(half, Usage(1)), charge(half, Usage(1), None)]
    assert [part.amount_microcredits for part in parts] == [1, 1]
    whole = together(parts)
    assert whole.amount_microcredits == 1
    assert whole.lines == parts[0].lines + parts[1].lines


def test_media_cost_their_units() -> None:
    cost = charge(PICTURES, units=Units(3, "1K"))
    assert cost.amount_microcredits == 24_000_000 == unit_ceiling(PICTURES, Units(3, "1K"))
    # A flat price covers the tokens that the upstream counts beside.
    assert charge(PICTURES, Usage(input_tokens=18, output_tokens=2_112), Units(0, "1K")).amount_microcredits == 0
    with pytest.raises(NotPriced):
        charge(PICTURES, units=Units(1, "2K"))


def test_a_price_that_is_not_set_is_not_zero() -> None:
    assert not Rates().is_set
    assert not Rates(tokens=TokenRates(input=0)).is_set
    assert Rates(tokens=TokenRates(input=0, output=0)).is_set
    assert blended(Rates()) is None


def test_a_discount_rounds_each_rate() -> None:
    rates = Rates(tokens=TokenRates(input=5, output=15), unit="clip", unit_prices=(("default", 7),))
    cheaper = scaled(rates, 9_000)
    assert (cheaper.tokens.input, cheaper.tokens.output, cheaper.unit_prices) == (5, 14, (("default", 6),))
    assert scaled(TIERED, 10_000) == TIERED


# -- Properties -------------------------------------------------------------------------------------------------------

amounts = st.integers(0, 10**12)
counts = st.integers(0, 2_000_000)
optional = st.none() | amounts


@st.composite
def token_rates(draw: st.DrawFn) -> TokenRates:
    return TokenRates(
        input=draw(amounts),
        cached_input=draw(optional),
        cache_write_5m=draw(optional),
        cache_write_1h=draw(optional),
        output=draw(amounts),
        audio_input=draw(optional),
        audio_output=draw(optional),
    )


@st.composite
def any_rates(draw: st.DrawFn) -> Rates:
    thresholds = draw(st.lists(st.integers(1, 1_000_000), unique=True, max_size=3))
    return Rates(
        tokens=draw(token_rates()),
        long_context=tuple(ContextTier(above, draw(token_rates())) for above in sorted(thresholds)),
        service_tiers=tuple(ServiceTier(name, draw(token_rates())) for name in ("flex", "priority")),
        server_tools=(("web_search_call", draw(amounts)),),
    )


@st.composite
def consistent_usage(draw: st.DrawFn) -> Usage:
    cached, short, long, audio, plain = (draw(counts) for _ in range(5))
    output = draw(counts)
    return Usage(
        input_tokens=cached + short + long + audio + plain,
        cached_input_tokens=cached,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        audio_input_tokens=audio,
        output_tokens=output,
        audio_output_tokens=draw(st.integers(0, output)),
        service_tier=draw(st.sampled_from([None, "default", "flex", "priority", "unknown"])),
        server_tool_calls=(("web_search_call", draw(st.integers(0, 5))),),
    )


@given(any_rates(), consistent_usage())
def test_the_lines_add_up_to_the_exact_sum_that_is_rounded_once(rates: Rates, usage: Usage) -> None:
    cost = charge(rates, usage)
    exact = sum((Fraction(line.quantity) * line.price_microcredits / line.per for line in cost.lines), Fraction())
    assert exact == sum((line.exact_microcredits for line in cost.lines), Fraction())
    assert cost.amount_microcredits == (exact + Fraction(1, 2)).__floor__()
    inside = sum(line.quantity for line in cost.lines if line.per == MTOK)
    assert inside == usage.input_tokens + usage.output_tokens


@given(token_rates(), consistent_usage(), counts)
def test_more_output_never_costs_less(table: TokenRates, usage: Usage, more: int) -> None:
    rates = Rates(tokens=table)
    longer = Usage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens + more)
    shorter = Usage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
    assert charge(rates, longer).amount_microcredits >= charge(rates, shorter).amount_microcredits


@given(token_rates(), counts, counts)
def test_more_input_never_costs_less(table: TokenRates, fewer: int, more: int) -> None:
    rates = Rates(tokens=table)
    small, large = Usage(input_tokens=fewer), Usage(input_tokens=fewer + more)
    assert charge(rates, large).amount_microcredits >= charge(rates, small).amount_microcredits


@given(any_rates(), consistent_usage(), counts, counts)
def test_a_reservation_covers_every_call_within_it(rates: Rates, usage: Usage, spare_in: int, spare_out: int) -> None:
    known = frozenset({"flex", "priority"})
    held = ceiling(rates, usage.input_tokens + spare_in, usage.output_tokens + spare_out, known)
    without_tools = Usage(
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        cache_write_5m_tokens=usage.cache_write_5m_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        audio_input_tokens=usage.audio_input_tokens,
        output_tokens=usage.output_tokens,
        audio_output_tokens=usage.audio_output_tokens,
        service_tier=usage.service_tier,
    )
    assert charge(rates, without_tools).amount_microcredits <= held


@given(st.builds(Usage, *[st.integers(-10, 3_000_000)] * 6))
def test_whatever_is_reported_no_charge_is_negative(usage: Usage) -> None:
    assert charge(TIERED, usage).amount_microcredits >= 0
    assert all(line.quantity > 0 for line in charge(TIERED, usage).lines)
