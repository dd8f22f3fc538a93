"""The real gateway for a whole test session: processes of their own on a database cloned from the test database.

What they write stays, so every test works on a payer and a model of its own and nothing is ever emptied; at the very
end the books of all of them must agree. While a test uses the `gateway` fixture, Django's default connection in the
test process is that database too, without a transaction around it.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
import pytest_django

from catalog import prices
from catalog.models import Model, Provider, Target
from catalog.pricing import Rates, ServiceTier, TokenRates
from core import ids
from hypereal_site import processes
from keys import auth
from keys.models import ApiKey
from keys.secret import new_secret
from orgs.permissions import Role
from tests import factories
from tests.fakes import upstream as fake
from tests.support import http, ports
from tests.support.databases import on_database, proven
from tests.support.money import Books, Payer, new_payer

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
CREDIT = 1_000_000
#: Seconds that something may take which needs none: much else runs on the machine, and its disk stalls.
PATIENCE = 60.0
#: Small steps, and a patience that a machine which stands still for seconds does not use up.
SETTINGS = {
    "GATEWAY_KEEPALIVE_SECONDS": "15",
    "GATEWAY_CONNECT_SECONDS": "20",
    "GATEWAY_FIRST_BYTE_SECONDS": "30",
    "GATEWAY_IDLE_SECONDS": "30",
    "GATEWAY_TOTAL_SECONDS": "240",
    "GATEWAY_SLOW_READER_SECONDS": "30",
    "GATEWAY_LEFT_CLIENT_READ_ON_SECONDS": "0.8",
    "GATEWAY_SETTLE_WAIT_SECONDS": "60",
    "GATEWAY_DRAIN_SECONDS": "1",
    "GATEWAY_STEP_OUTPUT_TOKENS": "64",
    "RATE_LIMIT_PER_MINUTE": "1000",
}
#: Times short enough to be waited for: of a gateway whose tests wait for them.
QUICK = {"GATEWAY_KEEPALIVE_SECONDS": "0.4", "GATEWAY_SLOW_READER_SECONDS": "1.5"}
#: One credit a thousand input tokens, four a thousand output tokens, a tenth for cached input.
RATES = Rates(tokens=TokenRates(input=1000 * CREDIT, cached_input=100 * CREDIT, output=4000 * CREDIT))
RATES_WITH_TIERS = Rates(
    tokens=RATES.tokens,
    service_tiers=(ServiceTier("priority", TokenRates(input=2000 * CREDIT, output=8000 * CREDIT)),),
)


def price_of(prompt: int, output: int, cached: int = 0) -> int:
    """Microcredits of a call at RATES."""
    return (prompt - cached) * 1000 + cached * 100 + output * 4000


@dataclass
class Server:
    """One gateway process."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path
    role: str = "gateway"

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = PATIENCE) -> int:
        """Signal it and wait; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


@dataclass(frozen=True)
class Caller(Payer):
    """A payer who knows their key's secret and calls the gateway with it."""

    secret: str = field(default="", repr=False)
    port: int = 0

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> http.Reply:
        return http.send(self.port, method, path, body, self.headers(headers))

    def chat(self, model: str, **fields: Any) -> http.Reply:
        """A chat call, answered whole (a stream is read to its end)."""
        headers = fields.pop("headers", {})
        return http.send(self.port, "POST", "/v1/chat/completions", body_of(model, **fields), self.headers(headers))

    @contextmanager
    def stream(self, model: str, **fields: Any) -> Iterator[http.Stream]:
        """A streamed chat call, read by hand."""
        body = body_of(model, stream=True, **fields)
        with http.opened(self.port, "POST", "/v1/chat/completions", body, self.headers({})) as stream:
            yield stream

    def headers(self, more: Mapping[str, str]) -> dict[str, str]:
        given = {name.replace("_", "-"): value for name, value in more.items()}
        return {"authorization": f"Bearer {self.secret}", **given}

    def settled_books(self, rows: int = 1, seconds: float = PATIENCE) -> Books:
        """The books once nothing of this payer is open and the log has that many rows."""
        wait_for(lambda: len(self.books().log) >= rows and "pending" not in self.books().holds, seconds)
        return self.books()


