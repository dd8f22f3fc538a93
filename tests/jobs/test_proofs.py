"""The proof of the books knows jobs: each way in which they could disagree is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from billing.models import Hold
from jobs.kinds import Done
from jobs.models import Job
from tests.support.jobs import CREDIT, Scripted, drive, submit
from tests.support.money import Payer
from usage import verify

pytestmark = pytest.mark.django_db


def found() -> set[str]:
    return {finding.check.name for finding in verify.verify().findings}


DAMAGE: dict[str, tuple[str, Callable[[Job, Job], object]]] = {
    "the-row-of-an-open-job-is-gone": ("open jobs", lambda still, _: Job.objects.filter(pk=still.pk).delete()),
    "its-hold-has-another-size": (
        "open jobs",
        lambda still, _: Job.objects.filter(pk=still.pk).update(reserved_microcredits=1),
    ),
    "its-hold-was-ended-by-somebody-else": (
        "open jobs",
        lambda still, _: Hold.objects.filter(pk=still.pk).update(state="voided", resolved_at=still.created_at),
    ),
    "its-hold-has-an-owner": (
        "open jobs",
        lambda still, _: Hold.objects.filter(pk=still.pk).update(owner_id=still.pk),
    ),
    "a-cost-is-not-what-was-charged": (
        "ended jobs",
        lambda _, ended: Job.objects.filter(pk=ended.pk).update(cost_microcredits=1),
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found(payer: Payer, kind: Scripted, name: str) -> None:
    kind.starts.append(Done(result={}, charge_microcredits=CREDIT))
    ended, still = drive(submit(payer).pk), submit(payer)
    assert found() == set()
    check, damage = DAMAGE[name]
    damage(still, ended)
    assert check in found()
