"""How fast a core is while something else is measured on it: a plain loop, two per cent of the time, all the time.

Virtual machines that share a host, and cores that share their units with a busy neighbour, change their speed by a
factor of two or three from one second to the next, with no steal time to be seen. CPU figures are divided by what the
loop took in the same seconds. ``python -m bench.metronome CORE FILE`` is the loop.
"""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hypereal_site import processes

#: The core that figures are related to needs this long for one turn of the loop.
REFERENCE_NS: Final = 50.0
_TURNS: Final = 20_000
_PAUSE_SECONDS: Final = 0.05
_LAYOUT: Final = struct.Struct("=qq")
_ROOT: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Beat:
    """What the loop has done so far: turns, and nanoseconds of CPU for them."""

    turns: int
    nanoseconds: int


class Metronome:
    """Reads what the loop wrote."""

    def __init__(self, shared: mmap.mmap) -> None:
        self._shared = shared

    def beat(self) -> Beat:
        """The totals now."""
        return Beat(*_LAYOUT.unpack_from(self._shared))

    def ns_a_turn(self, since: Beat) -> float:
        """Nanoseconds a turn since then. Waits for the first turns where there were none."""
        now = self.beat()
        while now.turns == since.turns:
            time.sleep(_PAUSE_SECONDS)
            now = self.beat()
        return (now.nanoseconds - since.nanoseconds) / (now.turns - since.turns)


@contextmanager
def running(core: int, folder: Path) -> Iterator[Metronome]:
    """The loop on ``core``."""
    path = folder / "metronome"
    path.write_bytes(bytes(_LAYOUT.size))
    command: list[str | Path] = [sys.executable, "-m", "bench.metronome", str(core), path]
    process: subprocess.Popen[bytes] = processes.spawn(command, log=folder / "metronome.log", directory=_ROOT)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), _LAYOUT.size, prot=mmap.PROT_READ) as shared:
            yield Metronome(shared)
    finally:
        processes.kill_group(process)


def main(core: int, path: Path) -> None:
    """Loop until killed."""
    os.sched_setaffinity(0, {core})
    turns = nanoseconds = 0
    with path.open("r+b") as file, mmap.mmap(file.fileno(), _LAYOUT.size) as shared:
        while True:
            began, total = time.thread_time_ns(), 0
            for number in range(_TURNS):
                total += number
            nanoseconds += time.thread_time_ns() - began
            turns += _TURNS
            _LAYOUT.pack_into(shared, 0, turns, nanoseconds)
            time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
