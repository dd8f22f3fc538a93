"""The committer's short way: remembered rows are decided over, and the database applies it only if they still stand."""

from __future__ import annotations

import asyncio
import functools
import random
from datetime import timedelta

import psycopg

from billing.models import CreditLot
from core import clock
from keys.models import ApiKey
from tests.support.money import Payer, new_payer
from tests.support.visitor import CREDIT, Visitor, acquainted, dsn, later
from usage.items import Admit, Admitted, Extended, Item, Refused, Settled, Void
from usage.known import SHARED_SECONDS
from usage.line import Line
from usage.metering import apply_now


async def test_a_known_payer_takes_one_round_trip_a_visit(visitor: Visitor, payer: Payer) -> None:
    await acquainted(visitor, payer)
    admit = payer.admit(300 * CREDIT)
    assert await visitor.one(admit) == Admitted(admit.hold_id, 699 * CREDIT)
    assert await visitor.one(payer.extend(admit, 400 * CREDIT)) == Extended(True)
    settled = await visitor.ask(payer.settle(admit, 120 * CREDIT), flush=True)
    assert visitor.way() == ["short"] * 3
    books = await later(payer.books)
    assert (books.balance, books.held, books.lots, books.spent) == (879 * CREDIT, 0, [879 * CREDIT], 121 * CREDIT)
    assert isinstance(settled[0], Settled)
    assert books.log[1]["billed_at"] == settled[0].billed_at
    assert abs(books.log[1]["billed_at"] - clock.now()) < timedelta(minutes=1)


async def test_a_batch_of_several_payers_goes_the_short_way_too(visitor: Visitor, payer: Payer) -> None:
    other = await later(lambda: new_payer(balance=10 * CREDIT))
    await acquainted(visitor, payer)
    await acquainted(visitor, other)
    admits = [payer.admit(CREDIT), other.admit(8 * CREDIT), other.admit(8 * CREDIT)]
    first, second, third = await visitor.ask(*admits)
    assert (type(first), type(second), type(third)) == (Admitted, Admitted, Refused)
    await visitor.ask(payer.settle(admits[0], 1), Void(admits[1].hold_id, other.workspace.pk, other.key.pk))
    assert visitor.way() == ["short", "short"]


async def test_a_top_up_is_seen_by_who_would_have_refused(visitor: Visitor, payer: Payer) -> None:
    await acquainted(visitor, payer)
    assert isinstance(await visitor.one(payer.admit(1_500 * CREDIT)), Refused)
    assert visitor.way() == ["short"]
    await later(lambda: payer.give(1_000 * CREDIT))
    assert isinstance(await visitor.one(payer.admit(1_500 * CREDIT)), Admitted)
    assert visitor.way() == ["short", "long", "long"]


async def test_what_another_process_spent_is_seen(visitor: Visitor, payer: Payer) -> None:
    await acquainted(visitor, payer)
    elsewhere = payer.admit(900 * CREDIT)
    await later(lambda: apply_now(elsewhere))
    assert isinstance(await visitor.one(payer.admit(200 * CREDIT)), Refused)
    visitor.way()
    await visitor.one(payer.admit(CREDIT))
    assert visitor.way() == ["long", "long"]  # others write to this wallet: not tried for a while
    visitor.now += SHARED_SECONDS
    await visitor.one(payer.admit(CREDIT))
    assert visitor.way() == ["short"]


async def test_a_wallet_that_somebody_is_at_is_waited_for_in_the_ordinary_way(visitor: Visitor, payer: Payer) -> None:
    await acquainted(visitor, payer)
    async with await psycopg.AsyncConnection.connect(await dsn()) as somebody:
        await somebody.execute("SELECT 1 FROM billing_wallet WHERE workspace_id = %s FOR UPDATE", [payer.workspace.pk])
        waiting = asyncio.ensure_future(visitor.one(payer.admit(CREDIT)))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
    assert isinstance(await waiting, Admitted)
    assert visitor.way() == ["short", "long", "long"]


async def test_a_key_that_changed_is_asked_anew(visitor: Visitor, payer: Payer) -> None:
    await acquainted(visitor, payer)
    await later(lambda: payer.limit(2 * CREDIT))
    assert isinstance(await visitor.one(payer.admit(2 * CREDIT)), Refused)
    assert isinstance(await visitor.one(payer.admit(CREDIT)), Admitted)
    await later(lambda: ApiKey.objects.filter(pk=payer.key.pk).update(enabled=False))
    refused = await visitor.one(payer.admit(1))
    assert isinstance(refused, Refused)
    assert refused.error().status == 401


async def test_a_key_that_expires_is_refused(visitor: Visitor, payer: Payer) -> None:
    await acquainted(visitor, payer)
    soon = clock.now() + timedelta(seconds=-1)
    await later(lambda: ApiKey.objects.filter(pk=payer.key.pk).update(expires_at=soon))
    assert isinstance(await visitor.one(payer.admit(1)), Refused)


async def test_credits_that_end_are_not_spent_the_short_way(visitor: Visitor, payer: Payer) -> None:
    ends = clock.now() + timedelta(hours=1)
    lot = await later(lambda: payer.give(500 * CREDIT, expires_at=ends))
    await acquainted(visitor, payer)
    before = payer.admit(100 * CREDIT)
    assert isinstance(await visitor.one(before), Admitted)
    assert visitor.way() == ["short"]
    # An hour later: the database's clock can't be moved, so the lot's end is, there and in memory.
    over = clock.now() - timedelta(seconds=1)
    await later(lambda: CreditLot.objects.filter(pk=lot.pk).update(expires_at=over))
    visitor.forget_that_lots_last(over.timestamp())
    assert isinstance(await visitor.one(payer.admit(1_000 * CREDIT)), Refused)
    assert visitor.way() == ["short", "long", "long"]
    assert (await later(payer.books)).balance == 1_000 * CREDIT
    assert isinstance(await visitor.one(payer.admit(900 * CREDIT)), Admitted)
    assert visitor.way() == ["short"]  # the lot is gone, nothing has an end any more


