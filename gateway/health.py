"""What this process saw of its targets lately, and the task that reports it to Redis for operators."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import redis.asyncio
from redis.exceptions import RedisError

from catalog import target_health
from catalog.target_health import CLOSED, EVERY_SECONDS, LIVES_SECONDS, OPEN, PROBING, ProcessReport, TargetReport
from core import clock
from gateway.breaker import Breaker, Circuit, Name, name_of
from upstreams.wire import Target

logger = logging.getLogger(__name__)

_LATENCIES: Final = 64
_MOST_TARGETS: Final = 2_000
_REDIS_SECONDS: Final = 1.0
#: A target that nobody has called since it failed is no news after so long.
_FORGOTTEN_SECONDS: Final = 3_600.0


class _Minute:
    """What one minute saw."""

    __slots__ = ("calls", "failures", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.calls = 0
        self.failures = 0


class _Record:
    """One target's last minutes."""

    __slots__ = ("failed_at", "last_error", "last_status", "latencies_ms", "minutes")

    def __init__(self) -> None:
        self.minutes: deque[_Minute] = deque(maxlen=target_health.WINDOW_MINUTES)
        self.latencies_ms: deque[int] = deque(maxlen=_LATENCIES)
        self.last_error = ""
        self.last_status: int | None = None
        self.failed_at = 0.0


class Health:
    """Counts attempts by target. Cheap: it is told of each."""

    def __init__(self, monotonic: Callable[[], float] = clock.monotonic) -> None:
        self._monotonic = monotonic
        self._records: dict[Name, _Record] = {}

    def served(self, target: Target, seconds: float) -> None:
        """The target answered, were it only to say that the caller's request is wrong."""
        record = self._record(target)
        self._minute(record).calls += 1
        record.latencies_ms.append(int(seconds * 1000))

    def failed(self, target: Target, error: str, status: int | None, seconds: float | None) -> None:
        """The target failed. Without ``seconds`` it did so in the middle of an answer that is counted already."""
        record = self._record(target)
        minute = self._minute(record)
        minute.failures += 1
        if seconds is not None:
            minute.calls += 1
        record.last_error, record.last_status, record.failed_at = error, status, clock.now().timestamp()

    def report(self, process: str, breaker: Breaker) -> ProcessReport:
        """All that is known of targets which were called, or are left out, lately."""
        oldest = int(self._monotonic() // 60) - target_health.WINDOW_MINUTES + 1
        circuits = breaker.state()
        targets = []
        for name in {**self._records, **circuits}:
            record, circuit = self._records.get(name) or _Record(), circuits.get(name)
            minutes = [minute for minute in record.minutes if minute.number >= oldest]
            if not minutes and (circuit is None or self._monotonic() - circuit.failed_at > _FORGOTTEN_SECONDS):
                self._records.pop(name, None)
                continue
            state, seconds = self._state(circuit)
            targets.append(
                TargetReport(
                    target="/".join(name)[:254],
                    calls=sum(minute.calls for minute in minutes),
                    failures=sum(minute.failures for minute in minutes),
                    latencies_ms=list(record.latencies_ms) if minutes else [],
                    circuit=state,
                    open_seconds=round(seconds, 1),
                    last_error=record.last_error,
                    last_status=record.last_status,
                    failed_at=record.failed_at,
                )
            )
        return ProcessReport(process, clock.now().timestamp(), targets)

    def _state(self, circuit: Circuit | None) -> tuple[str, float]:
        if circuit is None or not circuit.open_until:
            return CLOSED, 0.0
        left = circuit.open_until - self._monotonic()
        return (OPEN, left) if left > 0 else (PROBING, 0.0)

    def _record(self, target: Target) -> _Record:
        name = name_of(target)
        record = self._records.get(name)
        if record is None:
            if len(self._records) >= _MOST_TARGETS:
                self._records.clear()
            record = self._records[name] = _Record()
        return record

    def _minute(self, record: _Record) -> _Minute:
        number = int(self._monotonic() // 60)
        if not record.minutes or record.minutes[-1].number != number:
            record.minutes.append(_Minute(number))
        return record.minutes[-1]


class Publisher:
    """Writes a process's report to Redis every few seconds; without Redis it only says so, once."""

    def __init__(self, redis_url: str | None, process: str, report: Callable[[], ProcessReport]) -> None:
        self.process = process
        self._report = report
        self._task: asyncio.Task[None] | None = None
        self._warned = False
        self._redis: Any = None
        if redis_url is not None:
            self._redis = redis.asyncio.Redis.from_url(
                redis_url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS, retry=None
            )

    def start(self) -> None:
        """Report from now on, on the running event loop."""
        if self._redis is not None:
            self._task = asyncio.create_task(self._publish_forever())

    async def close(self) -> None:
        """Take the report back and let go of Redis."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._redis.zrem(target_health.KEY, self.process)
            await self._redis.delete(f"{target_health.KEY}:{self.process}")
        except (RedisError, OSError, TimeoutError):
            pass  # it expires by itself
        await self._redis.aclose()

    async def _publish_forever(self) -> None:
        while True:
            try:
                await self._publish()
                self._warned = False
            except (RedisError, OSError, TimeoutError) as error:
                if not self._warned:
                    self._warned = True
                    logger.warning("Redis is away (%s): targets' health is not reported", type(error).__name__)
            await asyncio.sleep(EVERY_SECONDS)

    async def _publish(self) -> None:
        report = self._report()
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.set(f"{target_health.KEY}:{self.process}", target_health.encode(report), ex=LIVES_SECONDS)
        pipeline.zadd(target_health.KEY, {self.process: report.at})
        pipeline.zremrangebyscore(target_health.KEY, "-inf", report.at - LIVES_SECONDS)
        pipeline.expire(target_health.KEY, LIVES_SECONDS)
        await pipeline.execute()
