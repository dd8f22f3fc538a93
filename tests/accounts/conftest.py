"""Sign-in is rate-limited by address, and all tests come from one: each starts with a clean count."""

from __future__ import annotations

import pytest
from django.core.cache import cache

from tests.accounts.front_door import Browser


@pytest.fixture(autouse=True)
def fresh_rate_limits() -> None:
    cache.clear()


@pytest.fixture
def browser() -> Browser:
    return Browser()
