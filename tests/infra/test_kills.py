"""Whoever brings the engine to what is wanted may be killed anywhere: nothing stands twice, nothing is billed twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.db.models import F, Sum
from pytest_django import Settings

from core import clock
from core.faults import VARIABLE as FAULT_POINT
from events import audit
from infra import deployments
from infra.models import Deployment, WarmCharge
from tests.fakes import runpod as fake
from tests.infra.conftest import ADA_WARM, CREDIT, bring_up, deploy, publish_prices
from tests.support.money import Payer, new_payer
from tests.support.nursery import Forked, Nursery
from usage import verify

PATIENCE = 240.0
ONE_LOOK = "tests.infra.one_look"


class Killer:
    """Processes that look at one deployment, and die where they are told to."""

    def __init__(self, runpod: fake.RunPod, settings: Settings, folder: Path) -> None:
        given = {"GPU_ENGINE": "runpod", "RUNPOD_API_KEY": fake.KEY, "RUNPOD_REST_URL": f"{runpod.url}/v1"}
        for name, value in given.items():
            setattr(settings, name, value)
        database = f"/{connection.settings_dict['NAME']}"
        address = urlsplit(os.environ["DATABASE_URL"])._replace(path=database).geturl()
        self._log = folder / "looks.log"
        self._nursery = Nursery(ONE_LOOK, env={**os.environ, **given, "DATABASE_URL": address}, log=self._log)

    def start(self, what: str, dies_at: str = "") -> Forked:
        return self._nursery.start(ONE_LOOK, [what], log=self._log, env={FAULT_POINT: dies_at})

    def kill_at(self, point: str, row: Deployment) -> None:
        """One process that dies there, with a lease that is over afterwards."""
        due(row)
        assert self.start(str(row.pk), point).wait(PATIENCE) == -signal.SIGKILL, point
        due(row)

    def close(self) -> None:
        self._nursery.close()


def due(row: Deployment) -> None:
    """A look is due, and whoever held the lease has lost it."""
    Deployment.objects.filter(pk=row.pk).update(run_after=row.created_at, lease_until=row.created_at)


@pytest.fixture
def killer(runpod: fake.RunPod, settings: Settings, committed: None, tmp_path: Path) -> Iterator[Killer]:
    publish_prices(runpod)
    made = Killer(runpod, settings, tmp_path)
    yield made
    made.close()


def counts(runpod: fake.RunPod) -> tuple[int, int]:
    return len(runpod.templates), len(runpod.endpoints)


def pending(payer: Payer) -> int:
    return payer.books().holds.count("pending")


def test_a_deployment_s_life_with_a_kill_at_every_step(killer: Killer, runpod: fake.RunPod) -> None:
    payer = new_payer(balance=10_000 * CREDIT)
    row = deploy(payer, min_workers=1)

    # Creating
    after = {
        "deployment.claimed": (0, 0),
        "deployment.template_made": (1, 0),
        "deployment.reserved": (1, 0),
        "deployment.endpoint_made": (1, 1),
    }
    for point, stands in after.items():
        if point == "deployment.reserved":
            assert killer.start(str(row.pk)).wait(PATIENCE) == 0  # it finds the template that is there
        killer.kill_at(point, row)
        assert counts(runpod) == stands, point
        assert WarmCharge.objects.filter(deployment=row, since__isnull=False).count() == 0, "nothing counts yet"
    both = [killer.start(str(row.pk)), killer.start(str(row.pk))]
    assert [each.wait(PATIENCE) for each in both] == [0, 0]
    row = bring_up(row)
    assert counts(runpod) == (1, 1) and list(runpod.endpoints) == [row.endpoint_id]
    assert (pending(payer), payer.books().held) == (1, 120 * ADA_WARM)

    # Scaling
    row = deployments.change(row, {"min_workers": 2}, actor=audit.SYSTEM)
    for point in ("deployment.reserved", "deployment.updated"):
        killer.kill_at(point, row)
        assert pending(payer) == 1, point
    row = bring_up(row)
    assert (counts(runpod), runpod.endpoints[row.endpoint_id]["workersMin"]) == ((1, 1), 2)

    # Charging
    # On a slow machine the first worker has been charged for some seconds by now: that moves along.
    earlier = timedelta(seconds=700)
    WarmCharge.objects.filter(deployment=row).update(since=F("since") - earlier)
    WarmCharge.objects.filter(deployment=row).exclude(charged_microcredits=None).update(until=F("until") - earlier)
    before = payer.books().balance
    assert killer.start("warm", "warm.settled").wait(PATIENCE) == -signal.SIGKILL
    assert (payer.books().balance, pending(payer)) == (before, 1)
    sweeps = [killer.start("warm"), killer.start("warm")]
    assert [each.wait(PATIENCE) for each in sweeps] == [0, 0]
    charged = before - payer.books().balance
    assert 700 * 2 * ADA_WARM <= charged < 1400 * 2 * ADA_WARM, "once"

    # Deleting
    deployments.delete(row, actor=audit.SYSTEM)
    killer.kill_at("deployment.cleared", row)
    assert counts(runpod) == (0, 0) and not Deployment.objects.get(pk=row.pk).engine_cleared
    assert killer.start(str(row.pk)).wait(PATIENCE) == 0
    assert Deployment.objects.get(pk=row.pk).engine_cleared and counts(runpod) == (0, 0)

    books = payer.books()
    paid = WarmCharge.objects.filter(deployment=row).aggregate(total=Sum("charged_microcredits"))["total"]
    assert (pending(payer), books.held) == (0, 0)
    assert paid == sum(books.transfers) == books.charged == 10_000 * CREDIT - books.balance
    stretches = list(WarmCharge.objects.filter(deployment=row).order_by("since"))
    assert all(one.until <= other.since for one, other in pairwise(stretches) if one.until and other.since)
    assert all(each.until <= clock.now() for each in stretches if each.until is not None)
    assert [finding for finding in verify.verify().findings if finding.check.name == "warm workers"] == []
