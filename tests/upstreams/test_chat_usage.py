"""Each way in which a provider words its token counts, and what is billed of it."""

from __future__ import annotations

from typing import Any

import pytest

from upstreams.chat_usage import read_usage, usage_block, usage_shape
from upstreams.wire import Usage

CASES: list[tuple[str, dict[str, Any], Usage]] = [
    (
        "plain",
        {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
        Usage(input_tokens=10, output_tokens=4),
    ),
    (
        "cached tokens are a part of the input",
        {"prompt_tokens": 100, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 64}},
        Usage(input_tokens=100, cached_input_tokens=64, output_tokens=4),
    ),
    (
        "cache hits by DeepSeek's name",
        {"prompt_tokens": 100, "completion_tokens": 4, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36},
        Usage(input_tokens=100, cached_input_tokens=64, output_tokens=4),
    ),
    (
        "cached tokens at the top level",
        {"prompt_tokens": 100, "completion_tokens": 4, "cached_tokens": 50},
        Usage(input_tokens=100, cached_input_tokens=50, output_tokens=4),
    ),
    (
        "the Responses words",
        {"input_tokens": 100, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 50}},
        Usage(input_tokens=100, cached_input_tokens=50, output_tokens=4),
    ),
    (
        "tokens written to a cache are a part of the input",
        {"prompt_tokens": 4000, "completion_tokens": 4, "prompt_tokens_details": {"cache_write_tokens": 3900}},
        Usage(input_tokens=4000, cache_write_5m_tokens=3900, output_tokens=4),
    ),
    (
        "written for an hour",
        {
            "prompt_tokens": 4000,
            "completion_tokens": 4,
            "cache_creation_input_tokens": 3900,
            "cache_creation": {"ephemeral_5m_input_tokens": 900, "ephemeral_1h_input_tokens": 3000},
        },
        Usage(input_tokens=4000, cache_write_5m_tokens=900, cache_write_1h_tokens=3000, output_tokens=4),
    ),
    (
        "a storage fee for tokens that were read is no second input",
        {"prompt_tokens": 2000, "completion_tokens": 4,
         "prompt_tokens_details": {"cached_tokens": 1990, "cache_write_tokens": 1990}},
        Usage(input_tokens=2000, cached_input_tokens=1990, output_tokens=4),
    ),
    (
        "more cached than there was input",
        {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 64}},
        Usage(input_tokens=10, cached_input_tokens=10, output_tokens=4),
    ),
    (
        "reasoning inside the output",
        {"prompt_tokens": 10, "completion_tokens": 40, "total_tokens": 50,
         "completion_tokens_details": {"reasoning_tokens": 30}},
        Usage(input_tokens=10, output_tokens=40, reasoning_tokens=30),
    ),
    (
        "reasoning beside the output",
        {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 44,
         "completion_tokens_details": {"reasoning_tokens": 30}},
        Usage(input_tokens=10, output_tokens=34, reasoning_tokens=30),
    ),
    (
        "reasoning that only the total betrays",
        {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109},
        Usage(input_tokens=35, output_tokens=74, reasoning_tokens=62),
    ),
    (
        "more reasoning than output",
        {"prompt_tokens": 43, "completion_tokens": 10, "total_tokens": 53,
         "completion_tokens_details": {"reasoning_tokens": 11}},
        Usage(input_tokens=43, output_tokens=10, reasoning_tokens=11),
    ),
    (
        "tools that the provider ran",
        {"prompt_tokens": 10, "completion_tokens": 4, "server_tool_use": {"web_search_requests": 2, "other": 0},
         "num_sources_used": 3},
        Usage(input_tokens=10, output_tokens=4, server_tool_calls=(("web_search", 2), ("search_source", 3))),
    ),
    (
        "the same tool under both of OpenRouter's names counts once",
        {"prompt_tokens": 10, "completion_tokens": 4, "server_tool_use": {"web_search_requests": 2},
         "server_tool_use_details": {"web_search_requests": 2}},
        Usage(input_tokens=10, output_tokens=4, server_tool_calls=(("web_search", 2),)),
    ),
    (
        "sound, as the part of each side that it was",
        {"prompt_tokens": 90, "completion_tokens": 40, "completion_tokens_details": {"audio_tokens": 33},
         "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": 50,
                                   "cached_tokens_details": {"audio_tokens": 20}}},
        Usage(input_tokens=90, cached_input_tokens=30, output_tokens=40, audio_input_tokens=30, audio_output_tokens=33),
    ),
    (
        "more sound than there was input",
        {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 9}},
        Usage(input_tokens=10, cached_input_tokens=5, output_tokens=4, audio_input_tokens=5),
    ),
    (
        "nulls, texts and negative numbers count nothing",
        {"prompt_tokens": 10, "completion_tokens": None, "total_tokens": "14", "prompt_tokens_details": None,
         "cached_tokens": -5, "completion_tokens_details": {"reasoning_tokens": True}},
        Usage(input_tokens=10),
    ),
    (
        "whole numbers as floats",
        {"prompt_tokens": 10.0, "completion_tokens": 4.0},
        Usage(input_tokens=10, output_tokens=4),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("block", "usage"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_usage(block: dict[str, Any], usage: Usage) -> None:
    assert read_usage(block) == usage
    assert usage.uncached_input_tokens >= 0


def test_uncached_is_what_neither_cache_took() -> None:
    usage = Usage(input_tokens=100, cached_input_tokens=30, cache_write_5m_tokens=20, cache_write_1h_tokens=10)
    assert usage.uncached_input_tokens == 40
    assert Usage(input_tokens=10, cached_input_tokens=30).uncached_input_tokens == 0


def test_the_block_may_hide() -> None:
    assert usage_block({"usage": None, "x_groq": {"usage": {"prompt_tokens": 1}}}) == {"prompt_tokens": 1}
    assert usage_block({"usage": {"prompt_tokens": 2}, "x_groq": {"usage": {"prompt_tokens": 1}}}) == {
        "prompt_tokens": 2
    }
    assert usage_block({"usage": "none", "x_groq": 4}) is None


def test_the_shape_of_an_own_block_reads_back() -> None:
    usage = Usage(input_tokens=100, cached_input_tokens=30, output_tokens=9, reasoning_tokens=2)
    assert read_usage(usage_shape(usage)) == usage
