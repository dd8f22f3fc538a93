"""Endpoints of the local engine: a queue of jobs each, and workers that come and go with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from infra.local_engine.workers import Worker, WorkerLost
from upstreams import runpod
from upstreams.client import Pool

log = logging.getLogger(__name__)

#: Workers that one endpoint has at most here, whatever it asks for: this is one machine.
MOST_WORKERS: Final = 3
#: Times that a worker may fail to start until the job that waits for it is given up.
STARTS: Final = 2


@dataclass(slots=True)
class Job:
    """One job. Times are of the monotonic clock, in seconds."""

    input: Any
    execution_seconds: float
    ttl_seconds: float
    kept_seconds: float
    id: str = field(default_factory=lambda: f"{uuid4()}-local")
    status: str = runpod.QUEUED
    output: Any = None
    error: str = ""
    submitted_at: float = field(default_factory=time.monotonic)
    started_at: float | None = None
    ended_at: float | None = None
    worker: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, status: str, *, output: Any = None, error: str = "") -> None:
        """Bring the job to its final state."""
        self.status, self.output, self.error, self.ended_at = status, output, error, time.monotonic()
        self.ended.set()

    def is_over(self, now: float) -> bool:
        """Whether the job is forgotten: its result's time is over, or its whole time was over before it ended."""
        if self.ended_at is not None:
            return now - self.ended_at > self.kept_seconds
        return self.started_at is None and now - self.submitted_at > self.ttl_seconds

    def shown(self) -> dict[str, Any]:
        """The job as ``/status`` tells it: ``delayTime`` and ``executionTime`` in milliseconds."""
        now = time.monotonic()
        told: dict[str, Any] = {"id": self.id, "status": self.status}
        if self.started_at is not None:
            told |= {"delayTime": _ms(self.started_at - self.submitted_at), "workerId": self.worker}
            if self.ended_at is not None:
                told["executionTime"] = _ms((self.ended_at or now) - self.started_at)
        if self.status == runpod.COMPLETED:
            told["output"] = self.output
        if self.error:
            told["error"] = self.error
        return told


@dataclass(frozen=True, slots=True)
class Settings:
    """What an endpoint was made with, and its template's part."""

    handler: Path
    env: Mapping[str, str]
    workers_min: int
    workers_max: int
    idle_seconds: float
    execution_seconds: float


