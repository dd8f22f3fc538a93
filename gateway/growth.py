"""The growth of a stream's hold: one step more when half of the last one is used, without holding the stream up."""

from __future__ import annotations

import asyncio

from gateway.meter import Meter
from usage.committer import Committer
from usage.items import Extend, Extended, Result


class OutOfCredits(Exception):
    """The hold could not grow and what it covers is used up."""


class Growth:
    """Extends one hold; ``template`` names it."""

    __slots__ = ("_asked", "_asked_tokens", "_committer", "_meter", "_patience_seconds", "_refused", "_template")

    def __init__(self, committer: Committer, meter: Meter, template: Extend, patience_seconds: float) -> None:
        self._committer = committer
        self._meter = meter
        self._template = template
        self._patience_seconds = patience_seconds
        self._asked: asyncio.Future[Result] | None = None
        self._asked_tokens = 0
        self._refused = False

    async def cover(self, used_tokens: int) -> None:
        """See to it that ``used_tokens`` of output may be delivered. Raises OutOfCredits where they may not.

        Below what is granted this only asks, and takes the answer at a later call; a refusal there is not the end,
        since credits may come back before the rest is used. Above it, it waits, and a refusal is final.
        """
        meter = self._meter
        while used_tokens > meter.extend_above_tokens:
            beyond = used_tokens >= meter.granted_tokens
            if self._asked is None:
                if self._refused and not beyond:
                    return
                self._ask(used_tokens)
            assert self._asked is not None
            if not self._asked.done() and not beyond:
                return
            if await self._granted():
                meter.granted_tokens = self._asked_tokens
                self._refused = False
            elif beyond and self._refused:
                raise OutOfCredits
            else:
                self._refused = True

    def _ask(self, used_tokens: int) -> None:
        self._asked_tokens = self._meter.next_tokens(used_tokens)
        template, amount = self._template, self._meter.microcredits_for(self._asked_tokens)
        self._asked = self._committer.submit(Extend(template.hold_id, template.workspace_id, template.key_id, amount))

    async def _granted(self) -> bool:
        asked, self._asked = self._asked, None
        assert asked is not None
        try:
            async with asyncio.timeout(self._patience_seconds):
                result = await asked
        except TimeoutError:
            return False
        return isinstance(result, Extended) and result.granted
