"""An engine that a test moves by hand, prices for its seconds, and somebody who pays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django import Settings

from catalog import live, prices
from catalog.models import Model, Provider
from catalog.pricing import Rates
from core import ids
from events import audit
from infra import deployments, reconciling, runs
from infra.deployments import Terms
from infra.models import Deployment
from jobs.models import Job
from tests.fakes import runpod as fake
from tests.support.jobs import facts_of
from tests.support.money import Payer, new_payer
from usage.items import Replay

CREDIT = 1_000_000
#: Microcredits a second of each type: odd on purpose, so that roundings show.
ADA, AMPERE, ADA_WARM = 53_001, 76_003, 37_000


@pytest.fixture
def runpod() -> Iterator[fake.RunPod]:
    with fake.running() as server:
        yield server


@pytest.fixture
def engine_set_up(runpod: fake.RunPod, settings: Settings, db: None) -> Iterator[None]:
    """The installation's engine is the fake one, and its seconds have a price."""
    publish_prices(runpod)
    settings.GPU_ENGINE, settings.RUNPOD_API_KEY = "runpod", fake.KEY
    settings.RUNPOD_REST_URL = f"{runpod.url}/v1"
    live.forget()
    yield
    live.forget()


def publish_prices(runpod: fake.RunPod) -> None:
    """The provider, and what a second costs."""
    vendor, _made = Provider.objects.update_or_create(
        slug="runpod", defaults={"name": "RunPod", "adapter": "runpod", "base_url": f"{runpod.url}/v2", "enabled": True}
    )
    rules = {"gpu": {"max_seconds": 86_400}}
    model, _made = Model.objects.get_or_create(
        slug="gpu-second", defaults={"name": "GPU second", "vendor": vendor, "media": rules}
    )
    tiers = (("ADA_48_PRO", ADA), ("ADA_48_PRO/warm", ADA_WARM), ("AMPERE_80", AMPERE), ("AMPERE_80/warm", AMPERE))
    rates = Rates(unit="second", unit_prices=tiers)
    prices.publish(model, rates, list_rates=rates, factor_basis_points=10_000)


@pytest.fixture
def payer(engine_set_up: None) -> Payer:
    return new_payer(balance=1_000 * CREDIT)


@pytest.fixture
def painter(payer: Payer) -> Deployment:
    """A deployment that is ready."""
    return bring_up(deploy(payer))


def deploy(payer: Payer, **terms: Any) -> Deployment:
    """A deployment that was just asked for."""
    usual: dict[str, Any] = {
        "slug": "painter",
        "name": "Painter",
        "docker_image": "acme/painter:1",
        "gpu_types": ["ADA_48_PRO"],
        "min_workers": 0,
        "max_workers": 3,
        "idle_timeout_seconds": 5,
        "max_seconds": 60,
        "env": {"HF_TOKEN": "hf_of_the_customer"},
    }
    return deployments.create(
        payer.workspace, Terms(**{**usual, **terms}), actor=audit.SYSTEM, created_by_id=payer.user.pk
    )


def look(row: Deployment) -> Deployment:
    """One look, due or not; the row as it is then."""
    Deployment.objects.filter(pk=row.pk).update(run_after=row.created_at)
    reconciling.step(row.pk)
    return Deployment.objects.get(pk=row.pk)


def bring_up(row: Deployment, most: int = 8) -> Deployment:
    """Looks until it stands."""
    for _ in range(most):
        row = look(row)
        if row.state == Deployment.State.READY:
            return row
    raise AssertionError(f"it is {row.state}: {row.error_message}")


def run(payer: Payer, slug: str = "painter", **body: Any) -> Job:
    """A submitted run."""
    made = runs.submit_run(
        facts_of(payer), slug, {"input": {"prompt": "a cat"}, **body}, job_id=ids.uuid7(), claim=None
    )
    assert not isinstance(made, Replay)
    return made