class Queue:
    """Jobs of one endpoint in the order of their arrival, done by its workers."""

    def __init__(self, folder: Path, settings: Settings, pool: Pool) -> None:
        self.settings = settings
        self.jobs: dict[str, Job] = {}
        self.counts = {"completed": 0, "failed": 0}
        self._folder, self._pool = folder, pool
        self._waiting: deque[Job] = deque()
        self._wake = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = self._idle = self._running = 0
        self._closed = False
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def log(self) -> Path:
        """What workers wrote."""
        return self._folder / "worker.log"

    def submit(self, job: Job) -> Job:
        """Queue a job."""
        self._forget()
        self.jobs[job.id] = job
        self._waiting.append(job)
        self._rouse()
        return job

    def find(self, job_id: str) -> Job | None:
        """A job that is still kept."""
        self._forget()
        return self.jobs.get(job_id)

    async def cancel(self, job: Job) -> None:
        """Take a waiting job out of the queue; end a running one with its worker."""
        if job in self._waiting:
            self._waiting.remove(job)
            job.end(runpod.CANCELLED)
        elif not job.ended.is_set():
            job.cancelled.set()
            await job.ended.wait()

    async def change(self, settings: Settings) -> None:
        """Take new settings; idle workers of the old ones end, busy ones after their job."""
        self.settings = settings
        async with self._wake:
            self._wake.notify_all()
        self._rouse()

    def health(self) -> dict[str, Any]:
        """Counts as ``/health`` words them."""
        states = [job.status for job in self.jobs.values()]
        waiting, running = states.count(runpod.QUEUED), states.count("IN_PROGRESS")
        jobs = {**self.counts, "inProgress": running, "inQueue": waiting, "retried": 0}
        workers = {"idle": self._idle, "initializing": self._starting, "running": self._running}
        return {"jobs": jobs, "workers": {**workers, "ready": self._idle, "throttled": 0, "unhealthy": 0}}

    def keep_warm(self) -> None:
        """Start the workers that are to be there without work."""
        self._rouse()

    async def close(self) -> None:
        """End all workers; jobs that were not done end as cancelled."""
        self._closed = True
        for job in self._waiting:
            job.end(runpod.CANCELLED)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ── Workers ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _rouse(self) -> None:
        if self._closed:
            return
        most = min(self.settings.workers_max, MOST_WORKERS)
        least = min(self.settings.workers_min, most)
        wanted = min(most, max(least, self._running + len(self._waiting)))
        for _number in range(wanted - len(self._tasks)):
            task = asyncio.create_task(self._serve(self.settings))
            self._tasks.add(task)
            task.add_done_callback(self._left)
        asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(self._notify()))

    async def _notify(self) -> None:
        async with self._wake:
            self._wake.notify_all()

    def _left(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a worker's task failed: %r", task.exception())
        if not self._closed and (self._waiting or len(self._tasks) < self.settings.workers_min):
            self._rouse()

    async def _serve(self, settings: Settings) -> None:
        """The life of one worker: start, work, end when there is nothing to do or its settings are old."""
        worker = Worker(settings.handler, settings.env, self.log, self._pool)
        try:
            await self._start(worker)
            while worker.alive and (job := await self._next(settings)) is not None:
                await self._work(worker, job)
        except WorkerLost as error:
            if self._waiting:
                self._waiting.popleft().end("FAILED", error=str(error))
        finally:
            await asyncio.shield(worker.kill() if self._closed else worker.stop())

    async def _start(self, worker: Worker) -> None:
        self._starting += 1
        try:
            for attempt in range(STARTS):
                try:
                    return await worker.start()
                except WorkerLost:
                    if attempt + 1 == STARTS:
                        raise
        finally:
            self._starting -= 1

    async def _next(self, settings: Settings) -> Job | None:
        """The next job, None when this worker is not needed any more."""
        end = time.monotonic() + settings.idle_seconds
        self._idle += 1
        try:
            while self.settings is settings:
                self._forget()
                if self._waiting:
                    return self._waiting.popleft()
                left = end - time.monotonic()
                if left <= 0 and len(self._tasks) > settings.workers_min:
                    return None
                await self._wait(left if left > 0 else settings.idle_seconds + 1)
        finally:
            self._idle -= 1
        return None

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds), self._wake:
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _work(self, worker: Worker, job: Job) -> None:
        job.status, job.started_at, job.worker = "IN_PROGRESS", time.monotonic(), f"local-{id(worker):x}"
        self._running += 1
        work, stop = asyncio.create_task(worker.work(job.input)), asyncio.create_task(job.cancelled.wait())
        limit = min(job.execution_seconds, self.settings.execution_seconds)
        try:
            await asyncio.wait({work, stop}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await worker.kill()
                job.end(runpod.CANCELLED if stop.done() else "TIMED_OUT", error="" if stop.done() else _too_long(limit))
            else:
                self._take(job, work)
        finally:
            self._running -= 1
            for task in (work, stop):
                task.cancel()
            await asyncio.gather(work, stop, return_exceptions=True)
            if not job.ended.is_set():
                job.end(runpod.CANCELLED)
            self.counts["completed" if job.status == runpod.COMPLETED else "failed"] += 1

    def _take(self, job: Job, work: asyncio.Task[runpod.Seen]) -> None:
        error = work.exception()
        if error is not None:
            job.end("FAILED", error=str(error))
            return
        seen = work.result()
        job.end(seen.status if seen.ended else "FAILED", output=seen.output, error=seen.error)

    def _forget(self) -> None:
        now = time.monotonic()
        for job in [job for job in self.jobs.values() if job.is_over(now)]:
            del self.jobs[job.id]
            if job in self._waiting:
                self._waiting.remove(job)
            job.ended.set()


def _too_long(seconds: float) -> str:
    return f"executionTimeout: the job ran longer than {seconds:g} s"


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
