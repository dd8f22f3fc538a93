"""What was measured, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from bench.machine import Memory
from bench.measure import Added, Saturated

_RIGHT = "---:"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is a number."""
    lines = [head, ["---", *[_RIGHT] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def own(idle: Memory, saturated: dict[str, list[Saturated]], added: Sequence[Added]) -> str:
    """The gateway by itself: medians over the rounds."""
    rows: list[list[str]] = []
    for blocks, unit in ((saturated["json"], "JSON request"), (saturated["sse"], "stream of 54 events")):
        if not blocks:
            continue
        cpu = median(block.cpu_us for block in blocks)
        rows.append([f"CPU a {unit}: gateway", f"{cpu:.0f} µs"])
        for name in blocks[0].helper_cpu_us:
            rows.append([f"beside it: {name}", f"{median(block.helper_cpu_us[name] for block in blocks):.0f} µs"])
        rows.append([f"a core could do: {unit}s a second", f"{1e6 / cpu:.0f}"])
        rows.append([f"seen: {unit}s a second", f"{median(block.per_second for block in blocks):.0f}"])
        if blocks is saturated["sse"]:
            rows.append(["a core could do: SSE events a second", f"{median(b.events_per_core for b in blocks):.0f}"])
            rows.append(["seen: SSE events a second", f"{median(block.events_per_second for block in blocks):.0f}"])
        rows.append(["p50 / p99 under that load", f"{_ms(blocks, 'p50_ms')} / {_ms(blocks, 'p99_ms')} ms"])
        rows.append(["ns a turn of the calibration loop", f"{median(block.ns_a_turn for block in blocks):.0f}"])
        rows.append(
            ["memory after it: RSS (PSS)", f"{blocks[-1].memory.rss_mb:.0f} ({blocks[-1].memory.pss_mb:.0f}) MB"]
        )
    rows.append(["memory idle: RSS (PSS)", f"{idle.rss_mb:.0f} ({idle.pss_mb:.0f}) MB"])
    for rate in dict.fromkeys(each.rate for each in added):
        same = [each for each in added if each.rate == rate]
        rows.append([f"added at {rate:.0f}/s: p50 / p99", f"{_ms(same, 'p50_ms')} / {_ms(same, 'p99_ms')} ms"])
        rows.append([f"added at {rate:.0f}/s: first byte, p50", f"{_ms(same, 'first_p50_ms')} ms"])
        rows.append([f"direct at {rate:.0f}/s: p50", f"{_ms(same, 'direct_p50_ms')} ms"])
    return table(["Hypereal, one process on one core", ""], rows)


def verdict(calls: int, errors: Counter[str], faults: Sequence[str]) -> str:
    """What failed, and whether the books agree."""
    lines = [f"{count} × {error}" for error, count in errors.most_common(5)]
    lines = [f"{errors.total()} calls failed:", *lines] if lines else ["No call failed."]
    if faults:
        return "\n".join([*lines, "The books do NOT agree:", *faults])
    return "\n".join([*lines, f"The books agree: {calls} calls, as many log rows, charged to the microcredit."])


def _ms(measured: Sequence[Saturated] | Sequence[Added], name: str) -> str:
    return f"{median(getattr(each, name) for each in measured):.2f}"
