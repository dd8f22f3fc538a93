"""What a gateway has one of per event loop: pool, committer, directory, limiter, breaker, catalog, open calls."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakKeyDictionary

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connections
from psycopg.conninfo import make_conninfo

from catalog.models import CHANNEL as CATALOG_CHANNEL
from catalog.target_health import ProcessReport
from core.body import InFlight
from core.errors import Overloaded, TimedOut
from core.ratelimit import Limiter
from gateway.breaker import Breaker
from gateway.catalog_cache import CatalogCache
from gateway.failover import Failover
from gateway.health import Publisher
from gateway.limits import Limits
from gateway.notices import Notices
from gateway.writer import Writer
from keys.directory import CHANNEL as KEYS_CHANNEL
from keys.directory import Directory
from upstreams.client import Pool
from usage.committer import Committer

if TYPE_CHECKING:
    from gateway.pump import Run

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TICK_SECONDS: Final = 0.02
#: How long a reader of the log waits for its turn and its answer.
_READ_SECONDS: Final = 10.0
#: Threads for what is ordinary Django behind a key: jobs, files, deployments. Each keeps one connection.
_WORKERS: Final = 4
_WORK_SECONDS: Final = 30.0
#: Each lies on the disk while it comes.
_MOST_UPLOADS: Final = 32
#: A database host that vanished without a word is noticed within half a minute, not when TCP gives up.
_NOTICE_A_DEAD_SERVER: Final = {
    "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000,
}  # fmt: skip


class Runtime:
    """Everything that calls share. Made and closed on the loop that uses it."""

    def __init__(self, limits: Limits, dsn: str, redis_url: str | None, *, rate_limit: int) -> None:
        #: Asked for once: looking for the running loop is a system call each time.
        self.loop = asyncio.get_running_loop()
        self.limits = limits
        self.pool = Pool()
        self.committer = Committer(
            dsn, durable=settings.COMMIT_MODE != "fast", heartbeat_seconds=settings.HOLD_HEARTBEAT_SECONDS
        )
        #: ``write(item)`` hands an item to the books and waits until it is durable, within bounds.
        self.write = Writer(self.committer, limits.settle_wait_seconds).write
        self.directory = Directory(dsn, ttl_seconds=limits.directory_ttl_seconds)
        self.limiter = Limiter(redis_url, rate_limit)
        self.failover = Failover(Breaker(limits), limits)
        self._publisher = Publisher(redis_url, f"{os.getpid()}-{self.committer.owner_id.hex[-6:]}", self._report)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="gateway-reader")
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="gateway-worker")
        self.catalog = CatalogCache()
        self.bodies = InFlight(limits.max_body_bytes_in_flight)
        #: Files that are being uploaded, by number.
        self.uploads = InFlight(_MOST_UPLOADS)
        self.runs: set[Run[Any]] = set()
        #: Requests between their arrival and the last byte of their answer.
        self.open_requests = 0
        self.draining = False
        self._notices = Notices(
            dsn,
            {KEYS_CHANNEL: self.directory.forget, CATALOG_CHANNEL: self.catalog.refresh},
            on_gap=self._forget_all,
        )

    @classmethod
    def from_settings(cls) -> Runtime:
        """The installation's own."""
        return cls(
            Limits.from_settings(), database_dsn(), settings.REDIS_URL, rate_limit=settings.RATE_LIMIT_PER_MINUTE
        )

    async def start(self) -> None:
        """Read the catalog, start the committer, listen. Raises what reading the catalog raises."""
        await self.catalog.start()
        self.committer.start()
        self._notices.start()
        self._publisher.start()

    async def read(self, query: Callable[[], T]) -> T:
        """The answer of ``query``, which may use the ORM: one at a time, in a thread that keeps no connection.

        For what few ask for and no call waits on. Raises Overloaded without a database, TimedOut, and what it raises.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_READ_SECONDS):
                return await loop.run_in_executor(self._reader, _read_and_disconnect, query)
        except TimeoutError:
            raise TimedOut("The log could not be read in time. Try again.") from None
        except DatabaseError as error:
            logger.warning("the log can't be read: %s", type(error).__name__)
            raise Overloaded("The log can't be read at this moment. Try again.", headers={"Retry-After": "2"}) from None

    async def work(self, step: Callable[[], T], *, seconds: float = _WORK_SECONDS) -> T:
        """What ``step`` returns: ordinary synchronous Django, in one of a few threads that keep their connections.

        For jobs, files and deployments: what is asked for by a key and is no model's answer. A step that is under way
        ends even if nobody waits for it any more. Raises Overloaded without a database, TimedOut, and what it raises.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self.loop.run_in_executor(self._workers, _on_kept_connection, step)
        except TimeoutError:
            raise TimedOut("This took too long. Try again.") from None
        except (OperationalError, InterfaceError) as error:
            logger.warning("the database can't be asked: %s", type(error).__name__)
            raise Overloaded(
                "The database does not answer at this moment. Try again.", headers={"Retry-After": "2"}
            ) from None

    async def drain(self) -> None:
        """Refuse new calls, let open ones end, end what is left after `drain_seconds` in its own format."""
        self.draining = True
        await self._until_idle(self.limits.drain_seconds)
        if self.runs:
            logger.warning("%d calls are ended by the shutdown", len(self.runs))
        for run in list(self.runs):
            run.interrupt(shutting_down())
        await self._until_idle(self.limits.abort_seconds)

    async def close(self) -> None:
        """Write what is left and let go of every connection."""
        self.draining = True
        for run in list(self.runs):
            run.interrupt(shutting_down())
        if self.runs:
            await asyncio.wait([run.task for run in self.runs], timeout=self.limits.abort_seconds)
        await self._notices.close()
        await self._publisher.close()
        self._reader.shutdown(wait=False, cancel_futures=True)
        self._workers.shutdown(wait=False, cancel_futures=True)
        await self.catalog.close()
        await self.committer.close()
        await self.directory.close()
        await self.limiter.close()
        await self.pool.aclose()

    async def _until_idle(self, seconds: float) -> None:
        end = self.loop.time() + seconds
        while (self.runs or self.open_requests) and self.loop.time() < end:  # noqa: ASYNC110  (two counts, once in a life)
            await asyncio.sleep(_TICK_SECONDS)

    def _report(self) -> ProcessReport:
        return self.failover.health.report(self._publisher.process, self.failover.breaker)

    def _forget_all(self) -> None:
        self.directory.forget()
        self.catalog.refresh()


