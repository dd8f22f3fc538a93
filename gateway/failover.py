"""Targets in order until one serves: one retry each, waits that grow, and one clean error when all have failed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from catalog.entries import TargetEntry
from core import clock
from core.errors import Overloaded, ProductError, TimedOut, UpstreamFailed
from gateway.breaker import Breaker
from gateway.limits import Limits
from upstreams.errors import (
    AccountRefused,
    ConnectTimedOut,
    PoolBusy,
    Retryable,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRefusal,
    UpstreamTimedOut,
)
from upstreams.wire import Target, Timeouts

T = TypeVar("T")

#: Asked once per attempt: sends the call to a target and raises UpstreamError where that did not serve it.
Attempt = Callable[[TargetEntry, Timeouts], Awaitable[T]]
_OVERLOAD_STATUSES = frozenset({429, 503, 529})


#: The status in the log of a call whose caller left before there was one.
CALLER_LEFT_STATUS: Final = 499


class CallerLeft(ProductError):
    """Nobody waits for the answer any more. Only the log ever sees this."""

    status = CALLER_LEFT_STATUS
    type = "client_disconnected"


class PassedOn(ProductError):
    """The provider found the caller's own request wrong: its words, cleaned, with its status."""

    def __init__(self, refusal: UpstreamRefusal) -> None:
        super().__init__(refusal.message, param=refusal.param, code=refusal.code)
        self.status = refusal.status or 400  # type: ignore[misc]  # the one error whose status the provider chooses
        self.type = refusal.type  # type: ignore[misc]


@dataclass(slots=True)
class Trail:
    """The attempts of one call, the last one last; log and headers tell of it."""

    entries: list[TargetEntry] = field(default_factory=list)
    errors: list[UpstreamError] = field(default_factory=list)

    @property
    def attempts(self) -> int:
        """How often a target was asked."""
        return len(self.entries)

    @property
    def last(self) -> TargetEntry | None:
        """The target that served, or that failed last."""
        return self.entries[-1] if self.entries else None


class Failover:
    """Knows how long to wait and whom to leave out; what is sent is the attempt's business."""

    def __init__(
        self,
        breaker: Breaker,
        limits: Limits,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = clock.monotonic,
    ) -> None:
        self.breaker = breaker
        self._limits = limits
        self._sleep = sleep
        self._jitter = jitter
        self._monotonic = monotonic

    async def serve(
        self, chain: Sequence[TargetEntry], attempt: Attempt[T], trail: Trail, gone: Callable[[], bool]
    ) -> T:
        """The first attempt that succeeds. Raises the ProductError for the caller when none did.

        Nothing is tried again for a caller who is ``gone``: then CallerLeft.
        """
        deadline = self._monotonic() + self._limits.total_seconds
        for entry in self._in_order(chain):
            for retry in (False, True):
                if trail.errors and not await self._pause(trail.errors[-1], deadline, retry=retry):
                    break
                if trail.errors and gone():
                    raise CallerLeft("the caller left")
                started = self._monotonic()
                try:
                    return await self._try(entry, attempt, trail, deadline)
                except UpstreamRefusal as refusal:
                    raise PassedOn(refusal) from None
                except UpstreamError as error:
                    trail.errors.append(error)
                    left_out = self.breaker.seconds_left(entry.target) > 0
                    if left_out or not self._worth_a_retry(error, self._monotonic() - started):
                        break
            if self._monotonic() >= deadline:
                break
        raise verdict(trail.errors)

    def _in_order(self, chain: Sequence[TargetEntry]) -> list[TargetEntry]:
        """The chain without targets that are left out; where all are, the one that comes back first is tried anyway."""
        order = [entry for entry in chain if self.breaker.admits(entry.target)]
        if order or not chain:
            return order
        return [min(chain, key=lambda entry: self.breaker.seconds_left(entry.target))]

    async def _try(self, entry: TargetEntry, attempt: Attempt[T], trail: Trail, deadline: float) -> T:
        limits, target = self._limits, entry.target
        trail.entries.append(entry)
        timeouts = Timeouts(
            connect_seconds=limits.connect_seconds,
            first_byte_seconds=limits.first_byte_seconds,
            idle_seconds=limits.idle_seconds,
            total_seconds=max(0.05, deadline - self._monotonic()),
        )
        try:
            result = await attempt(entry, timeouts)
        except UpstreamRefusal:
            self.breaker.succeeded(target)
            raise
        except UpstreamError as error:
            self.note(target, error)
            raise
        except BaseException:
            self.breaker.released(target)
            raise
        self.breaker.succeeded(target)
        return result

    def note(self, target: Target, error: UpstreamError) -> None:
        """Tell the breaker of a failure, also of one in the middle of a stream."""
        if isinstance(error, PoolBusy):
            self.breaker.released(target)  # our own shortage says nothing about the target
        else:
            self.breaker.failed(target, at_once=isinstance(error, AccountRefused), retry_after=error.retry_after)

    def _worth_a_retry(self, error: UpstreamError, took_seconds: float) -> bool:
        if not error.retry_same_target or took_seconds > self._limits.retry_within_seconds:
            return False
        if isinstance(error, UpstreamTimedOut) and not isinstance(error, ConnectTimedOut):
            return False  # it may still be at work on the call: a second one would be paid for twice
        return error.retry_after is None or error.retry_after <= self._limits.most_retry_after_seconds

    async def _pause(self, error: UpstreamError, deadline: float, *, retry: bool) -> bool:
        """Wait before a retry on the same target; the next target is asked at once. False when time is up."""
        if not retry:
            return self._monotonic() < deadline
        limits = self._limits
        seconds = error.retry_after
        if seconds is None:
            seconds = limits.backoff_seconds * (0.5 + self._jitter())
        else:
            seconds += limits.backoff_seconds * self._jitter()
        seconds = min(seconds, max(limits.most_backoff_seconds, limits.most_retry_after_seconds))
        if self._monotonic() + seconds >= deadline:
            return False
        await self._sleep(seconds)
        return True


def verdict(errors: Sequence[UpstreamError]) -> ProductError:
    """One clean error for the caller out of all that went wrong. It names no provider, host or account."""
    if not errors:
        return Overloaded("No provider can serve this model at this moment. Try again later.", headers=_after(30))
    if all(isinstance(error, UpstreamTimedOut) for error in errors):
        return TimedOut("The model did not answer in time. Try again.")
    if all(_is_overload(error) for error in errors):
        wait = min((error.retry_after for error in errors if error.retry_after is not None), default=5.0)
        return Overloaded("The model is overloaded at this moment. Try again shortly.", headers=_after(wait))
    return UpstreamFailed("No provider could serve this call. Try again.")


def cut_short(error: UpstreamError) -> ProductError:
    """For a stream that broke after its first content: what is told inside it."""
    if isinstance(error, UpstreamRefusal):
        return PassedOn(error)
    if isinstance(error, UpstreamTimedOut):
        return TimedOut("The model stopped answering in the middle of the stream.")
    if _is_overload(error):
        return Overloaded("The model was overloaded in the middle of the stream.")
    return UpstreamFailed("The stream broke off at the provider.")


def _is_overload(error: UpstreamError) -> bool:
    return isinstance(error, Retryable) and (
        isinstance(error, UpstreamRateLimited | PoolBusy) or error.status in _OVERLOAD_STATUSES
    )


def _after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, round(seconds + 0.49)))}
