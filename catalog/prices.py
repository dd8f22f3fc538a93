"""The only writer of price versions."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from catalog import codec
from catalog.models import Model, Price, Provider
from catalog.pricing import BUCKETS, Rates, scaled
from core import clock


@transaction.atomic
def publish(
    model: Model,
    rates: Rates,
    *,
    list_rates: Rates,
    factor_basis_points: int,
    guess: bool = False,
    note: str = "",
    managed: bool = False,
    effective_since: datetime | None = None,
) -> Price | None:
    """Add a version of the model's price, or return None where the newest one says the same already.

    Calls that are under way keep the version they were admitted with. Raises ValueError for a price that is not set.
    """
    if not rates.is_set:
        raise ValueError("a price needs input and output rates, or a unit with its prices")
    Model.objects.select_for_update().only("pk").get(pk=model.pk)  # two publishers take turns at the version number
    newest = model.prices.order_by("-version").first()
    facts = _facts(rates, list_rates, factor_basis_points)
    if newest is not None and _says(newest, facts):
        _annotate(newest, guess, note)
        return None
    return Price.objects.create(
        model=model,
        version=newest.version + 1 if newest else 1,
        effective_since=effective_since or clock.now(),
        guess=guess,
        note=note,
        managed=managed,
        **facts,
    )


def publish_list(
    model: Model, list_rates: Rates, *, guess: bool, note: str, newest: Price | None = None
) -> Price | None:
    """Publish the vendor's list price times the model's factor: how the catalog files set prices.

    A caller that has the newest version at hand passes it, and nothing is asked of the database where it stands.
    """
    factor = model.factor_basis_points
    facts = _facts(scaled(list_rates, factor), list_rates, factor)
    if newest is not None and (newest.guess, newest.note) == (guess, note) and _says(newest, facts):
        return None
    return publish(
        model,
        scaled(list_rates, factor),
        list_rates=list_rates,
        factor_basis_points=factor,
        guess=guess,
        note=note,
        managed=True,
    )


def newest_of_all() -> dict[UUID, Price]:
    """The newest version of every model's price, in force or not yet, by the model's id: one query."""
    rows = Price.objects.order_by("model_id", "-version").distinct("model_id")
    return {row.model_id: row for row in rows}


@transaction.atomic
def reprice(vendor: Provider) -> int:
    """Publish anew every price of a vendor's models that came of a list price, after its factor changed.

    Returns how many versions were added. Prices that an operator set by hand stay.
    """
    added = 0
    for model in vendor.own_models.select_related("vendor"):
        newest = model.prices.order_by("-version").first()
        if newest is None or not newest.managed or not newest.list_prices:
            continue
        list_rates = codec.from_json(newest.list_prices)
        added += publish_list(model, list_rates, guess=newest.guess, note=newest.note) is not None
    return added


def _facts(rates: Rates, list_rates: Rates, factor_basis_points: int) -> dict[str, Any]:
    """What makes one version differ from another, as columns."""
    return {
        **{f"{bucket}_microcredits_per_mtok": getattr(rates.tokens, bucket) for bucket in BUCKETS},
        "long_context": codec.long_context_to_json(rates.long_context),
        "service_tiers": codec.service_tiers_to_json(rates.service_tiers),
        "server_tools": dict(rates.server_tools),
        "unit": rates.unit,
        "unit_prices": dict(rates.unit_prices),
        "list_prices": codec.to_json(list_rates),
        "factor_basis_points": factor_basis_points,
    }


def _says(price: Price, facts: dict[str, Any]) -> bool:
    return all(getattr(price, name) == value for name, value in facts.items())


def _annotate(price: Price, guess: bool, note: str) -> None:
    if (price.guess, price.note) != (guess, note):
        Price.objects.filter(pk=price.pk).update(guess=guess, note=note)
