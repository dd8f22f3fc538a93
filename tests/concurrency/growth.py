"""Streams that grow while a limit comes near, over several processes: what they may pass it by, and the figures."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from billing.models import SpendMeter
from catalog import pricing
from tests.fakes import upstream as fake
from tests.fakes.upstream import Conversation
from tests.support import load
from tests.support.gateway import CREDIT, RATES, SETTINGS, Caller, Gateway, Server, body_of, price_of
from tests.support.load import Outcome
from upstreams import estimate

STEP_TOKENS = int(SETTINGS["GATEWAY_STEP_OUTPUT_TOKENS"])
STEP = price_of(0, STEP_TOKENS)
#: Some sixteen tokens a piece: four or five of them a step.
PIECE = "x" * 64
PIECE_TOKENS = 16
MOST_PIECES = 40


@dataclass(frozen=True)
class Growth:
    """What became of it. Amounts in microcredits; ``most`` is the most that was ever spent and reserved together."""

    outcomes: list[Outcome]
    limit: int
    most: int
    spent: int
    wanted: int

    @property
    def live(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == 200]

    @property
    def cut(self) -> int:
        """Streams that ended where nothing was left to reserve."""
        return sum(b'"length"' in outcome.body for outcome in self.live)

    def said(self, processes: int, each: int) -> str:
        """The figures, as people read them."""
        passed = max(0, self.spent - self.limit)
        return (
            f"{processes} processes x {each} growing streams on one key: limit {self.limit / CREDIT:.2f} credits, "
            f"wanted {self.wanted / CREDIT:.2f}, spent {self.spent / CREDIT:.2f} "
            f"(passed by {passed / STEP:.2f} steps in all, {STEP * len(self.live) / CREDIT:.2f} credits were allowed), "
            f"{len(self.live)} lived, {self.cut} of them cut, spent and reserved {self.most / CREDIT:.2f} at most"
        )


def grow(
    gateway: Gateway, caller: Caller, servers: Sequence[Server], each: int, *, seed: int, unforeseen: bool
) -> Growth:
    """``each`` streams a process at one moment. The key's limit lets all begin, and pays half of what they want.

    ``unforeseen``: the provider's last word names a step of tokens more than it showed.
    """
    streams, chances, lock = each * len(servers), random.Random(seed), threading.Lock()
    lengths = [chances.randint(1, MOST_PIECES) for _ in range(streams)]
    left = list(lengths)

    async def behave(talk: Conversation) -> None:
        with lock:
            pieces = left.pop()
        await talk.start()
        while route.calls < streams and not await talk.gone(0.05):
            pass
        for _ in range(pieces):
            await talk.chunk(PIECE)
            if await talk.gone(0.01):
                return
        hidden = STEP_TOKENS if unforeseen else 0
        usage = fake.usage(10, pieces * PIECE_TOKENS + hidden)
        await talk.send(fake.event("", finish="stop", usage=usage) + fake.DONE)
        await talk.end()

    route = gateway.upstream.serve(behave)
    body = json.dumps(body_of(gateway.model(route), stream=True, max_tokens=4_000)).encode()
    first = pricing.ceiling(RATES, estimate.ceiling_input_tokens(body), STEP_TOKENS)
    wanted = sum(price_of(10, pieces * PIECE_TOKENS) for pieces in lengths)
    limit = streams * first + wanted // 2
    caller.give(2 * limit + 10_000 * CREDIT)  # the key's limit comes first
    caller.limit(limit)
    calls = [
        load.call(servers[number % len(servers)].port, caller.secret, body, seconds=300) for number in range(streams)
    ]
    most = 0
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(load.together, calls)
        while not sending.done():
            most = max(most, _counted(caller))
            time.sleep(0.02)  # the upstream lives in this process, too
        outcomes = sending.result()
    books = caller.settled_books(rows=streams, seconds=60)
    assert books.spent == books.charged == sum(books.transfers)
    assert (books.held, books.meter_held, len(books.log)) == (0, 0, streams)
    return Growth(outcomes, limit, most, books.spent, wanted)


def _counted(caller: Caller) -> int:
    meter = SpendMeter.objects.filter(scope_id=caller.key.pk).first()
    return 0 if meter is None else meter.spent_microcredits + meter.held_microcredits
