"""The measurements, each over one candidate: saturated, and at a fixed rate beside the upstream itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from bench import driver, machine
from bench.driver import percentile
from bench.machine import Memory
from bench.metronome import REFERENCE_NS, Metronome
from bench.stand import Candidate, Upstream

CONNECTIONS: Final = 32


@dataclass(frozen=True, slots=True)
class Saturated:
    """What went through at full load. CPU is normalised to the reference core (`metronome.REFERENCE_NS`)."""

    answered: int
    seconds: float
    events: int
    cpu_us: float
    helper_cpu_us: dict[str, float]
    ns_a_turn: float
    p50_ms: float
    p99_ms: float
    memory: Memory
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def per_second(self) -> float:
        """Requests a second that were seen."""
        return self.answered / self.seconds

    @property
    def events_per_second(self) -> float:
        """Events a second that were seen."""
        return self.events / self.seconds

    @property
    def events_per_core(self) -> float:
        """Events a second that a whole reference core could do."""
        used = self.answered * self.cpu_us
        return self.events * 1e6 / used if used else 0.0


@dataclass(frozen=True, slots=True)
class Added:
    """What a gateway adds at a fixed rate: its percentiles less those of direct calls in the same seconds."""

    rate: float
    p50_ms: float
    p99_ms: float
    first_p50_ms: float
    direct_p50_ms: float
    errors: Counter[str] = field(default_factory=Counter)


def saturate(candidate: Candidate, metronome: Metronome, *, stream: bool, seconds: float) -> Saturated:
    """Full load for ``seconds``."""
    before, beat = _cpu(candidate), metronome.beat()
    tally = driver.saturate(candidate.fast, stream=stream, connections=CONNECTIONS, seconds=seconds)
    used = {name: after - before[name] for name, after in _cpu(candidate).items()}
    ns_a_turn = metronome.ns_a_turn(beat)
    micros = 1e6 * REFERENCE_NS / ns_a_turn / max(tally.answered, 1)
    return Saturated(
        answered=tally.answered,
        seconds=tally.seconds,
        events=tally.events,
        cpu_us=used.pop(candidate.name) * micros,
        helper_cpu_us={name: seconds * micros for name, seconds in used.items()},
        ns_a_turn=ns_a_turn,
        p50_ms=percentile(tally.whole, 0.5) * 1e3,
        p99_ms=percentile(tally.whole, 0.99) * 1e3,
        memory=machine.memory(candidate.pid),
        errors=tally.errors,
    )


def added(candidate: Candidate, upstream: Upstream, *, rate: float, seconds: float, paced: bool = False) -> Added:
    """Whole answers at ``rate``, or paced streams: the same load through the candidate and directly, in turn."""
    pace = "paced" if paced else "fast"
    endpoints = [candidate.paced if paced else candidate.fast, upstream.direct(pace)]
    through, direct = driver.pace(endpoints, stream=paced, rate=rate, seconds=seconds)
    return Added(
        rate=rate,
        p50_ms=(percentile(through.whole, 0.5) - percentile(direct.whole, 0.5)) * 1e3,
        p99_ms=(percentile(through.whole, 0.99) - percentile(direct.whole, 0.99)) * 1e3,
        first_p50_ms=(percentile(through.first, 0.5) - percentile(direct.first, 0.5)) * 1e3,
        direct_p50_ms=percentile(direct.whole, 0.5) * 1e3,
        errors=through.errors + direct.errors,
    )


def warm(candidate: Candidate, seconds: float) -> Counter[str]:
    """Load that is not measured: caches fill, compilers compile. Returns what failed."""
    errors: Counter[str] = Counter()
    for stream in (False, True):
        errors += driver.saturate(candidate.fast, stream=stream, connections=8, seconds=seconds / 2).errors
    return errors


def _cpu(candidate: Candidate) -> dict[str, float]:
    pids = {candidate.name: candidate.pid, **candidate.helpers}
    return {name: machine.cpu_seconds(pid) for name, pid in pids.items()}
