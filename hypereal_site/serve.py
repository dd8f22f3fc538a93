"""Serves one process: ``python -m hypereal_site.serve --role all|web|gateway --host 127.0.0.1 --port 8000``.

uvicorn on uvloop and httptools, one worker: several processes are the business of whoever starts them. On SIGTERM or
SIGINT calls that are open end and are settled before the process does; a second SIGINT cuts that short.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import socket
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, Final, get_args

import uvicorn

if {"--role=gateway", "gateway"} & set(sys.argv[1:]):
    # Settings ask for it: a process that serves no pages needs none of their code, which is a third of its memory.
    os.environ.setdefault("HYPEREAL_ROLE", "gateway")

from hypereal_site import asgi  # sets Django up, so it comes before all that needs it

# isort: split
from core import startup
from gateway import runtime
from hypereal_site.asgi import Role
from hypereal_site.http_protocol import Protocol

logger = logging.getLogger(__name__)

#: What pages get to finish once no gateway call is open any more.
_PAGE_SECONDS: Final = 5
_BACKLOG: Final = 4096
_SWITCH_SECONDS: Final = 0.001
#: New objects before the youngest are looked through for garbage that reference counts don't find. A call leaves next
#: to none, and the interpreter's own 700 would mean a look every other call.
_YOUNG_OBJECTS: Final = 20_000


class Server(uvicorn.Server):
    """uvicorn cancels requests before it tells the application, and a call that is cut off there would go unsettled.

    So the order here is: refuse new calls, let open ones end, end the rest in their own format, settle; then close.
    """

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal asks to end in order; uvicorn would raise it again afterwards and spoil the exit code."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve; what stands by then stays, so the collector need not look through it again."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG_OBJECTS, 20, 20)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain the gateway while the listening socket still answers, then do what uvicorn does."""
        standing = runtime.running()
        if standing is not None:
            await self._drain(standing)
        await super().shutdown(sockets)
        await runtime.shut()

    async def _drain(self, standing: runtime.Runtime) -> None:
        draining = asyncio.create_task(standing.drain())
        while not draining.done():
            await asyncio.wait((draining,), timeout=0.1)
            if self.force_exit and not draining.done():
                draining.cancel()
                await asyncio.gather(draining, return_exceptions=True)


def config(role: Role, host: str, port: int) -> uvicorn.Config:
    """How uvicorn is run. No access log: it would write query strings, and keys may stand there."""
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "loop": "uvloop",
        "http": Protocol,
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "log_config": None,
        "proxy_headers": False,
        "server_header": False,
        "timeout_keep_alive": 75,
        "timeout_graceful_shutdown": _PAGE_SECONDS,
        "backlog": _BACKLOG,
    }
    return uvicorn.Config(asgi.make(role), **options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal comes. The exit code is 0 after an orderly end, 2 where the settings can't be meant."""
    parser = argparse.ArgumentParser(prog="python -m hypereal_site.serve", description=__doc__.partition("\n")[0])
    parser.add_argument("--role", choices=get_args(Role), default="all")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    chosen = parser.parse_args(arguments)
    if wrong := startup.complaints():
        print(wrong, file=sys.stderr)  # noqa: T201  (whoever starts a server reads this, not its log)
        return 2
    # The event loop gives the interpreter's lock away with each system call and wants it back from the threads that
    # read large bodies and the catalog: the default interval would make calls wait five milliseconds for that.
    sys.setswitchinterval(_SWITCH_SECONDS)
    server = Server(config(chosen.role, chosen.host, chosen.port))
    server.run()
    return 0 if server.started else 3


if __name__ == "__main__":
    sys.exit(main())
