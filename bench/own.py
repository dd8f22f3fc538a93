"""``make bench``: the gateway by itself."""

from __future__ import annotations

import gc
import time
from typing import Final

from bench import books, machine, measure, report
from bench.measure import Added, Saturated
from bench.stand import Stand, standing

WARM_SECONDS: Final = 4.0
#: Calls (or streams) a second, and for how many seconds.
RATES: Final = ((20.0, 12.0), (50.0, 8.0))
STREAM_RATE, STREAM_SECONDS = 4.0, 10.0


def run(*, rounds: int, seconds: float, only: str | None = None) -> int:
    """Measure and print. 1 where a call failed or the books do not agree."""
    print(f"Machine: {machine.description()}; busy with other work: {machine.busy_cores():.1f} cores", flush=True)
    began = time.monotonic()
    with standing() as stand:
        print(f"Stand is up after {time.monotonic() - began:.0f} s (gateway: pid {stand.own.pid})", flush=True)
        gc.disable()  # a collection in the load would be counted as the gateway's latency
        idle = machine.memory(stand.own.pid)
        errors = measure.warm(stand.own, WARM_SECONDS)
        if errors:
            print(report.verdict(0, errors, ["nothing was measured"]))
            return 1
        saturated, added = _measure(stand, rounds, seconds, only)
        calls = stand.upstream.calls("hypereal")
        faults = books.faults(stand.close_books(), calls)
    for block in saturated["json"] + saturated["sse"]:
        errors += block.errors
    for each in added:
        errors += each.errors
    print(report.own(idle, saturated, added))
    print(report.verdict(calls, errors, faults))
    return 1 if errors or faults else 0


def _measure(
    stand: Stand, rounds: int, seconds: float, only: str | None
) -> tuple[dict[str, list[Saturated]], list[Added]]:
    saturated: dict[str, list[Saturated]] = {"json": [], "sse": []}
    added: list[Added] = []
    for number in range(rounds):
        for kind, blocks in saturated.items():
            if only in (None, kind):
                blocks.append(measure.saturate(stand.own, stream=kind == "sse", seconds=seconds))
        if only in (None, "latency"):
            for rate, length in RATES:
                added.append(measure.added(stand.own, stand.upstream, rate=rate, seconds=length))
            added.append(measure.added(stand.own, stand.upstream, rate=STREAM_RATE, seconds=STREAM_SECONDS, paced=True))
        print(f"round {number + 1} of {rounds} is done", flush=True)
    return saturated, added
