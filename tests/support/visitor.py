"""A committer's connection and memory for a test, without a committer: `usage.visits` visit by visit."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from asgiref.sync import sync_to_async
from django.db import connection
from psycopg.conninfo import make_conninfo

from tests.support.money import Payer
from usage.doors import LineDoor
from usage.items import Admitted, Item, Result, Settled
from usage.known import Known
from usage.line import Line
from usage.visits import visit

CREDIT = 1_000_000
T = TypeVar("T")


class Visitor:
    """A committer's connection and memory, and how often each way was taken. ``now`` is its clock."""

    def __init__(self, line: Line) -> None:
        self._door = LineDoor(line)
        self._line = line
        self.now = 0.0
        self.known = Known(monotonic=lambda: self.now)
        self.queries: list[str] = []
        #: The SQL functions that were called.
        self.functions: list[str] = []
        run = line.run

        async def counted(query: bytes, *params: bytes) -> object:
            self.functions += re.findall(r"hypereal_calls_\w+", query.decode())
            self.queries.append("short" if b"hypereal_calls_apply" in query else "long")
            return await run(query, *params)

        line.run = counted  # type: ignore[method-assign,assignment]

    async def ask(self, *items: Item, flush: bool = False) -> list[Result]:
        return await visit(self._door, items, self.known, flush=flush)

    async def one(self, item: Item) -> Result:
        return (await self.ask(item))[0]

    def close(self) -> None:
        self._line.close()

    def forget_that_lots_last(self, until: float) -> None:
        """What is remembered of lots with an end: it was at ``until`` (Unix seconds)."""
        for entry in self.known._entries.values():
            for lot in entry.lots:
                lot.expires = until if lot.expires is not None else None

    def way(self) -> list[str]:
        """The round trips since the last question."""
        taken, self.queries, self.functions = self.queries, [], []
        return taken


@sync_to_async
def dsn() -> str:
    s = connection.settings_dict
    return make_conninfo(host=s["HOST"], port=s["PORT"], user=s["USER"], password=s["PASSWORD"], dbname=s["NAME"])


async def later(work: Callable[[], T]) -> T:
    """Synchronous work of somebody else: another process, a page."""
    return await sync_to_async(work)()


async def acquainted(visitor: Visitor, payer: Payer) -> None:
    """One call the ordinary way, after which the payer's rows are remembered."""
    admit = payer.admit(CREDIT)
    assert isinstance(await visitor.one(admit), Admitted)
    assert isinstance(await visitor.one(payer.settle(admit, CREDIT)), Settled)
    visitor.way()
