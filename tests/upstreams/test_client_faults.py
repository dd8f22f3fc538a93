"""Time-outs, connections that break, callers that leave."""

from __future__ import annotations

import asyncio

import pytest

from tests.upstreams.servers import MB, PATIENT, Exchange, echo, serving, to
from upstreams.client import Pool
from upstreams.errors import (
    BadAnswer,
    ConnectFailed,
    ConnectionLost,
    ConnectTimedOut,
    FirstByteTimedOut,
    IdleTimedOut,
    TotalTimedOut,
    UpstreamError,
)
from upstreams.wire import Timeouts

# ---- time


async def test_no_first_byte(pool: Pool) -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.until_gone()

    async with serving(silent) as server:
        with pytest.raises(FirstByteTimedOut):
            await pool.send(server.request(), Timeouts(first_byte_seconds=0.1))
        await asyncio.sleep(0.05)


async def test_a_head_that_drips_is_no_head(pool: Pool) -> None:
    async def drip(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100):
            await exchange.send(b"x")
            await asyncio.sleep(0.03)

    async with serving(drip) as server:
        with pytest.raises((FirstByteTimedOut, TotalTimedOut)):
            await pool.send(server.request(), Timeouts(first_byte_seconds=0.2, idle_seconds=5, total_seconds=5))


async def test_silence_in_the_middle(pool: Pool) -> None:
    async def pause(exchange: Exchange) -> None:
        await exchange.begin_chunked()
        await exchange.chunk(b"one")
        await exchange.until_gone()

    async with serving(pause) as server:
        with await pool.send(server.request(), Timeouts(idle_seconds=0.15)) as response:
            assert await response.receive() == b"one"
            with pytest.raises(IdleTimedOut):
                await response.receive()


async def test_the_total_counts_even_while_bytes_come(pool: Pool) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.begin_chunked()
        while not exchange.writer.is_closing():
            await exchange.chunk(b"x")
            await asyncio.sleep(0.02)

    async with serving(endless) as server:
        timeouts = Timeouts(idle_seconds=60, total_seconds=0.3)
        with await pool.send(server.request(), timeouts) as response, pytest.raises(TotalTimedOut):
            async for _ in response:
                pass


async def test_a_long_upload_is_not_silence(pool: Pool) -> None:
    body = b"x" * (8 * MB)

    async with serving(echo) as server:
        with await pool.send(server.request(body), PATIENT) as response:
            assert await response.read(9 * MB) == body
        assert server.seen[0].headers["content-length"] == str(len(body))


