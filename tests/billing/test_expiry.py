"""Credits with an end leave the balance once, by the ledger, and never from under a running call."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from billing import expiry, ledger
from billing.models import HOUSE_ACCOUNTS, Account, CreditLot, Transfer
from core import clock
from tests.support.money import Payer, new_payer
from usage import verify
from usage.doors import CursorDoor
from usage.items import Admitted, Extended, Refused, Settled
from usage.metering import apply, apply_now

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


# ── Before the sweep comes by ────────────────────────────────────────────────────────────────────────────────────────
def test_a_lot_that_breaks_holds_up_no_other(payer: Payer, later: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for minutes in (1, 2, 3):
        payer.give(10 * CREDIT, PROMOTIONAL, clock.now() + timedelta(minutes=minutes))
    broken, really = CreditLot.objects.filter(wallet_id=payer.workspace.pk).earliest("expires_at"), ledger.expire

    def breaks(lot_id: Any, now: Any) -> int:
        if lot_id == broken.pk:
            raise RuntimeError("a bug")
        return really(lot_id, now)

    later.shift(SOON)
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "expire", breaks)
        assert [expiry.sweep(), expiry.sweep()] == [2, 0]
    assert [expiry.sweep(), payer.books().balance] == [1, 0]
    assert verify.verify().clean


def test_what_is_over_buys_nothing_from_that_moment(payer: Payer, later: Any) -> None:
    payer.give(10 * CREDIT, PROMOTIONAL, clock.now() + SOON)
    payer.give(5 * CREDIT, CreditLot.Kind.PAID)
    later.shift(SOON - timedelta(seconds=1))
    allowed = payer.admit(15 * CREDIT)
    assert isinstance(apply_now(allowed, clock.now()), Admitted)
    apply_now(payer.void(allowed), clock.now())
    later.shift(timedelta(seconds=1))
    refused = apply_now(payer.admit(6 * CREDIT), clock.now())
    assert isinstance(refused, Refused)
    assert refused.error().extra["available_credits"] == 5
    assert isinstance(apply_now(payer.admit(5 * CREDIT), clock.now()), Admitted)
    assert expired(payer) == [10 * CREDIT]  # the visit wrote what the sweep would have
    assert expiry.sweep() == 0
    assert (payer.books().balance, payer.books().lots) == (5 * CREDIT, [0, 5 * CREDIT])
    assert verify.verify().clean


def test_a_settlement_draws_what_its_hold_kept_and_no_more(payer: Payer, later: Any) -> None:
    payer.give(10 * CREDIT, PROMOTIONAL, clock.now() + SOON)
    payer.give(4 * CREDIT, CreditLot.Kind.PAID)
    call = payer.admit(6 * CREDIT)
    apply_now(call, clock.now())
    later.shift(SOON)
    apply_now(payer.settle(call, 3 * CREDIT), clock.now())
    assert expired(payer) == [8 * CREDIT]  # the other lot covers four of the six that are held
    assert (payer.books().balance, payer.books().lots) == (3 * CREDIT, [0, 3 * CREDIT])
    assert verify.verify().clean


def test_what_a_call_gives_back_of_an_ended_lot_is_gone_for_the_next(payer: Payer, later: Any) -> None:
    payer.give(10 * CREDIT, PROMOTIONAL, clock.now() + SOON)
    call, wanted = payer.admit(10 * CREDIT), payer.admit(1)
    apply_now(call, clock.now())
    later.shift(SOON)
    with transaction.atomic():
        settled, refused = apply(
            CursorDoor(connection.connection), [payer.settle(call, 4 * CREDIT), wanted], clock.now()
        )
    assert (type(settled), type(refused)) == (Settled, Refused)
    assert expired(payer) == [6 * CREDIT]
    assert payer.books().balance == 0
    assert verify.verify().clean


def test_a_hold_grows_by_nothing_that_is_over(payer: Payer, later: Any) -> None:
    payer.give(10 * CREDIT, PROMOTIONAL, clock.now() + SOON)
    call = payer.admit(2 * CREDIT)
    apply_now(call, clock.now())
    later.shift(SOON)
    assert apply_now(payer.extend(call, 3 * CREDIT), clock.now()) == Extended(False)
    assert (expired(payer), payer.books().held) == ([8 * CREDIT], 2 * CREDIT)


def test_each_entry_of_a_lot_has_its_number_whoever_writes_it(payer: Payer, later: Any) -> None:
    payer.give(10 * CREDIT, PROMOTIONAL, clock.now() + SOON)
    calls = [payer.admit(2 * CREDIT) for _ in range(4)]
    for call in calls:
        apply_now(call, clock.now())
    later.shift(SOON)
    for number, call in enumerate(calls):
        apply_now(payer.void(call), clock.now())
        if number % 2:
            assert expiry.sweep() == 1
        else:
            assert isinstance(apply_now(payer.admit(1), clock.now()), Refused)
    assert expired(payer) == [4 * CREDIT, 2 * CREDIT, 2 * CREDIT, 2 * CREDIT]
    numbers = Transfer.objects.filter(kind=Transfer.Kind.EXPIRY).order_by("pk").values_list("sequence", flat=True)
    assert list(numbers) == [0, 1, 2, 3]
    assert verify.verify().clean
