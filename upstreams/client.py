"""The pooled HTTP/1.1 client that every adapter's requests go through.

``with await running_pool().send(request, timeouts) as response:`` then ``response.read(limit)`` or
``async for chunk in response``. Each running event loop has a pool of its own.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from dataclasses import dataclass

import certifi

from upstreams.connection import Connection
from upstreams.errors import ConnectFailed, ConnectionLost, ConnectTimedOut, PoolBusy, StaleConnection
from upstreams.response import Response
from upstreams.wire import Origin, Timeouts, UpstreamRequest

__all__ = ["Pool", "PoolLimits", "Response", "running_pool"]

_UNSAFE_PATH = re.compile(r"[^\x21-\x7e]")
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """``connections_per_origin`` counts idle, busy and opening ones; further calls wait for a free one.

    No connection is used again after ``lifetime_seconds``, so that a provider's change of addresses is noticed.
    """

    connections_per_origin: int = 1000
    idle_per_origin: int = 128
    idle_seconds: float = 30.0
    lifetime_seconds: float = 600.0


class Pool:
    """Kept connections, by origin. Belongs to the event loop it is first used on."""

    def __init__(self, limits: PoolLimits | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self.limits = limits or PoolLimits()
        self._tls = tls
        self._hosts: dict[Origin, _Host] = {}
        self._closed = False

    async def send(self, request: UpstreamRequest, timeouts: Timeouts) -> Response:
        """Send a request and wait for the head of its answer.

        Raises ConnectFailed, ConnectTimedOut, FirstByteTimedOut, TotalTimedOut, ConnectionLost, BadAnswer;
        ValueError for a request that HTTP can't carry. Sent once more only when a kept connection turns out to
        have been closed before it yielded a single byte. Cancelling aborts the connection.
        """
        if self._closed:
            raise ConnectFailed("the pool is closed")
        head = _head(request)
        host = self._hosts.get(request.origin)
        if host is None:
            host = self._hosts[request.origin] = _Host(self, request.origin, asyncio.get_running_loop())
        total_deadline = host.loop.time() + timeouts.total_seconds
        fresh_only = False
        while True:
            connection = None if fresh_only else host.take_idle()
            if connection is None:
                connection = await host.open(timeouts.connect_seconds)
            response = Response(connection, timeouts, total_deadline, reused=connection.served > 0)
            connection.start(response, head, request.body)
            try:
                await response.head()
            except StaleConnection:
                if fresh_only:
                    raise
                fresh_only = True
            except BaseException:
                response.close()
                raise
            else:
                return response

    async def aclose(self) -> None:
        """Close idle connections and abort busy ones."""
        self._closed = True
        for host in self._hosts.values():
            host.shut()
        self._hosts.clear()
        await asyncio.sleep(0)  # lets the transports close their sockets

    def tls(self) -> ssl.SSLContext:
        """Certificates are always verified, against the system's authorities and certifi's."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.load_verify_locations(certifi.where())
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


