"""A payer and a kind that does as it is told, for every test of jobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.jobs import BALANCE, Scripted, declared
from tests.support.money import Payer, new_payer


@pytest.fixture
def payer(db: None) -> Payer:
    return new_payer(balance=BALANCE)


@pytest.fixture
def kind() -> Iterator[Scripted]:
    scripted = Scripted()
    with declared(scripted):
        yield scripted
