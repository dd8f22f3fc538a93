"""The books under whatever comes: a moment of it in every run, minutes of it in ``make torture``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import pytest_django
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.databases import cloned, on_database
from tests.torture import batches
from tests.torture.machine import THREADS, Machine

LASTING = float(os.environ.get("TORTURE_SECONDS", "120"))
MOMENT = 10.0
FIRST_SEED = int(os.environ.get("TORTURE_SEED", "1"))


@pytest.fixture
def books(test_database: None, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[None]:
    """A database of its own, for the proof of the books looks at all of it; and threads."""
    with (
        django_db_blocker.unblock(),
        cloned("machine") as name,
        on_database(name),
        ThreadPoolExecutor(THREADS + 2) as Machine.pool,
    ):
        yield
        batches.close_connections()


def run_for(seconds: float, figures: Callable[[str], None]) -> None:
    """One seed after another; TORTURE_SEED begins with the one that failed."""
    chosen = settings(
        max_examples=6,
        stateful_step_count=30,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        # With threads no failure comes twice for sure: shrinking it would only blur it.
        phases=[Phase.generate],
    )
    Machine.steps = Machine.items = 0
    end, number = time.monotonic() + seconds, FIRST_SEED
    while time.monotonic() < end:
        try:
            run_state_machine_as_test(seed(number)(type("Machine", (Machine,), {})), settings=chosen)
        except Exception as error:
            raise AssertionError(f"seed {number}:\n{''.join(Machine.failures[:1])}") from error
        number += 1
    figures(
        f"the machine over the books: seeds {FIRST_SEED} to {number - 1}, {Machine.steps} steps, "
        f"{Machine.items} items by up to {THREADS} threads, books proved after each step"
    )


def test_for_a_moment(books: None, figures: Callable[[str], None]) -> None:
    run_for(MOMENT, figures)


@pytest.mark.torture
def test_for_long(books: None, figures: Callable[[str], None]) -> None:
    run_for(LASTING, figures)
