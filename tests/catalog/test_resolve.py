"""Names, aliases, dates, intents (C-ERR-2, C-MSG-2, C-ROUTE-2)."""

from __future__ import annotations

import pytest

from catalog.endpoints import AUDIO, CHAT, EMBEDDINGS, GEMINI, IMAGES, MESSAGES, RESPONSES, VIDEOS
from catalog.entries import Snapshot
from catalog.media import Durations, MediaRules
from catalog.pricing import Rates
from catalog.resolve import exact, find, find_by_intent, lookup, price_of
from core.errors import InvalidRequest
from tests.catalog.values import model, price, snapshot, target, tokens


def catalog() -> Snapshot:
    return Snapshot.of(
        {
            entry.slug: entry
            for entry in (
                model("gpt-5.5", CHAT, RESPONSES),
                model("gpt-5-codex", RESPONSES),
                model("claude-sonnet-4-6", MESSAGES),
                model("claude-haiku-4-5", MESSAGES),
                model("gemini-3.5-fast", GEMINI, CHAT),
                model("free-later", CHAT, price=None),
            )
        },
        {"claude-3-5-haiku-20241022": "claude-haiku-4-5", "claude-opus-5": "claude-sonnet-4-6", "gone": "not-there"},
    )


@pytest.mark.parametrize(
    ("name", "endpoint", "slug"),
    [
        ("gpt-5.5", CHAT, "gpt-5.5"),
        ("gpt-5.5", RESPONSES, "gpt-5.5"),
        ("gpt-5.5-2026-04-23", CHAT, "gpt-5.5"),
        ("claude-haiku-4-5-20251001", MESSAGES, "claude-haiku-4-5"),
        ("claude-3-5-haiku-20241022", MESSAGES, "claude-haiku-4-5"),
        ("claude-opus-5", MESSAGES, "claude-sonnet-4-6"),
        ("claude-opus-5-20260101", MESSAGES, "claude-sonnet-4-6"),
        ("gemini-3.5-fast", CHAT, "gemini-3.5-fast"),
        ("gemini-3.5-fast", GEMINI, "gemini-3.5-fast"),
    ],
)
def test_names_that_resolve(name: str, endpoint: str, slug: str) -> None:
    assert find(catalog(), name, endpoint).slug == slug


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("claude-haiku-4-5", "claude-haiku-4-5"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("claude-opus-5", None),
        ("nobody", None),
    ],
)
def test_a_name_of_the_providers_own_means_that_very_model(name: str, slug: str | None) -> None:
    found = exact(catalog(), name)
    assert (found.slug if found else None) == slug
    assert price_of(catalog(), name) == (found.price if found else None)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "gpt-9",
        "GPT-5.5",
        "gone",
        "gpt-5.5-20261301",  # no such month
        "gpt-5.5-2026-0423",  # neither form of a date
        "gpt-5.5-20260423-20260423",  # one date is enough
        "-20260423",
    ],
)
def test_unknown_names_get_the_models_of_this_endpoint(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        find(catalog(), name, CHAT)
    assert (refused.value.param, refused.value.code) == ("model", "model_not_found")
    assert refused.value.extra == {"available_models": ["gemini-3.5-fast", "gpt-5.5"]}


@pytest.mark.parametrize(
    ("name", "endpoint", "right"),
    [
        ("claude-sonnet-4-6", CHAT, "/v1/messages"),
        ("claude-sonnet-4-6", RESPONSES, "/v1/messages"),
        ("claude-3-5-haiku-20241022", CHAT, "/v1/messages"),
        ("gpt-5.5", MESSAGES, "/v1/chat/completions or /v1/responses"),
        ("gpt-5-codex", CHAT, "/v1/responses"),
        ("gemini-3.5-fast", RESPONSES, "/v1/gemini or /v1/chat/completions"),
    ],
)
def test_the_wrong_endpoint_names_the_right_one(name: str, endpoint: str, right: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        find(catalog(), name, endpoint)
    assert refused.value.param == "model"
    assert refused.value.message.endswith(f"call it at {right}.")
    assert refused.value.extra["available_models"] == list(catalog().available(endpoint))


def test_a_model_without_a_price_cannot_be_called() -> None:
    with pytest.raises(InvalidRequest, match="no price") as refused:
        find(catalog(), "free-later", CHAT)
    assert refused.value.param == "model"
    assert "free-later" not in refused.value.extra["available_models"]


def test_a_strange_name_is_shown_short_and_on_one_line() -> None:
    with pytest.raises(InvalidRequest) as refused:
        find(catalog(), "a\n\x00" + "b" * 5_000, CHAT)
    assert len(refused.value.message) < 150
    assert refused.value.message.isprintable()


def test_an_alias_of_a_model_that_is_gone_means_nothing() -> None:
    assert lookup(catalog(), "gone") is None


def test_only_targets_that_speak_the_endpoint_are_in_its_chain() -> None:
    chat, native = target("google-openai", kinds=(CHAT,)), target("google", kinds=(GEMINI,))
    entry = model("gemini-3.5-fast", GEMINI, CHAT, targets=(chat, native))
    assert entry.chain(CHAT) == (chat,)
    assert entry.chain(GEMINI) == (native,)
    assert entry.chain(IMAGES) == ()


# -- Intents ----------------------------------------------------------------------------------------------------------


def pictures(slug: str, *usd_cents: int, **more: object) -> object:
    rules = MediaRules(resolutions=(("1K", "1K"), ("4K", "4K")), default_resolution="1K")
    prices = tuple(zip(("1K", "4K"), (cents * 1_000_000 for cents in usd_cents), strict=True))
    facts = {"intents": ("text-to-image",), "media": rules, "price": price(Rates(unit="image", unit_prices=prices))}
    return model(slug, IMAGES, **{**facts, **more})


def test_an_intent_picks_the_cheapest_qualified_model() -> None:
    offered = snapshot(
        model("cheap", CHAT, intents=("chat",), price=price(Rates(tokens=tokens(input="1", output="2")))),
        model("cheaper", CHAT, intents=("code",), price=price(Rates(tokens=tokens(input="0.1", output="0.2")))),
        model("dear", CHAT, intents=("chat",), price=price(Rates(tokens=tokens(input="0.5", output="9")))),
    )
    assert find_by_intent(offered, "chat", CHAT).slug == "cheap"
    assert find_by_intent(offered, "code", CHAT).slug == "cheaper"


def test_pictures_compare_by_their_default_tier() -> None:
    offered = snapshot(pictures("cheap-when-large", 9, 10), pictures("cheap-as-usual", 4, 40))  # type: ignore[arg-type]
    assert find_by_intent(offered, "text-to-image", IMAGES).slug == "cheap-as-usual"


def test_clips_compare_by_their_default_length() -> None:
    seconds = Rates(unit="second", unit_prices=(("default", 20_000_000),))
    clip = Rates(unit="clip", unit_prices=(("default", 80_000_000),))
    five = MediaRules(durations=Durations(default=5, choices=(5, 10)))
    offered = snapshot(
        model("by-second", VIDEOS, intents=("text-to-video",), price=price(seconds), media=five),
        model("by-clip", VIDEOS, intents=("text-to-video",), price=price(clip)),
    )
    assert find_by_intent(offered, "text-to-video", VIDEOS).slug == "by-clip"


def test_who_can_really_serve_comes_first() -> None:
    offered = snapshot(
        pictures("nobody", 1, 1, targets=()),  # type: ignore[arg-type]
        pictures("sandbox", 2, 2, targets=(target(sandbox=True),)),  # type: ignore[arg-type]
        pictures("real", 9, 9),  # type: ignore[arg-type]
    )
    assert find_by_intent(offered, "text-to-image", IMAGES).slug == "real"
    assert find_by_intent(snapshot(*list(offered.models.values())[:2]), "text-to-image", IMAGES).slug == "sandbox"


def test_equal_prices_go_by_id() -> None:
    offered = snapshot(model("b", AUDIO, intents=("x",)), model("a", AUDIO, intents=("x",)))
    assert find_by_intent(offered, "x", AUDIO).slug == "a"


def test_an_unknown_intent_names_those_that_work() -> None:
    offered = snapshot(model("a", EMBEDDINGS, intents=("embedding",)), model("b", CHAT, intents=("chat",)))
    with pytest.raises(InvalidRequest) as refused:
        find_by_intent(offered, "chat", EMBEDDINGS)
    assert refused.value.param == "intent"
    assert refused.value.extra == {"available_intents": ["embedding"]}
