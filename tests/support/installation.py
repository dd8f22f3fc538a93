"""An installation that may be killed: a PostgreSQL of its own with fsync on, gateways on it, and sweeps."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import pytest_django
from django.core.management import call_command
from django.db import connection

from billing.models import Hold, HoldOwner
from core import clock
from hypereal_site import processes
from hypereal_site.embedded import Postgres, Redis
from tests.fakes import upstream as fake
from tests.support import ports, services
from tests.support.gateway import PATIENCE, ROOT, Gateway, Server, wait_for
from tests.support.money import Payer
from usage.sweep import sweep

#: Seconds of the sweeper's clock at which a process that stands still is looked at; it counts as dead at the sixtieth.
LOOKS = (0, 15, 30, 45, 60, 75)


class Installation(Gateway):
    """Gateways on a cluster that tests kill. Start and restart things on the main thread: they die with theirs."""

    def __init__(self, cluster: Postgres, upstream: fake.Upstream, logs: Path, **settings: str) -> None:
        self.cluster = cluster
        super().__init__(urlsplit(cluster.url).path.lstrip("/"), upstream, logs, DATABASE_URL=cluster.url, **settings)

    @property
    def port(self) -> int:
        """Tests here name the server that they mean."""
        return 0

    def until_known(self, slug: str) -> None:
        """Wait until every living gateway serves the model; with none, the next to start reads it anyhow."""
        if any(server.process.poll() is None for server in self._all):
            super().until_known(slug)

    def restart_database(self, seconds_away: float = 0.0) -> None:
        """Kill PostgreSQL as a power cut would, and start it again on its port."""
        self.cluster.kill()
        connection.close()
        time.sleep(seconds_away)
        self.cluster.start()

    def write_to_disk(self) -> None:
        """What was committed without waiting for the disk is on it when this returns."""
        with psycopg.connect(self.cluster.url, autocommit=True) as other:
            other.execute("CHECKPOINT")

    @contextmanager
    def slow_to_write(self) -> Iterator[None]:
        """What is committed without waiting for the disk waits there for ten seconds instead of a fifth of one."""
        self._set("wal_writer_delay = '10s'")
        try:
            yield
        finally:
            self._set("wal_writer_delay = DEFAULT")

    def _set(self, setting: str) -> None:
        with psycopg.connect(self.cluster.url, autocommit=True) as other:
            other.execute(f"ALTER SYSTEM SET {setting}")
            other.execute("SELECT pg_reload_conf()")

    @contextmanager
    def running(self, *arguments: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
        """A ``manage.py`` command beside, for as long as the block lasts; its log lies with the gateways'."""
        command = [sys.executable, "manage.py", *arguments]
        log = self.logs / f"{arguments[0]}.log"
        process = processes.spawn(command, log=log, directory=ROOT, env=self.environment(**settings))
        try:
            yield process
        finally:
            processes.stop([process], ((signal.SIGTERM, 10.0),))

    @contextmanager
    def locked(self, payer: Payer) -> Iterator[None]:
        """Somebody else holds the payer's wallet: whatever wants to move its money waits."""
        with psycopg.connect(self.cluster.url) as other:
            other.execute("SELECT 1 FROM billing_wallet WHERE workspace_id = %s FOR UPDATE", [payer.workspace.pk])
            yield
            other.rollback()

    def wait_for_waiting(self) -> None:
        """Until a gateway's connection waits for a lock."""
        wait_for(lambda: bool(self._waiting()))

    def wait_for_nobody(self, server: Server) -> None:
        """Until a killed gateway's connections are gone: PostgreSQL notices only when it wants to answer."""
        server.process.wait(PATIENCE)
        wait_for(lambda: not self._waiting())

    def _waiting(self) -> list[tuple[int]]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity"
                " WHERE application_name = 'hypereal-gateway' AND wait_event_type = 'Lock'"
            )
            return list(cursor.fetchall())


def kill(server: Server) -> None:
    """SIGKILL, as a machine's out-of-memory killer would."""
    server.process.kill()
    server.process.wait(PATIENCE)


def look_for_the_dead() -> Sequence[int]:
    """What sweeps over a bit more than a minute end, look by look, on a clock that was moved on."""
    start = clock.now()
    return [sweep(start + timedelta(seconds=seconds)) for seconds in LOOKS]


def pending() -> int:
    """Holds that are open anywhere."""
    return Hold.objects.filter(state=Hold.State.PENDING).count()


def beats() -> int:
    """How often all processes have beaten so far."""
    return sum(HoldOwner.objects.values_list("beats", flat=True))


@contextmanager
def _connected_to(url: str) -> Iterator[None]:
    """Django's default connection on another server."""
    address = urlsplit(url)
    connection.close()
    before = dict(connection.settings_dict)
    connection.settings_dict.update(
        NAME=address.path.lstrip("/"),
        USER=address.username,
        PASSWORD=address.password,
        HOST=address.hostname,
        PORT=str(address.port),
    )
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(before)


@contextmanager
def made(logs: Path, **settings: str) -> Iterator[Installation]:
    """A new one, with Django's connection on it, for as long as the block lasts."""
    with services.own_postgres() as cluster, fake.running() as upstream, _connected_to(cluster.url):
        call_command("migrate", verbosity=0)
        installation = Installation(cluster, upstream, logs, **settings)
        try:
            yield installation
        finally:
            installation.stop()


@pytest.fixture(scope="module")
def installation(
    test_database: None, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: pytest_django.DjangoDbBlocker
) -> Iterator[Installation]:
    """One for a whole file. ``test_database`` first: pytest-django may not meet a connection that was moved."""
    with django_db_blocker.unblock(), made(tmp_path_factory.mktemp("installation")) as it:
        yield it


@contextmanager
def own_redis() -> Iterator[Redis]:
    """A Redis to be killed."""
    services.FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="own-", dir=services.FOLDER, ignore_cleanup_errors=True) as folder:
        redis = Redis(Path(folder) / "redis", durable=False, port=ports.free_port())
        redis.start()
        try:
            yield redis
        finally:
            redis.stop()
