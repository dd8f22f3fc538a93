"""Requests a minute for one subject, shared by all processes through Redis, without asking Redis for each of them.

A fixed window of one clock minute. A process takes its permits in lumps: one at first, more while they are used up
quickly, never more than a fraction of what is left, so that near the limit every permit is taken singly and the limit
holds exactly. Permits of a lump that lie unused go back. Without Redis each process counts for itself, up to the whole
limit, and says so in the log once a minute.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import redis.asyncio
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

WINDOW_SECONDS: Final = 60
MOST_LUMP: Final = 256
#: A lump is at most this part of what the window still has.
LUMP_DIVISOR: Final = 16
#: A lump used up sooner than this makes the next one twice as large.
QUICK_SECONDS: Final = 0.25
IDLE_SECONDS: Final = 0.5
#: A refusal is believed for so long before Redis is asked again (another process may have given permits back).
REFUSED_SECONDS: Final = 0.1
REDIS_SECONDS: Final = 0.5
REDIS_PAUSE_SECONDS: Final = 2.0
WARN_EVERY_SECONDS: Final = 60.0
MOST_SUBJECTS: Final = 50_000

# KEYS[1] the window's counter; ARGV: wanted, limit, divisor, least (how many ask at this moment).
_TAKE = """
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
local left = math.max(0, tonumber(ARGV[2]) - used)
local lump = math.max(tonumber(ARGV[4]), math.min(tonumber(ARGV[1]), math.floor(left / tonumber(ARGV[3]))))
local granted = math.min(left, lump)
if granted > 0 then
  redis.call('INCRBY', KEYS[1], granted)
  if used == 0 then redis.call('EXPIRE', KEYS[1], 120) end
end
return {granted, used + granted}
"""
# ARGV[1] permits to give back. A counter that expired stays away.
_GIVE_BACK = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('DECRBY', KEYS[1], ARGV[1]) end
return 0
"""


class Allowance(NamedTuple):
    """The answer to one request. ``reset`` is the Unix second at which the next window begins."""

    allowed: bool
    limit: int
    remaining: int
    reset: int
    retry_after: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What every counted answer carries."""
        return [
            (b"x-ratelimit-limit", b"%d" % self.limit),
            (b"x-ratelimit-remaining", b"%d" % self.remaining),
            (b"x-ratelimit-reset", b"%d" % self.reset),
        ]


class _Window:
    """One subject's minute as this process sees it."""

    __slots__ = ("idle_since", "left", "lump", "minute", "refilled_at", "refilling", "refused_until", "used", "waiting")

    def __init__(self, minute: int) -> None:
        self.minute = minute
        self.left = 0
        self.used = 0
        self.lump = 1
        self.refilled_at = 0.0
        self.refused_until = 0.0
        self.idle_since = 0.0
        self.waiting = 0
        self.refilling: asyncio.Future[None] | None = None


