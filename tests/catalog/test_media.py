"""Media rules: what is offered, and into which price tier it falls (C-IMG-3, C-VID-3)."""

from __future__ import annotations

from typing import Any

import pytest

from catalog import media

PICTURES = {
    "sizes": {"4096x4096": "4K", "1024x1024": "1K", "1536x1024": "1K"},
    "resolutions": {"4K": "4K", "0.5K": "0.5K", "1K": "1K"},
    "default_resolution": "1K",
    "aspect_ratios": ["1:1", "16:9"],
    "default_aspect_ratio": "1:1",
    "references": {"kinds": ["https", "data"], "max": 4},
}


@pytest.mark.parametrize(
    ("size", "resolution", "tier"),
    [
        ("", "", "1K"),
        ("4096x4096", "", "4K"),
        ("4096x4096", "1K", "4K"),
        ("", "0.5K", "0.5K"),
        ("9x9", "", None),
        ("", "8K", None),
    ],
)
def test_the_tier_of_what_was_asked_for(size: str, resolution: str, tier: str | None) -> None:
    assert media.parse(PICTURES).tier(size=size, resolution=resolution) == tier


def test_choices_are_ordered_by_magnitude() -> None:
    rules = media.parse(PICTURES)
    assert [name for name, _ in rules.resolutions] == ["0.5K", "1K", "4K"]
    assert [size for size, _ in rules.sizes] == ["1024x1024", "1536x1024", "4096x4096"]
    assert rules.tiers == {"0.5K", "1K", "4K"}


def test_a_model_without_choices_has_one_tier() -> None:
    rules = media.parse({})
    assert (rules.tier(), rules.tier(size="1024x1024"), rules.tiers) == ("default", None, {"default"})


@pytest.mark.parametrize(
    ("durations", "allowed", "refused"),
    [({"choices": [4, 8], "default": 8}, [4, 8], [0, 5, 9]), ({"min": 3, "max": 10, "default": 6}, [3, 10], [2, 11])],
)
def test_durations(durations: dict[str, Any], allowed: list[int], refused: list[int]) -> None:
    rules = media.parse({"durations": durations}).durations
    assert rules is not None
    assert all(rules.allows(seconds) for seconds in allowed)
    assert not any(rules.allows(seconds) for seconds in refused)


CLIPS: dict[str, Any] = {
    "resolutions": {"720P": "720P", "1080P": "1080P"},
    "default_resolution": "720P",
    "durations": {"choices": [4, 8], "default": 8},
    "references": {"kinds": ["https"], "max": 2},
}


def test_lengths_that_are_left_where_choices_meet() -> None:
    only = {"when": {"resolutions": ["1080P"], "pictures": [0, 2]}, "durations": [8]}
    [rule] = media.parse({**CLIPS, "only": [only]}).only
    assert rule == media.Only((8,), ("1080P",), (0, 2))
    asked = [("1080P", 0), ("1080P", 1), ("1080P", 2), ("720P", 0)]
    assert [rule.applies(*each) for each in asked] == [True, False, True, False]


@pytest.mark.parametrize(
    "only",
    [
        {},
        [5],
        [{"when": {"resolutions": ["1080P"]}}],
        [{"when": {}, "durations": [8]}],
        [{"when": {"sizes": ["1x1"]}, "durations": [8]}],
        [{"when": {"resolutions": ["4K"]}, "durations": [8]}],
        [{"when": {"pictures": [3]}, "durations": [8]}],
        [{"when": {"pictures": 1}, "durations": [8]}],
        [{"when": {"pictures": [1]}, "durations": 8}],
        [{"when": {"pictures": [1]}, "durations": [6, 8]}],
        [{"when": {"pictures": [1]}, "durations": [4]}],
        [{"when": {"pictures": [1]}, "durations": []}],
    ],
    ids=str,
)
def test_choices_that_can_not_meet_are_refused(only: Any) -> None:
    with pytest.raises(ValueError, match=r"media\.(only|pictures|durations)"):
        media.parse({**CLIPS, "only": only})


@pytest.mark.parametrize(
    "wrong",
    [
        {"colour": "red"},
        {"sizes": {"big": "1K"}, "default_size": "big"},
        {"sizes": {"1024x1024": "1K"}},
        {"sizes": ["1024x1024"], "default_size": "1024x1024"},
        {"aspect_ratios": ["wide"], "default_aspect_ratio": "wide"},
        {"aspect_ratios": ["1:1"], "default_aspect_ratio": "16:9"},
        {"durations": {"default": 5}},
        {"durations": {"choices": [4], "default": 5}},
        {"references": {"kinds": ["ftp"], "max": 1}},
        {"references": {"kinds": ["https"]}},
        {"max_images": -1},
        {"max_images": True},
    ],
)
def test_rules_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="media"):
        media.parse(wrong)
