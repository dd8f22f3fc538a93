"""One PostgreSQL and one Redis for a whole test run, shared by all its workers, and the settings tests run under.

The folders stay in var/test-services between runs, so that only the first run pays for initdb. Runs at the same time
take different folders.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from django.conf import settings

from hypereal_site.embedded import EmbeddedError, Postgres, Redis
from tests.support import ports

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "var" / "test-services"
#: What the outside may choose for a test run. Every other variable of ours would make results differ by machine.
_PASSED_ON = ("DATABASE_URL", "REDIS_URL")
_OURS = (
    "STRIPE_",
    "EMAIL_",
    "GATEWAY_",
    "HYPEREAL_DEMO",
    "SANDBOX_",
    "SITE_URL",
    "DEBUG",
    "DEMO_PAYMENTS",
    "EGRESS_",
    "S3_",
    "STORAGE_",
)
_FIXED = {
    "DJANGO_SETTINGS_MODULE": "hypereal_site.settings",
    "DJANGO_SECRET_KEY": "tests-only-" + "s" * 50,
    "ENCRYPTION_KEYS": "dGVzdHMtb25seS10ZXN0cy1vbmx5LXRlc3RzLW9ubHk=",
    "API_KEY_PEPPER": "tests-only-" + "p" * 32,
    "HYPEREAL_DEMO": "1",
    "EMAIL_URL": "memorymail://",
    "TZ": "UTC",
    "STORAGE_DIR": str(FOLDER / "storage"),
}


class Services:
    """The servers of one test run. ``reserve`` fixes their addresses early, since settings read them at import."""

    def __init__(self) -> None:
        self._slot: IO[str] | None = None
        self._postgres: Postgres | None = None
        self._redis: Redis | None = None

    def reserve(self) -> None:
        """Put the addresses into the environment; nothing is started yet."""
        if "DATABASE_URL" in os.environ and "REDIS_URL" in os.environ:
            return
        folder, self._slot = _free_slot()
        shutil.rmtree(folder / "storage", ignore_errors=True)
        os.environ["STORAGE_DIR"] = str(folder / "storage")
        if "DATABASE_URL" not in os.environ:
            self._postgres = Postgres(folder / "postgres", fsync=False)
            os.environ["DATABASE_URL"] = self._postgres.reserve()
        if "REDIS_URL" not in os.environ:
            self._redis = Redis(folder / "redis", durable=False)
            os.environ["REDIS_URL"] = self._redis.reserve()

    def start(self) -> None:
        """Start what was reserved. A cluster that a crash of the machine spoiled (fsync is off) is made anew."""
        if self._postgres is not None:
            try:
                self._postgres.start()
            except EmbeddedError:
                shutil.rmtree(self._postgres.working_directory, ignore_errors=True)
                self._postgres.start()
        if self._redis is not None:
            self._redis.start()

    def stop(self) -> None:
        """Stop what was started and let the next run have the folder."""
        for server in (self._redis, self._postgres):
            if server is not None:
                server.stop()
        if self._slot is not None:
            self._slot.close()
            self._slot = None


def fix_environment() -> None:
    """Make settings the same on every machine: our variables from outside go, the test values come."""
    for name in list(os.environ):
        if name.startswith(_OURS) and name not in _PASSED_ON:
            del os.environ[name]
    os.environ.update(_FIXED)


def use_own_redis_database(worker: str) -> None:
    """Give the worker ``gw<n>`` database n+1 of the shared Redis; a run without workers keeps database 0."""
    shared = os.environ["REDIS_URL"]
    own = os.environ["REDIS_URL"] = f"{shared.rpartition('/')[0]}/{int(worker.removeprefix('gw')) + 1}"
    if settings.configured:  # pytest-django was quicker: the settings have the controller's address already
        settings.REDIS_URL = settings.CACHES["default"]["LOCATION"] = own
        settings.RQ_QUEUES = {name: {**queue, "URL": own} for name, queue in settings.RQ_QUEUES.items()}


@contextmanager
def own_postgres() -> Iterator[Postgres]:
    """A fresh, running PostgreSQL that writes to the disk as in production (fsync on): to be killed by its test."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="own-", dir=FOLDER, ignore_cleanup_errors=True) as folder:
        cluster = Postgres(Path(folder) / "postgres", port=ports.free_port())  # it comes back to it
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()


def _free_slot() -> tuple[Path, IO[str]]:
    for number in range(64):
        folder = FOLDER / f"slot-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "taken").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        return folder, lock
    raise EmbeddedError(f"64 test runs at once? No free folder in {FOLDER}.")