async def test_connecting_takes_too_long(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.sleep(30)

    loop = asyncio.get_running_loop()

    class Slow:
        def __getattr__(self, name: str) -> object:
            return never if name == "create_connection" else getattr(loop, name)

    monkeypatch.setattr("upstreams.client.asyncio.get_running_loop", Slow)
    with pytest.raises(ConnectTimedOut):
        await pool.send(to("192.0.2.1", 9), Timeouts(connect_seconds=0.1))


# ---- connections that break


async def test_nobody_listens(pool: Pool) -> None:
    with pytest.raises(ConnectFailed) as caught:
        await pool.send(to("127.0.0.1", 1), PATIENT)
    assert "127.0.0.1" not in str(caught.value)


async def test_a_name_that_does_not_exist(pool: Pool) -> None:
    with pytest.raises(ConnectFailed):
        await pool.send(to("nothing.invalid", 80), PATIENT)


async def test_closed_before_an_answer(pool: Pool) -> None:
    async def hang_up(exchange: Exchange) -> None:
        exchange.abort()

    async with serving(hang_up) as server:
        with pytest.raises(ConnectionLost):
            await pool.send(server.request(), PATIENT)
        assert len(server.seen) == 1, "a fresh connection is not tried again here"


async def test_a_stale_connection_is_replaced_once(pool: Pool) -> None:
    async def second_time_gone(exchange: Exchange) -> None:
        if exchange.request.body == b"stale" and len(server.seen) == 2:
            exchange.abort()
        else:
            await exchange.answer(b"ok")

    async with serving(second_time_gone) as server:
        for body in (b"first", b"stale"):
            with await pool.send(server.request(body), PATIENT) as response:
                assert await response.read(MB) == b"ok"
        assert [seen.body for seen in server.seen] == [b"first", b"stale", b"stale"]
        assert server.connections == 2 and not response.reused


async def test_but_not_when_an_answer_had_begun(pool: Pool) -> None:
    async def half_an_answer(exchange: Exchange) -> None:
        if len(server.seen) == 1:
            await exchange.answer(b"ok")
        else:
            await exchange.send(b"HTTP/1.1 20")
            exchange.writer.close()

    async with serving(half_an_answer) as server:
        with await pool.send(server.request(), PATIENT) as response:
            await response.read(MB)
        with pytest.raises(ConnectionLost):
            await pool.send(server.request(), PATIENT)
        assert len(server.seen) == 2


async def test_an_idle_connection_that_the_provider_closes_is_forgotten(pool: Pool) -> None:
    async def close_later(exchange: Exchange) -> None:
        await exchange.answer(b"ok")
        exchange.writer.close()

    async with serving(close_later) as server:
        for _ in range(2):
            with await pool.send(server.request(), PATIENT) as response:
                await response.read(MB)
            await asyncio.sleep(0.05)
        assert server.connections == 2 and len(server.seen) == 2


async def test_bytes_behind_an_answer_spoil_the_connection(pool: Pool) -> None:
    async def talkative(exchange: Exchange) -> None:
        await exchange.answer(b"okHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"[:2])
        await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")

    async with serving(talkative) as server:
        for _ in range(3):
            with await pool.send(server.request(), PATIENT) as response:
                assert await response.read(MB) == b"ok"
            await asyncio.sleep(0.05)
        assert server.connections == 3


@pytest.mark.parametrize("noise", [b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"\x00\xff rubbish"])
async def test_bytes_in_the_same_packet_as_the_answer(pool: Pool, noise: bytes) -> None:
    async def talkative(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" + noise)

    async with serving(talkative) as server:
        for _ in range(2):
            with await pool.send(server.request(), PATIENT) as response:
                assert await response.read(MB) == b"ok"
        assert server.connections == 2


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"\x16\x03\x01",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    ],
)
async def test_what_is_no_http(pool: Pool, wire: bytes) -> None:
    async def speak(exchange: Exchange) -> None:
        await exchange.send(wire)
        await asyncio.sleep(0.2)
        exchange.writer.close()

    async with serving(speak) as server:
        with pytest.raises((BadAnswer, ConnectionLost)), await pool.send(server.request(), PATIENT) as response:
            await response.read(MB)


# ---- giving up


async def test_leaving_early_aborts_upstream(pool: Pool) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.begin_chunked()
        await exchange.chunk(b"x")
        await exchange.until_gone()
        server.gone.set()

    async with serving(endless) as server:
        with await pool.send(server.request(), PATIENT) as response:
            await response.receive()
        await asyncio.wait_for(server.gone.wait(), 60)
        with pytest.raises(UpstreamError):
            await response.receive()


async def test_cancelling_before_the_head_aborts(pool: Pool) -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.until_gone()
        server.gone.set()

    async with serving(silent) as server:
        task = asyncio.ensure_future(pool.send(server.request(), PATIENT))
        await server.until_asked()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.gone.wait(), 60)


async def test_a_wait_may_be_cancelled_without_losing_bytes(pool: Pool) -> None:
    waited_twice = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await exchange.begin_chunked()
        await waited_twice.wait()
        await exchange.chunk(b"late")
        await exchange.send(b"0\r\n\r\n")

    async with serving(slow) as server:
        with await pool.send(server.request(), PATIENT) as response:
            silences = 0
            while True:
                try:
                    async with asyncio.timeout(0.04):
                        chunk = await response.receive()
                except TimeoutError:
                    silences += 1
                    if silences == 2:
                        waited_twice.set()
                    continue
                break
            assert chunk == b"late" and silences >= 2
            assert await response.receive() == b""
