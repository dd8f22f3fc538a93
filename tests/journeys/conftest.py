"""The installation that the journeys go through, and the browser's windows on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_django

from tests.journeys import node_sdk
from tests.journeys.installation import Installation
from tests.look.conftest import browser, visit  # noqa: F401  (fixtures)
from tests.support.databases import on_database


@pytest.fixture
def installation(
    _installation: Installation, django_db_blocker: pytest_django.DjangoDbBlocker
) -> Iterator[Installation]:
    """The session's installation; the test's own database access is on its database and is committed."""
    with django_db_blocker.unblock(), on_database(_installation.database):
        yield _installation


@pytest.fixture(scope="session")
def library() -> Path:
    """The vendors' libraries for Node, installed."""
    try:
        return node_sdk.install()
    except node_sdk.NoRegistry as error:
        pytest.skip(f"NO NPM REGISTRY: {error}")


@pytest.fixture
def site(installation: Installation) -> str:
    """Its address."""
    return installation.url
