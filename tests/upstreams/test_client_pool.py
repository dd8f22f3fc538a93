"""How many connections there are, how long they are kept, and whom they trust."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from tests.support import certificates
from tests.upstreams.servers import MB, PATIENT, Exchange, echo, serving, to
from upstreams.client import Pool, PoolLimits, running_pool
from upstreams.errors import (
    ConnectFailed,
    ConnectionLost,
    PoolBusy,
)
from upstreams.wire import Timeouts

# ---- limits of the pool


async def test_calls_wait_for_a_free_connection() -> None:
    pool = Pool(PoolLimits(connections_per_origin=2))

    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.02)
        await exchange.answer(exchange.request.body)

    async with serving(slow) as server:

        async def call(number: int) -> bytes:
            with await pool.send(server.request(b"%d" % number), PATIENT) as response:
                return await response.read(MB)

        assert await asyncio.gather(*map(call, range(20))) == [b"%d" % number for number in range(20)]
        assert server.connections == 2
    await pool.aclose()


async def test_waiting_ends() -> None:
    pool = Pool(PoolLimits(connections_per_origin=1))

    async def silent(exchange: Exchange) -> None:
        await exchange.until_gone()

    async with serving(silent) as server:
        busy = asyncio.ensure_future(pool.send(server.request(), PATIENT))
        await server.until_asked()
        with pytest.raises(PoolBusy):
            await pool.send(server.request(), Timeouts(connect_seconds=0.1))
        waiting = asyncio.ensure_future(pool.send(server.request(b"next"), PATIENT))
        await asyncio.sleep(0.05)
        busy.cancel()  # its connection is aborted, and its place goes to the one that waits
        await server.until_asked(2)
        assert [seen.body for seen in server.seen] == [b"{}", b"next"]
        waiting.cancel()
        await asyncio.gather(busy, waiting, return_exceptions=True)
    await pool.aclose()


async def test_failures_to_connect_free_their_place() -> None:
    pool = Pool(PoolLimits(connections_per_origin=1))
    outcomes = await asyncio.gather(
        *(pool.send(to("127.0.0.1", 1), Timeouts(connect_seconds=60)) for _ in range(5)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [ConnectFailed] * 5
    await pool.aclose()


async def test_idle_connections_expire() -> None:
    pool = Pool(PoolLimits(idle_seconds=0.1))
    async with serving(echo) as server:
        for _ in range(2):
            with await pool.send(server.request(), PATIENT) as response:
                await response.read(MB)
            await asyncio.wait_for(server.gone.wait(), 60)
            server.gone.clear()
        assert server.connections == 2
    await pool.aclose()


async def test_connections_are_not_used_for_ever() -> None:
    pool = Pool(PoolLimits(lifetime_seconds=2.0))
    async with serving(echo) as server:
        for pause in (0, 2.1, 0):
            with await pool.send(server.request(), PATIENT) as response:
                await response.read(MB)
            await asyncio.sleep(pause)
        assert server.connections == 2
    await pool.aclose()


async def test_only_so_many_lie_idle() -> None:
    pool = Pool(PoolLimits(idle_per_origin=1))
    async with serving(echo) as server:

        async def call() -> None:
            with await pool.send(server.request(), PATIENT) as response:
                await response.read(MB)

        await asyncio.gather(*(call() for _ in range(5)))
        before = server.connections
        await asyncio.gather(*(call() for _ in range(2)))
        assert server.connections == before + 1
    await pool.aclose()


async def test_closing_the_pool_ends_everything() -> None:
    pool = Pool()

    async def silent(exchange: Exchange) -> None:
        await exchange.until_gone()

    async with serving(silent) as server:
        task = asyncio.ensure_future(pool.send(server.request(), PATIENT))
        await server.until_asked()
        await pool.aclose()
        with pytest.raises(ConnectionLost):
            await task
        with pytest.raises(ConnectFailed):
            await pool.send(server.request(), PATIENT)


def test_each_loop_has_a_pool_of_its_own() -> None:
    async def once() -> Pool:
        assert running_pool() is running_pool()
        async with serving(echo) as server:
            with await running_pool().send(server.request(), PATIENT) as response:
                assert await response.read(MB) == b"{}"
        return running_pool()

    assert asyncio.run(once()) is not asyncio.run(once())
    gc.collect()


# ---- TLS


async def test_tls_with_a_certificate_that_is_known(tmp_path: Path) -> None:
    pair = certificates.make(tmp_path, "localhost")
    pool = Pool(tls=pair.client)
    async with serving(echo, pair.server) as server:
        for _ in range(2):
            with await pool.send(server.request(b"x" * 300_000), PATIENT) as response:
                assert len(await response.read(MB)) == 300_000
        assert server.connections == 1
    await pool.aclose()


async def test_tls_with_one_that_is_not(tmp_path: Path) -> None:
    pair = certificates.make(tmp_path, "localhost")
    pool = Pool()
    async with serving(echo, pair.server) as server:
        with pytest.raises(ConnectFailed) as caught:
            await pool.send(server.request(), PATIENT)
        assert "certificate" in str(caught.value)
    await pool.aclose()


async def test_tls_for_another_name(tmp_path: Path) -> None:
    pair = certificates.make(tmp_path, "elsewhere.test")
    pool = Pool(tls=pair.client)
    async with serving(echo, pair.server) as server:
        with pytest.raises(ConnectFailed):
            await pool.send(server.request(), PATIENT)
        assert not server.seen
    await pool.aclose()