class _Host:
    """The connections to one origin, and who waits for one."""

    def __init__(self, pool: Pool, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        self.pool = pool
        self.origin = origin
        self.loop = loop
        self.idle_seconds = pool.limits.idle_seconds
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._opening = 0
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._shut = False

    def take_idle(self) -> Connection | None:
        """The connection used last, which is the least likely to be closed by the other side."""
        while self._idle:
            connection = self._idle.pop()
            if self._is_worn(connection):
                connection.close()
            elif connection.usable:
                return connection
        return None

    def _is_worn(self, connection: Connection) -> bool:
        return self.loop.time() - connection.opened_at > self.pool.limits.lifetime_seconds

    async def open(self, connect_seconds: float) -> Connection:
        """A new connection, or one that becomes free when there may be no more. Raises ConnectFailed and its kin."""
        started = self.loop.time()
        if len(self._all) + self._opening >= self.pool.limits.connections_per_origin:
            connection = await self._wait_for_free(connect_seconds)
            if connection is not None:
                if connection.usable:
                    return connection
                self._opening += 1  # closed between release and now; its place is ours
        else:
            self._opening += 1
        try:
            left = max(0.05, connect_seconds - (self.loop.time() - started))
            return await self._connect(left)
        finally:
            self._opening -= 1
            if self._waiters:
                self._wake_opener()

    async def _wait_for_free(self, seconds: float) -> Connection | None:
        """A freed connection, or None for the right to open one (counted as opening already)."""
        waiter: asyncio.Future[Connection | None] = self.loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(seconds):
                return await waiter
        except TimeoutError:
            self._give_back(waiter)
            raise PoolBusy("all connections to the upstream are in use") from None
        except asyncio.CancelledError:
            self._give_back(waiter)
            raise

    def _give_back(self, waiter: asyncio.Future[Connection | None]) -> None:
        """What a waiter was given at the moment it left goes to the next one."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        if waiter.cancelled() or not waiter.done():
            return
        connection = waiter.result()
        if connection is None:
            self._opening -= 1
            self._wake_opener()
        elif connection.usable:
            self.release(connection)

    async def _connect(self, seconds: float) -> Connection:
        secure = self.origin.scheme == "https"
        try:
            async with asyncio.timeout(seconds):
                _, connection = await self.loop.create_connection(
                    lambda: Connection(self, self.loop),
                    self.origin.host,
                    self.origin.port,
                    ssl=self.pool.tls() if secure else None,
                    server_hostname=self.origin.host if secure else None,
                )
        except TimeoutError:
            raise ConnectTimedOut("the upstream could not be reached in time") from None
        except ssl.SSLCertVerificationError as error:
            raise ConnectFailed("the upstream's certificate is not valid") from error
        except (OSError, ssl.SSLError, UnicodeError) as error:
            raise ConnectFailed("the upstream could not be reached") from error
        if self._shut or not connection.usable:
            connection.abort()
            raise ConnectFailed("the pool is closed" if self._shut else "the upstream closed a new connection")
        self._all.add(connection)
        return connection

    def _wake_opener(self) -> None:
        """Lets one waiter open a connection if there may be one more."""
        if len(self._all) + self._opening >= self.pool.limits.connections_per_origin:
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._opening += 1
                waiter.set_result(None)
                return

    # A Connection's keeper.

    def release(self, connection: Connection) -> None:
        """A connection has served its call."""
        if self._is_worn(connection):
            connection.close()
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if len(self._idle) >= self.pool.limits.idle_per_origin or self._shut:
            connection.close()
            return
        self._idle.append(connection)
        connection.rest()

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiters:
            self._wake_opener()

    def shut(self) -> None:
        """Close everything; waiters get to know."""
        self._shut = True
        for connection in tuple(self._idle):
            connection.close()
        for connection in tuple(self._all):
            connection.fail(ConnectionLost("the client is shutting down"))
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(ConnectFailed("the pool is closed"))


def _head(request: UpstreamRequest) -> bytes:
    """Request line and headers. Refuses whatever could smuggle a line."""
    if request.method not in _METHODS:
        raise ValueError("the method is not one an upstream is called with")
    if _UNSAFE_PATH.search(request.path) or not request.path.startswith("/"):
        raise ValueError("the path holds a character that a request line can't carry")
    headers = "".join([f"{name}: {value}\r\n" for name, value in request.headers])
    lines = len(request.headers)
    if headers.count("\r") != lines or headers.count("\n") != lines or "\0" in headers:
        raise ValueError("a header holds a line end")
    length = f"content-length: {len(request.body)}\r\n" if request.body or request.method != "GET" else ""
    head = f"{request.method} {request.path} HTTP/1.1\r\nhost: {request.origin.authority}\r\n{headers}{length}\r\n"
    try:
        return head.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError("a header holds a character that HTTP can't carry") from None


_pools: dict[asyncio.AbstractEventLoop, Pool] = {}


def running_pool() -> Pool:
    """The pool of the event loop that runs now: connections can't be shared between loops."""
    loop = asyncio.get_running_loop()
    pool = _pools.get(loop)
    if pool is None:
        for other in [other for other in _pools if other.is_closed()]:
            del _pools[other]
        pool = _pools[loop] = Pool()
    return pool
