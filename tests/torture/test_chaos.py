"""Minutes of everything dying under load: gateways, PostgreSQL, Redis, callers. Then the books are read."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable

import pytest

from tests.support.gateway import CREDIT, Caller, wait_for
from tests.support.installation import Installation, own_redis, pending
from tests.support.load import Load, Outcome
from tests.torture.chaos import PRICE, SETTINGS, Chaos, Crowd, lengthy, steady, unreliable
from usage import verify

SECONDS = float(os.environ.get("TORTURE_SECONDS", "120"))
SEED = int(os.environ.get("TORTURE_SEED", "0")) or random.randrange(1, 10**6)
GATEWAYS = 3
CALLERS = 16
#: A second target that is not there: who fails at the first one fails.
NOBODY = "http://127.0.0.1:9/v1"


@pytest.mark.torture
@pytest.mark.timeout(int(SECONDS) + 600)
def test_everything_dies_again_and_again(installation: Installation, figures: Callable[[str], None]) -> None:
    figures(f"TORTURE_SEED={SEED} TORTURE_SECONDS={SECONDS:g}")
    with own_redis() as redis:
        servers = [installation.start(REDIS_URL=redis.url, **SETTINGS) for _ in range(GATEWAYS)]
        models = {behave.__name__: installation.new_model(behave, NOBODY) for behave in (steady, lengthy, unreliable)}
        installation.until_known([*models.values()][-1])
        rich = [installation.caller(100_000, servers[0]) for _ in range(4)]
        poor = installation.caller(220, servers[0])
        crowd = Crowd(installation, rich, poor, models, servers)
        chaos = Chaos(crowd, redis, random.Random(SEED))
        with installation.running("run_cron", **SETTINGS):
            with Load(crowd.make, CALLERS, seed=SEED) as under_load:
                chaos.rage(SECONDS)
            wait_for(lambda: pending() == 0, 30)
        assert {server.stop(seconds=60) for server in servers} == {0}
    seen = sum((check(caller, crowd, under_load.outcomes) for caller in [*rich, poor]), Counter())
    late = sum(row["late"] for row in poor.books().log)
    assert poor.books().balance >= -late * PRICE, "nobody gets more than they have, but for what was served unseen"
    assert verify.verify().findings == ()
    blows = ", ".join(f"{count} × {name.replace('_', ' ')}" for name, count in sorted(chaos.done.items()))
    figures(f"chaos with seed {SEED} for {SECONDS:g} s: {blows}")
    figures(
        f"  {len(under_load.outcomes)} calls, {len(under_load.whole)} whole, each billed exactly once; "
        f"{seen['interrupted']} interrupted, {seen['late']} charged late, {seen['left']} left by their callers; "
        f"{seen['charged'] / CREDIT:.2f} credits charged, the books agree"
    )


def check(caller: Caller, crowd: Crowd, outcomes: list[Outcome]) -> Counter[str]:
    """One payer's log against what their callers got."""
    books = caller.books()
    assert (books.held, books.meter_held) == (0, 0)
    assert books.charged == sum(books.transfers) == books.spent == books.rolled_up
    charged: dict[str, int] = {}
    rows = Counter(str(row["request_id"]) for row in books.log)
    seen: Counter[str] = Counter()
    for row in books.log:
        name = str(row["request_id"])
        if row["charged_microcredits"]:
            assert name not in charged, f"{name} was charged twice"
            charged[name] = row["charged_microcredits"]
        seen["interrupted"] += row["error_type"] == "interrupted"
        seen["late"] += row["late"]
        seen["left"] += row["client_disconnected"]
    late = {str(row["request_id"]) for row in books.log if row["late"]}
    assert all(count == 1 or (count == 2 and name in late) for name, count in rows.items())
    mine = {outcome.request_id: outcome for outcome in outcomes if outcome.whole and outcome.request_id in rows}
    for name in mine:
        assert name in charged, f"{name} was answered in full and not charged"
        if crowd.kinds[name] in ("steady", "poor"):
            assert charged[name] == PRICE
    seen["charged"] = books.charged
    return seen
