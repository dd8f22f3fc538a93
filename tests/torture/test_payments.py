"""Payments under whatever comes: a moment of it in every run, minutes of it in ``make torture``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_django
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from billing import topups
from tests.fakes.stripe import KEY, SECRET, FakeStripe
from tests.support.databases import cloned, on_database
from tests.torture.payments import PROCESSES, THREADS, PaymentsMachine
from tests.torture.workers import Worker

LASTING = float(os.environ.get("TORTURE_SECONDS", "120"))
MOMENT = 10.0
FIRST_SEED = int(os.environ.get("TORTURE_SEED", "1"))


@pytest.fixture
def payments(
    test_database: None,
    django_db_blocker: pytest_django.DjangoDbBlocker,
    settings: pytest_django.Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[None]:
    """A database of its own, a stand-in for Stripe, threads, and processes beside."""
    monkeypatch.setattr(topups, "STARTS_AN_HOUR", 10_000)
    fake = PaymentsMachine.stripe = FakeStripe()
    settings.STRIPE_API_BASE, settings.STRIPE_SECRET_KEY = fake.url, KEY
    settings.STRIPE_WEBHOOK_SECRETS, settings.DEMO_PAYMENTS = [SECRET], True
    with (
        django_db_blocker.unblock(),
        cloned("payments") as name,
        on_database(name),
        ThreadPoolExecutor(THREADS + 3 * PROCESSES) as PaymentsMachine.pool,
    ):
        theirs = {
            "STRIPE_API_BASE": fake.url, "STRIPE_SECRET_KEY": KEY, "STRIPE_WEBHOOK_SECRETS": SECRET,
            "DEMO_PAYMENTS": "1", "EMAIL_URL": "dummymail://",
        }  # fmt: skip
        PaymentsMachine.workers = tuple(
            Worker(name, tmp_path / f"worker{number}.log", **theirs) for number in range(PROCESSES)
        )
        yield
        for worker in PaymentsMachine.workers:
            worker.stop()
    fake.stop()


def run_for(seconds: float, figures: Callable[[str], None]) -> None:
    """One seed after another; TORTURE_SEED begins with the one that failed."""
    chosen = settings(
        max_examples=2,
        stateful_step_count=25,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        # With threads no failure comes twice for sure: shrinking it would only blur it.
        phases=[Phase.generate],
    )
    PaymentsMachine.steps = 0
    end, number = time.monotonic() + seconds, FIRST_SEED
    while time.monotonic() < end:
        try:
            run_state_machine_as_test(seed(number)(type("Machine", (PaymentsMachine,), {})), settings=chosen)
        except Exception as error:
            raise AssertionError(f"seed {number}") from error
        number += 1
    figures(
        f"the machine over payments: seeds {FIRST_SEED} to {number - 1}, {PaymentsMachine.steps} steps by up to "
        f"{THREADS} threads and {PROCESSES} more processes, books proved after each step, balances held against "
        "Stripe's side at the end"
    )


def test_for_a_moment(payments: None, figures: Callable[[str], None]) -> None:
    run_for(MOMENT, figures)


@pytest.mark.torture
def test_for_long(payments: None, figures: Callable[[str], None]) -> None:
    run_for(LASTING, figures)
