"""Hosted models: what the catalog says of them, and the installation's own endpoints behind them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from django.db import transaction

from catalog import endpoints, live
from catalog.entries import ModelEntry
from catalog.media import GpuRules
from infra import engine
from infra.engine import Engine, Made, Spec
from infra.models import HostedEndpoint
from jobs.kinds import Elsewhere, Step
from upstreams.errors import AccountRefused, UpstreamError

MOST_WORKERS: Final = 3
IDLE_SECONDS: Final = 30


def models() -> list[ModelEntry]:
    """Hosted models that can be called: priced, with rules of how they run, by id."""
    snapshot = live.current()
    found = (snapshot.models[slug] for slug in snapshot.available(endpoints.GPU))
    return [entry for entry in found if entry.media.gpu is not None]


def find(slug: str) -> ModelEntry | None:
    """The hosted model of that id."""
    entry = live.current().models.get(slug)
    return entry if entry is not None and entry.price and entry.media.gpu and endpoints.GPU in entry.endpoints else None


def rules_of(slug: str) -> GpuRules:
    """How the model runs. Raises AccountRefused for one that the catalog has no longer."""
    entry = find(slug)
    if entry is None or entry.media.gpu is None:
        raise AccountRefused("the catalog has no such hosted model")
    return entry.media.gpu


def asked(slug: str, job_input: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's input over the model's defaults, which only the sample worker needs. Raises AccountRefused."""
    defaults = dict(rules_of(slug).defaults) if engine.chosen() == engine.LOCAL else {}
    return {**defaults, **job_input}


def place(slug: str) -> tuple[Engine, str] | Step:
    """The engine and the endpoint of a hosted model, made or changed to what the catalog says now.

    Raises UpstreamError.
    """
    name = engine.chosen()
    at, spec = engine.by_name(name), _spec(slug, name)
    row, _made = HostedEndpoint.objects.get_or_create(slug=slug, engine=name)
    stands = row.endpoint_id and row.applied == _fingerprint(spec)
    return (at, row.endpoint_id) if stands else _make(row, at, spec)


def forget(slug: str) -> None:
    """The engine has lost the endpoint of a hosted model: the next step makes it again."""
    HostedEndpoint.objects.filter(slug=slug, engine=engine.chosen()).update(template_id="", endpoint_id="")


def _make(row: HostedEndpoint, at: Engine, spec: Spec) -> tuple[Engine, str] | Step:
    """One at a time: of two first calls, the other one comes back to what this one made."""
    with transaction.atomic():
        mine = HostedEndpoint.objects.select_for_update(skip_locked=True).filter(pk=row.pk).first()
        if mine is None:
            return Elsewhere(seconds=1.0, error="not_ready")
        if not mine.endpoint_id:
            mine.template_id = at.create_template(spec)
            mine.endpoint_id = at.create_endpoint(spec, mine.template_id)
        elif mine.applied != _fingerprint(spec) and not _changed(mine, at, spec):
            HostedEndpoint.objects.filter(pk=mine.pk).update(template_id="", endpoint_id="")
            return Elsewhere(seconds=1.0, error="endpoint_lost")
        mine.applied = _fingerprint(spec)
        mine.save()
    return at, mine.endpoint_id


def _changed(row: HostedEndpoint, at: Engine, spec: Spec) -> bool:
    """Bring what stands to ``spec``; False where the engine has lost it."""
    try:
        at.update(spec, Made(row.template_id, row.endpoint_id))
    except UpstreamError as error:
        if error.status != 404:
            raise
        return False
    return True


def _fingerprint(spec: Spec) -> str:
    """What tells one spec from another."""
    return hashlib.sha256(repr(spec).encode()).hexdigest()


def _spec(slug: str, name: str) -> Spec:
    rules = rules_of(slug)
    return Spec(
        name=f"hypereal-hosted-{slug}",
        image=engine.SAMPLE_IMAGE if name == engine.LOCAL else rules.image,
        gpu_types=rules.gpu_types,
        workers_min=0,
        workers_max=MOST_WORKERS,
        idle_timeout_seconds=IDLE_SECONDS,
        max_seconds=rules.max_seconds,
    )
