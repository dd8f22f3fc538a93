"""Targets in order until one serves: one retry each, waits that grow, and one clean error when all have failed."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from msgspec import structs

from catalog.entries import TargetEntry
from core import clock
from core.errors import Overloaded, ProductError, TimedOut, UpstreamFailed
from gateway.breaker import Breaker
from gateway.health import Health
from gateway.limits import Limits
from upstreams.errors import (
    AccountRefused,
    ConnectTimedOut,
    ModelMissing,
    PoolBusy,
    Retryable,
    UnknownHere,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRefusal,
    UpstreamTimedOut,
)
from upstreams.wire import Target, Timeouts
from usage.items import Attempt

T = TypeVar("T")

#: Asked once per attempt: sends the call to a target and raises UpstreamError where that did not serve it.
Ask = Callable[[TargetEntry, Timeouts], Awaitable[T]]
#: Failures that will come again until an operator has done something about them.
_OURS: Final = (AccountRefused, ModelMissing)
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
    """The attempts of one call, the last one last; log, headers and receipts tell of it."""

    entries: list[TargetEntry] = field(default_factory=list)
    errors: list[UpstreamError] = field(default_factory=list)
    #: What came of each ended attempt.
    steps: list[Attempt] = field(default_factory=list)
    #: How often a retry was waited for.
    waits: int = 0

    @property
    def attempts(self) -> int:
        """How often a target was asked."""
        return len(self.entries)

    @property
    def last(self) -> TargetEntry | None:
        """The target that served, or that failed last."""
        return self.entries[-1] if self.entries else None

    def ended(self, entry: TargetEntry, seconds: float, error: BaseException | None = None) -> None:
        """Note what came of an attempt that took so long."""
        kind = "" if error is None else error.kind if isinstance(error, UpstreamError) else "given_up"
        status = error.status if isinstance(error, UpstreamError) else None
        self.steps.append(Attempt(target=entry.target.label, ms=int(seconds * 1000), error=kind, status=status))

    def broke(self, error: UpstreamError) -> None:
        """The attempt that served failed after all, in the middle of its stream."""
        self.errors.append(error)
        if self.steps:
            self.steps[-1] = structs.replace(self.steps[-1], error=error.kind, status=error.status)

    def header(self) -> str:
        """The steps in one line: provider, region, what went wrong, milliseconds. No host, no key, no account."""
        return ", ".join(map(_in_words, self.steps))


def _names(message: str, target: Target) -> bool:
    """Whether the message tells of the model by the name that we gave it there."""
    return re.search(rf"(?<![\w.-]){re.escape(target.upstream_model)}(?![\w-])", message) is not None


def _in_words(step: Attempt) -> str:
    provider, region, _ = step.target.split("/", 2)
    words = [provider]
    if region:
        words.append(f"region={region}")
    if step.error:
        words.append(f"error={step.error}")
    if step.status is not None:
        words.append(f"status={step.status}")
    return ";".join([*words, f"ms={step.ms}"])


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
        self.health = Health(monotonic)
        self._limits = limits
        self._sleep = sleep
        self._jitter = jitter
        self._monotonic = monotonic

    async def serve(
        self,
        chain: Sequence[TargetEntry],
        ask: Ask[T],
        trail: Trail,
        gone: Callable[[], bool],
        *,
        total_seconds: float | None = None,
    ) -> T:
        """The first attempt that succeeds. Raises the ProductError for the caller when none did.

        Nothing is tried again for a caller who is ``gone``: then CallerLeft. ``total_seconds`` bounds all attempts
        together, in place of the installation's bound on a call.
        """
        deadline = self._monotonic() + (total_seconds or self._limits.total_seconds)
        unknown: UnknownHere | None = None
        for entry in self._in_order(chain):
            began = self._monotonic()
            try:
                try:
                    return await self._try(entry, ask, trail, deadline)
                except UpstreamRefusal:
                    raise
                except UpstreamError as error:
                    took_seconds = self._monotonic() - began
                    return await self._ask_again(entry, ask, trail, deadline, gone, error, took_seconds)
            except UnknownHere as refusal:
                unknown = unknown or refusal
            except UpstreamRefusal as refusal:
                raise PassedOn(refusal) from None
            except UpstreamError:
                pass  # it is on the trail
            if self._monotonic() >= deadline:
                break
            if gone():
                raise CallerLeft("the caller left")
        if unknown is not None and not trail.errors:
            raise PassedOn(unknown)
        raise verdict(trail.errors)

    def _in_order(self, chain: Sequence[TargetEntry]) -> Iterator[TargetEntry]:
        """The chain without targets that are left out; where all are, the one that comes back first is tried anyway.

        Each is asked about when its turn comes: a target that may be probed once must not lose that to a call which
        was served before it came to it.
        """
        asked = False
        for entry in chain:
            if self.breaker.admits(entry.target):
                asked = True
                yield entry
        if chain and not asked:
            yield min(chain, key=lambda entry: self.breaker.seconds_left(entry.target))

    async def _ask_again(
        self,
        entry: TargetEntry,
        ask: Ask[T],
        trail: Trail,
        deadline: float,
        gone: Callable[[], bool],
        error: UpstreamError,
        took_seconds: float,
    ) -> T:
        """One more attempt after ``error``, where that is worth it. Raises the last UpstreamError, and CallerLeft."""
        if self.breaker.seconds_left(entry.target) > 0 or not self._worth_a_retry(error, took_seconds):
            raise error
        if not await self._pause(error, deadline, trail):
            raise error
        if gone():
            raise CallerLeft("the caller left")
        return await self._try(entry, ask, trail, deadline)

    async def _try(self, entry: TargetEntry, ask: Ask[T], trail: Trail, deadline: float) -> T:
        target = entry.target
        trail.entries.append(entry)
        began = self._monotonic()
        try:
            result = await ask(entry, self._timeouts(target, deadline - began))
        except BaseException as error:
            seconds = self._monotonic() - began
            trail.ended(entry, seconds, error)
            if isinstance(error, ModelMissing) and _names(error.message, target):
                self.note(target, error, seconds)  # the name is ours; another one in its place may be the caller's
            elif isinstance(error, UpstreamRefusal):
                self.breaker.succeeded(target)
                self.health.served(target, seconds)
            elif isinstance(error, UpstreamError):
                trail.errors.append(error)
                self.note(target, error, seconds)
            else:
                self.breaker.released(target)
            raise
        seconds = self._monotonic() - began
        trail.ended(entry, seconds)
        self.breaker.succeeded(target)
        self.health.served(target, seconds)
        return result

    def _timeouts(self, target: Target, left_seconds: float) -> Timeouts:
        """A target's own times go before the installation's; no call lives longer than ``left_seconds``."""
        limits, own = self._limits, target.options
        return Timeouts(
            connect_seconds=own.connect_seconds or limits.connect_seconds,
            first_byte_seconds=own.first_byte_seconds or limits.first_byte_seconds,
            idle_seconds=own.idle_seconds or limits.idle_seconds,
            total_seconds=max(0.05, min(left_seconds, own.total_seconds or left_seconds)),
        )

    def note(self, target: Target, error: UpstreamError, seconds: float | None = None) -> None:
        """Tell the breaker of a failure, also of one in the middle of a stream (then without ``seconds``)."""
        if isinstance(error, PoolBusy):
            self.breaker.released(target)  # our own shortage says nothing about the target
            return
        self.breaker.failed(target, at_once=isinstance(error, _OURS), retry_after=error.retry_after)
        self.health.failed(target, error.kind, error.status, seconds)

    def _worth_a_retry(self, error: UpstreamError, took_seconds: float) -> bool:
        if not error.retry_same_target or took_seconds > self._limits.retry_within_seconds:
            return False
        if isinstance(error, UpstreamTimedOut) and not isinstance(error, ConnectTimedOut):
            return False  # it may still be at work on the call: a second one would be paid for twice
        return error.retry_after is None or error.retry_after <= self._limits.most_retry_after_seconds

    async def _pause(self, error: UpstreamError, deadline: float, trail: Trail) -> bool:
        """Wait before a retry on the same target, each time in a call for longer. False when time is up."""
        limits = self._limits
        backoff = min(limits.backoff_seconds * 2.0**trail.waits, limits.most_backoff_seconds)
        trail.waits += 1
        if error.retry_after is None:
            seconds = backoff * (0.5 + self._jitter())
        else:
            seconds = min(error.retry_after, limits.most_retry_after_seconds) + backoff * self._jitter()
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
