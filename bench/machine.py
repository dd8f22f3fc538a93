"""What process trees used, and the machine they run on: read from /proc (Linux only)."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes (10^6 bytes). PSS shares the pages that several processes map out among them."""

    rss_mb: float
    pss_mb: float


def cores() -> tuple[int, set[int]]:
    """The core that gateways run on, and those of everything else (the same one where there is only one)."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], set(allowed[1:]) or {allowed[0]}


@contextmanager
def on(chosen: set[int]) -> Iterator[None]:
    """Run this thread, and whatever it starts, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all its threads, its children, and the children that have ended; 0 when it is gone."""
    total = 0.0
    for each in _tree(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        # utime, stime, and those of the children that were waited for.
        total += sum(int(field) for field in fields[11:15]) / _TICKS
    return total


def memory(pid: int) -> Memory:
    """What a process and its children hold in memory now."""
    rss = pss = 0
    for each in _tree(pid):
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        sizes = {line.split()[0]: int(line.split()[1]) for line in lines if line.startswith(("Rss:", "Pss:"))}
        rss += sizes["Rss:"]
        pss += sizes["Pss:"]
    return Memory(rss * 1024 / 1e6, pss * 1024 / 1e6)


def busy_cores(seconds: float = 1.0) -> float:
    """How many cores' worth of work the machine is doing for others right now."""
    return psutil.cpu_percent(seconds) / 100 * (psutil.cpu_count() or 1)


def description() -> str:
    """The machine, and what interprets us on it, in a few words."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "unknown CPU",
    )
    memory = psutil.virtual_memory().total / 1e9
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{psutil.cpu_count()} × {model}, {memory:.0f} GB, Linux {os.uname().release}, {python}"


def _tree(pid: int) -> list[int]:
    try:
        process = psutil.Process(pid)
        return [pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.Error:
        return []
