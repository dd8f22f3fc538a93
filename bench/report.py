"""What was measured, as Markdown. Where there were several rounds, their medians."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import TypeVar

from bench.floors import Figures, Run, Verdict
from bench.formats import CHAT, FORMATS
from bench.machine import Memory
from bench.measure import Added, Saturated

T = TypeVar("T")
Row = tuple[str, Callable[[Figures], str]]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is a number."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def own(figures: Figures, idle: Memory) -> str:
    """The gateway by itself."""
    rows = [(label, value(figures)) for label, value in _rows([figures])]
    rows += [("memory idle: RSS (PSS), MB", f"{idle.rss_mb:.0f} ({idle.pss_mb:.0f})")]
    return table(["Hypereal, one process on one core", ""], rows)


def peers(run: Run) -> str:
    """All gateways side by side."""
    rows = [[label, *(value(figures) for figures in run.values())] for label, value in _rows(list(run.values()))]
    return table(["one process on one core", *run], rows)


def floors(verdicts: Sequence[Verdict]) -> str:
    """Each floor with its figure."""
    rows = []
    for verdict in verdicts:
        sign = "≥" if verdict.least else "≤"
        said = "aim reached" if verdict.aim_met else "floor met" if verdict.met else "MISSED"
        numbers = [f"{number:.3g} {verdict.unit}" for number in (verdict.figure, verdict.floor, verdict.aim)]
        rows.append([verdict.claim, numbers[0], f"{sign} {numbers[1]}", f"{sign} {numbers[2]}", said])
    return table(["floor", "measured", "floor", "aim", "result"], rows)


def errors(*measured: Sequence[Saturated] | Sequence[Added]) -> Counter[str]:
    """All that failed."""
    return sum((each.errors for blocks in measured for each in blocks), Counter[str]())


def verdict(calls: int, failed: Counter[str], faults: Sequence[str]) -> str:
    """What failed, and whether the books agree."""
    lines = [f"{count} × {error}" for error, count in failed.most_common(5)]
    lines = [f"{failed.total()} calls failed:", *lines] if lines else ["No call failed."]
    if faults:
        return "\n".join([*lines, "The books do NOT agree:", *faults])
    return "\n".join([*lines, f"The books agree: {calls} calls, as many log rows, charged to the microcredit."])


def _rows(columns: Sequence[Figures]) -> list[Row]:
    rows: list[Row] = []
    if any(figures.json for figures in columns):
        rows += _saturated_rows("JSON answer", lambda figures: figures.json)
    if any(figures.sse for figures in columns):
        rows += _saturated_rows(f"stream of {len(CHAT.events)} events", lambda figures: figures.sse)
        rows.append(("SSE events/s a core could do", lambda f: _over(f.sse, lambda block: block.events_per_core)))
        rows.append(("SSE events/s seen", lambda f: _over(f.sse, lambda block: block.events_per_second)))
    for form in FORMATS:
        if any(form.name in figures.others for figures in columns):
            rows += _saturated_rows(f"{form.name} answer", _of(form.name, 0))
            rows += _saturated_rows(f"{form.name} stream of {len(form.events)} events", _of(form.name, 1))
    for rate in dict.fromkeys(rate for figures in columns for rate in figures.added):
        rows.append((f"added at {rate:.0f}/s, p50 / p99, ms", _percentiles(rate)))
    if any(figures.streamed for figures in columns):
        rows.append(("added to the first event, p50, ms", lambda f: _over(f.streamed, lambda e: e.first_p50_ms, 2)))
    if any(figures.json or figures.sse or figures.others for figures in columns):
        rows.append(("memory loaded: RSS, MB", lambda f: f"{f.rss_mb:.0f}"))
    return rows


def _saturated_rows(what: str, blocks: Callable[[Figures], list[Saturated]]) -> list[Row]:
    def beside(figures: Figures) -> str:
        found = blocks(figures)
        names = found[0].helper_cpu_us if found else {}
        used = {name: median(block.helper_cpu_us[name] for block in found) for name in names}
        return ", ".join(f"{name} {micros:.0f}" for name, micros in used.items()) or "–"

    return [
        (f"CPU a {what}, µs", lambda f: _over(blocks(f), lambda block: block.cpu_us)),
        ("beside it, µs", beside),
        (f"{what}: a core could do a second", lambda f: _over(blocks(f), lambda block: 1e6 / block.cpu_us)),
        (f"{what}: seen a second", lambda f: _over(blocks(f), lambda block: block.per_second)),
    ]


def _of(name: str, which: int) -> Callable[[Figures], list[Saturated]]:
    """The blocks of one format: whole answers (0) or streams (1)."""

    def blocks(figures: Figures) -> list[Saturated]:
        return figures.others[name][which] if name in figures.others else []

    return blocks


def _percentiles(rate: float) -> Callable[[Figures], str]:
    def text(figures: Figures) -> str:
        added = figures.added.get(rate)
        if not added:
            return "too near to saturation"
        return f"{_over(added, lambda each: each.p50_ms, 1)} / {_over(added, lambda each: each.p99_ms, 1)}"

    return text


def _over(measured: Sequence[T], figure: Callable[[T], float], digits: int = 0) -> str:
    return f"{median(map(figure, measured)):.{digits}f}" if measured else "–"
