"""The provider that answers with what was recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import replay


@pytest.fixture(scope="module")
def upstream() -> Iterator[Any]:
    """One a file: it counts what each exchange was asked for."""
    with replay.running() as server:
        yield server
