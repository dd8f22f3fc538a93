"""Listens for the database's notifications, so that what is kept in memory is dropped the moment it changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

import psycopg
from psycopg import sql

logger = logging.getLogger(__name__)

_RETRY_LEAST_SECONDS: Final = 0.2
_RETRY_MOST_SECONDS: Final = 5.0
#: A connection that says nothing for so long is asked whether it is still there.
_PING_SECONDS: Final = 20.0
_ANSWER_SECONDS: Final = 5.0


class Notices:
    """One connection that waits. ``on_gap`` is called whenever notifications may have been missed."""

    def __init__(self, dsn: str, heard: Mapping[str, Callable[[str], None]], on_gap: Callable[[], None]) -> None:
        self._dsn = dsn
        self._heard = heard
        self._on_gap = on_gap
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen from now on, on the running event loop."""
        self._task = asyncio.create_task(self._listen_forever())

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen_forever(self) -> None:
        pause = _RETRY_LEAST_SECONDS
        while True:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True)
                async with connection:
                    for channel in self._heard:
                        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                    self._on_gap()
                    pause = _RETRY_LEAST_SECONDS
                    await self._hear(connection)
            except (psycopg.Error, OSError, TimeoutError) as error:
                logger.warning("no notifications from the database: %s", type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _RETRY_MOST_SECONDS)

    async def _hear(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        while True:
            async for notice in connection.notifies(timeout=_PING_SECONDS):
                self._heard[notice.channel](notice.payload)
            async with asyncio.timeout(_ANSWER_SECONDS):
                await connection.execute("SELECT 1")
