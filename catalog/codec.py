"""Rates as JSON and back: the one form in which the database keeps tiers, tools, unit prices and list prices.

Numbers are microcredits, integers all of them. Reading is strict: an unknown member, a fraction or a negative number
is a ValueError that names its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalog.pricing import BUCKETS, ContextTier, Rates, ServiceTier, TokenRates

MEMBERS = ("tokens", "long_context", "service_tiers", "server_tools", "unit", "unit_prices")
UNITS = ("image", "second", "clip", "request", "character", "byte")


def to_json(rates: Rates) -> dict[str, Any]:
    """Every member of a price that is set; an empty price is an empty object."""
    members: dict[str, Any] = {
        "tokens": tokens_to_json(rates.tokens),
        "long_context": long_context_to_json(rates.long_context),
        "service_tiers": service_tiers_to_json(rates.service_tiers),
        "server_tools": dict(rates.server_tools),
        "unit": rates.unit,
        "unit_prices": dict(rates.unit_prices),
    }
    return {name: value for name, value in members.items() if value}


def from_json(document: Mapping[str, Any]) -> Rates:
    """The price that ``to_json`` wrote. Raises ValueError."""
    _refuse_unknown(document, MEMBERS, "price")
    unit = document.get("unit", "")
    unit_prices = prices_from_json(document.get("unit_prices", {}), "unit_prices")
    if unit and unit not in UNITS:
        raise ValueError(f"unit: {unit!r} is none of {', '.join(UNITS)}")
    if bool(unit) != bool(unit_prices):
        raise ValueError("unit and unit_prices: one without the other means nothing")
    return Rates(
        tokens=tokens_from_json(document.get("tokens", {}), "tokens"),
        long_context=long_context_from_json(document.get("long_context", [])),
        service_tiers=service_tiers_from_json(document.get("service_tiers", {})),
        server_tools=prices_from_json(document.get("server_tools", {}), "server_tools"),
        unit=unit,
        unit_prices=unit_prices,
    )


def tokens_to_json(tokens: TokenRates) -> dict[str, int]:
    """The rates that are set, by bucket."""
    return dict(tokens.items())


def long_context_to_json(tiers: tuple[ContextTier, ...]) -> list[dict[str, Any]]:
    """Context tiers, the lowest threshold first."""
    return [{"above_input_tokens": tier.above_input_tokens, **tokens_to_json(tier.rates)} for tier in tiers]


def service_tiers_to_json(tiers: tuple[ServiceTier, ...]) -> dict[str, dict[str, int]]:
    """Speed classes by name."""
    return {tier.name: tokens_to_json(tier.rates) for tier in tiers}


def tokens_from_json(document: object, place: str) -> TokenRates:
    """One table of token rates. Raises ValueError."""
    table = _mapping(document, place)
    _refuse_unknown(table, BUCKETS, place)
    return TokenRates(**{bucket: _amount(rate, f"{place}.{bucket}") for bucket, rate in table.items()})


def long_context_from_json(document: object) -> tuple[ContextTier, ...]:
    """Context tiers in rising order. Raises ValueError, also where two share a threshold."""
    if not isinstance(document, list):
        raise ValueError("long_context: must be a list")
    tiers = []
    for entry in document:
        table = dict(_mapping(entry, "long_context"))
        above = _amount(table.pop("above_input_tokens", None), "long_context.above_input_tokens")
        tiers.append(ContextTier(above, tokens_from_json(table, f"long_context[{above}]")))
    tiers.sort(key=lambda tier: tier.above_input_tokens)
    thresholds = [tier.above_input_tokens for tier in tiers]
    if len(set(thresholds)) != len(thresholds) or 0 in thresholds:
        raise ValueError("long_context: thresholds must differ and be above zero")
    return tuple(tiers)


def service_tiers_from_json(document: object) -> tuple[ServiceTier, ...]:
    """Speed classes in the order of their names. Raises ValueError."""
    tiers = _mapping(document, "service_tiers")
    return tuple(ServiceTier(name, tokens_from_json(tiers[name], f"service_tiers.{name}")) for name in sorted(tiers))


def prices_from_json(document: object, place: str) -> tuple[tuple[str, int], ...]:
    """Prices by name, the cheapest first (JSON in the database keeps no order of its own). Raises ValueError."""
    table = _mapping(document, place)
    pairs = [(name, _amount(price, f"{place}.{name}")) for name, price in table.items()]
    return tuple(sorted(pairs, key=lambda pair: (pair[1], pair[0])))


def _mapping(document: object, place: str) -> Mapping[str, Any]:
    if not isinstance(document, Mapping):
        raise ValueError(f"{place}: must be an object")
    return document


def _amount(value: object, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{place}: must be a whole number, zero or more")
    return value


def _refuse_unknown(table: Mapping[str, Any], known: tuple[str, ...], place: str) -> None:
    for name in table:
        if name not in known:
            raise ValueError(f"{place}: unknown member {name!r}")
