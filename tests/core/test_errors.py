"""What a refusal says."""

from __future__ import annotations

from core import errors


def test_half_a_character_of_a_callers_name_can_be_told() -> None:
    error = errors.InvalidRequest("No member '\ud800' here: ä", param="\ud800")
    assert (error.message, error.param) == ("No member '?' here: ä", "?")