async def test_an_ended_lot_that_a_call_holds_is_looked_after_the_ordinary_way(visitor: Visitor, payer: Payer) -> None:
    ends = clock.now() + timedelta(hours=1)
    lot = await later(lambda: payer.give(500 * CREDIT, expires_at=ends))
    await acquainted(visitor, payer)
    running = payer.admit(1_400 * CREDIT)
    assert isinstance(await visitor.one(running), Admitted)
    over = clock.now() - timedelta(seconds=1)
    await later(lambda: CreditLot.objects.filter(pk=lot.pk).update(expires_at=over))
    visitor.forget_that_lots_last(over.timestamp())
    visitor.way()
    for _ in range(2):
        assert isinstance(await visitor.one(payer.admit(1)), Refused)
    assert visitor.way() == ["short", "long", "long", "long", "long"]  # tried the short way once, not each time
    assert isinstance(await visitor.one(payer.settle(running, 100 * CREDIT)), Settled)
    assert isinstance(await visitor.one(payer.admit(1_000 * CREDIT + 1)), Refused)
    books = await later(payer.books)
    assert (books.balance, books.lots) == (1_000 * CREDIT, [1_000 * CREDIT, 0])


async def test_a_hold_that_was_swept_is_charged_late_and_once(visitor: Visitor, payer: Payer) -> None:
    await acquainted(visitor, payer)
    admit = payer.admit(5 * CREDIT)
    await visitor.one(admit)
    row = payer.row(admit.hold_id, status=500, error_type="interrupted")
    swept = Void(admit.hold_id, admit.workspace_id, admit.key_id, row, "expired")
    await later(lambda: apply_now(swept))
    settle = payer.settle(admit, 3 * CREDIT)
    for _ in range(2):
        settled = await visitor.one(settle)
        assert isinstance(settled, Settled)
        assert (settled.charged_microcredits, settled.late) == (3 * CREDIT, True)
    assert (await later(payer.books)).transfers == [CREDIT, 3 * CREDIT]


async def test_a_settlement_that_is_repeated_is_charged_once(visitor: Visitor, payer: Payer) -> None:
    await acquainted(visitor, payer)
    admit = payer.admit(5 * CREDIT)
    await visitor.one(admit)
    settle = payer.settle(admit, 3 * CREDIT)
    first, second = await visitor.one(settle), await visitor.one(settle)
    assert isinstance(first, Settled)
    assert first == second
    assert (await later(payer.books)).transfers == [CREDIT, 3 * CREDIT]


async def test_lots_are_drawn_in_their_order_to_the_end_and_into_debt(visitor: Visitor, payer: Payer) -> None:
    await acquainted(visitor, payer)
    await later(lambda: payer.give(10 * CREDIT))
    for charge in (990 * CREDIT, 15 * CREDIT, 15 * CREDIT):
        admit = payer.admit(1)
        assert isinstance(await visitor.one(admit), Admitted)
        await visitor.one(payer.settle(admit, charge))
        visitor.now += SHARED_SECONDS
    books = await later(payer.books)
    assert books.balance == -11 * CREDIT
    assert books.lots == [0, 0]
    await later(lambda: payer.give(20 * CREDIT))
    assert (await later(payer.books)).lots == [0, 0, 9 * CREDIT]


async def test_a_month_that_is_over_is_not_remembered(visitor: Visitor, payer: Payer) -> None:
    await acquainted(visitor, payer)
    entry = visitor.known._entries[payer.workspace.pk.int]
    entry.month = (entry.month - timedelta(days=1)).replace(day=1)
    entry.meters = {(key_id, entry.month): meter for (key_id, _), meter in entry.meters.items()}
    assert isinstance(await visitor.one(payer.admit(CREDIT)), Admitted)
    assert visitor.way() == ["short", "long", "long"]
    assert (await later(payer.books)).meter_held == CREDIT


async def test_many_hands_on_one_wallet_keep_the_books_right(visitor: Visitor, payer: Payer) -> None:
    """Two processes with memories and one without, in a random order, on a wallet that runs dry now and then."""
    other = Visitor(await Line.open(await dsn(), options="-c timezone=UTC"))
    dice = random.Random(7)
    given, charged = 1_000 * CREDIT, 0
    open_calls: list[Admit] = []
    for _ in range(250):
        hand = dice.choice((visitor, visitor, visitor, other, None))
        visitor.now += dice.choice((0, SHARED_SECONDS))
        if dice.random() < 0.03:
            await later(lambda: payer.give(500 * CREDIT))
            given += 500 * CREDIT
        if open_calls and dice.random() < 0.5:
            admit = open_calls.pop(dice.randrange(len(open_calls)))
            charge = dice.randrange(60) * CREDIT
            item: Item = payer.settle(admit, charge) if dice.random() < 0.8 else payer.void(admit)
        else:
            item = admit = payer.admit(dice.randrange(1, 80) * CREDIT)
        result = await hand.one(item) if hand else await later(functools.partial(apply_now, item))
        if isinstance(result, Admitted):
            open_calls.append(admit)
        elif isinstance(result, Settled):
            charged += result.charged_microcredits
    books = await later(payer.books)
    assert books.balance == given - charged
    assert books.charged == charged
    assert books.held == sum(admit.amount_microcredits for admit in open_calls)
    assert len(set(books.holds)) == 3  # pending, posted and voided ones
    assert visitor.way().count("short") > 50
    other.close()
