"""Waits for the books, but not for ever: what a call wrote is usually durable in milliseconds."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from usage.committer import Committer
from usage.items import Item, Result, Settle, Void

logger = logging.getLogger(__name__)

#: A wait may be this much longer (seconds) than asked for: one timer serves all who wait.
_SLACK: Final = 0.01


class Writer:
    """Hands items to the committer of this event loop."""

    def __init__(self, committer: Committer, wait_seconds: float) -> None:
        self._committer = committer
        self._wait_seconds = wait_seconds
        self._loop = asyncio.get_running_loop()
        #: Who waits, and when it gives up: the first one first, since all wait for the same time.
        self._deadlines: dict[Writing, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def write(self, item: Item) -> bool:
        """Hand ``item`` to the books and wait, at most ``wait_seconds``. False: it is not, or can not be, written.

        A settlement that the database can't take (a provider's absurd numbers) must not hold credits for ever: its
        hold is given back.
        """
        writing = Writing(item, self._committer, self._loop.create_future())
        self._deadlines[writing] = self._loop.time() + self._wait_seconds
        if self._timer is None:
            self._timer = self._loop.call_later(self._wait_seconds, self._give_up)
        self._committer.hand_over(item, writing)
        try:
            return await writing.written
        finally:
            del self._deadlines[writing]

    def _give_up(self) -> None:
        """Tell those whose time is over that their item is not written yet."""
        self._timer = None
        now = self._loop.time()
        for writing, deadline in self._deadlines.items():
            if deadline > now + _SLACK:
                self._timer = self._loop.call_at(deadline, self._give_up)
                return
            writing.tell(False)


class Writing:
    """One item on its way. The committer answers it as it would a future."""

    __slots__ = ("_committer", "_item", "written")

    def __init__(self, item: Item, committer: Committer, written: asyncio.Future[bool]) -> None:
        self.written = written
        self._item = item
        self._committer = committer

    def done(self) -> bool:
        """Never before the committer says so: nobody takes an item back."""
        return False

    def set_result(self, result: Result) -> None:
        """It is written."""
        self.tell(True)

    def set_exception(self, error: Exception) -> None:
        """It can't be: said once, not raised into an answer that is ready."""
        item = self._item
        logger.error("an item of the books failed: %s of %s", type(error).__name__, type(item).__name__)
        if isinstance(item, Settle):
            self._committer.submit_nowait(Void(item.hold_id, item.workspace_id, item.key_id))
        self.tell(False)

    def tell(self, outcome: bool) -> None:
        """Wake who waits, if it still does."""
        if not self.written.done():
            self.written.set_result(outcome)
