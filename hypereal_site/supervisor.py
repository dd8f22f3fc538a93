"""Runs all processes of one installation on this machine: what `python3 run.py` hands over to.

Order of start: PostgreSQL, Redis, stand-ins for outside services, migrations and demo data, web, worker, cron.
Order of stop: web (it drains), cron and worker, stand-ins, Redis, PostgreSQL.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from hypereal_site import local_env, processes
from hypereal_site.embedded import EmbeddedError, Postgres, Redis

ROOT = Path(__file__).resolve().parent.parent
#: Every process of a run bears this variable with the run's own random value: by it the next run knows leftovers.
MARK = "HYPEREAL_RUN"
DEFAULT_PORT = 8000
HIGHEST_PORT = 65_000  # leaves room above for the stand-ins
PORTS_TO_TRY = 100
WEB_SECONDS = 60.0
#: Longer than the web process takes itself for open streams (GATEWAY_DRAIN_SECONDS) and pages.
WEB_DRAIN_SECONDS = 40.0
PREPARE_SECONDS = 300.0
#: Each group ends side by side, within its seconds. Web first: open streams find everything they need.
STOP_ORDER = ((("web",), WEB_DRAIN_SECONDS), (("cron", "worker"), 10.0), (("demo-stripe", "sandbox", "gpu"), 5.0))
RESTARTS = 5
RESTART_WINDOW_SECONDS = 300.0
#: Asks our own web process, never by way of a proxy that the environment names.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class StopRequested(BaseException):
    """Ctrl-C or SIGTERM came."""


class CannotRun(Exception):
    """The installation cannot start or go on; the message is for the person at the terminal."""


@dataclass
class Child:
    """One process of the installation."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    restarts: deque[float] = field(default_factory=deque)

    def may_restart(self, now: float) -> bool:
        """Count one more restart; False when there were too many within the window."""
        while self.restarts and self.restarts[0] < now - RESTART_WINDOW_SECONDS:
            self.restarts.popleft()
        self.restarts.append(now)
        return len(self.restarts) <= RESTARTS


