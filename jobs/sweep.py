"""Finds steps that nobody was woken for and makes them here, in threads of its own: jobs end while Redis is away.

A wake-up that works is quicker; this one needs nothing but the database. What both find is claimed by one of them.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import close_old_connections, connections

from jobs import leases, stepping

log = logging.getLogger(__name__)

#: Steps that one look takes on; what is left comes with the next.
MOST_STEPS: Final = 500
#: Steps wait for providers, not for a processor.
THREADS: Final = 8


class Sweeper:
    """The threads of one process. They end when nothing is due, and with the process after their present step."""

    def __init__(self, threads: int = THREADS, overdue_seconds: float | None = None) -> None:
        self._most_threads = threads
        self._overdue_seconds = settings.JOB_OVERDUE_SECONDS if overdue_seconds is None else overdue_seconds
        self._lock = threading.Lock()
        self._waiting: deque[UUID] = deque()
        self._taken: set[UUID] = set()
        self._threads: set[threading.Thread] = set()

    def sweep(self) -> int:
        """Take on what is overdue, and return without waiting for it; how many steps were taken on."""
        due = leases.due(overdue_seconds=self._overdue_seconds, most=MOST_STEPS)
        with self._lock:
            new = [job_id for job_id in due if job_id not in self._taken]
            self._taken.update(new)
            self._waiting.extend(new)
            for number in range(min(self._most_threads - len(self._threads), len(self._waiting))):
                thread = threading.Thread(target=self._work, name=f"jobs-{number}")
                self._threads.add(thread)
                thread.start()
        return len(new)

    def join(self, seconds: float) -> None:
        """Wait until all that was taken on is done, at most so long for each thread."""
        for thread in list(self._threads):
            thread.join(seconds)

    def _work(self) -> None:
        try:
            while (job_id := self._next()) is not None:
                try:
                    stepping.step(job_id)
                except Exception:
                    log.exception("a job's step was not made", extra={"job": str(job_id)})
                    close_old_connections()
                finally:
                    with self._lock:
                        self._taken.discard(job_id)
        finally:
            connections.close_all()

    def _next(self) -> UUID | None:
        with self._lock:
            # A process that ends makes no further step; what it leaves is found by the next look of another.
            if self._waiting and threading.main_thread().is_alive():
                return self._waiting.popleft()
            self._threads.discard(threading.current_thread())
            return None


_sweeper = Sweeper()


def sweep() -> int:
    """Take on what is overdue in this process; how many steps that are."""
    return _sweeper.sweep()
