"""What each model brought in over some days, and what its vendor's list price says that it cost.

Revenue is what the ledger took. Cost is found from it: revenue × (the same tokens at list price) / (the same tokens at
the customer's price), day by day with the price version in force at that day's end. Cache writes, which the rollup does
not tell apart, are in the revenue and so, by the same factor, in the cost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from typing import Any, Final

from django.db.models import Sum

from catalog import codec, pricing
from catalog.models import Price
from catalog.pricing import Rates
from core.money import round_half_up
from upstreams.wire import Usage
from usage.models import Rollup

BASIS_POINTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Margin:
    """One model. ``cost_microcredits`` is None where nobody lists a price for it."""

    model: str
    requests: int
    revenue_microcredits: int
    cost_microcredits: int | None

    @property
    def margin_microcredits(self) -> int | None:
        """Revenue less cost; negative where the customer's price is below what the list says."""
        return None if self.cost_microcredits is None else self.revenue_microcredits - self.cost_microcredits

    @property
    def percent(self) -> float | None:
        """The margin as a share of revenue, None where there is no revenue."""
        margin = self.margin_microcredits
        if margin is None or not self.revenue_microcredits:
            return None
        return margin * 100 / self.revenue_microcredits


def by_model(first: date, last: date, *, discount_basis_points: int = 0) -> list[Margin]:
    """Models that anything was charged or asked of in these UTC days, the one with most revenue first.

    ``discount_basis_points`` is what the operator pays less than the list, on every model.
    """
    found: dict[str, tuple[int, int, Fraction | None]] = {}
    versions = _versions()
    for row in _days(first, last):
        ratio = _cost_of_revenue(versions.get(row["model"], ()), row)
        requests, revenue, cost = found.get(row["model"], (0, 0, Fraction(0)))
        more = None if ratio is None or cost is None else cost + ratio * row["charged"]
        if not row["charged"]:
            more = cost  # nothing was charged, so nothing is said about cost
        found[row["model"]] = (requests + row["n"], revenue + row["charged"], more)
    kept = BASIS_POINTS - discount_basis_points
    margins = [
        Margin(model, requests, revenue, None if cost is None else _rounded(cost * kept / BASIS_POINTS))
        for model, (requests, revenue, cost) in found.items()
    ]
    return sorted(margins, key=lambda margin: (-margin.revenue_microcredits, -margin.requests, margin.model))


def cost_ratio(rates: Rates, list_rates: Rates, usage: Usage) -> Fraction | None:
    """How much of a charge at ``rates`` the same usage costs at ``list_rates``; None where either says nothing."""
    if rates.per_token and list_rates.per_token:
        ours, theirs = pricing.charge(rates, usage).amount_microcredits, pricing.charge(list_rates, usage)
        if ours:
            return Fraction(theirs.amount_microcredits, ours)
    if rates.unit_prices and list_rates.unit_prices:
        listed = dict(list_rates.unit_prices)
        shared = [(price, listed[tier]) for tier, price in rates.unit_prices if tier in listed and price]
        if shared:
            return Fraction(sum(theirs for _, theirs in shared), sum(ours for ours, _ in shared))
    return None


def _days(first: date, last: date) -> Iterable[Any]:
    rows = Rollup.objects.filter(day__gte=first, day__lte=last).values("model", "day")
    return rows.annotate(
        n=Sum("requests"),
        charged=Sum("charged_microcredits"),
        tokens_in=Sum("input_tokens"),
        cached=Sum("cached_input_tokens"),
        tokens_out=Sum("output_tokens"),
    ).order_by("model", "day")


def _versions() -> dict[str, list[Price]]:
    """Every price version by its model's id, the newest first."""
    found: dict[str, list[Price]] = {}
    for price in Price.objects.select_related("model").order_by("model", "-effective_since", "-version"):
        found.setdefault(price.model.slug, []).append(price)
    return found


def _cost_of_revenue(versions: Iterable[Price], row: dict[str, Any]) -> Fraction | None:
    end = datetime.combine(row["day"] + timedelta(days=1), time(), UTC)
    price = next((price for price in versions if price.effective_since < end), None)
    if price is None or not price.list_prices:
        return None
    usage = Usage(input_tokens=row["tokens_in"], cached_input_tokens=row["cached"], output_tokens=row["tokens_out"])
    return cost_ratio(price.rates, codec.from_json(price.list_prices), usage)


def _rounded(amount: Fraction) -> int:
    return round_half_up(amount.numerator, amount.denominator)
