"""Short ways to write prices, usages and snapshots in tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from catalog.entries import ModelEntry, PriceEntry, Snapshot, TargetEntry
from catalog.pricing import Rates, TokenRates
from catalog.source import microcredits
from upstreams.wire import Target

BORN = datetime(2026, 5, 1, tzinfo=UTC)


def tokens(**usd: str) -> TokenRates:
    """Token rates from USD a million tokens."""
    return TokenRates(**{bucket: microcredits(price) for bucket, price in usd.items()})


def price(rates: Rates, **more: Any) -> PriceEntry:
    """A price entry, version 1."""
    return PriceEntry(id=UUID(int=1), version=1, rates=rates, **more)


def target(provider: str = "openai", *, kinds: tuple[str, ...] = ("chat",), sandbox: bool = False) -> TargetEntry:
    """A usable target."""
    place = Target(
        provider=provider, adapter="openai", base_url="https://up.example/v1", upstream_model="x", secret="k"
    )
    return TargetEntry(id=UUID(int=2), target=place, kinds=frozenset(kinds), sandbox=sandbox)


def model(slug: str, *kinds: str, **more: Any) -> ModelEntry:
    """A model served at ``kinds``, priced at 1 and 2 USD a million tokens unless told otherwise."""
    facts: dict[str, Any] = {
        "price": price(Rates(tokens=tokens(input="1", output="2"))),
        "targets": (target(kinds=kinds),),
        "created_at": BORN,
        "name": slug.title(),
        "vendor": "openai",
        **more,
    }
    return ModelEntry(id=UUID(int=abs(hash(slug)) % 2**64), slug=slug, endpoints=kinds, **facts)


def snapshot(*models: ModelEntry, **aliases: str) -> Snapshot:
    """A snapshot of these models; aliases are given with underscores for hyphens."""
    names = {name.replace("_", "-"): slug.replace("_", "-") for name, slug in aliases.items()}
    return Snapshot.of({entry.slug: entry for entry in models}, names)
