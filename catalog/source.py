"""The catalog files as values: reads ``data/*.toml``, checks every word of them, touches no database.

A file holds any of ``[providers.<slug>]``, ``[models."<id>"]`` and ``[aliases]``, and may open with ``[defaults]``,
whose members every model of that file takes over unless it has its own. Prices are the vendors' list prices in USD,
written as strings; ``price.same_as`` takes the price of another model. Every problem is collected, so that one run
names them all.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from catalog import codec, endpoints, media
from catalog.pricing import Rates
from core.money import MICROCREDITS_PER_USD
from upstreams.wire import TargetOptions, split_base_url

DATA = Path(__file__).parent / "data"

#: The provider that stands in where a model has nobody else; its base URL comes from the settings.
SANDBOX = "sandbox"

_PROVIDER = {"name", "adapter", "base_url", "kinds", "secret_env", "price_factor", "options"}
_MODEL = {
    "name", "vendor", "family", "endpoints", "context_tokens", "max_output_tokens", "default_max_output_tokens",
    "capabilities", "intents", "media", "price_factor", "price", "server_tools", "targets",
}  # fmt: skip
_PRICE = {"tokens", "long_context", "service_tiers", "server_tools", "unit", "unit_prices", "same_as", "guess", "note"}
_TARGET = {"provider", "model", "region"}
_TOKEN_KINDS = {
    endpoints.CHAT, endpoints.MESSAGES, endpoints.RESPONSES, endpoints.GEMINI, endpoints.EMBEDDINGS,
}  # fmt: skip


class CatalogInvalid(Exception):
    """The files can't be loaded. ``problems`` names each fault with its place."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class ProviderSource:
    slug: str
    name: str
    adapter: str
    base_url: str
    kinds: tuple[str, ...]
    secret_env: str
    price_factor_basis_points: int
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PriceSource:
    """List prices, and where they come from."""

    rates: Rates
    guess: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class TargetSource:
    provider: str
    upstream_model: str
    region: str = ""


@dataclass(frozen=True, slots=True)
class ModelSource:
    slug: str
    name: str
    vendor: str
    family: str
    endpoints: tuple[str, ...]
    context_tokens: int | None
    max_output_tokens: int | None
    default_max_output_tokens: int | None
    capabilities: tuple[str, ...]
    intents: tuple[str, ...]
    media: Mapping[str, Any]
    price_factor_basis_points: int | None
    price: PriceSource | None
    targets: tuple[TargetSource, ...]


@dataclass(slots=True)
class CatalogSource:
    """Everything the files say, by slug and in file order."""

    providers: dict[str, ProviderSource] = field(default_factory=dict)
    models: dict[str, ModelSource] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


