"""What the formats' files share: all of the index, under either price list, and the proof that all of it ran."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_django

from tests.support import replay
from tests.support.gateway import Gateway
from tests.support.replay import Exchange

#: The recordings folder's lists; one of them forces rounding.
PRICE_LISTS = ("A", "B")

Models = dict[tuple[str, str], str]
Figures = Callable[[str], None]


def cases(endpoints: Iterable[str], wanted: Callable[[Exchange], bool] = lambda _: True) -> list[Any]:
    """The exchanges of some endpoints as parameters."""
    found = [exchange for endpoint in endpoints for exchange in replay.exchanges(endpoint) if wanted(exchange)]
    return [pytest.param(exchange, id=exchange.id) for exchange in found]


def models_of(
    gateway: Gateway,
    blocker: pytest_django.DjangoDbBlocker,
    endpoints: Sequence[str],
    new_model: Callable[[Exchange, str], str],
) -> Models:
    """A model for each exchange and price list, by ``new_model``; all of them known to the gateway."""
    with gateway.connected(blocker):
        made = {
            (exchange.id, price_list): new_model(exchange, price_list)
            for endpoint in endpoints
            for exchange in replay.exchanges(endpoint)
            for price_list in PRICE_LISTS
        }
        gateway.until_known([*made.values()][-1])
    return made


@dataclass
class Ran:
    """What of the index ran, by (exchange, price list), and the exchanges whose answers satisfy the vendor."""

    cases: set[tuple[str, str]] = field(default_factory=set)
    valid: set[str] = field(default_factory=set)

    def check(
        self, request: pytest.FixtureRequest, figures: Figures, what: str, endpoints: Sequence[str], least_valid: int
    ) -> None:
        """All of it, or skip: a run that was narrowed to single cases proves nothing."""
        collected = sum(item.path == request.node.path for item in request.session.items)
        listed = [entry["id"] for entry in replay.index()["fixtures"] if entry["endpoint"] in endpoints]
        if collected <= len(listed) * len(PRICE_LISTS):
            pytest.skip("the run is narrowed")
        figures(f"{what} billed to the microcredit: {len(self.cases)} of {len(listed) * len(PRICE_LISTS)}")
        figures(f"of these within the vendor's types and schemas: {len(self.valid)} exchanges")
        assert self.cases == {(name, price_list) for name in listed for price_list in PRICE_LISTS}
        assert len(self.valid) >= least_valid
