"""The catalog in memory: built in a thread, exchanged whole, built anew when the database says it changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from django.db import connection

from catalog import snapshot
from catalog.entries import Snapshot

logger = logging.getLogger(__name__)

#: Rebuilt at least so often: a price may come into force by date alone.
_MOST_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 1.0


class CatalogCache:
    """Holds the snapshot that calls are resolved with. Belongs to one event loop."""

    def __init__(self, build: Callable[[], Snapshot] | None = None) -> None:
        self._build = build or _build_and_disconnect
        self._stale = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._snapshot: Snapshot | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The catalog as it was built last."""
        assert self._snapshot is not None, "start() comes first"
        return self._snapshot

    async def start(self) -> None:
        """Build the first snapshot and keep it fresh from then on. Raises what building raises."""
        self._snapshot = await asyncio.to_thread(self._build)
        self._task = asyncio.create_task(self._refresh_forever())

    def refresh(self, _payload: str = "") -> None:
        """The catalog changed: build it anew soon. Changes that come together are one."""
        self._stale.set()

    async def close(self) -> None:
        """Stop refreshing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _refresh_forever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_MOST_SECONDS):
                    await self._stale.wait()
            except TimeoutError:
                pass
            self._stale.clear()
            try:
                self._snapshot = await asyncio.to_thread(self._build)
            except Exception as error:  # the old catalog goes on serving, whatever kept the new one from being read
                logger.warning("the catalog can't be read: %s", type(error).__name__)
                self._stale.set()
                await asyncio.sleep(_RETRY_SECONDS)


def _build_and_disconnect() -> Snapshot:
    """In a thread of its own that may never come back: its connection must not stay open."""
    try:
        return snapshot.build()
    finally:
        connection.close()