def in_organization(caller: Caller) -> Caller:
    """The same person with the same key, which is an organization's now."""
    workspace = factories.organization()
    factories.member(workspace, Role.DEVELOPER, caller.user)
    ApiKey.objects.filter(pk=caller.key.pk).update(workspace=workspace)
    return replace(caller, workspace=workspace)


def body_of(model: str, text: str = "Say hello", **fields: Any) -> dict[str, Any]:
    """A chat body."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


class Gateway:
    """The database of a session's gateways, their processes, and the provider behind them."""

    def __init__(self, database: str, upstream: fake.Upstream, logs: Path, **settings: str) -> None:
        self.database = database
        self.upstream = upstream
        self.logs = logs
        #: What every process gets on top of SETTINGS; a DATABASE_URL here names another server than the test run's.
        self._settings = settings
        self._servers: dict[tuple[tuple[str, str], ...], Server] = {}
        self._all: list[Server] = []
        self._ending: list[Server] = []
        self._models: list[str] = []

    @property
    def port(self) -> int:
        """The port of the gateway that tests share."""
        return self.with_settings().port

    def with_settings(self, **settings: str) -> Server:
        """A gateway with these variables on top of SETTINGS, started once a module; without any: once a session."""
        name = tuple(sorted(settings.items()))
        server = self._servers.get(name)
        if server is None or server.process.poll() is not None:
            server = self._servers[name] = self.start(**settings)
        return server

    def start(self, role: str = "gateway", **settings: str) -> Server:
        """One more gateway process, for a test that will end it."""
        port = ports.free_port()
        log = self.logs / f"{role}-{port}.log"
        command = [sys.executable, "-m", "hypereal_site.serve", "--role", role, "--port", str(port)]
        process = processes.spawn(command, log=log, directory=ROOT, env=self.environment(**settings))
        server = Server(port, process, log, role)
        self._all.append(server)
        if not processes.wait_until(
            lambda: processes.answers(port) or process.poll() is not None, 2 * PATIENCE, every=0.05
        ):
            raise TimeoutError("the gateway does not start")
        if process.poll() is not None:
            raise RuntimeError(f"the gateway ended at its start:\n{processes.last_lines(log)}")
        return server

    def environment(self, **settings: str) -> dict[str, str]:
        """The variables of a process that works on this database."""
        given = {**os.environ, **SETTINGS, **self._settings, **settings}
        address = urlsplit(given["DATABASE_URL"])
        return {**given, "DATABASE_URL": address._replace(path=f"/{self.database}").geturl()}

    def caller(self, credits: int = 1000, server: Server | None = None, **key: Any) -> Caller:
        """A new payer with a key that works. ``key`` sets columns of the key."""
        payer = new_payer(credits * CREDIT)
        secret = new_secret()
        ApiKey.objects.filter(pk=payer.key.pk).update(secret_hash=auth.hash_of(secret), **key)
        payer.key.refresh_from_db()
        return Caller(payer.user, payer.workspace, payer.key, secret, server.port if server else self.port)

    def model(
        self, *behaviours: fake.Behaviour | fake.Route | str, rates: Rates = RATES, name: str = "", **columns: Any
    ) -> str:
        """A new model whose chain is these providers, in order; returns its id once the gateways know it."""
        slug = self.new_model(*behaviours, rates=rates, name=name, **columns)
        self.until_known(slug)
        return slug

    def new_model(
        self,
        *behaviours: fake.Behaviour | fake.Route | str,
        rates: Rates = RATES,
        name: str = "",
        kind: str = "chat",
        adapter: str = "openai",
        options: Mapping[str, Any] | None = None,
        **columns: Any,
    ) -> str:
        """`model` without the wait, for who makes many.

        ``kind`` is the endpoint kind that all of it speaks, ``options`` is what the gateways know of all its providers.
        """
        slug = name or f"m-{ids.uuid7().hex[-12:]}"
        vendor: Provider | None = None
        targets: list[tuple[Provider, int]] = []
        for position, behaviour in enumerate(behaviours):
            if callable(behaviour):
                behaviour = self.upstream.serve(behaviour)
            base_url, its = (behaviour, {}) if isinstance(behaviour, str) else (behaviour.base_url, behaviour.options)
            provider = Provider(
                slug=f"{slug}-p{position}", name=f"Fake {position}", adapter=adapter, base_url=base_url, kinds=[kind],
                options={**(options or {}), **its},
            )  # fmt: skip
            provider.set_secret(f"sk-upstream-{slug}")
            provider.save()
            vendor = vendor or provider
            targets.append((provider, position))
        if vendor is None:
            vendor = Provider.objects.create(slug=f"{slug}-p", name="Nobody", adapter=adapter, kinds=[kind])
        values = {"max_output_tokens": 4096, "default_max_output_tokens": 1024, **columns}
        model = Model.objects.create(slug=slug, name=slug, vendor=vendor, endpoints=[kind], **values)
        for provider, position in targets:
            Target.objects.create(model=model, provider=provider, upstream_model=f"up-{slug}", position=position)
        prices.publish(model, rates, list_rates=rates, factor_basis_points=10_000)
        self._models.append(slug)
        return slug

    @contextmanager
    def connected(self, blocker: pytest_django.DjangoDbBlocker) -> Iterator[None]:
        """For as long as the block lasts Django's default connection is on the gateways' database."""
        with blocker.unblock(), on_database(self.database):
            yield

    def until_known(self, slug: str) -> None:
        """Wait until every living gateway serves the model."""
        probe = self._probe()
        for server in [server for server in self._all if server.role != "web"] or [self.with_settings()]:
            wait_for(functools.partial(_knows, server, slug, probe), PATIENCE)

    def tidy(self) -> None:
        """End the gateways with settings of their own, and take the models out of the catalog.

        Each change of the catalog has every gateway read all of it anew: a session's hundreds of models in a dozen
        processes would be most of what the session does.
        """
        shared = self._servers.get(())
        for server in [server for server in self._all if server is not shared]:
            self._end(server)
        self._servers = {(): shared} if shared is not None else {}
        Provider.objects.filter(targets__model__slug__in=self._models).update(enabled=False)
        Model.objects.filter(slug__in=self._models).update(enabled=False)
        self._models.clear()

    def _end(self, server: Server) -> None:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGTERM)
        self._all.remove(server)
        self._ending.append(server)

    def stop(self) -> None:
        for server in tuple(self._all):
            self._end(server)
        for server in self._ending:
            try:
                server.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                processes.kill_group(server.process)

    def _probe(self) -> dict[str, str]:
        if not hasattr(self, "_probe_secret"):
            self._probe_secret = self.caller(0).secret
        return {"authorization": f"Bearer {self._probe_secret}"}


