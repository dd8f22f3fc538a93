"""What a second of a GPU costs: the catalog's price ``gpu-second``, whose tiers are the GPU types.

A run is billed by the dearest of its deployment's types: which of them the engine took, it does not tell with the job.
Amounts are microcredits; milliseconds are multiplied exactly and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from catalog import live
from catalog.entries import PriceEntry, Snapshot
from catalog.pricing import TOKENS_PER_MTOK, Line, Rates
from core.errors import Overloaded
from core.money import round_half_up

MODEL: Final = "gpu-second"
WARM: Final = "/warm"
_WARM_BUCKET: Final = "warm second"
_MS_PER_SECOND: Final = 1_000


@dataclass(frozen=True, slots=True)
class GpuPrice:
    """One GPU type: microcredits a second of work, and a second of being kept warm."""

    gpu_type: str
    work_microcredits: int
    warm_microcredits: int


@dataclass(frozen=True, slots=True)
class Tariff:
    """What one deployment's seconds cost. ``price_id`` names the version of the price."""

    price_id: UUID
    gpu_type: str
    microcredits_per_second: int
    bucket: str = "second"

    def line(self, milliseconds: int) -> Line:
        """That much time, exactly."""
        return Line(
            f"{self.bucket} {self.gpu_type}".strip(), milliseconds, self.microcredits_per_second, _MS_PER_SECOND
        )

    def charge(self, milliseconds: int) -> int:
        """Microcredits of that much time, rounded once, half up."""
        return round_half_up(self.line(milliseconds).numerator, TOKENS_PER_MTOK)


def table(snapshot: Snapshot | None = None) -> list[GpuPrice]:
    """Every GPU type with its prices, the cheapest first; empty while no price is published."""
    price = _price(snapshot)
    if price is None:
        return []
    prices = dict(price.rates.unit_prices)
    found = [
        GpuPrice(tier, amount, prices.get(tier + WARM, amount))
        for tier, amount in prices.items()
        if not tier.endswith(WARM)
    ]
    return sorted(found, key=lambda row: (row.work_microcredits, row.gpu_type))


def gpu_types() -> tuple[str, ...]:
    """The types that a deployment may name."""
    return tuple(row.gpu_type for row in table())


def of_runs(gpu_types: Sequence[str]) -> Tariff:
    """What a second of a run costs on a deployment with these types. Raises Overloaded without a price."""
    return _dearest(gpu_types, "", "second")


def of_warm(gpu_types: Sequence[str]) -> Tariff:
    """What a second of a worker that is kept warm costs. Raises Overloaded without a price."""
    return _dearest(gpu_types, WARM, _WARM_BUCKET)


def warm_tariff(price_id: UUID, gpu_type: str, microcredits_per_second: int) -> Tariff:
    """The tariff of warm workers as it was when they were reserved."""
    return Tariff(price_id, gpu_type, microcredits_per_second, _WARM_BUCKET)


def _dearest(gpu_types: Sequence[str], suffix: str, bucket: str) -> Tariff:
    price = _price(None)
    prices = dict(price.rates.unit_prices) if price is not None else {}
    found = [(prices[kind + suffix], kind) for kind in gpu_types if kind + suffix in prices]
    if price is None or len(found) != len(gpu_types):
        raise Overloaded("A GPU type of this deployment has no price at this moment.", code="gpu_not_priced")
    amount, kind = max(found)
    return Tariff(price.id, kind, amount, bucket)


def _price(snapshot: Snapshot | None) -> PriceEntry | None:
    entry = (snapshot or live.current()).models.get(MODEL)
    return entry.price if entry is not None else None


def flat(rates: Rates) -> int:
    """The one unit price of a hosted model, in microcredits."""
    return rates.unit_price("default")
