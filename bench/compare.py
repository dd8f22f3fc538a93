"""``make bench-peers``: the gateway beside LiteLLM and Portkey, in one run."""

from __future__ import annotations

import gc
import os
import random
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Final

from bench import books, floors, machine, measure, report
from bench.floors import OURS, Figures
from bench.peers import PEERS
from bench.stand import SCRATCH, Candidate, Stand, standing

WARM_SECONDS: Final = 6.0
#: Calls a second, and for how many seconds; the first is the one that floors are judged by.
RATES: Final = ((20.0, 12.0), (50.0, 8.0))
STREAM_RATE: Final = 3.0
STREAM_SECONDS: Final = 8.0


def run(*, rounds: int, seconds: float) -> int:
    """Install, measure in random order, print. 1 where a call failed, the books do not agree or a floor is missed."""
    folders = [peer.prepare() for peer in PEERS]
    began, load = datetime.now(UTC), os.getloadavg()[0]
    with standing() as stand, ExitStack() as stack:
        candidates = [stand.own]
        for peer, folder in zip(PEERS, folders, strict=True):
            candidates.append(stack.enter_context(peer.running(folder, stand.upstream)))
        gc.disable()  # a collection in the load would be counted as a gateway's latency
        errors: Counter[str] = Counter()
        for candidate in candidates:
            errors += measure.warm(candidate, WARM_SECONDS)
        figures = {candidate.name: Figures() for candidate in candidates}
        if not errors:
            for number in range(rounds):
                _round(stand, candidates, figures, seconds)
                print(f"round {number + 1} of {rounds} is done", flush=True)
        calls = stand.upstream.calls(OURS.lower())
        faults = books.faults(stand.close_books(), calls)
    for each in figures.values():
        errors += report.errors(each.json, each.sse, *each.added.values(), each.streamed)
    if errors and not figures[OURS].json:
        print(report.verdict(calls, errors, faults))
        return 1
    verdicts = floors.judge(figures, RATES[0][0])
    circumstances = f"{began:%Y-%m-%d}, {machine.description()}; load {load:.1f} before, {os.getloadavg()[0]:.1f} after"
    text = "\n\n".join([circumstances, report.peers(figures), report.floors(verdicts)])
    (SCRATCH / "peers.md").write_text(text + "\n")
    print(text, report.verdict(calls, errors, faults), sep="\n\n")
    return 1 if errors or faults or not all(verdict.met for verdict in verdicts) else 0


def _round(stand: Stand, candidates: list[Candidate], figures: dict[str, Figures], seconds: float) -> None:
    """Every measurement of every candidate once; each kind in an order of its own, so that drifts meet all alike."""

    def shuffled() -> list[Candidate]:
        return random.sample(candidates, len(candidates))

    for candidate in shuffled():
        block = measure.saturate(candidate, stand.metronome, stream=False, seconds=seconds)
        figures[candidate.name].json.append(block)
    for candidate in shuffled():
        block = measure.saturate(candidate, stand.metronome, stream=True, seconds=seconds)
        figures[candidate.name].sse.append(block)
    for rate, length in RATES:
        for candidate in shuffled():
            if rate <= candidate.most_rate:
                added = measure.added(candidate, stand.upstream, rate=rate, seconds=length)
                figures[candidate.name].added.setdefault(rate, []).append(added)
    for candidate in shuffled():
        added = measure.added(candidate, stand.upstream, rate=STREAM_RATE, seconds=STREAM_SECONDS, paced=True)
        figures[candidate.name].streamed.append(added)
