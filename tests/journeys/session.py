"""The one installation of a test session. Registered in tests/conftest.py alone: imported, a fixture is made twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import pytest_django
from django.core.management import call_command
from django.db import connection

from tests.journeys.installation import Installation
from tests.support.databases import clone, drop, on_database
from usage import verify


@pytest.fixture(scope="session")
def _installation(
    test_database: None,
    django_db_blocker: pytest_django.DjangoDbBlocker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installation]:
    template = connection.settings_dict["NAME"]
    name = f"{template}_journeys"
    with django_db_blocker.unblock():
        clone(template, name)
        with on_database(name):
            call_command("load_catalog", verbosity=0)
    installation = Installation(name, tmp_path_factory.mktemp("installation"))
    installation.start()
    try:
        yield installation
    finally:
        installation.stop()
        with django_db_blocker.unblock(), on_database(name):
            report = verify.verify()
        with django_db_blocker.unblock():
            drop(name)
    assert report.clean, f"the books of the journeys do not agree: {report.findings}"
