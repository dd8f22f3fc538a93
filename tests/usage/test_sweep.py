"""Holds of dead processes: ended after their heartbeat was seen to stand still, never under a live call."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db.models import F

from billing.models import HoldOwner
from core import ids
from tests.support.money import Payer, new_payer
from usage import verify
from usage.metering import apply_now
from usage.sweep import sweep

pytestmark = pytest.mark.django_db

START = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def payer() -> Payer:
    return new_payer(balance=1_000)


def open_call(payer: Payer) -> UUID:
    """A process with one hold of 100; gives the process's id."""
    owner = HoldOwner.objects.create(id=ids.uuid7(), label="test/1", beats=1)
    apply_now(payer.admit(100, owner_id=owner.id), START)
    return owner.id


def beat(owner: UUID) -> None:
    HoldOwner.objects.filter(pk=owner).update(beats=F("beats") + 1)


def look(*seconds: int) -> list[int]:
    return [sweep(START + timedelta(seconds=second)) for second in seconds]


def test_a_dead_process_gives_back_after_a_minute_of_stillness(payer: Payer) -> None:
    open_call(payer)
    assert look(0, 15, 30, 45) == [0, 0, 0, 0]
    assert payer.books().held == 100
    assert look(60, 75) == [1, 0]
    books = payer.books()
    assert (books.balance, books.held, books.spent, books.meter_held) == (1_000, 0, 0, 0)
    assert books.holds == ["expired"]
    assert [(row["error_type"], row["status"], row["charged_microcredits"]) for row in books.log] == [
        ("interrupted", 500, 0)
    ]
    assert verify.verify().findings == ()


def test_a_beating_process_keeps_its_holds_for_hours(payer: Payer) -> None:
    owner = open_call(payer)
    for minute in range(0, 300, 1):
        beat(owner)
        assert look(minute * 60, minute * 60 + 15, minute * 60 + 30) == [0, 0, 0]
    assert payer.books().held == 100


def test_a_sweeper_that_was_away_starts_to_count_anew(payer: Payer) -> None:
    open_call(payer)
    assert look(0, 15, 600, 615, 630, 645) == [0] * 6
    assert look(660) == [1]


def test_a_process_that_ended_cleanly_leaves_no_hold_for_a_minute(payer: Payer) -> None:
    owner = open_call(payer)
    HoldOwner.objects.filter(pk=owner).update(ended_at=START)
    assert look(1) == [1]


def test_a_hold_whose_process_was_never_heard_of_is_watched_first(payer: Payer) -> None:
    apply_now(payer.admit(100, owner_id=ids.uuid7()), START)
    assert look(0, 15, 30, 45, 60) == [0, 0, 0, 0, 1]


def test_a_jobs_hold_has_no_owner_and_is_left_alone(payer: Payer) -> None:
    apply_now(payer.admit(100, owner_id=None), START)
    assert look(*range(0, 600, 15)) == [0] * 40
    assert payer.books().held == 100


def test_many_holds_go_in_bounded_batches(payer: Payer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage.sweep.BATCH_MOST", 3)
    owner = open_call(payer)
    for _ in range(6):
        apply_now(payer.admit(10, owner_id=owner), START)
    assert look(0, 15, 30, 45, 60) == [0, 0, 0, 0, 7]
    assert payer.books().held == 0


def test_processes_long_gone_are_forgotten(payer: Payer) -> None:
    gone = HoldOwner.objects.create(id=ids.uuid7(), label="test/2", beats=1, ended_at=START)
    look(*range(0, 86_400 + 60, 40))
    assert not HoldOwner.objects.filter(pk=gone.pk).exists()
