"""The catalog as frozen values: what the gateway, the lists and the pages read. No Django, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from uuid import UUID

from catalog.media import MediaRules
from catalog.pricing import Rates
from upstreams.wire import Target


@dataclass(frozen=True, slots=True)
class TargetEntry:
    """One usable place of a chain. ``kinds`` are the endpoint kinds its provider speaks; its key stays out of repr."""

    id: UUID
    target: Target
    kinds: frozenset[str]
    position: int = 0
    sandbox: bool = False


@dataclass(frozen=True, slots=True)
class PriceEntry:
    """The price version in force. ``list_rates`` are the vendor's own, None where nobody lists them."""

    id: UUID
    version: int
    rates: Rates
    list_rates: Rates | None = None
    factor_basis_points: int = 10_000
    guess: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One enabled model with its price and the targets that can serve it now, in order.

    ``price`` is None where none is set: such a model can't be called. ``targets`` is empty where no provider of it has
    a key and there is no sandbox.
    """

    id: UUID
    slug: str
    name: str
    vendor: str
    endpoints: tuple[str, ...]
    created_at: datetime
    vendor_name: str = ""
    family: str = ""
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    default_max_output_tokens: int | None = None
    capabilities: tuple[str, ...] = ()
    intents: tuple[str, ...] = ()
    media: MediaRules = field(default_factory=MediaRules)
    price: PriceEntry | None = None
    targets: tuple[TargetEntry, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def sandboxed(self) -> bool:
        """Whether only the sandbox can answer."""
        return bool(self.targets) and all(entry.sandbox for entry in self.targets)

    def chain(self, endpoint: str) -> tuple[TargetEntry, ...]:
        """The targets that speak ``endpoint`` themselves, in order; those that would need a conversion are left out."""
        return tuple(entry for entry in self.targets if endpoint in entry.kinds)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that can be called at one moment. ``aliases`` maps other names to ids in ``models``."""

    models: Mapping[str, ModelEntry]
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    by_endpoint: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, models: Mapping[str, ModelEntry], aliases: Mapping[str, str]) -> Snapshot:
        """A snapshot with its index of callable ids by endpoint."""
        by_endpoint: dict[str, list[str]] = {}
        for slug in sorted(models, key=str.casefold):
            if models[slug].price is not None:
                for endpoint in models[slug].endpoints:
                    by_endpoint.setdefault(endpoint, []).append(slug)
        return cls(
            models=MappingProxyType(dict(models)),
            aliases=MappingProxyType({name: slug for name, slug in aliases.items() if slug in models}),
            by_endpoint=MappingProxyType({endpoint: tuple(slugs) for endpoint, slugs in by_endpoint.items()}),
        )

    def available(self, endpoint: str) -> tuple[str, ...]:
        """The ids that may be called at ``endpoint``, in alphabetical order."""
        return self.by_endpoint.get(endpoint, ())
