from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import money


@given(st.integers(-(10**18), 10**18))
def test_the_text_of_an_amount_is_the_exact_decimal(amount_microcredits: int) -> None:
    assert money.credits_text(amount_microcredits) == format(money.credits(amount_microcredits), "f")


@pytest.mark.parametrize(
    ("amount_microcredits", "text"),
    [
        (0, "0"),
        (1, "0.000001"),
        (100_000, "0.1"),
        (1_000_000, "1"),
        (10**9, "1000"),
        (12_500_000, "12.5"),
        (-1, "-0.000001"),
    ],
)
def test_an_amount_reads_as_people_write_it(amount_microcredits: int, text: str) -> None:
    assert money.credits_text(amount_microcredits) == text
