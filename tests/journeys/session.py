"""The one installation of a test session. Registered in tests/conftest.py alone: imported, a fixture is made twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import pytest_django
from django.core.management import call_command

from tests.journeys import history
from tests.journeys.installation import Installation
from tests.support.databases import on_database, proven


@pytest.fixture(scope="session")
def _installation(
    test_database: None,
    django_db_blocker: pytest_django.DjangoDbBlocker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installation]:
    with proven("journeys", django_db_blocker) as name:
        with django_db_blocker.unblock(), on_database(name):
            call_command("load_catalog", verbosity=0)
        installation = Installation(name, tmp_path_factory.mktemp("installation"))
        installation.start()
        try:
            yield installation
        finally:
            installation.stop()
            with django_db_blocker.unblock(), on_database(name):
                history.disregard_comparisons()
