"""The processes that make jobs, on a database and a Redis of their own: to be killed, emptied and taken away."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from django.db import connection
from django.db.models import Q
from redis import Redis as Client

from core.faults import VARIABLE as FAULT_POINT
from hypereal_site import processes
from hypereal_site.embedded import Redis
from jobs.models import Job
from keys import auth
from keys.models import ApiKey
from keys.secret import new_secret
from tests.fakes import task_provider
from tests.fakes.task_provider import TaskProvider
from tests.support import ports
from tests.support.databases import clone, drop, on_database
from tests.support.gateway import Caller, wait_for
from tests.support.money import new_payer
from tests.support.nursery import Forked, Nursery
from tests.support.paintings.kind import VARIABLE as PROVIDER

#: Times short enough to be waited for. Jobs of the dead are taken over after the lease.
QUICK = {
    "DJANGO_SETTINGS_MODULE": "tests.support.paintings.settings",
    "JOB_LEASE_SECONDS": "2",
    "JOB_SWEEP_SECONDS": "0.2",
    "JOB_OVERDUE_SECONDS": "0.3",
    "JOB_RETRY_SECONDS": "0.1",
    "RATE_LIMIT_PER_MINUTE": "100000",
}
#: What a process may take to start, or a job to end, on a machine that has much else to do.
PATIENCE = 240.0
_COMMANDS = "tests.support.paintings.commands"
_SERVER = "hypereal_site.serve"
_ROLES = {
    "cron": (_COMMANDS, ["run_cron"]),
    "worker": (_COMMANDS, ["rqworker", "media", "default", "--with-scheduler"]),
    "web": (_SERVER, ["--role", "gateway"]),
}
#: Settings of a process that serves no pages are others, so it comes from a nursery of its own.
_MORE = {_COMMANDS: {}, _SERVER: {"HYPEREAL_ROLE": "gateway"}}


@dataclass
class Yard:
    """One database, one Redis, one provider, and the processes on them."""

    database: str
    redis: Redis
    provider: TaskProvider
    logs: Path
    started: list[Forked] = field(default_factory=list)
    ports: dict[int, int] = field(default_factory=dict)
    nurseries: dict[str, Nursery] = field(default_factory=dict)

    def start(self, role: str, *, dies_at: str = "") -> Forked:
        """A worker, a cron or a web process; ``dies_at`` is where it kills itself."""
        module, arguments = _ROLES[role]
        port = ports.free_port() if role == "web" else 0
        if port:
            arguments = [*arguments, "--port", str(port)]
        log = self.logs / f"{role}-{len(self.started)}.log"
        process = self._nursery(module).start(module, arguments, log=log, env={FAULT_POINT: dies_at})
        self.started.append(process)
        if port:
            self.ports[process.pid] = port
            wait_for(lambda: processes.answers(port) or process.poll() is not None, PATIENCE)
        return process

    def _nursery(self, module: str) -> Nursery:
        """The one that has loaded that module, with the settings of this yard."""
        if module not in self.nurseries:
            log = self.logs / f"nursery-{len(self.nurseries)}.log"
            self.nurseries[module] = Nursery(module, env={**self.environment(), **_MORE[module]}, log=log)
        return self.nurseries[module]

    def environment(self) -> dict[str, str]:
        """The variables of a process of this yard."""
        address = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{self.database}").geturl()
        given = {"DATABASE_URL": address, "REDIS_URL": self.redis.url, PROVIDER: self.provider.base_url}
        return {**os.environ, **QUICK, **given}

    def caller(self, web: Forked | None = None, credits: int = 1_000) -> Caller:
        """A payer with a key, at that web process."""
        payer, secret = new_payer(credits * 1_000_000), new_secret()
        ApiKey.objects.filter(pk=payer.key.pk).update(secret_hash=auth.hash_of(secret))
        payer.key.refresh_from_db()
        port = self.ports[web.pid] if web is not None else 0
        return Caller(payer.user, payer.workspace, payer.key, secret, port)

    def queue(self) -> Client:
        """The Redis that wakes workers."""
        return Client.from_url(self.redis.url)

    def stop_all(self) -> None:
        """End what still runs."""
        for process in self.started:
            process.kill()
        self.started.clear()

    def close(self) -> None:
        """End everything, what could start more as well."""
        self.stop_all()
        for nursery in self.nurseries.values():
            nursery.close()


def open_jobs(caller: Caller) -> int:
    """Jobs of the caller's with which something is still to be done."""
    still = Q(finished_at__isnull=True) | Q(stop_due=True)
    return Job.objects.filter(still, workspace_id=caller.workspace.pk).count()


def died(process: Forked, seconds: float = PATIENCE) -> None:
    """Wait until the process was killed."""
    assert process.wait(seconds) == -signal.SIGKILL


@contextmanager
def yard(logs: Path) -> Iterator[Yard]:
    """A yard on a clone of the test database; Django's connection of this process is on it too."""
    name = f"{connection.settings_dict['NAME']}_yard"
    clone(connection.settings_dict["NAME"], name)
    server = Redis(logs / "redis", durable=False, port=ports.free_port())
    server.start()
    with task_provider.running() as provider, on_database(name):
        made = Yard(name, server, provider, logs)
        try:
            yield made
        finally:
            made.close()
            server.stop()
            connection.close()
    drop(name)
