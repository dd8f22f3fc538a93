"""``make bench``: the gateway by itself."""

from __future__ import annotations

import gc
import time
from typing import Final

from bench import books, machine, measure, report
from bench.floors import Figures
from bench.stand import Stand, standing

WARM_SECONDS: Final = 4.0
#: Calls a second, and for how many seconds.
RATES: Final = ((20.0, 12.0), (50.0, 8.0))
STREAM_RATE: Final = 4.0
STREAM_SECONDS: Final = 10.0


def run(*, rounds: int, seconds: float, only: str | None = None) -> int:
    """Measure and print. 1 where a call failed or the books do not agree."""
    print(f"Machine: {machine.description()}; busy with other work: {machine.busy_cores():.1f} cores", flush=True)
    began = time.monotonic()
    figures = Figures()
    with standing() as stand:
        print(f"The stand is up after {time.monotonic() - began:.0f} s (gateway: pid {stand.own.pid})", flush=True)
        gc.disable()  # a collection in the load would be counted as the gateway's latency
        idle = machine.memory(stand.own.pid)
        errors = measure.warm(stand.own, WARM_SECONDS)
        for candidate in stand.others.values():
            errors += measure.warm(candidate, WARM_SECONDS / 2)
        if not errors:
            for number in range(rounds):
                _round(stand, figures, seconds, only)
                print(f"round {number + 1} of {rounds} is done", flush=True)
        calls = stand.upstream.calls("hypereal")
        faults = books.faults(stand.close_books(), calls)
    others = [blocks for pair in figures.others.values() for blocks in pair]
    errors += report.errors(figures.json, figures.sse, *others, *figures.added.values(), figures.streamed)
    print(report.own(figures, idle), report.verdict(calls, errors, faults), sep="\n\n")
    return 1 if errors or faults else 0


def _round(stand: Stand, figures: Figures, seconds: float, only: str | None) -> None:
    if only in (None, "json"):
        figures.json.append(measure.saturate(stand.own, stand.metronome, stream=False, seconds=seconds))
    if only in (None, "sse"):
        figures.sse.append(measure.saturate(stand.own, stand.metronome, stream=True, seconds=seconds))
    if only in (None, "formats"):
        for name, candidate in stand.others.items():
            whole, streamed = figures.others.setdefault(name, ([], []))
            whole.append(measure.saturate(candidate, stand.metronome, stream=False, seconds=seconds))
            streamed.append(measure.saturate(candidate, stand.metronome, stream=True, seconds=seconds))
    if only in (None, "latency"):
        for rate, length in RATES:
            added = measure.added(stand.own, stand.upstream, rate=rate, seconds=length)
            figures.added.setdefault(rate, []).append(added)
        added = measure.added(stand.own, stand.upstream, rate=STREAM_RATE, seconds=STREAM_SECONDS, paced=True)
        figures.streamed.append(added)
