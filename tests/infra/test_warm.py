"""Workers kept warm on purpose: reserved ahead, every second once, on their payer's meters, none beyond (C-GPU-5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail

from billing.models import SpendMeter
from core import clock
from events import audit
from infra import deployments, reconciling, warm
from infra.models import Deployment, WarmCharge
from keys.models import ApiKey
from limits import setting
from orgs.models import Membership
from tests import factories
from tests.fakes.runpod import RunPod
from tests.infra.conftest import ADA_WARM, AMPERE, CREDIT, bring_up, deploy, look
from tests.support.money import Payer, new_payer
from usage import verify
from usage.models import RequestLog

pytestmark = pytest.mark.django_db

START = 1_000 * CREDIT
#: What is reserved ahead for one worker.
AHEAD = 120 * ADA_WARM

Callbacks = Callable[..., AbstractContextManager[Any]]


@pytest.fixture(autouse=True)
def _books_agree(db: None) -> Iterator[None]:
    yield
    assert verify.verify().findings == ()


class Time:
    """A clock that stands still until it is moved: what passes on a slow machine must not be billed here."""

    def __init__(self) -> None:
        self.moment = clock.now()

    def go(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    still = Time()
    monkeypatch.setattr(clock, "now", lambda: still.moment)
    return still


def kept(row: Deployment, runpod: RunPod) -> int:
    """How many the engine keeps."""
    return int(runpod.endpoints[row.endpoint_id]["workersMin"])


def meter(scope_id: Any) -> tuple[int, int]:
    """Spent and held of this month."""
    found = SpendMeter.objects.filter(scope_id=scope_id, month=clock.month_of(clock.now())).first()
    return (found.spent_microcredits, found.held_microcredits) if found is not None else (0, 0)


def test_they_are_reserved_before_the_engine_hears_of_them_and_every_second_is_paid_once(
    payer: Payer, runpod: RunPod, time: Time
) -> None:
    row = look(deploy(payer, min_workers=2))
    runpod.faults[("POST", "/v1/endpoints")] = 503
    row = look(row)
    assert payer.books().held == 0, "what the engine did not take is given back"
    runpod.faults.clear()
    row = bring_up(row)
    assert (kept(row, runpod), payer.books().held) == (2, 2 * AHEAD)
    time.go(90.4)
    warm.sweep()
    warm.sweep()
    assert payer.books().held == (90 + 120) * 2 * ADA_WARM, "extended, whole seconds at a time"
    assert payer.books().transfers == [] and not RequestLog.objects.exists()
    time.go(600)
    warm.sweep()
    charge = WarmCharge.objects.exclude(charged_microcredits=None).get()
    assert (charge.workers, charge.charged_microcredits) == (2, 690 * 2 * ADA_WARM)
    stretch = WarmCharge.objects.get(charged_microcredits=None)
    assert stretch.since == charge.until, "the rest of a second waits"
    assert payer.books().balance == START - 690 * 2 * ADA_WARM
    assert payer.books().held == 2 * AHEAD
    logged = RequestLog.objects.get(request_id=charge.pk)
    assert (logged.endpoint, logged.model, logged.units, logged.late) == ("gpu_warm", "painter", 1380, False)
    assert (logged.key_name, logged.user_id) == ("Painter", payer.user.pk)


def test_none_are_reserved_where_none_are_kept(payer: Payer, painter: Deployment) -> None:
    assert warm.sweep() == 0
    assert not WarmCharge.objects.exists() and payer.books().holds == []


def test_changes_count_from_when_they_are_true(payer: Payer, runpod: RunPod, time: Time) -> None:
    row = bring_up(deploy(payer, min_workers=1))
    time.go(30.2)
    runpod.faults[("PATCH", "/v1/")] = 500
    row = look(deployments.change(row, {"min_workers": 3}, actor=audit.SYSTEM))
    stretch = WarmCharge.objects.get(charged_microcredits=None)
    assert (stretch.workers, payer.books().held) == (1, 3 * AHEAD), "more are reserved, but not counted yet"
    runpod.faults.clear()
    time.go(10)
    row = bring_up(row)
    assert (kept(row, runpod), WarmCharge.objects.get(charged_microcredits=None).workers) == (3, 3)
    time.go(20)
    runpod.faults[("PATCH", "/v1/")] = 500
    row = look(deployments.change(row, {"min_workers": 1}, actor=audit.SYSTEM))
    assert WarmCharge.objects.get(charged_microcredits=None).workers == 1, "fewer count at once"
    runpod.faults.clear()
    time.go(5)
    row = bring_up(deployments.change(bring_up(row), {"gpu_types": ["AMPERE_80"]}, actor=audit.SYSTEM))
    time.go(7)
    deployments.delete(row, actor=audit.SYSTEM)
    paid = list(WarmCharge.objects.order_by("since").values_list("charged_microcredits", flat=True))
    assert paid == [30 * ADA_WARM, 10 * ADA_WARM, 20 * 3 * ADA_WARM, 5 * ADA_WARM, 7 * AMPERE]
    assert (payer.books().held, START - payer.books().balance) == (0, sum(filter(None, paid)))
    assert warm.sweep() == 0
    assert not ApiKey.objects.filter(internal=True, deleted_at=None).exists()


def test_what_the_engine_lost_is_not_paid_for(payer: Payer, runpod: RunPod, time: Time) -> None:
    row = bring_up(deploy(payer, min_workers=1))
    time.go(12)
    runpod.endpoints.clear()
    row = look(row)
    assert (payer.books().held, START - payer.books().balance) == (0, 12 * ADA_WARM)
    runpod.faults[("GET", "/v1/")] = 503
    look(row)
    assert payer.books().held == 0
    runpod.faults.clear()
    assert kept(bring_up(row), runpod) == 1 and payer.books().held == AHEAD


def test_a_low_balance_is_told_of_and_then_stops_the_workers(
    engine_set_up: None, runpod: RunPod, time: Time, django_capture_on_commit_callbacks: Callbacks
) -> None:
    payer = new_payer(balance=2 * AHEAD)
    row = bring_up(deploy(payer, min_workers=1))
    with django_capture_on_commit_callbacks(execute=True):
        warm.sweep()
    (sent,) = mail.outbox
    assert sent.to == [payer.user.email] and "Painter" in sent.subject and "balance" in sent.subject
    time.go(100)
    warm.sweep()
    time.go(50)  # 150 of the 240 seconds are used: up to 270 can't be reserved
    warm.sweep()
    row.refresh_from_db()
    assert row.warm_stopped_at is None, "what is reserved may be used"
    time.go(25)
    with django_capture_on_commit_callbacks(execute=True):
        warm.sweep()
    row = bring_up(look(row))
    assert (row.warm_stopped_because, kept(row, runpod), len(mail.outbox)) == ("balance", 0, 1)
    assert (payer.books().held, payer.books().balance) == (0, 65 * ADA_WARM)
    payer.give(100 * CREDIT)
    row = bring_up(deployments.change(row, {}, actor=audit.SYSTEM))
    assert (kept(row, runpod), row.warm_stopped_because) == (1, "")


def test_a_wallet_that_pays_for_none_never_has_them_started(
    engine_set_up: None, runpod: RunPod, time: Time, django_capture_on_commit_callbacks: Callbacks
) -> None:
    payer = new_payer(balance=AHEAD - 1)
    with django_capture_on_commit_callbacks(execute=True):
        row = bring_up(deploy(payer, min_workers=1))
    assert (row.warm_stopped_because, kept(row, runpod), payer.books().holds) == ("balance", 0, [])
    assert [sent.subject for sent in mail.outbox] == ["“Painter” keeps no workers warm any more"]
    asked = [path for method, path in runpod.asked if method == "PATCH"]
    assert len(asked) <= 2, "the engine is told once more, and left alone then"


def test_they_count_for_the_key_that_asked_and_stop_at_its_limit(payer: Payer, runpod: RunPod, time: Time) -> None:
    payer.limit(3 * AHEAD)
    row = deploy(payer, min_workers=1)
    Deployment.objects.filter(pk=row.pk).update(warm_key_id=payer.key.pk)
    row = bring_up(row)
    assert meter(payer.key.pk) == (0, AHEAD)
    time.go(300)
    warm.sweep()
    row = bring_up(look(row))
    assert (row.warm_stopped_because, kept(row, runpod)) == ("limit", 0)
    assert meter(payer.key.pk) == (300 * ADA_WARM, 0)
    ApiKey.objects.filter(pk=payer.key.pk).update(enabled=False)
    row = bring_up(deployments.change(row, {}, actor=audit.SYSTEM))
    assert (row.warm_stopped_because, kept(row, runpod)) == ("key", 0)
    person = audit.Actor(user_id=payer.user.pk, label=payer.user.email)
    row = bring_up(deployments.change(row, {}, actor=person))
    assert kept(row, runpod) == 1 and row.warm_key_id != payer.key.pk
    assert ApiKey.objects.get(pk=payer.key.pk).deleted_at is None, "only keys of its own end with it"


def test_they_count_for_the_member_and_the_organization(
    engine_set_up: None, payer: Payer, runpod: RunPod, time: Time
) -> None:
    organization = factories.organization()
    factories.member(organization, "developer", payer.user)
    member = Membership.objects.get(workspace=organization, user=payer.user)
    theirs = Payer(payer.user, organization, payer.key)
    theirs.give(START)
    row = bring_up(deploy(theirs, min_workers=1))
    assert meter(member.pk) == meter(organization.pk) == (0, AHEAD)
    time.go(40)
    setting.set_member(member, 50 * ADA_WARM, actor=audit.SYSTEM)
    warm.sweep()
    row.refresh_from_db()
    assert row.warm_stopped_at is None and row.warm_warned_at is not None
    time.go(30)
    warm.sweep()
    row.refresh_from_db()
    assert row.warm_stopped_because == "limit"
    assert meter(member.pk) == meter(organization.pk) == (70 * ADA_WARM, 0)
    assert RequestLog.objects.get(endpoint="gpu_warm").workspace_id == organization.pk


def test_a_process_that_comes_too_late_reserves_nothing(payer: Payer, runpod: RunPod, time: Time) -> None:
    row = look(deploy(payer, min_workers=1))
    row.lease = row.pk
    assert warm.prepare(row) is None and payer.books().holds == []
    assert not reconciling._write(row, 0, told=1, endpoint_id="x")
