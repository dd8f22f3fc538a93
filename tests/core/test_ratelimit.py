"""Requests a minute over several processes (here: several limiters on one Redis), with Redis and without."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from uuid import uuid4

import pytest
import redis.asyncio

from core import ratelimit
from core.ratelimit import Limiter

MINUTE = 1_700_000_040.0  # the first second of a minute


def redis_url() -> str:
    return os.environ["REDIS_URL"]


def at(seconds: float = 0.0) -> Callable[[], float]:
    return lambda: MINUTE + seconds


async def test_the_limit_holds_exactly_and_the_headers_tell_the_truth() -> None:
    limiter, subject = Limiter(redis_url(), 50, wall=at(15)), uuid4().hex
    allowances = [await limiter.take(subject) for _ in range(60)]
    assert [allowance.allowed for allowance in allowances] == [True] * 50 + [False] * 10
    assert [allowance.remaining for allowance in allowances[:50]] == list(range(49, -1, -1))
    last = allowances[-1]
    assert (last.limit, last.remaining, last.reset, last.retry_after) == (50, 0, int(MINUTE) + 60, 45)
    assert dict(last.headers())[b"x-ratelimit-reset"] == b"1700000100"
    await limiter.close()


async def test_processes_share_one_limit() -> None:
    subject = uuid4().hex
    limiters = [Limiter(redis_url(), 200, wall=at()) for _ in range(3)]
    allowed = 0
    for _ in range(100):
        for limiter in limiters:
            allowed += (await limiter.take(subject)).allowed
    assert allowed <= 200
    await asyncio.gather(*(limiter.close() for limiter in limiters))  # what lay unused in lumps goes back
    late = Limiter(redis_url(), 200, wall=at())
    while (await late.take(subject)).allowed:
        allowed += 1
    assert allowed == 200
    await late.close()


async def test_parallel_requests_ask_redis_together(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter, subject = Limiter(redis_url(), 1000, wall=at()), uuid4().hex
    asked = 0
    script = limiter._take_script

    async def counting(**kwargs: object) -> object:
        nonlocal asked
        asked += 1
        return await script(**kwargs)

    monkeypatch.setattr(limiter, "_take_script", counting)
    allowances = await asyncio.gather(*(limiter.take(subject) for _ in range(500)))
    assert sum(allowance.allowed for allowance in allowances) == 500
    assert asked < 40
    await limiter.close()


async def test_unused_permits_go_back_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "IDLE_SECONDS", 0.05)
    subject = uuid4().hex
    greedy, other = Limiter(redis_url(), 300, wall=at()), Limiter(redis_url(), 300, wall=at())
    for _ in range(40):
        await greedy.take(subject)
    async with asyncio.timeout(60), redis.asyncio.Redis.from_url(redis_url()) as client:
        while await client.get(f"{greedy._prefix}:{subject}:{int(MINUTE) // 60}") != b"40":  # noqa: ASYNC110 - Redis's
            await asyncio.sleep(0.02)
    assert (await other.take(subject)).remaining == 259
    await asyncio.gather(greedy.close(), other.close())


async def test_a_new_minute_is_a_new_allowance() -> None:
    moment = MINUTE + 59
    limiter, subject = Limiter(redis_url(), 2, wall=lambda: moment), uuid4().hex
    assert [(await limiter.take(subject)).allowed for _ in range(3)] == [True, True, False]
    moment += 1
    allowance = await limiter.take(subject)
    assert (allowance.allowed, allowance.remaining, allowance.reset) == (True, 1, int(MINUTE) + 120)
    await limiter.close()


async def test_subjects_do_not_share() -> None:
    limiter = Limiter(redis_url(), 1, wall=at())
    assert all([(await limiter.take(uuid4().hex)).allowed for _ in range(20)])
    await limiter.close()


@pytest.mark.parametrize("url", [None, "redis://127.0.0.1:1/0"])
async def test_without_redis_each_process_counts_for_itself(url: str | None, caplog: pytest.LogCaptureFixture) -> None:
    limiter, subject = Limiter(url, 5, wall=at()), uuid4().hex
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        allowed = [(await limiter.take(subject)).allowed for _ in range(8)]
    assert allowed == [True] * 5 + [False] * 3
    assert time.monotonic() - started < 5
    assert len([record for record in caplog.records if "Redis is away" in record.message]) == (url is not None)
    await limiter.close()
