"""What a refusal says."""

from __future__ import annotations

from core import errors, storable
from upstreams import redact


def test_half_a_character_of_a_callers_name_can_be_told() -> None:
    error = errors.InvalidRequest("No member '\ud800' here: ä", param="\ud800")
    assert (error.message, error.param) == ("No member '\ufffd' here: ä", "\ufffd")


def test_texts_of_others_are_made_whole_and_nothing_else_of_them_changes() -> None:
    for text in ("", "plain", "ä 𝄞 漢", "a\tb\n"):
        assert storable.whole(text) == text
    assert storable.whole("a\ud800b\udc00c\ud800") == "a\ufffdb\ufffdc\ufffd"
    assert storable.whole("\ud834\udd1e") == "𝄞"  # both halves, each an escape of its own
    value = {"\ud800": ["a\0b", ("\udfff", 1, None)]}
    assert storable.storable(value) == {"\ufffd": ["a\ufffdb", ["\ufffd", 1, None]]}
    assert redact.clean("no \ud800 here") == "no \ufffd here"
