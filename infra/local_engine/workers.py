"""One worker: a process of the vendor's SDK, its development server, and one job at a time."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from upstreams import runpod
from upstreams.client import Pool
from upstreams.errors import UpstreamError
from upstreams.wire import Timeouts, UpstreamRequest

HANDLERS: Final = {"hypereal/sample": Path(__file__).parent.parent / "samples" / "handler.py"}
START_SECONDS: Final = 90.0
STOP_SECONDS: Final = 2.0
MOST_OUTPUT_BYTES: Final = 128 * 1024 * 1024
MOST_LOG_BYTES: Final = 1_000_000
#: All of our environment that a worker gets: it must not see the installation's secrets.
_PASSED_ON: Final = ("PATH", "LANG", "TZ", "HYPEREAL_RUN")


class WorkerLost(Exception):
    """The worker's process ended, or does not start."""


def image_of(name: str) -> Path | None:
    """The handler of an image, with or without a tag; None for an image that is not here."""
    return HANDLERS.get(name.partition(":")[0].removeprefix("docker.io/"))


class Worker:
    """``start``, any number of ``work``, ``stop``. The process belongs to this process's group and ends with it."""

    def __init__(self, handler: Path, env: Mapping[str, str], log: Path, pool: Pool) -> None:
        self._handler, self._env, self._log, self._pool = handler, dict(env), log, pool
        self._process: asyncio.subprocess.Process | None = None
        self._account = runpod.Account(queue_url="")

    async def start(self) -> None:
        """Start the process and wait until its server answers. Raises WorkerLost."""
        port = _free_port()
        self._account = runpod.Account(queue_url=f"http://127.0.0.1:{port}", status_method="POST")
        command = [sys.executable, "-I", str(self._handler), "--rp_serve_api", "--rp_api_host", "127.0.0.1"]
        if self._log.exists() and self._log.stat().st_size > MOST_LOG_BYTES:
            self._log.unlink()
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, "--rp_api_port", str(port),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._log.parent, env=self._environment(),
            )  # fmt: skip
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._until_it_answers(port)
        except TimeoutError:
            await self.stop()
            raise WorkerLost(f"the worker did not answer within {START_SECONDS:.0f} s") from None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.returncode is None

    async def work(self, job_input: Any) -> runpod.Seen:
        """Have the worker do one job and wait for its end, however long that is. Raises WorkerLost.

        The SDK's server begins a job of ``/run`` when its state is first asked for, and answers at its end.
        """
        try:
            queued = runpod.read_job(await self._ask(runpod.run(self._account, "", {"input": job_input})))
            return runpod.read_job(await self._ask(runpod.status(self._account, "", queued.id)))
        except UpstreamError as error:
            raise WorkerLost(f"the worker broke off ({error.kind})") from None

    async def stop(self) -> None:
        """End the process: asked first, then killed."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End the process at once, whatever it does."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def _environment(self) -> dict[str, str]:
        own = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return {"PYTHONUNBUFFERED": "1", "HOME": str(self._log.parent), **self._env, **own}

    async def _until_it_answers(self, port: int) -> None:
        assert self._process is not None
        while True:
            if self._process.returncode is not None:
                raise WorkerLost(f"the worker ended with status {self._process.returncode} before it was ready")
            try:
                _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return

    async def _ask(self, request: UpstreamRequest) -> Any:
        """One exchange, broken off as soon as the process is gone."""
        limits = Timeouts(connect_seconds=5, first_byte_seconds=86_400, idle_seconds=60, total_seconds=86_400)
        with await self._pool.send(request, limits) as response:
            body = await response.read(MOST_OUTPUT_BYTES)
            return runpod.read(response.status, response.headers, body)


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])
