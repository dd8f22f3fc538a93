"""What a messages usage block bills: additive counts, totals that replace, passes that the top level leaves out."""

from __future__ import annotations

from typing import Any

import pytest

from upstreams.messages_usage import merge, read_usage, usage_shape
from upstreams.wire import Usage

SPLIT = {"cache_creation": {"ephemeral_5m_input_tokens": 70, "ephemeral_1h_input_tokens": 30}}


def one(kind: str, fresh: int, output: int, **more: Any) -> dict[str, Any]:
    return {"type": kind, "input_tokens": fresh, "output_tokens": output, **more}


@pytest.mark.parametrize(
    ("block", "usage"),
    [
        ({"input_tokens": 7, "output_tokens": 3}, Usage(7, output_tokens=3)),
        (
            {"input_tokens": 7, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 100, **SPLIT},
            Usage(127, 20, 70, 30),
        ),
        ({"cache_creation_input_tokens": 150, **SPLIT}, Usage(150, 0, 120, 30)),
        ({"cache_creation_input_tokens": 10, **SPLIT}, Usage(10, 0, 0, 10)),
        ({"input_tokens": None, "cache_read_input_tokens": -5, "output_tokens": "9"}, Usage()),
        (
            {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}},
            Usage(output_tokens=9, reasoning_tokens=4),
        ),
        ({"input_tokens": 1, "service_tier": "priority"}, Usage(1, service_tier="priority")),
        ({"input_tokens": 1, "service_tier": "standard", "speed": "fast"}, Usage(1, service_tier="fast")),
        ({"input_tokens": 1, "speed": "standard", "inference_geo": "us"}, Usage(1, service_tier="inference_geo_us")),
        ({"input_tokens": 1, "inference_geo": "not_available"}, Usage(1)),
        (
            {"input_tokens": 1, "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0}},
            Usage(1, server_tool_calls=(("web_search_requests", 2),)),
        ),
        (
            {"input_tokens": 5, "output_tokens": 2, "iterations": [one("compaction", 100, 20), one("message", 5, 2)]},
            Usage(105, output_tokens=22),
        ),
        (
            {"input_tokens": 5, "output_tokens": 2, "iterations": [one("message", 3, 1), one("message", 2, 1)]},
            Usage(5, output_tokens=2),
        ),
        (
            {
                "input_tokens": 5,
                "iterations": [one("message", 4, 0, model="a"), one("fallback_message", 5, 0, model="b")],
            },
            Usage(5, model="b"),
        ),
        ({"input_tokens": 5, "iterations": [one("something_new", 4, 1)]}, Usage(9, output_tokens=1)),
        ({"input_tokens": 5, "iterations": {"a": 1}, "server_tool_use": [], "cache_creation": 3}, Usage(5)),
    ],
    ids=str,
)
def test_blocks(block: dict[str, Any], usage: Usage) -> None:
    assert read_usage(block) == usage


def test_an_advisor_ran_on_a_model_of_its_own() -> None:
    advised = one("advisor_message", 60, 8, model="claude-opus-9", cache_read_input_tokens=40)
    usage = read_usage({"input_tokens": 5, "output_tokens": 2, "iterations": [one("message", 5, 2), advised]})
    part = Usage(100, 40, output_tokens=8)
    assert usage == Usage(105, 40, output_tokens=10, elsewhere=(("claude-opus-9", part),))


def test_the_split_of_iterations_counts_where_the_top_level_has_none() -> None:
    block = {"cache_creation_input_tokens": 100, "iterations": [one("message", 0, 0, **SPLIT)]}
    assert read_usage(block) == Usage(100, 0, 70, 30)


def test_code_that_ran_in_a_container_is_one_use_unless_a_search_ran_it() -> None:
    assert read_usage({"input_tokens": 1}, in_container=True).server_tool_calls == (("code_execution", 1),)
    searched = {"server_tool_use": {"web_search_requests": 1}}
    assert read_usage(searched, in_container=True).server_tool_calls == (("web_search_requests", 1),)


def test_totals_replace_and_null_keeps() -> None:
    known = {"input_tokens": 3068, "cache_read_input_tokens": 5, "output_tokens": 69}
    newer = {"input_tokens": 3337, "cache_read_input_tokens": None, "output_tokens": 198}
    assert merge(known, newer) == {"input_tokens": 3337, "cache_read_input_tokens": 5, "output_tokens": 198}


def test_a_block_of_our_own_reads_back() -> None:
    usage = Usage(127, 20, 100, 0, 9)
    assert read_usage(usage_shape(usage)) == usage
