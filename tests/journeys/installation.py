"""A whole installation in processes: web and gateway in one, the stand-ins for provider and Stripe, Redis, mail files.

Its environment is the one that run.py makes; only the database is a clone on the test run's own server.
"""

from __future__ import annotations

import email
import email.policy
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urlsplit

from hypereal_site import local_env, processes
from hypereal_site.embedded import Redis
from tests.support import ports
from tests.support.services import ROOT

START_SECONDS = 180.0
#: How the file backend parts the mails of one file.
_BETWEEN_MAILS = b"\n" + b"-" * 79 + b"\n"
QUEUES = ("critical", "default", "media", "bulk")
#: The sandbox answers this many times faster than life.
_SANDBOX_SPEED = "5"


class Installation:
    """One installation on ``database``, with its data in ``folder``."""

    def __init__(self, database: str, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.mail = folder / "mail"
        self.url = ""
        self.env: dict[str, str] = {}
        self._redis = Redis(folder / "redis", durable=False)
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, port: int = 0) -> None:
        """Start everything, the web face on ``port`` (0: any), and wait until it answers.

        Raises RuntimeError with the ends of the logs.
        """
        self.mail.mkdir()
        own = {name: ports.free_port() for name in ("web", "sandbox", "stripe", "gpu")}
        own["web"] = port or own["web"]
        self.env = local_env.environment(
            _outside(),
            self.folder,
            database_url=urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{self.database}").geturl(),
            redis_url=self._redis.start(),
            port=own["web"],
            sandbox_port=own["sandbox"],
            stripe_port=own["stripe"],
            gpu_port=own["gpu"],
        )
        self.url = self.env["SITE_URL"]
        self._spawn("upstreams.sandbox", "--port", str(own["sandbox"]), "--speed", _SANDBOX_SPEED)
        state = str(self.folder / "demo-stripe.json")
        self._spawn("billing.demo_stripe.server", "--port", str(own["stripe"]), "--state", state)
        self._spawn("infra.local_engine", "--port", str(own["gpu"]), "--folder", str(self.folder / "gpu"))
        self._spawn("hypereal_site.serve", "--role", "all", "--port", str(own["web"]))
        self._wait(own)

    def stop(self) -> None:
        """End everything, the web process first."""
        processes.stop(list(reversed(self._running)), [(15, 30.0)])  # type: ignore[list-item]
        self._redis.stop()

    def work(self) -> None:
        """Do the jobs that wait, as the worker does."""
        subprocess.run(
            [sys.executable, "manage.py", "rqworker", "critical", "default", "--burst"],
            cwd=ROOT,
            env=self.env,
            check=True,
            capture_output=True,
            timeout=180,
        )

    @contextmanager
    def workers(self) -> Iterator[None]:
        """A worker of every queue and the time table, for the time of the block."""
        started = len(self._running)
        self._run("worker", "manage.py", "rqworker", *QUEUES, "--with-scheduler")
        self._run("cron", "manage.py", "run_cron")
        try:
            yield
        finally:
            processes.stop(self._running[started:], [(15, 30.0)])  # type: ignore[list-item]
            del self._running[started:]

    def mails_to(self, address: str) -> list[EmailMessage]:
        """The mails that were sent to ``address``, oldest first."""
        found: list[EmailMessage] = []
        for file in sorted(self.mail.iterdir(), key=lambda path: path.stat().st_mtime_ns):
            for raw in file.read_bytes().split(_BETWEEN_MAILS):
                if raw.strip():
                    found.append(email.message_from_bytes(raw, policy=email.policy.default))
        return [mail for mail in found if mail["To"] == address]

    def log(self, name: str, since: int = 0) -> str:
        """What a process wrote so far, without the first ``since`` characters."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[since:]

    def _spawn(self, module: str, *arguments: str) -> None:
        self._run(module, "-m", module, *arguments)

    def _run(self, name: str, *arguments: str) -> None:
        command = [sys.executable, *arguments]
        self._running.append(processes.spawn(command, log=self.folder / f"{name}.log", directory=ROOT, env=self.env))

    def _wait(self, own: Mapping[str, int]) -> None:
        def ended() -> bool:
            return any(process.poll() is not None for process in self._running)

        processes.wait_until(lambda: ended() or all(map(processes.answers, own.values())), START_SECONDS, every=0.1)
        if ended() or not all(map(processes.answers, own.values())):
            logs = "\n".join(processes.last_lines(log) for log in self.folder.glob("*.log"))
            self.stop()
            raise RuntimeError(f"the installation does not start:\n{logs}")


def _outside() -> dict[str, str]:
    """The test run's own variables but its mail, which goes to files here. Secrets are shared: so are sessions.

    Customers' servers stand on this machine.
    """
    own = {name: value for name, value in os.environ.items() if name != "EMAIL_URL"}
    return {**own, "EGRESS_ALLOW": "webhook=127.0.0.1"}
