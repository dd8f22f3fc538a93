"""A stand-in for Stripe that the product is pointed at, and people to top up for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import time_machine
from pytest_django import Settings

from tests.fakes.stripe import KEY, SECRET, FakeStripe


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    """A stand-in that nobody is pointed at yet."""
    running = FakeStripe()
    yield running
    running.stop()


@pytest.fixture
def stripe(fake: FakeStripe, settings: Settings) -> FakeStripe:
    """The stand-in that this installation pays at: demo payments."""
    settings.STRIPE_API_BASE = fake.url
    settings.STRIPE_SECRET_KEY = KEY
    settings.STRIPE_WEBHOOK_SECRETS = [SECRET]
    settings.DEMO_PAYMENTS = True
    settings.SITE_URL = "http://testserver"
    return fake


@pytest.fixture
def later() -> Iterator[time_machine.Traveller]:
    """A clock to move: ``later.shift(seconds)``. It goes on by itself, too."""
    start = datetime.now(UTC)
    with time_machine.travel(start, tick=True) as traveller:
        yield traveller