def _read_and_disconnect(query: Callable[[], T]) -> T:
    try:
        return query()
    finally:
        connections["default"].close()


def _on_kept_connection(step: Callable[[], T]) -> T:
    connection = connections["default"]
    if connection.connection is not None and not connection.is_usable():  # the server was restarted meanwhile
        connection.close()
    try:
        return step()
    except (OperationalError, InterfaceError):
        connection.close()
        raise


def shutting_down() -> Overloaded:
    """What callers are told while the process ends."""
    return Overloaded("This server is shutting down. Try again.", headers={"Retry-After": "1"})


def database_dsn() -> str:
    """Django's default database as a connection string for threads and tasks that own their connection."""
    chosen: dict[str, Any] = connections["default"].settings_dict
    words = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    options = {name: value for name, value in chosen.get("OPTIONS", {}).items() if isinstance(value, str | int)}
    values = {word: chosen[name] for word, name in words.items() if chosen.get(name)}
    return make_conninfo(**{**_NOTICE_A_DEAD_SERVER, **options, **values, "application_name": "hypereal-gateway"})


#: Under this name a server's lifespan state holds the runtime.
STATE: Final = "gateway_runtime"
_runtimes: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[Runtime]] = WeakKeyDictionary()


def running() -> Runtime | None:
    """The runtime of the running event loop, None while there is none that stands."""
    task = _runtimes.get(asyncio.get_running_loop())
    return task.result() if task is not None and task.done() and task.exception() is None else None


async def ensure() -> Runtime:
    """The runtime of the running event loop, started now if need be. Raises Overloaded where it can't start."""
    loop = asyncio.get_running_loop()
    task = _runtimes.get(loop)
    if task is None or (task.done() and task.exception() is not None):
        task = _runtimes[loop] = loop.create_task(_started())
    try:
        return await asyncio.shield(task)
    except Exception as error:
        logger.error("the gateway can't start: %s", type(error).__name__)
        raise Overloaded("The gateway is starting. Try again shortly.", headers={"Retry-After": "2"}) from None


async def shut() -> None:
    """Close the runtime of the running event loop, if there is one."""
    task = _runtimes.pop(asyncio.get_running_loop(), None)
    if task is not None and task.done() and not task.cancelled() and task.exception() is None:
        await task.result().close()


async def _started() -> Runtime:
    runtime = Runtime.from_settings()
    await runtime.start()
    return runtime


__all__: Sequence[str] = ("Runtime", "database_dsn", "ensure", "running", "shut", "shutting_down")
