"""Bring the tables up to what the catalog files say, touching nothing that an operator has taken over.

Idempotent: a second run writes nothing. A row with ``managed = False`` is an operator's and stays; a model or provider
that the files no longer name is disabled, never deleted (log and prices point at it).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any, TypeVar

from django.db import connection, transaction

from catalog import prices
from catalog.models import Alias, Model, Price, Provider, Target
from catalog.source import CatalogInvalid, CatalogSource, ModelSource

#: Two loaders at once take turns (an advisory lock of this project's own numbering).
_LOCK = 7_310_001

#: Room between two places of a chain for an operator's own target.
_POSITION_STEP = 10

Row = TypeVar("Row", Provider, Model, Alias, Target)


@transaction.atomic
def load(source: CatalogSource) -> Counter[str]:
    """Write the difference in one transaction. Returns what was done, by table and deed ("model created": 3).

    Raises CatalogInvalid where a name of the files is taken by a row of another kind.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    _refuse_taken_names(source)
    done: Counter[str] = Counter()
    providers = _load_providers(source, done)
    _drop_aliases(source, done)
    rows = _load_models(source, providers, done)
    newest = prices.newest_of_all()
    for slug, row in rows.items():
        _load_targets(row, source.models[slug], providers, done)
        _load_price(row, source.models[slug], newest.get(row.pk), done)
    _load_aliases(source, rows, done)
    return done


def _load_providers(source: CatalogSource, done: Counter[str]) -> dict[str, Provider]:
    rows = {row.slug: row for row in Provider.objects.all()}
    for slug, entry in source.providers.items():
        values = asdict(entry) | {"kinds": list(entry.kinds), "options": dict(entry.options), "enabled": True}
        rows[slug] = _bring(rows.get(slug), Provider, values, done)
    _retire(rows, set(source.providers), done)
    return rows


def _load_models(source: CatalogSource, providers: dict[str, Provider], done: Counter[str]) -> dict[str, Model]:
    rows = {row.slug: row for row in Model.objects.select_related("vendor").prefetch_related("targets")}
    for slug, entry in source.models.items():
        values: dict[str, Any] = {
            "slug": slug,
            "name": entry.name,
            "vendor_id": providers[entry.vendor].pk,
            "family": entry.family,
            "endpoints": list(entry.endpoints),
            "context_tokens": entry.context_tokens,
            "max_output_tokens": entry.max_output_tokens,
            "default_max_output_tokens": entry.default_max_output_tokens,
            "capabilities": list(entry.capabilities),
            "intents": list(entry.intents),
            "media": dict(entry.media),
            "price_factor_basis_points": entry.price_factor_basis_points,
            "enabled": True,
        }
        rows[slug] = _bring(rows.get(slug), Model, values, done)
    _retire(rows, set(source.models), done)
    return {slug: rows[slug] for slug in source.models}


def _load_targets(model: Model, entry: ModelSource, providers: dict[str, Provider], done: Counter[str]) -> None:
    rows = {(row.provider_id, row.upstream_model, row.region): row for row in model.targets.all()}
    wanted = set()
    for place, target in enumerate(entry.targets):
        provider = providers[target.provider]
        key = (provider.pk, target.upstream_model, target.region)
        wanted.add(key)
        values = {
            "model_id": model.pk,
            "provider_id": provider.pk,
            "upstream_model": target.upstream_model,
            "region": target.region,
            "position": place * _POSITION_STEP,
            "enabled": True,
        }
        _bring(rows.get(key), Target, values, done)
    for key, row in rows.items():
        if key not in wanted and row.managed:
            row.delete()
            done["target removed"] += 1


def _load_price(model: Model, entry: ModelSource, newest: Price | None, done: Counter[str]) -> None:
    if newest is not None and not newest.managed:
        done["price kept"] += 1
    elif entry.price is not None:
        told = entry.price
        added = prices.publish_list(model, told.rates, guess=told.guess, note=told.note, newest=newest)
        done["price unchanged" if added is None else "price created"] += 1


def _drop_aliases(source: CatalogSource, done: Counter[str]) -> None:
    """Before the models: a name that was an alias may be a model's now."""
    for row in Alias.objects.filter(managed=True).exclude(name__in=source.aliases):
        row.delete()
        done["alias removed"] += 1


def _load_aliases(source: CatalogSource, models_by_slug: dict[str, Model], done: Counter[str]) -> None:
    rows = {row.name: row for row in Alias.objects.all()}
    for name, slug in source.aliases.items():
        _bring(rows.get(name), Alias, {"name": name, "model_id": models_by_slug[slug].pk}, done)


def _refuse_taken_names(source: CatalogSource) -> None:
    retired = Model.objects.filter(slug__in=source.aliases).values_list("slug", flat=True)
    own = Alias.objects.filter(managed=False, name__in=source.models).values_list("name", flat=True)
    problems = [f"aliases.{name}: is the id of a model in the database" for name in retired]
    problems += [f'models."{name}": is an alias that an operator made' for name in own]
    if problems:
        raise CatalogInvalid(problems)


def _bring(row: Row | None, kind: type[Row], values: dict[str, Any], done: Counter[str]) -> Row:
    """The row with these values: made, changed where it differs, or left to the operator who took it over."""
    name = str(kind._meta.model_name)
    if row is None:
        done[f"{name} created"] += 1
        return kind._default_manager.create(**values, managed=True)
    if not row.managed:
        done[f"{name} kept"] += 1
        return row
    changed = [field for field, value in values.items() if getattr(row, field) != value]
    for field in changed:
        setattr(row, field, values[field])
    if changed:
        row.save(update_fields=changed)
    done[f"{name} {'updated' if changed else 'unchanged'}"] += 1
    return row


def _retire(rows: dict[str, Any], named: set[str], done: Counter[str]) -> None:
    for slug, row in rows.items():
        if slug not in named and row.managed and row.enabled:
            row.enabled = False
            row.save(update_fields=["enabled"])
            done[f"{row._meta.model_name} retired"] += 1
