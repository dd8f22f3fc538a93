"""Reads the catalog tables into one frozen ``Snapshot``: five queries, keys opened, only what can be used kept.

Synchronous, for a thread or the web face. A row that can't be read (a key that no sealing key opens, options that mean
nothing) takes only itself out, with a line in the log: one bad row may not stop the gateway.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Prefetch

from catalog import codec, media
from catalog.entries import ModelEntry, PriceEntry, Snapshot, TargetEntry
from catalog.models import Alias, Model, Price, Provider, Target
from catalog.source import SANDBOX
from core import clock
from core.secrets import Unreadable
from upstreams import wire

__all__ = ["ModelEntry", "PriceEntry", "Snapshot", "TargetEntry", "build"]

log = logging.getLogger(__name__)


def build() -> Snapshot:
    """The catalog as it stood at one moment: a model is never seen without targets that were saved before it.

    Keys named by ``secret_env`` come from the environment first, then from the table.
    """
    if connection.in_atomic_block:  # the caller's transaction says what is seen
        return _read()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return _read()


def _read() -> Snapshot:
    providers = {row.pk: row for row in Provider.objects.filter(enabled=True)}
    sealed = {pk: _secret(row) for pk, row in providers.items()}
    prices = _prices()
    aliases = dict(Alias.objects.values_list("name", "model__slug"))
    names: dict[str, list[str]] = defaultdict(list)
    for name, slug in aliases.items():
        names[slug].append(name)
    sandbox = next((row for row in providers.values() if row.slug == SANDBOX and settings.SANDBOX_BASE_URL), None)
    chain = Target.objects.filter(enabled=True, provider__in=providers).order_by("position", "id")
    models: dict[str, ModelEntry] = {}
    for row in (
        Model.objects.filter(enabled=True)
        .select_related("vendor")
        .prefetch_related(Prefetch("targets", queryset=chain))
    ):
        targets = [
            _target(target, providers[target.provider_id], sealed[target.provider_id]) for target in row.targets.all()
        ]
        usable = tuple(target for target in targets if target is not None) or _sandbox(row, sandbox)
        entry = _model(row, prices.get(row.pk), usable, tuple(sorted(names[row.slug])))
        if entry is not None:
            models[row.slug] = entry
    return Snapshot.of(models, aliases)


def _prices() -> dict[object, PriceEntry]:
    """The newest version in force of every model."""
    in_force = Price.objects.filter(model__enabled=True, effective_since__lte=clock.now())
    current = in_force.order_by("model_id", "-version").distinct("model_id")
    entries: dict[object, PriceEntry] = {}
    for row in current:
        try:
            entries[row.model_id] = PriceEntry(
                id=row.pk,
                version=row.version,
                rates=row.rates,
                list_rates=codec.from_json(row.list_prices) if row.list_prices else None,
                factor_basis_points=row.factor_basis_points,
                guess=row.guess,
                note=row.note,
            )
        except ValueError as error:
            log.error("price %s can't be read: %s", row.pk, error)
    return entries


def _model(
    row: Model, price: PriceEntry | None, targets: tuple[TargetEntry, ...], aliases: tuple[str, ...]
) -> ModelEntry | None:
    try:
        rules = media.parse(row.media)
    except ValueError as error:
        log.error("model %s can't be read: %s", row.slug, error)
        return None
    return ModelEntry(
        id=row.pk,
        slug=row.slug,
        name=row.name,
        vendor=row.vendor.slug,
        vendor_name=row.vendor.name,
        family=row.family,
        endpoints=tuple(row.endpoints),
        created_at=row.created_at,
        context_tokens=row.context_tokens,
        max_output_tokens=row.max_output_tokens,
        default_max_output_tokens=row.default_max_output_tokens,
        capabilities=tuple(row.capabilities),
        intents=tuple(row.intents),
        media=rules,
        price=price if price is not None and price.rates.is_set else None,
        targets=targets,
        aliases=aliases,
    )


def _target(row: Target, provider: Provider, secret: str) -> TargetEntry | None:
    """The row as a usable target, or None where the provider has no key and wants one."""
    if provider.slug == SANDBOX:
        return None
    base_url = provider.base_url.rstrip("/")
    try:
        options = wire.TargetOptions.from_mapping(provider.options)
        wire.split_base_url(base_url)
    except ValueError as error:
        log.error("provider %s can't be used: %s", provider.slug, error)
        return None
    if not secret and options.auth != "none":
        return None
    return TargetEntry(
        id=row.pk,
        target=wire.Target(
            provider=provider.slug,
            adapter=provider.adapter,
            base_url=base_url,
            upstream_model=row.upstream_model,
            secret=secret,
            region=row.region,
            options=options,
        ),
        kinds=frozenset(provider.kinds),
        position=row.position,
    )


def _sandbox(row: Model, provider: Provider | None) -> tuple[TargetEntry, ...]:
    """The stand-in for a model that nobody else can serve, where the sandbox speaks one of its endpoints."""
    if provider is None or not set(provider.kinds) & set(row.endpoints):
        return ()
    target = wire.Target(
        provider=provider.slug,
        adapter=provider.adapter,
        base_url=str(settings.SANDBOX_BASE_URL).rstrip("/"),
        upstream_model=row.slug,
        options=wire.TargetOptions.from_mapping(provider.options),
    )
    return (TargetEntry(id=provider.pk, target=target, kinds=frozenset(provider.kinds), sandbox=True),)


def _secret(provider: Provider) -> str:
    from_environment = os.environ.get(provider.secret_env, "").strip() if provider.secret_env else ""
    if from_environment:
        return from_environment
    try:
        return provider.secret()
    except Unreadable:
        log.error("the key of provider %s can't be opened with the configured encryption keys", provider.slug)
        return ""
