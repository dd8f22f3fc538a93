"""Brings up the servers of a test run before any setting is read. The code is in tests/support."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator

import hypothesis
import pytest
import pytest_django

from hypereal_site.embedded import Postgres
from tests.support import chromium, services

WORKER = os.environ.get("PYTEST_XDIST_WORKER")
_services = services.Services()
# How quick a machine is says nothing about what is tested: no example is too slow, and making them isn't either. Every
# run makes the same examples, so that what fails in one fails in the next; others belong to nights of fuzzing.
hypothesis.settings.register_profile(
    "any machine",
    deadline=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")

if WORKER is None:
    services.fix_environment()
    _services.reserve()
else:  # the controller's environment is ours
    services.use_own_redis_database(WORKER)

import django  # noqa: E402  (settings read the environment that the lines above made)
from django.test import override_settings  # noqa: E402

django.setup()

from django.db import connection  # noqa: E402
from django.test.utils import setup_databases, teardown_databases  # noqa: E402

from tests.journeys.session import _installation  # noqa: E402, F401  (a fixture: one installation, whoever asks)
from tests.support import databases  # noqa: E402
from tests.support import figures as _figures  # noqa: E402
from tests.support.gateway import _gateway_session, _tidied_gateway, gateway  # noqa: E402, F401  (one session for all)

#: Areas with files of few tests that take minutes: begun first, so that no worker is left alone with one at the end.
_LONG = frozenset({"faults", "jobs", "journeys", "look", "playground"})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tests = config.rootpath / "tests"
    items.sort(key=lambda item: item.path.relative_to(tests).parts[0] not in _LONG)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    if not session.config.option.collectonly:
        _services.start()


def pytest_unconfigure() -> None:
    _services.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "browser" in report.keywords]
    if skipped and chromium.find() is None:
        terminalreporter.section("NO BROWSER", sep="!", red=True, bold=True)
        terminalreporter.line(f"{len(skipped)} browser tests did not run: install chromium or set {chromium.VARIABLE}.")
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "lemonldap" in report.keywords]
    if skipped:
        terminalreporter.section("NO IDENTITY PROVIDER", sep="!", red=True, bold=True)
        terminalreporter.line(f"{len(skipped)} tests of single sign-on over LemonLDAP::NG did not run: see .ci/run.")
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "recordings" in report.keywords]
    if skipped:
        terminalreporter.section("NO RECORDINGS", sep="!", red=True, bold=True)
        terminalreporter.line(f"{len(skipped)} tests over recorded exchanges did not run: set HYPEREAL_RECORDINGS.")
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "npm" in report.keywords]
    if skipped:
        terminalreporter.section("NO NPM REGISTRY", sep="!", red=True, bold=True)
        terminalreporter.line(f"{len(skipped)} tests of the Node library did not run: npm reaches no registry.")
    _figures.show(terminalreporter)


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Call it with a line that the end of the run shall show, also where workers ran the test."""
    return functools.partial(_figures.note, record_property)


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """A password hash is meant to cost a core half a second; a test run would spend most of its time on that."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture
def own_cluster() -> Iterator[Postgres]:
    """A fresh PostgreSQL with fsync on, for a test that kills it."""
    with services.own_postgres() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The browser to drive. Tests that use it carry ``@pytest.mark.browser``."""
    path = chromium.find()
    if path is None:
        pytest.skip(f"NO BROWSER: install chromium or set {chromium.VARIABLE}")
    return path


@pytest.fixture(scope="session")
def test_database(django_db_setup: None, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[None]:
    """The test database, also in a run whose tests all use fixtures of ours.

    pytest-django makes it only where a collected test bears its own mark or fixture.
    """
    if connection.settings_dict["NAME"].startswith("test_"):
        yield
        return
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False)
    yield
    with django_db_blocker.unblock():
        teardown_databases(made, verbosity=0)


@pytest.fixture(scope="session")
def _committed_database(test_database: None, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[str]:
    with django_db_blocker.unblock(), databases.cloned("committed") as name:
        yield name


@pytest.fixture(scope="session")
def _pages_database(test_database: None, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[str]:
    with django_db_blocker.unblock(), databases.cloned("pages") as name:
        yield name


@pytest.fixture
def committed(request: pytest.FixtureRequest, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[None]:
    """A database without a transaction around the test: what is written stays, until the session ends.

    For what several connections must see. It is a clone, so that other tests find none of it; nothing is truncated, and
    a test works on a workspace of its own. Tests in a browser have another clone: calls that are only there to be
    looked at stand in no ledger, and other tests prove theirs.
    """
    looked_at = "site" in request.fixturenames
    name = request.getfixturevalue("_pages_database" if looked_at else "_committed_database")
    with django_db_blocker.unblock(), databases.on_database(name):
        yield