def read(folder: Path = DATA) -> CatalogSource:
    """The catalog of all ``*.toml`` in ``folder``. Raises CatalogInvalid with every problem found."""
    reader = _Reader()
    paths = sorted(folder.glob("*.toml"))
    if not paths:
        raise CatalogInvalid([f"{folder}: no catalog files"])
    for path in paths:
        try:
            reader.take(path.name, tomllib.loads(path.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            reader.problems.append(f"{path.name}: {error}")
    catalog = reader.finish()
    if reader.problems:
        raise CatalogInvalid(reader.problems)
    return catalog


def microcredits(usd: object) -> int:
    """A list price in USD (a string or a whole number) as microcredits. Raises ValueError, also for a float."""
    if isinstance(usd, bool) or not isinstance(usd, str | int):
        raise ValueError(f"{usd!r} is not a price: write USD as a string")
    try:
        amount = Decimal(usd) * MICROCREDITS_PER_USD
    except InvalidOperation:
        raise ValueError(f"{usd!r} is not a price") from None
    if not amount.is_finite() or amount < 0 or amount != int(amount):
        raise ValueError(f"{usd!r} is not a price of at most eight decimals")
    return int(amount)


class _Reader:
    """Collects the files' tables and their faults; models are built last, when every price is known."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.catalog = CatalogSource()
        self.tables: dict[str, tuple[str, dict[str, Any]]] = {}

    def take(self, file: str, document: Mapping[str, Any]) -> None:
        """Note one file's tables."""
        self._known(file, document, {"defaults", "providers", "models", "aliases"})
        defaults = document.get("defaults", {})
        self._known(f"{file}: defaults", defaults, _MODEL)
        for slug, table in document.get("providers", {}).items():
            place = f"{file}: providers.{slug}"
            self._known(place, table, _PROVIDER)
            if slug in self.catalog.providers:
                self.problems.append(f"{place}: is defined twice")
            self._try(place, lambda slug=slug, table=table: self._provider(slug, table))
        for slug, table in document.get("models", {}).items():
            place = f'{file}: models."{slug}"'
            self._known(place, table, _MODEL)
            if slug in self.tables:
                self.problems.append(f"{place}: is defined twice")
            self.tables[slug] = (place, {**defaults, **table})
        for name, slug in document.get("aliases", {}).items():
            if name in self.catalog.aliases:
                self.problems.append(f"{file}: aliases.{name}: is defined twice")
            self.catalog.aliases[name] = slug

    def finish(self) -> CatalogSource:
        """Build the models and check what points at what."""
        for slug, (place, table) in self.tables.items():
            self._try(place, lambda slug=slug, table=table: self._model(slug, table))
        for name, slug in self.catalog.aliases.items():
            if name in self.tables:
                self.problems.append(f"aliases.{name}: is the id of a model")
            if slug not in self.tables:
                self.problems.append(f"aliases.{name}: {slug!r} is not a model")
        return self.catalog

    def _provider(self, slug: str, table: Mapping[str, Any]) -> None:
        base_url = str(table.get("base_url", "")).rstrip("/")
        if slug != SANDBOX:
            split_base_url(base_url)
        adapter = _one_of(table.get("adapter"), endpoints.ADAPTERS, "adapter")
        TargetOptions.from_mapping(table.get("options", {}))
        self.catalog.providers[slug] = ProviderSource(
            slug=slug,
            name=_text(table, "name"),
            adapter=adapter,
            base_url=base_url,
            kinds=_words(table, "kinds", endpoints.KINDS),
            secret_env=str(table.get("secret_env", "")),
            price_factor_basis_points=_basis_points(table.get("price_factor", "1")),
            options=dict(table.get("options", {})),
        )

    def _model(self, slug: str, table: Mapping[str, Any]) -> None:
        rules = dict(table.get("media", {}))
        model = ModelSource(
            slug=slug,
            name=_text(table, "name"),
            vendor=_one_of(table.get("vendor"), self.catalog.providers, "vendor"),
            family=str(table.get("family", slug)),
            endpoints=_words(table, "endpoints", endpoints.KINDS),
            context_tokens=_tokens(table, "context_tokens"),
            max_output_tokens=_tokens(table, "max_output_tokens"),
            default_max_output_tokens=_tokens(table, "default_max_output_tokens"),
            capabilities=_words(table, "capabilities", endpoints.CAPABILITIES),
            intents=tuple(str(word) for word in table.get("intents", [])),
            media=rules,
            price_factor_basis_points=_basis_points(table["price_factor"]) if "price_factor" in table else None,
            price=self._price(table, seen=(slug,)),
            targets=tuple(self._target(entry) for entry in table.get("targets", [])),
        )
        _check_priced_as_served(model, media.parse(rules))
        self.catalog.models[slug] = model

    def _price(self, table: Mapping[str, Any], seen: tuple[str, ...]) -> PriceSource | None:
        """The model's list price, through ``same_as`` where it has none of its own; None where nothing is set."""
        price = table.get("price")
        if price is None:
            return None
        self._known("price", price, _PRICE)
        guess, note = bool(price.get("guess", False)), str(price.get("note", ""))
        if guess and not note:
            raise ValueError("price: a guess needs a note that says what it is taken from")
        if "same_as" in price:
            other = price["same_as"]
            if other in seen or other not in self.tables:
                raise ValueError(f"price.same_as: {other!r} is not another model with a price")
            base = self._price(self.tables[other][1], (*seen, other))
            return None if base is None else PriceSource(base.rates, guess or base.guess, note or base.note)
        document = _in_microcredits({"server_tools": table.get("server_tools", {}), **price})
        return PriceSource(codec.from_json(document), guess, note)

    def _target(self, entry: Mapping[str, Any]) -> TargetSource:
        self._known("targets", entry, _TARGET)
        provider = _one_of(entry.get("provider"), self.catalog.providers, "targets.provider")
        return TargetSource(provider, _text(entry, "model"), str(entry.get("region", "")))

    def _try(self, place: str, build: Any) -> None:
        try:
            build()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self.problems.append(f"{place}: {error}")

    def _known(self, place: str, table: Mapping[str, Any], known: set[str]) -> None:
        for name in sorted(set(table) - known):
            self.problems.append(f"{place}: unknown member {name!r}")


def _in_microcredits(price: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a price with every USD string turned into microcredits; thresholds and words stay."""

    def convert(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: part if name == "above_input_tokens" else convert(part) for name, part in value.items()}
        if isinstance(value, list):
            return [convert(part) for part in value]
        return microcredits(value)

    return {name: value if name == "unit" else convert(value) for name, value in price.items() if name in codec.MEMBERS}


def _check_priced_as_served(model: ModelSource, rules: media.MediaRules) -> None:
    """A price, where there is one, must cover every way in which the model may be called."""
    if model.price is None:
        return
    rates = model.price.rates
    if not rates.is_set:
        raise ValueError("price: input and output, or a unit with its prices, must be set")
    by_token = set(model.endpoints) & _TOKEN_KINDS
    if by_token and not rates.per_token:
        raise ValueError(f"price: tokens must be priced for {', '.join(sorted(by_token))}")
    by_unit = set(model.endpoints) - _TOKEN_KINDS and rules.gpu is None
    if by_unit and {tier for tier, _ in rates.unit_prices} != rules.tiers:
        raise ValueError(f"price.unit_prices: must price exactly the tiers {', '.join(sorted(rules.tiers))}")
    timed = rules.durations is not None or rules.gpu is not None or bool(rules.max_audio_seconds)
    if rates.unit == "second" and not timed:
        raise ValueError("media.durations: a price per second needs the seconds that may be asked for")
    if by_token - {endpoints.EMBEDDINGS} and not model.default_max_output_tokens:
        raise ValueError("default_max_output_tokens: must be set, a reservation needs it")


def _text(table: Mapping[str, Any], name: str) -> str:
    value = table.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}: must be set")
    return value


def _one_of(value: object, known: Iterable[str], name: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}: {value!r} is unknown")
    return value


def _words(table: Mapping[str, Any], name: str, known: Iterable[str]) -> tuple[str, ...]:
    words = tuple(table.get(name, ()))
    for word in words:
        _one_of(word, known, name)
    if len(set(words)) != len(words):
        raise ValueError(f"{name}: a word stands twice")
    return words


def _tokens(table: Mapping[str, Any], name: str) -> int | None:
    value = table.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"{name}: must be a whole number of tokens")
    return value


def _basis_points(factor: object) -> int:
    """A factor such as "0.9" in ten-thousandths."""
    try:
        points = Decimal(str(factor)) * 10_000
    except InvalidOperation:
        raise ValueError(f"price_factor: {factor!r} is not a number") from None
    if not points.is_finite() or points < 0 or points != int(points):
        raise ValueError(f"price_factor: {factor!r} must have at most four decimals")
    return int(points)
