"""A line's query always ends, also where the event loop says nothing of its socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import psycopg
import pytest
import uvloop

from usage.line import Line

SECONDS = 30.0
#: More than the sockets between the two take at once.
LARGE = 64 * 1024 * 1024


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[..., object]:
    found: Callable[..., object] = request.param
    return found


def deaf(line: Line) -> None:
    """What is left of a reader and a writer when uvloop drops them: nothing that anybody is told."""
    loop = asyncio.get_running_loop()
    loop.remove_reader(line._socket)
    loop.remove_writer(line._socket)


def test_an_answer_is_found(run: Callable[..., object]) -> None:
    async def scenario() -> None:
        line = await Line.open(os.environ["DATABASE_URL"])
        deaf(line)
        asking = asyncio.ensure_future(line.run(b"SELECT length($1::text)", b"x" * LARGE))
        await asyncio.sleep(0)
        deaf(line)
        async with asyncio.timeout(SECONDS):
            assert (await asking).get_value(0, 0) == str(LARGE).encode()
            assert (await line.run(b"SELECT 7")).get_value(0, 0) == b"7"
        line.close()

    run(scenario())


def test_an_end_is_found(run: Callable[..., object]) -> None:
    async def scenario() -> None:
        line = await Line.open(os.environ["DATABASE_URL"])
        deaf(line)
        asking = asyncio.ensure_future(line.run(b"SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)"))
        async with asyncio.timeout(SECONDS):
            with pytest.raises(psycopg.OperationalError):
                await asking
            with pytest.raises(psycopg.OperationalError):
                await line.run(b"SELECT 1")
        line.close()

    run(scenario())
