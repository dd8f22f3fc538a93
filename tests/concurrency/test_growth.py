"""A limit that is reached while streams grow, over several processes at once (C-LIM-2, C-LIM-3).

What is delivered is covered before, so streams alone never pass a limit; what a provider names at the end and nobody
could foresee may pass it, by a step for each stream in flight at most.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import pytest_django

from tests.concurrency.growth import STEP, Growth, grow
from tests.support.gateway import Gateway, Server
from usage import verify

SEED = int(os.environ.get("TORTURE_SEED", "1"))
ROUNDS = 3
#: Streams wait at the upstream until all of them are there; on a busy machine that takes its time.
PATIENT = {
    "GATEWAY_CONNECT_SECONDS": "60",
    "GATEWAY_FIRST_BYTE_SECONDS": "120",
    "GATEWAY_IDLE_SECONDS": "120",
    "GATEWAY_TOTAL_SECONDS": "300",
    "GATEWAY_SLOW_READER_SECONDS": "120",
}

Figures = Callable[[str], None]


@pytest.fixture
def processes(
    request: pytest.FixtureRequest, _gateway_session: Gateway, django_db_blocker: pytest_django.DjangoDbBlocker
) -> Iterator[list[Server]]:
    """As many gateways as the test says."""
    with _gateway_session.connected(django_db_blocker):
        servers = [_gateway_session.start(**PATIENT) for _ in range(request.param)]
    yield servers
    for server in servers:
        assert server.stop() == 0


def check(growth: Growth, streams: int, *, unforeseen: bool) -> None:
    assert len(growth.outcomes) == len(growth.live) == streams
    assert [outcome for outcome in growth.live if not outcome.whole] == []
    assert growth.cut > 0, "the limit was never met"
    assert growth.spent > 0.9 * growth.limit, "the limit was not used"
    if unforeseen:
        assert growth.spent <= growth.limit + STEP * streams
    else:
        assert growth.spent <= growth.limit
        assert growth.most <= growth.limit
    assert verify.verify().findings == ()


@pytest.mark.parametrize("processes", [2], indirect=True)
def test_growing_streams(gateway: Gateway, processes: list[Server], figures: Figures) -> None:
    for unforeseen in (False, True):
        growth = grow(gateway, gateway.caller(credits=0), processes, 24, seed=SEED, unforeseen=unforeseen)
        figures(growth.said(2, 24))
        check(growth, 48, unforeseen=unforeseen)


@pytest.mark.torture
@pytest.mark.parametrize("unforeseen", [False, True], ids=["foreseen", "unforeseen"])
@pytest.mark.parametrize("processes", [4], indirect=True)
def test_four_processes_of_64_growing_streams(
    gateway: Gateway, processes: list[Server], unforeseen: bool, figures: Figures
) -> None:
    for number in range(SEED, SEED + ROUNDS):
        growth = grow(gateway, gateway.caller(credits=0), processes, 64, seed=number, unforeseen=unforeseen)
        figures(f"seed {number}: {growth.said(4, 64)}")
        check(growth, 256, unforeseen=unforeseen)
