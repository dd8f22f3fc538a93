"""Workers kept warm on purpose: every second once, a mail before the balance ends, none after it (C-GPU-5)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.core import mail

from core import clock
from events import audit
from infra import deployments, warm
from infra.models import Deployment, WarmCharge
from tests.fakes.runpod import RunPod
from tests.infra.conftest import ADA_WARM, CREDIT, bring_up, deploy, look
from tests.support.money import Payer, new_payer
from usage import verify
from usage.models import RequestLog

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _books_agree(db: None) -> Iterator[None]:
    yield
    assert verify.verify().findings == ()


def back(row: Deployment, seconds: float) -> None:
    """As if the last stretch had ended so long ago."""
    since = clock.now() - timedelta(seconds=seconds)
    Deployment.objects.filter(pk=row.pk).update(warm_billed_until=since)


def test_every_second_is_paid_once(payer: Payer, runpod: RunPod) -> None:
    row = bring_up(deploy(payer, min_workers=2))
    warm.sweep()
    assert WarmCharge.objects.count() == 0, "it counts from the first look on"
    back(row, 90.4)
    warm.sweep()
    warm.sweep()
    charge = WarmCharge.objects.get()
    assert (charge.workers, charge.charged_microcredits) == (2, 90 * 2 * ADA_WARM)
    assert payer.books().balance == 1_000 * CREDIT - 90 * 2 * ADA_WARM
    row.refresh_from_db()
    assert row.warm_billed_until == charge.until, "the rest of a second waits"
    logged = RequestLog.objects.get(request_id=charge.pk)
    assert (logged.endpoint, logged.model, logged.units, logged.key_name) == ("gpu_warm", "painter", 180, "Painter")


def test_none_are_paid_for_where_none_are_kept(payer: Payer, painter: Deployment) -> None:
    assert warm.sweep() == 0
    assert not WarmCharge.objects.exists()


def test_deleting_ends_the_last_stretch(payer: Payer, runpod: RunPod) -> None:
    row = bring_up(deploy(payer, min_workers=1))
    back(row, 30.2)
    deployments.delete(row, actor=audit.SYSTEM)
    assert WarmCharge.objects.get().charged_microcredits == 30 * ADA_WARM
    assert warm.sweep() == 0


def test_a_low_balance_is_told_of_and_then_stops_the_workers(engine_set_up: None, runpod: RunPod) -> None:
    payer = new_payer(balance=60 * ADA_WARM)
    row = bring_up(deploy(payer, min_workers=1))
    warm.sweep()
    (sent,) = mail.outbox
    assert sent.to == [payer.user.email] and "Painter" in sent.subject
    row.refresh_from_db()
    assert row.warm_stopped_at is None, "the mail comes before"
    warm.sweep()
    row = bring_up(look(row))
    assert row.warm_stopped_at is not None
    assert runpod.endpoints[row.endpoint_id]["workersMin"] == 0
    assert len(mail.outbox) == 1
    payer.give(100 * CREDIT)
    row = bring_up(deployments.change(row, {}, actor=audit.SYSTEM))
    assert runpod.endpoints[row.endpoint_id]["workersMin"] == 1
