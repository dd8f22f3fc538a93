"""Everything that can die, dying: what is done to an installation, and the calls that go on meanwhile."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import psycopg

from hypereal_site.embedded import Redis
from tests.fakes import upstream as fake
from tests.fakes.upstream import Conversation
from tests.support import load
from tests.support.gateway import Caller, Server, price_of
from tests.support.installation import Installation, kill
from tests.support.load import Outcome

PRICE = price_of(40, 20)
#: Hours shortened to seconds; a settlement holds its answer back however long it takes, so whole means settled.
SETTINGS = {
    "HOLD_HEARTBEAT_SECONDS": "0.2",
    "HOLD_OWNER_DEAD_SECONDS": "3",
    "SWEEP_SECONDS": "0.5",
    "GATEWAY_SETTLE_WAIT_SECONDS": "120",
    "GATEWAY_TOTAL_SECONDS": "60",
    "RATE_LIMIT_PER_MINUTE": "1000000",
}


async def steady(talk: Conversation) -> None:
    """Every call costs PRICE."""
    if not talk.body.get("stream"):
        await talk.gone(0.05)
        await talk.json(fake.completion("Hello", 40, 20))
        return
    await talk.start()
    for _ in range(6):
        await talk.chunk("some words ")
        await talk.gone(0.02)
    await talk.send(fake.event("", finish="stop", usage=fake.usage(40, 20)))
    await talk.send(fake.DONE)
    await talk.end()


async def lengthy(talk: Conversation) -> None:
    """A stream of a few seconds that outgrows its first steps."""
    await talk.start()
    for _ in range(100):
        await talk.chunk("sixteen letters!")
        await talk.gone(0.03)
    await talk.send(fake.event("", finish="stop", usage=fake.usage(40, 400)))
    await talk.send(fake.DONE)
    await talk.end()


async def unreliable(talk: Conversation) -> None:
    """Fails in one of its ways, by turns."""
    match talk.attempt % 4:
        case 0:
            await talk.json({"error": {"message": "no"}}, 500)
        case 1:
            await talk.start()
            await talk.chunk("half a word")
            await talk.gone(0.02)
            talk.cut()
        case 2:
            await talk.json(b'{"choices": [{"mess')
        case _:
            await steady(talk)


@dataclass
class Crowd:
    """Callers with and without money, and what they call."""

    installation: Installation
    rich: list[Caller]
    poor: Caller
    models: dict[str, str]
    servers: list[Server]
    names: int = 0
    #: By the request's id: which kind of call it was.
    kinds: dict[str, str] = field(default_factory=dict)

    def make(self, chances: random.Random) -> Awaitable[Outcome]:
        return self._call(chances, chances.choices(["steady", "lengthy", "unreliable", "poor"], [8, 2, 1, 2])[0])

    async def _call(self, chances: random.Random, kind: str) -> Outcome:
        caller = self.poor if kind == "poor" else chances.choice(self.rich)
        model = self.models["steady" if kind == "poor" else kind]
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "hi"}],
            "stream": kind == "lengthy" or chances.random() < 0.5,
            "max_tokens": 1000,
        }
        leave_after = chances.choice([None, None, None, None, 0, 1, 4]) if kind != "poor" else None
        headers = {}
        if chances.random() < 0.2:
            self.names += chances.random() < 0.6  # else the name of the call before, which another caller may bear
            headers["idempotency_key"] = f"name-{self.names}"
        port = chances.choice(self.servers).port
        outcome = await load.call(port, caller.secret, body, leave_after=leave_after, seconds=100, **headers)
        if outcome.request_id:
            self.kinds[outcome.request_id] = kind
        return outcome


class Chaos:
    """One blow after another, from the main thread, for processes die with the thread that started them."""

    def __init__(self, crowd: Crowd, redis: Redis, chances: random.Random) -> None:
        self.done: Counter[str] = Counter()
        self._crowd = crowd
        self._installation = crowd.installation
        self._redis = redis
        self._chances = chances
        self._blows: list[tuple[Callable[[], None], int]] = [
            (self.kill_a_gateway, 4),
            (self.end_a_gateway, 2),
            (self.stop_a_gateway_for_a_while, 2),
            (self.kill_the_database, 3),
            (self.cut_its_connections, 3),
            (self.lock_a_wallet, 2),
            (self.kill_redis, 1),
        ]

    def rage(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(self._chances.uniform(0.2, 2.0))
            [blow] = self._chances.choices([blow for blow, _ in self._blows], [weight for _, weight in self._blows])
            blow()
            self.done[blow.__name__] += 1

    def kill_a_gateway(self) -> None:
        at = self._at()
        kill(self._crowd.servers[at])
        self._start_again(at)

    def end_a_gateway(self) -> None:
        at = self._at()
        assert self._crowd.servers[at].stop(seconds=60) == 0
        self._start_again(at)

    def stop_a_gateway_for_a_while(self) -> None:
        """Sometimes for longer than the dead are waited for."""
        server = self._crowd.servers[self._at()]
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(self._chances.choice([0.2, 1.0, 5.0]))
        server.process.send_signal(signal.SIGCONT)

    def kill_the_database(self) -> None:
        self._installation.restart_database(self._chances.choice([0.0, 0.0, 2.0, 6.0]))

    def cut_its_connections(self) -> None:
        with psycopg.connect(self._installation.cluster.url, autocommit=True) as control:
            control.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hypereal-gateway'"
            )

    def lock_a_wallet(self) -> None:
        with self._installation.locked(self._chances.choice(self._crowd.rich)):
            time.sleep(self._chances.uniform(0.1, 1.0))

    def kill_redis(self) -> None:
        self._redis.kill()
        time.sleep(0.5)
        self._redis.start()

    def _at(self) -> int:
        return self._chances.randrange(len(self._crowd.servers))

    def _start_again(self, at: int) -> None:
        self._crowd.servers[at] = self._installation.start(REDIS_URL=self._redis.url, **SETTINGS)
