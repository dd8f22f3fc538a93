"""Credits with an end leave the balance once, by the ledger, and never from under a running call."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from billing import expiry
from billing.models import HOUSE_ACCOUNTS, Account, CreditLot, Transfer
from core import clock
from tests.support.money import Payer, new_payer
from usage import verify
from usage.metering import apply_now

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000
SOON = timedelta(hours=1)
PROMOTIONAL = CreditLot.Kind.PROMOTIONAL


@pytest.fixture
def payer(db: None) -> Payer:
    return new_payer()


def expired(payer: Payer) -> list[int]:
    """What expired, entry by entry."""
    rows = Transfer.objects.filter(workspace_id=payer.workspace.pk, kind=Transfer.Kind.EXPIRY).order_by("pk")
    assert all(row.credit_account == HOUSE_ACCOUNTS[Account.Kind.EXPIRED] for row in rows)
    assert all(row.debit_account == payer.workspace.pk for row in rows)
    return list(rows.values_list("amount_microcredits", flat=True))


def test_what_is_left_expires_once(payer: Payer, later: Any) -> None:
    payer.give(10 * CREDIT, PROMOTIONAL, clock.now() + SOON)
    payer.give(5 * CREDIT, CreditLot.Kind.PAID)
    assert expiry.sweep() == 0
    later.shift(SOON)
    assert [expiry.sweep(), expiry.sweep()] == [1, 0]
    assert expired(payer) == [10 * CREDIT]
    assert (payer.books().balance, payer.books().lots) == (5 * CREDIT, [0, 5 * CREDIT])
    assert verify.verify().clean


def test_a_running_call_keeps_what_it_holds(payer: Payer, later: Any) -> None:
    payer.give(10 * CREDIT, PROMOTIONAL, clock.now() + SOON)
    call = payer.admit(6 * CREDIT)
    apply_now(call)
    later.shift(SOON)
    assert [expiry.sweep(), expiry.sweep()] == [1, 0]
    assert expired(payer) == [4 * CREDIT]
    assert (payer.books().balance, payer.books().held) == (6 * CREDIT, 6 * CREDIT)
    apply_now(payer.settle(call, 2 * CREDIT))
    assert expiry.sweep() == 1
    assert expired(payer) == [4 * CREDIT, 4 * CREDIT]
    assert (payer.books().balance, payer.books().lots) == (0, [0])
    assert verify.verify().clean


def test_holds_are_covered_by_other_credits_first(payer: Payer, later: Any) -> None:
    payer.give(10 * CREDIT, PROMOTIONAL, clock.now() + SOON)
    payer.give(6 * CREDIT, CreditLot.Kind.PAID)
    apply_now(payer.admit(6 * CREDIT))
    later.shift(SOON)
    expiry.sweep()
    assert expired(payer) == [10 * CREDIT]


def test_a_debt_leaves_nothing_to_expire(payer: Payer, later: Any) -> None:
    payer.give(1 * CREDIT, PROMOTIONAL, clock.now() + SOON)
    call = payer.admit(1 * CREDIT)
    apply_now(call)
    apply_now(payer.settle(call, 3 * CREDIT))
    later.shift(SOON)
    assert expiry.sweep() == 0
    assert payer.books().balance == -2 * CREDIT
    assert verify.verify().clean


def test_the_sweep_is_bounded(payer: Payer, later: Any) -> None:
    for _ in range(3):
        payer.give(CREDIT, PROMOTIONAL, clock.now() + SOON)
    later.shift(SOON)
    assert [expiry.sweep(most=2), expiry.sweep(most=2)] == [2, 1]
    assert payer.books().balance == 0