class Limiter:
    """Belongs to one event loop. ``redis_url`` None: every process by itself, as if Redis were away."""

    def __init__(
        self, redis_url: str | None, limit: int, *, prefix: str = "hypereal:rate", wall: Callable[[], float] = time.time
    ) -> None:
        self.limit = limit
        self._prefix = prefix
        self._wall = wall
        self._windows: dict[str, _Window] = {}
        self._tidier: asyncio.Task[None] | None = None
        self._pause_until = 0.0
        self._warned_at = float("-inf")
        self._redis: Any = None
        if redis_url is not None:
            self._redis = redis.asyncio.Redis.from_url(
                redis_url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS, retry=None
            )
            self._take_script = self._redis.register_script(_TAKE)
            self._give_back_script = self._redis.register_script(_GIVE_BACK)

    async def take(self, subject: str) -> Allowance:
        """Count one request of ``subject``. Never raises; never waits longer than REDIS_SECONDS."""
        now = self._wall()
        minute = int(now // WINDOW_SECONDS)
        window = self._windows.get(subject)
        if window is None or window.minute != minute:
            window = self._new_window(subject, minute)
        while window.left <= 0:
            if time.monotonic() < window.refused_until:
                return self._allowance(window, now, allowed=False)
            await self._refill(subject, window)
        window.left -= 1
        window.idle_since = time.monotonic()
        return self._allowance(window, now, allowed=True)

    async def close(self) -> None:
        """Give back what was not used and close the connections."""
        if self._tidier is not None:
            self._tidier.cancel()
            await asyncio.gather(self._tidier, return_exceptions=True)
        await self._give_back_idle(float("inf"))
        if self._redis is not None:
            await self._redis.aclose()

    def _allowance(self, window: _Window, now: float, *, allowed: bool) -> Allowance:
        reset = (window.minute + 1) * WINDOW_SECONDS
        remaining = max(0, self.limit - window.used + window.left)
        return Allowance(allowed, self.limit, remaining, reset, max(1, -int(now - reset)))

    def _new_window(self, subject: str, minute: int) -> _Window:
        if len(self._windows) >= MOST_SUBJECTS:
            self._windows = {name: kept for name, kept in self._windows.items() if kept.minute >= minute}
        window = self._windows[subject] = _Window(minute)
        return window

    async def _refill(self, subject: str, window: _Window) -> None:
        """One question to Redis for all who wait for this window's permits."""
        window.waiting += 1
        try:
            if window.refilling is not None:
                await asyncio.shield(window.refilling)
                return
            done = window.refilling = asyncio.get_running_loop().create_future()
            try:
                await asyncio.sleep(0)  # whoever arrives in the same turn of the loop is asked for too
                await self._fetch(subject, window)
            finally:
                window.refilling = None
                done.set_result(None)
        finally:
            window.waiting -= 1

    async def _fetch(self, subject: str, window: _Window) -> None:
        now = time.monotonic()
        quick = now - window.refilled_at < QUICK_SECONDS
        window.lump = min(MOST_LUMP, window.lump * 2) if quick else 1
        window.refilled_at = now
        least = max(1, min(window.waiting, MOST_LUMP))
        granted, window.used = await self._ask(subject, window, least)
        window.left += granted
        window.idle_since = time.monotonic()
        if granted <= 0:
            window.refused_until = time.monotonic() + REFUSED_SECONDS
        elif granted > least and (self._tidier is None or self._tidier.done()):
            self._tidier = asyncio.create_task(self._tidy())

    async def _ask(self, subject: str, window: _Window, least: int) -> tuple[int, int]:
        """Permits granted, and how many of the window are taken by now."""
        now = time.monotonic()
        if self._redis is not None and now >= self._pause_until:
            key = self._key(subject, window)
            try:
                granted, used = await self._take_script(
                    keys=[key], args=[max(window.lump, least), self.limit, LUMP_DIVISOR, least]
                )
                return int(granted), int(used)
            except (RedisError, OSError, TimeoutError) as error:
                self._pause_until = now + REDIS_PAUSE_SECONDS
                self._warn(error)
        granted = min(least, max(0, self.limit - window.used))
        return granted, window.used + granted

    def _key(self, subject: str, window: _Window) -> str:
        return f"{self._prefix}:{subject}:{window.minute}"

    def _warn(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._warned_at >= WARN_EVERY_SECONDS:
            self._warned_at = now
            logger.warning("Redis is away (%s): each process counts requests for itself", type(error).__name__)

    async def _tidy(self) -> None:
        """Runs while lumps lie about; ends by itself when none do."""
        while any(window.left for window in self._windows.values()):
            await asyncio.sleep(IDLE_SECONDS / 2)
            await self._give_back_idle(time.monotonic() - IDLE_SECONDS)

    async def _give_back_idle(self, before: float) -> None:
        minute = int(self._wall() // WINDOW_SECONDS)
        for subject, window in list(self._windows.items()):
            if window.minute != minute:
                if window.refilling is None:
                    self._windows.pop(subject, None)
            elif window.left > 0 and window.idle_since < before:
                permits, window.left = window.left, 0
                window.used -= permits
                window.lump = 1
                await self._return(subject, window, permits)

    async def _return(self, subject: str, window: _Window, permits: int) -> None:
        if self._redis is None or time.monotonic() < self._pause_until:
            return
        try:
            await self._give_back_script(keys=[self._key(subject, window)], args=[permits])
        except (RedisError, OSError, TimeoutError) as error:
            self._pause_until = time.monotonic() + REDIS_PAUSE_SECONDS
            self._warn(error)
