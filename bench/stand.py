"""The stand: PostgreSQL that writes to the disk, Redis, the upstream, and the gateway as production runs it.

The gateway has a core for itself; everything else, the load included, shares the others.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from bench import machine, metronome
from bench.books import Books
from bench.driver import Endpoint
from bench.formats import CHAT, OTHERS
from bench.metronome import Metronome
from bench.prices import MODELS, MODELS_OF_OTHERS
from hypereal_site import processes
from hypereal_site.embedded import Postgres, Redis

ROOT: Final = Path(__file__).resolve().parents[1]
SCRATCH: Final = ROOT / "var" / "bench"
START_SECONDS: Final = 90.0
_SEED_SECONDS: Final = 180.0
_STOP_STEPS: Final = ((signal.SIGTERM, 20.0),)
_API: Final = "/api/v1"


class StandError(Exception):
    """Something that is measured does not start or does not stop; the message is for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A gateway under measurement, reached in two paces of the same upstream."""

    name: str
    pid: int
    fast: Endpoint
    paced: Endpoint
    #: What works for it beside its own process, by name.
    helpers: Mapping[str, int]
    #: Requests a second above which its core is too busy for latencies to say anything.
    most_rate: float = float("inf")


@dataclass(frozen=True, slots=True)
class Upstream:
    """The running upstream."""

    port: int

    def direct(self, pace: str) -> Endpoint:
        """The way to it without any gateway."""
        return Endpoint(self.port, f"/direct/{pace}/v1/chat/completions", "bench")

    def calls(self, who: str) -> int:
        """How many calls of ``who`` it has seen."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/calls")
            counts: dict[str, int] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return counts.get(who, 0)


class Stand:
    """What stands while `standing` is open."""

    def __init__(
        self,
        upstream: Upstream,
        own: Candidate,
        others: Mapping[str, Candidate],
        metronome: Metronome,
        gateway: subprocess.Popen[bytes],
        env: Mapping[str, str],
    ) -> None:
        self.upstream = upstream
        self.own = own
        #: The same gateway by the formats beside chat. They have no paced upstream.
        self.others = others
        self.metronome = metronome
        self._gateway = gateway
        self._env = env

    def close_books(self) -> Books:
        """Stop the gateway in order and read what it left."""
        processes.stop([self._gateway], _STOP_STEPS)
        if self._gateway.returncode != 0:
            raise StandError(f"The gateway ended with {self._gateway.returncode} instead of 0.")
        return msgspec.json.decode(_ask_database(self._env, "books"), type=Books)


@contextmanager
def standing() -> Iterator[Stand]:
    """Bring everything up, from an empty database, and leave nothing behind."""
    gateway_core, other_cores = machine.cores()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with machine.on(other_cores), ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=SCRATCH, ignore_cleanup_errors=True)))
        postgres, redis = Postgres(folder / "postgres"), Redis(folder / "redis")
        for server in (postgres, redis):
            stack.callback(server.stop)
        env = _environment(postgres.start(), redis.start())
        upstream = stack.enter_context(running_upstream(folder))
        secret = _ask_database(env, "seed", str(upstream.port))
        port = processes.free_port()
        serve = [sys.executable, "-m", "hypereal_site.serve", "--role", "gateway", "--port", str(port)]
        with machine.on({gateway_core}):
            gateway = processes.spawn(serve, log=folder / "gateway.log", directory=ROOT, env=env)
        stack.callback(processes.stop, [gateway], _STOP_STEPS)
        wait_until_serving(gateway, port, folder / "gateway.log", "The gateway")
        headers = {"authorization": f"Bearer {secret}"}
        fast, paced = (Endpoint(port, _API + CHAT.path, MODELS[pace], headers) for pace in ("fast", "paced"))
        assert postgres.process is not None and redis.process is not None
        helpers = {"PostgreSQL": postgres.process.pid, "Redis": redis.process.pid}
        beats = stack.enter_context(metronome.running(gateway_core, folder))
        own = Candidate("Hypereal", gateway.pid, fast, paced, helpers)
        others = {}
        for form in OTHERS:
            endpoint = Endpoint(port, _API + form.path, MODELS_OF_OTHERS[form.name], headers, form)
            others[form.name] = replace(own, fast=endpoint)
        yield Stand(upstream, own, others, beats, gateway, env)


@contextmanager
def running_upstream(folder: Path) -> Iterator[Upstream]:
    """The upstream on a free port."""
    port = processes.free_port()
    command = [sys.executable, "-m", "bench.upstream", "--port", str(port)]
    process = processes.spawn(command, log=folder / "upstream.log", directory=ROOT)
    try:
        wait_until_serving(process, port, folder / "upstream.log", "The upstream")
        yield Upstream(port)
    finally:
        processes.kill_group(process)


def wait_until_serving(process: subprocess.Popen[bytes], port: int, log: Path, what: str) -> None:
    """Raises StandError when ``process`` ends or takes too long before it listens."""
    processes.wait_until(lambda: processes.answers(port) or process.poll() is not None, START_SECONDS, every=0.1)
    if process.poll() is not None or not processes.answers(port):
        raise StandError(f"{what} does not start; its log ends so:\n{processes.last_lines(log)}")


def _environment(database_url: str, redis_url: str) -> dict[str, str]:
    """As in production, whatever the caller's own environment says: durable settlements, every feature on."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "DJANGO_SETTINGS_MODULE": "hypereal_site.settings",
        "DJANGO_SECRET_KEY": secrets.token_urlsafe(48),
        "ENCRYPTION_KEYS": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "API_KEY_PEPPER": secrets.token_urlsafe(32),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "COMMIT_MODE": "durable",
        # Counted in full, refusing nobody.
        "RATE_LIMIT_PER_MINUTE": "1000000000",
        "TZ": "UTC",
    }


def _ask_database(env: Mapping[str, str], *arguments: str) -> str:
    """Run `bench.database` and return its last line."""
    command: Sequence[str] = [sys.executable, "-m", "bench.database", *arguments]
    try:
        done = subprocess.run(
            command, env=dict(env), cwd=ROOT, capture_output=True, text=True, timeout=_SEED_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise StandError(f"bench.database {arguments[0]} took longer than {_SEED_SECONDS:.0f} seconds.") from None
    if done.returncode != 0:
        raise StandError(f"bench.database {arguments[0]} failed:\n{done.stderr[-3000:]}")
    return done.stdout.splitlines()[-1]
