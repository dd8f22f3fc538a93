"""The two shapes of the model list (C-CHAT-5)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from catalog.endpoints import CHAT, IMAGES, MESSAGES, RESPONSES
from catalog.listing import anthropic_list, anthropic_model, openai_list, openai_model
from catalog.pricing import ContextTier, Rates, scaled
from core.errors import InvalidRequest, NotFound
from tests.catalog.values import BORN, model, price, snapshot, tokens

LIST = Rates(
    tokens=tokens(input="5", cached_input="0.5", output="30"),
    long_context=(ContextTier(272_000, tokens(input="10", output="45")),),
    server_tools=(("web_search_call", 1_000_000), ("tool_search_call", 0)),
)


def test_openai_shape_with_prices_in_credits() -> None:
    entry = model(
        "gpt-5.5", CHAT, RESPONSES, price=price(scaled(LIST, 9_000), list_rates=LIST), context_tokens=1_050_000
    )
    listed = openai_list(snapshot(entry, model("unpriced", CHAT, price=None)))
    assert listed["object"] == "list"
    (shown,) = listed["data"]
    assert {
        "id": "gpt-5.5",
        "object": "model",
        "created": int(BORN.timestamp()),
        "owned_by": "openai",
    }.items() <= shown.items()
    assert shown["endpoints"] == ["/v1/chat/completions", "/v1/responses"]
    assert shown["context_length"] == 1_050_000
    assert shown["pricing"] == {
        "currency": "credits",
        "unit": "mtok",
        "input": 450,
        "cached_input": 45,
        "output": 2700,
        "long_context": [{"above_input_tokens": 272_000, "input": 900, "output": 4050}],
        "server_tools": {"web_search_call": 0.9, "tool_search_call": 0},
        "list": {
            "unit": "mtok",
            "input": 500,
            "cached_input": 50,
            "output": 3000,
            "long_context": [{"above_input_tokens": 272_000, "input": 1000, "output": 4500}],
            "server_tools": {"web_search_call": 1, "tool_search_call": 0},
        },
    }


def test_a_rate_of_zero_is_shown_and_a_missing_one_is_not() -> None:
    shown = openai_model(
        snapshot(model("free", CHAT, price=price(Rates(tokens=tokens(input="0", output="0"))))), "free"
    )
    assert shown["pricing"] == {"currency": "credits", "unit": "mtok", "input": 0, "output": 0}


def test_media_show_their_unit_prices() -> None:
    rates = Rates(unit="image", unit_prices=(("1K", 7_200_000), ("4K", 28_800_000)))
    shown = openai_model(snapshot(model("p", IMAGES, price=price(rates))), "p")
    assert shown["pricing"] == {"currency": "credits", "unit": "image", "unit_prices": {"1K": 7.2, "4K": 28.8}}


def test_one_model_by_id_alias_or_date() -> None:
    known = snapshot(model("claude-haiku-4-5", MESSAGES), claude_3_haiku="claude_haiku_4_5")
    for name in ("claude-haiku-4-5", "claude-3-haiku", "claude-haiku-4-5-20251001"):
        assert openai_model(known, name)["id"] == "claude-haiku-4-5"
        assert anthropic_model(known, name)["id"] == "claude-haiku-4-5"
    for get in (openai_model, anthropic_model):
        with pytest.raises(NotFound):
            get(known, "claude-9")


def claudes(count: int) -> object:
    return snapshot(
        *(model(f"claude-{n}", MESSAGES, created_at=BORN + timedelta(days=n)) for n in range(count)), model("gpt", CHAT)
    )


def test_anthropic_shape_lists_the_models_of_messages_newest_first() -> None:
    listed = anthropic_list(claudes(3))  # type: ignore[arg-type]
    assert listed["data"][0] == {
        "type": "model",
        "id": "claude-2",
        "display_name": "Claude-2",
        "created_at": "2026-05-03T00:00:00Z",
    }
    assert [entry["id"] for entry in listed["data"]] == ["claude-2", "claude-1", "claude-0"]
    assert (listed["has_more"], listed["first_id"], listed["last_id"]) == (False, "claude-2", "claude-0")


@pytest.mark.parametrize(
    ("page", "ids", "has_more"),
    [
        ({"limit": 2}, ["claude-4", "claude-3"], True),
        ({"limit": 2, "after_id": "claude-3"}, ["claude-2", "claude-1"], True),
        ({"limit": 2, "after_id": "claude-1"}, ["claude-0"], False),
        ({"limit": 2, "before_id": "claude-1"}, ["claude-3", "claude-2"], True),
        ({"limit": 1000}, ["claude-4", "claude-3", "claude-2", "claude-1", "claude-0"], False),
        ({"after_id": "claude-0"}, [], False),
    ],
)
def test_anthropic_pages(page: dict[str, object], ids: list[str], has_more: bool) -> None:
    listed = anthropic_list(claudes(5), **page)  # type: ignore[arg-type]
    assert [entry["id"] for entry in listed["data"]] == ids
    assert listed["has_more"] is has_more


@pytest.mark.parametrize("page", [{"limit": 0}, {"limit": 1001}, {"after_id": "gpt"}, {"before_id": "nobody"}])
def test_a_bad_page_is_the_callers_fault(page: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        anthropic_list(claudes(2), **page)  # type: ignore[arg-type]
    assert refused.value.param == next(iter(page))


def test_a_model_of_another_endpoint_is_not_in_the_anthropic_list() -> None:
    with pytest.raises(NotFound):
        anthropic_model(claudes(1), "gpt")  # type: ignore[arg-type]
