"""The pooled client and a server that does as it is told: what goes over the wire, and its bounds."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest

from tests.upstreams.servers import MB, PATIENT, Exchange, echo, serving
from upstreams.client import Pool
from upstreams.errors import (
    AnswerTooLarge,
    BadAnswer,
    ConnectionLost,
)
from upstreams.response import HIGH_WATER_BYTES
from upstreams.wire import Origin, Timeouts, UpstreamRequest


async def test_a_request_and_its_answer(pool: Pool) -> None:
    async with serving(echo) as server:
        with await pool.send(server.request(b'{"a":1}', "/v1/chat?x=1"), PATIENT) as response:
            assert await response.read(MB) == b'{"a":1}'
        assert response.status == 200
        assert response.headers["content-type"] == "application/json" and response.headers["x-two"] == "1, 2"
        seen = server.seen[0]
        assert seen.line == "POST /v1/chat?x=1 HTTP/1.1"
        assert seen.headers["host"] == f"127.0.0.1:{server.port}" and seen.headers["x-a"] == "b"


async def test_connections_are_kept(pool: Pool) -> None:
    async with serving(echo) as server:
        reused = []
        for _ in range(3):
            with await pool.send(server.request(), PATIENT) as response:
                await response.read(MB)
                reused.append(response.reused)
        assert server.connections == 1 and reused == [False, True, True]


async def test_not_after_connection_close(pool: Pool) -> None:
    async def closing(exchange: Exchange) -> None:
        await exchange.answer(b"x", "connection: close\r\n")

    async with serving(closing) as server:
        for _ in range(2):
            with await pool.send(server.request(), PATIENT) as response:
                assert await response.read(MB) == b"x"
        assert server.connections == 2


async def test_a_stream_in_chunks(pool: Pool) -> None:
    async def streaming(exchange: Exchange) -> None:
        await exchange.begin_chunked("content-type: text/event-stream\r\n")
        for number in range(5):
            await exchange.chunk(b"data: %d\n\n" % number)
            await asyncio.sleep(0.01)
        await exchange.send(b"0\r\ntrailer: x\r\n\r\n")

    async with serving(streaming) as server:
        for _ in range(2):
            with await pool.send(server.request(), PATIENT) as response:
                chunks = [chunk async for chunk in response]
            assert b"".join(chunks) == b"".join(b"data: %d\n\n" % number for number in range(5))
            assert len(chunks) > 1
        assert server.connections == 1


async def test_what_arrived_meanwhile_comes_at_once(pool: Pool) -> None:
    async def bursts(exchange: Exchange) -> None:
        await exchange.begin_chunked()
        for _ in range(50):
            await exchange.chunk(b"data: x\n\n")
        await exchange.send(b"0\r\n\r\n")

    async with serving(bursts) as server:
        with await pool.send(server.request(), PATIENT) as response:
            await asyncio.sleep(0.2)
            assert len(await response.receive()) == 50 * 9
            assert await response.receive() == b""


async def test_a_body_that_ends_with_the_connection(pool: Pool) -> None:
    async def until_close(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        exchange.writer.close()

    async with serving(until_close) as server:
        with await pool.send(server.request(), PATIENT) as response:
            assert await response.read(MB) == b"all of it"


@pytest.mark.parametrize("head", ["content-length: 100", "transfer-encoding: chunked"])
async def test_a_body_that_is_cut(pool: Pool, head: str) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.send(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n".encode())
        exchange.writer.close()

    async with serving(cut) as server:
        with await pool.send(server.request(), PATIENT) as response:
            assert (await response.receive()).count(b"hello") == 1
            with pytest.raises(ConnectionLost):
                await response.receive()
        with await pool.send(server.request(), PATIENT) as response, pytest.raises(ConnectionLost):
            await response.read(MB)


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body(pool: Pool, status: int) -> None:
    async def empty(exchange: Exchange) -> None:
        await exchange.send(f"HTTP/1.1 {status} X\r\n\r\n".encode())

    async with serving(empty) as server:
        for _ in range(2):
            with await pool.send(server.request(), PATIENT) as response:
                assert (response.status, await response.read(MB)) == (status, b"")
        assert server.connections == 1


async def test_interim_answers_are_passed_over(pool: Pool) -> None:
    async def hints(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        await exchange.answer(b"ok")

    async with serving(hints) as server:
        with await pool.send(server.request(), PATIENT) as response:
            assert (response.status, await response.read(MB)) == (200, b"ok")
            assert "link" not in response.headers


# ---- compressed although nobody asked


def deflate_raw(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(data) + engine.flush()


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b"hello " * 1000, mtime=0)),
        ("GZIP", gzip.compress(b"hello " * 400, mtime=0) + gzip.compress(b"hello " * 600, mtime=0)),
        ("deflate", zlib.compress(b"hello " * 1000)),
        ("deflate", deflate_raw(b"hello " * 1000)),
        ("identity", b"hello " * 1000),
    ],
)
async def test_compressed_bodies(pool: Pool, encoding: str, packed: bytes) -> None:
    async def compressed(exchange: Exchange) -> None:
        await exchange.begin_chunked(f"content-encoding: {encoding}\r\n")
        for at in range(0, len(packed), 7):
            await exchange.chunk(packed[at : at + 7])
        await exchange.send(b"0\r\n\r\n")

    async with serving(compressed) as server:
        with await pool.send(server.request(), PATIENT) as response:
            assert await response.read(MB) == b"hello " * 1000
        with await pool.send(server.request(), PATIENT) as response:
            assert b"".join([chunk async for chunk in response]) == b"hello " * 1000


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("br", b"x"),
        ("gzip", b"not gzip"),
        ("gzip", gzip.compress(b"x" * 1000, mtime=0)[:-9]),
        ("deflate", b"\xff\xff\xff"),
    ],
)
async def test_bodies_that_cannot_be_unpacked(pool: Pool, encoding: str, body: bytes) -> None:
    async def compressed(exchange: Exchange) -> None:
        await exchange.answer(body, f"content-encoding: {encoding}\r\n")

    async with serving(compressed) as server:
        with pytest.raises(BadAnswer), await pool.send(server.request(), PATIENT) as response:
            await response.read(MB)
        with pytest.raises(BadAnswer), await pool.send(server.request(), PATIENT) as response:
            async for _ in response:
                pass


async def test_what_cannot_be_unpacked_is_not_read_on(pool: Pool) -> None:
    """Whoever sends it need not come to an end."""

    async def endless(exchange: Exchange) -> None:
        await exchange.begin_chunked("content-encoding: br\r\n")
        await exchange.chunk(b"x" * 1000)
        await exchange.until_gone()

    async with serving(endless) as server:
        with pytest.raises(BadAnswer), await pool.send(server.request(), PATIENT):
            pass
        await asyncio.wait_for(server.gone.wait(), 60)


async def test_a_bomb_stays_packed(pool: Pool) -> None:
    async def bomb(exchange: Exchange) -> None:
        await exchange.answer(gzip.compress(b"\0" * (20 * MB)), "content-encoding: gzip\r\n")

    async with serving(bomb) as server:
        with await pool.send(server.request(), PATIENT) as response, pytest.raises(AnswerTooLarge):
            await response.read(MB)
        with await pool.send(server.request(), PATIENT) as response:
            assert len(await response.receive()) <= 64 * 1024


# ---- bounds


async def test_a_collected_body_is_bounded(pool: Pool) -> None:
    async def long(exchange: Exchange) -> None:
        await exchange.begin_chunked()
        for _ in range(100):
            await exchange.chunk(b"x" * 65536)
        await exchange.until_gone()

    async with serving(long) as server:
        with await pool.send(server.request(), PATIENT) as response, pytest.raises(AnswerTooLarge):
            await response.read(MB)
        await asyncio.wait_for(server.gone.wait(), 60)


@pytest.mark.parametrize("part", [b"x-a: " + b"y" * 1000 + b"\r\n", b"z" * 1000])
async def test_headers_are_bounded(pool: Pool, part: bytes) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nx: ")
        for _ in range(10_000):
            await exchange.send(part)

    async with serving(endless) as server:
        with pytest.raises(BadAnswer):
            await pool.send(server.request(), PATIENT)


async def test_a_consumer_that_lags_stops_the_provider(pool: Pool) -> None:
    sent = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.begin_chunked()
        for _ in range(400):
            await exchange.chunk(b"x" * 65536)
            sent += 65536
        await exchange.send(b"0\r\n\r\n")

    impatient = Timeouts(connect_seconds=60, first_byte_seconds=60, idle_seconds=0.3, total_seconds=120)
    async with serving(flood) as server:
        with await pool.send(server.request(), impatient) as response:
            await asyncio.sleep(0.8)  # longer than the idle time-out: the slowness is ours
            waiting = sent
            assert waiting < 400 * 65536
            assert response._size < HIGH_WATER_BYTES + 2 * MB
            total = 0
            async for chunk in response:
                total += len(chunk)
        assert total == 400 * 65536
        with await pool.send(server.request(), PATIENT) as response:
            await asyncio.sleep(0.3)
            assert len(await response.read(30 * MB)) == 400 * 65536


# ---- what must not go out


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/a b", ()),
        ("/a\r\nx: y", ()),
        ("a", ()),
        ("/é", ()),
        ("/", (("x", "a\r\ny: b"),)),
        ("/", (("x", "a\n"),)),
        ("/", (("x\r\ny", "a"),)),
        ("/", (("x", "a\0"),)),
        ("/", (("authorization", "Bearer sk-\u2026"),)),
    ],
)
async def test_no_request_can_be_smuggled(pool: Pool, path: str, headers: tuple[tuple[str, str], ...]) -> None:
    request = UpstreamRequest("POST", Origin("http", "127.0.0.1", 1), path, headers)
    with pytest.raises(ValueError, match="holds") as caught:
        await pool.send(request, PATIENT)
    assert "sk-" not in repr(caught.value)


async def test_only_methods_with_a_body_in_their_answer(pool: Pool) -> None:
    with pytest.raises(ValueError, match="method"):
        await pool.send(UpstreamRequest("HEAD", Origin("http", "127.0.0.1", 1), "/", ()), PATIENT)
