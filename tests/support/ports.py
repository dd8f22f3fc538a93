"""Ports for servers that a test run starts, out of a range of each worker's own.

A port that the system gives is one that it gives again a moment later, to another worker's server or to a connection:
whoever takes seconds to listen finds it taken. These lie below what Linux gives.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Final

from hypereal_site import processes

_FIRST: Final = 12_000
_OF_A_WORKER: Final = 2_400
_WORKERS: Final = 8
#: A supervisor takes the ports behind its own for its stand-ins.
_STEP: Final = 8


def _all() -> Iterator[int]:
    """This process's ports, again and again. Runs at the same time on one machine begin at different places."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    start = _FIRST + int(worker) % _WORKERS * _OF_A_WORKER
    count = _OF_A_WORKER // _STEP
    for number in itertools.count(os.getpid()):
        yield start + number % count * _STEP


_ports = _all()


def free_port() -> int:
    """A loopback port that nobody uses and that nobody else of this run is given."""
    for port in itertools.islice(_ports, _OF_A_WORKER):
        try:
            processes.reserve_port(port).close()
        except OSError:
            continue
        return port
    raise OSError("no free port")