def _knows(server: Server, slug: str, headers: Mapping[str, str]) -> bool:
    if server.process.poll() is not None:
        return True
    try:
        return http.send(server.port, "GET", f"/v1/models/{slug}", None, headers).status == 200
    except OSError:  # it is just ending
        return False


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until ``condition`` holds. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("it did not come to be in time")
        time.sleep(0.02)


def wait_for_the_minute(seconds: float = 20.0) -> None:
    """Wait, where it must be, until so much is left of the running minute: allowances begin anew with each."""
    wait_for(lambda: time.time() % 60 < 60 - seconds, seconds + 1)


@pytest.fixture(scope="session")
def _gateway_session(
    test_database: None,
    django_db_blocker: pytest_django.DjangoDbBlocker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    with proven("gateway", django_db_blocker) as name, fake.running() as upstream:
        gateway = Gateway(name, upstream, tmp_path_factory.mktemp("gateway"))
        try:
            yield gateway
        finally:
            gateway.stop()


@pytest.fixture(scope="module")
def _tidied_gateway(_gateway_session: Gateway, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[None]:
    yield
    with _gateway_session.connected(django_db_blocker):
        _gateway_session.tidy()


@pytest.fixture
def gateway(
    _gateway_session: Gateway, _tidied_gateway: None, django_db_blocker: pytest_django.DjangoDbBlocker
) -> Iterator[Gateway]:
    """The session's gateway; the test's own database access is on the gateway's database and is committed."""
    with _gateway_session.connected(django_db_blocker):
        yield _gateway_session
