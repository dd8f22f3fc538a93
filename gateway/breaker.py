"""Circuit breakers: a target that keeps failing is left out for a while and comes back by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from core import clock
from gateway.limits import Limits
from upstreams.wire import Target

#: Failures further apart than this don't add up.
_MEMORY_SECONDS: Final = 60.0
_MOST_TARGETS: Final = 10_000

Name = tuple[str, str, str]


def name_of(target: Target) -> Name:
    """What tells one target from another."""
    return target.provider, target.region, target.upstream_model


@dataclass(slots=True)
class Circuit:
    """One target's recent history. ``trips`` counts how often in a row it was left out, each time for longer."""

    failures: int = 0
    failed_at: float = 0.0
    open_until: float = 0.0
    trips: int = 0
    probing: bool = False


class Breaker:
    """The state of all targets as this process saw them."""

    def __init__(self, limits: Limits, monotonic: Callable[[], float] = clock.monotonic) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._circuits: dict[Name, Circuit] = {}

    def admits(self, target: Target) -> bool:
        """Whether the target may be tried. After its time out one call probes it; the others wait for its outcome."""
        circuit = self._circuits.get(name_of(target)) if self._circuits else None
        if circuit is None or not circuit.open_until:
            return True
        if self._monotonic() < circuit.open_until or circuit.probing:
            return False
        circuit.probing = True
        return True

    def seconds_left(self, target: Target) -> float:
        """How long the target is still left out."""
        circuit = self._circuits.get(name_of(target))
        return max(0.0, circuit.open_until - self._monotonic()) if circuit is not None else 0.0

    def succeeded(self, target: Target) -> None:
        """The target did its work; a caller's own mistake that it pointed out counts as that too."""
        if self._circuits:
            self._circuits.pop(name_of(target), None)

    def failed(self, target: Target, *, at_once: bool = False, retry_after: float | None = None) -> None:
        """The target failed. ``at_once`` (our account is refused) or a long ``retry_after`` leaves it out directly."""
        now = self._monotonic()
        circuit = self._circuit(target)
        circuit.failures = circuit.failures + 1 if now - circuit.failed_at < _MEMORY_SECONDS else 1
        circuit.failed_at = now
        if circuit.probing or at_once or circuit.failures >= self._limits.breaker_failures:
            seconds = min(self._limits.breaker_seconds * 2**circuit.trips, self._limits.most_breaker_seconds)
            circuit.trips = min(circuit.trips + 1, 16)
            circuit.open_until = now + max(seconds, min(retry_after or 0.0, self._limits.most_breaker_seconds))
        elif retry_after is not None and retry_after > self._limits.most_retry_after_seconds:
            circuit.open_until = now + min(retry_after, self._limits.most_breaker_seconds)
        circuit.probing = False

    def released(self, target: Target) -> None:
        """A probe ended without an outcome (its caller left): the next call may probe."""
        circuit = self._circuits.get(name_of(target))
        if circuit is not None:
            circuit.probing = False

    def state(self) -> dict[Name, Circuit]:
        """What is remembered, for operators."""
        return dict(self._circuits)

    def _circuit(self, target: Target) -> Circuit:
        name = name_of(target)
        if name not in self._circuits and len(self._circuits) >= _MOST_TARGETS:
            self._circuits.clear()
        return self._circuits.setdefault(name, Circuit())