class Supervisor:
    """Starts, watches and stops PostgreSQL, Redis and the processes of the product. Use it from the main thread."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        #: Data, logs and secrets; another folder makes another installation of the same code.
        self.var = Path(os.environ.get("HYPEREAL_VAR") or root / "var").resolve()
        self.logs = self.var / "log"
        self.run_file = self.var / "run.json"
        self.started = float(os.environ.pop("HYPEREAL_STARTED_AT", time.time()))
        self.mark = secrets.token_hex(16)
        self.env: dict[str, str] = {}
        self.servers: list[Postgres | Redis] = []
        self.children: list[Child] = []
        self.stopping = False
        self._lock: IO[str] | None = None

    def run(self) -> int:
        """Run until asked to stop; the exit status."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        status = 0
        try:
            self._start()
            self._watch()
        except StopRequested:
            self.say("stopping (once more to hurry)")
        except (CannotRun, EmbeddedError) as error:
            _print(str(error), sys.stderr)
            status = 1
        finally:
            self.stopping = True
            self._stop()
        return status

    def say(self, text: str) -> None:
        """One line for the person at the terminal, with the seconds since the start."""
        _print(f"[{time.time() - self.started:5.1f} s] {text}")

    # ── Start ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        (self.var / "mail").mkdir(mode=0o700, exist_ok=True)
        self._take_lock()
        self._end_leftovers()
        self._note_run()
        port = self._choose_port()
        # Beside the web port, not anywhere: links to the stand-in's receipts should work after the next start too.
        stripe_port = _first_free_port(port + 1)
        sandbox_port = _first_free_port(stripe_port + 1)
        self.env = local_env.environment(
            os.environ,
            self.var,
            database_url=os.environ.get("DATABASE_URL") or self._start_server(Postgres(self.var / "postgres")),
            redis_url=os.environ.get("REDIS_URL") or self._start_server(Redis(self.var / "redis")),
            port=port,
            stripe_port=stripe_port,
            sandbox_port=sandbox_port,
            gpu_port=_first_free_port(sandbox_port + 1),
        )
        self.env[MARK] = self.mark
        self._start_stand_ins()
        demo = self._prepare()
        self._start_product(port)
        self._note_run()
        self._tell(demo)

    def _start_server(self, server: Postgres | Redis) -> str:
        server.log = self.logs / f"{server.program}.log"
        self.servers.append(server)
        url = server.start()
        self.say(f"{server.title} is ready")
        return url

    def _start_stand_ins(self) -> None:
        """Servers that play outside services as long as the outside names no real ones."""
        python = sys.executable
        if not os.environ.get("SANDBOX_BASE_URL"):
            port = self.env["SANDBOX_BASE_URL"].rpartition(":")[2]
            self._add(Child("sandbox", [python, "-m", "upstreams.sandbox", "--port", port]))
        if not local_env.uses_real_stripe(os.environ):
            port = self.env["STRIPE_API_BASE"].rpartition(":")[2]
            state = str(self.var / "demo-stripe.json")
            command = [python, "-m", "billing.demo_stripe.server", "--port", port, "--state", state]
            self._add(Child("demo-stripe", command))

        if local_env.uses_local_engine(os.environ):
            port = self.env["GPU_LOCAL_URL"].rpartition(":")[2]
            folder = str(self.var / "gpu")
            self._add(Child("gpu", [python, "-m", "infra.local_engine", "--port", port, "--folder", folder]))

    def _start_product(self, port: int) -> None:
        python = sys.executable
        web = Child("web", [python, "-m", "hypereal_site.serve", "--role", "all", "--port", str(port)])
        self._add(web)
        if not processes.wait_until(lambda: _ended(web) or _serves(port), WEB_SECONDS, every=0.1) or _ended(web):
            raise CannotRun(f"The web process does not answer:\n{self._last_lines(web.name)}")
        queues = ["critical", "default", "media", "bulk"]
        self._add(Child("worker", [python, "manage.py", "rqworker", *queues, "--with-scheduler"]))
        self._add(Child("cron", [python, "manage.py", "run_cron"]))

    def _prepare(self) -> dict[str, str]:
        """Migrate and load data; the demo's credentials (empty outside a demo)."""
        log = processes.fresh_log(self.logs / "prepare.log")
        env = dict(self.env)
        if any(isinstance(server, Postgres) for server in self.servers):
            # Migrations flush hundreds of times, and a start that a power cut ends is simply done again.
            env["PGOPTIONS"] = "-c synchronous_commit=off"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                processes.launched([sys.executable, "-m", "hypereal_site.prepare"], directory=self.root),
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # it ends with the demo's key, which belongs into no log
                stderr=errors,
                start_new_session=True,
            )
            try:
                output, _ = process.communicate(timeout=PREPARE_SECONDS)
            except BaseException:
                processes.kill_group(process)
                raise
        if process.returncode != 0:
            raise CannotRun(f"The database could not be prepared:\n{processes.last_lines(log)}")
        self.say("database and catalogue are up to date")
        lines = output.decode().strip().splitlines()
        return dict(json.loads(lines[-1])) if lines and lines[-1].startswith("{") else {}

    def _tell(self, demo: dict[str, str]) -> None:
        self.say(f"Hypereal runs at {self.env['SITE_URL']}")
        if demo:
            _print(f"\n  Sign in   {demo['email']}  {demo['password']}\n  API key   {demo['api_key']}")
            _print(f"  Both are kept in {self.var}/demo.json; mails go to mail and logs to log beside it.")
        _print("  Ctrl-C stops everything and keeps the data.\n")

    def _choose_port(self) -> int:
        wanted = os.environ.get("PORT") or str(DEFAULT_PORT)
        if not (wanted.isdigit() and 0 < int(wanted) <= HIGHEST_PORT):
            raise CannotRun(f"PORT must be a number from 1 to {HIGHEST_PORT}, not {wanted!r}.")
        port = _first_free_port(int(wanted))
        if port != int(wanted):
            self.say(f"port {wanted} is taken, so this is port {port}")
        return port

    def _add(self, child: Child) -> None:
        processes.fresh_log(self.logs / f"{child.name}.log")
        self.children.append(child)
        self._spawn(child)

    def _spawn(self, child: Child) -> None:
        log = self.logs / f"{child.name}.log"
        child.process = processes.spawn(child.command, log=log, directory=self.root, env=self.env)

    # ── Runs that overlap ────────────────────────────────────────────────────────────────────────────────────────────

    def _take_lock(self) -> None:
        self._lock = (self.var / "supervisor.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock = None
            other = self._last_run()
            where = f" at {other['url']}" if other.get("url") else ""
            raise CannotRun(f"Hypereal already runs from this folder{where} (process {other.get('pid')}).") from None

    def _end_leftovers(self) -> None:
        """End what a killed supervisor left: nobody but the processes of that run bears its random mark."""
        mark = self._last_run().get("mark")
        if not mark:
            return
        try:
            processes.end_leftovers(lambda: processes.bearing(MARK, mark), [(signal.SIGTERM, 5.0)])
        except TimeoutError as error:
            raise CannotRun(f"Cannot start: {error}.") from None

    def _last_run(self) -> dict[str, str]:
        try:
            return dict(json.loads(self.run_file.read_text()))
        except (OSError, ValueError):
            return {}

    def _note_run(self) -> None:
        note = {"pid": str(os.getpid()), "mark": self.mark, "url": self.env.get("SITE_URL", "")}
        processes.write_private(self.run_file, json.dumps(note) + "\n")

    # ── Watch ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _watch(self) -> NoReturn:
        restarts = {server.title: Child(server.title, []) for server in self.servers}
        while True:
            for server in self.servers:
                if not server.running:
                    self._count_restart(restarts[server.title], server.poll(), server.log)
                    server.start()
            for child in self.children:
                if _ended(child):
                    assert child.process is not None
                    self._count_restart(child, child.process.returncode, self.logs / f"{child.name}.log")
                    processes.kill_group(child.process)
                    self._spawn(child)
            time.sleep(0.3)

    def _count_restart(self, child: Child, status: int | None, log: Path) -> None:
        """Tell that a process ended; raise CannotRun when it does so again and again."""
        self.say(f"{child.name} ended with status {status}; its log {log} ends so:\n{processes.last_lines(log)}")
        if not child.may_restart(time.monotonic()):
            raise CannotRun(
                f"{child.name} ended {RESTARTS + 1} times within {RESTART_WINDOW_SECONDS:.0f} s: giving up."
            )
        time.sleep(min(2.0 ** len(child.restarts) / 4, 5.0))
        self.say(f"starting {child.name} again")

    def _last_lines(self, name: str) -> str:
        return processes.last_lines(self.logs / f"{name}.log")

    # ── Stop ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.stopping:
            self.stopping = True
            raise StopRequested
        for child in self.children:  # asked again: no more waiting for open streams and jobs
            if child.process is not None and not _ended(child):
                os.killpg(child.process.pid, signal.SIGKILL)

    def _stop(self) -> None:
        if self._lock is None:
            return  # nothing was started: another run has the folder
        for names, seconds in STOP_ORDER:
            members = [child.process for child in self.children if child.name in names and child.process is not None]
            processes.stop(members, [(signal.SIGTERM, seconds)])
        # A grandchild that left its group (a job's own process, say) still bears the mark.
        try:
            processes.end_leftovers(lambda: processes.bearing(MARK, self.mark), [])
        except TimeoutError as error:
            self.say(str(error))
        for server in reversed(self.servers):
            server.stop()
        self.run_file.unlink(missing_ok=True)
        self.say("stopped")


def _first_free_port(first: int) -> int:
    for port in range(first, first + PORTS_TO_TRY):
        try:
            processes.reserve_port(port).close()
        except PermissionError:
            raise CannotRun(f"This user may not listen on port {port}: set PORT to 1024 or more.") from None
        except OSError:
            continue
        return port
    raise CannotRun(f"Ports from {first} on are all taken: set PORT to a free one.")


def _print(text: str, file: IO[str] | None = None) -> None:
    try:
        print(text, file=file, flush=True)
    except OSError:
        pass  # the terminal is gone; what runs must still be stopped in order


def _ended(child: Child) -> bool:
    return child.process is not None and child.process.poll() is not None


def _serves(port: int) -> bool:
    """Does the web process answer a request without an error of its own?"""
    try:
        with _DIRECT.open(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return int(answer.status) < 500
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def main() -> None:
    """Entry of ``python -m hypereal_site.supervisor``."""
    os.chdir(ROOT)
    sys.exit(Supervisor().run())


if __name__ == "__main__":
    main()
