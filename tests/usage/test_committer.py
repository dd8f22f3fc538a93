"""Group commit over real connections: who is answered when, what a bad item or a lost connection does to the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.db import connection
from psycopg.conninfo import make_conninfo

from tests.support.money import Payer, new_payer, pending
from usage.committer import Committer
from usage.items import Admitted, Refused, Settled, Void

CREDIT = 1_000_000


def dsn() -> str:
    """Where the test database is, for a connection that is not Django's."""
    s = connection.settings_dict
    return make_conninfo(host=s["HOST"], port=s["PORT"], user=s["USER"], password=s["PASSWORD"], dbname=s["NAME"])


@pytest_asyncio.fixture
async def committer(committed: None) -> AsyncIterator[Committer]:
    committer = Committer(await sync_to_async(dsn)(), heartbeat_seconds=0.2)
    committer.start()
    yield committer
    await committer.close()


@sync_to_async
def payer_with(balance: int) -> Payer:
    return new_payer(balance=balance)


@sync_to_async
def backends_killed() -> int:
    """Cut every other connection to the test database, as a restart of PostgreSQL would."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


async def test_parallel_calls_are_admitted_and_charged_once_each(committer: Committer) -> None:
    payer = await payer_with(1_000 * CREDIT)

    async def call(i: int) -> None:
        admit = payer.admit(CREDIT, owner_id=committer.owner_id)
        assert isinstance(await committer.submit(admit), Admitted)
        settled = await committer.submit(payer.settle(admit, i))
        assert isinstance(settled, Settled)
        assert settled.charged_microcredits == i

    await asyncio.gather(*(call(i) for i in range(200)))
    books = await sync_to_async(payer.books)()
    assert (books.balance, books.held, books.spent) == (1_000 * CREDIT - sum(range(200)), 0, sum(range(200)))
    assert len(books.log) == 200


async def test_what_a_wallet_affords_is_admitted_and_no_more(committer: Committer) -> None:
    payer = await payer_with(50 * CREDIT)
    admits = [payer.admit(CREDIT, owner_id=committer.owner_id) for _ in range(200)]
    results = await asyncio.gather(*(committer.submit(admit) for admit in admits))
    assert sum(isinstance(result, Admitted) for result in results) == 50
    assert sum(isinstance(result, Refused) for result in results) == 150
    assert (await sync_to_async(payer.books)()).available == 0


async def test_two_committers_share_a_wallet_without_overspending(committer: Committer) -> None:
    other = Committer(await sync_to_async(dsn)())
    other.start()
    payer = await payer_with(50 * CREDIT)
    admits = [payer.admit(CREDIT) for _ in range(200)]
    results = await asyncio.gather(*((committer, other)[i % 2].submit(admit) for i, admit in enumerate(admits)))
    await other.close()
    assert sum(isinstance(result, Admitted) for result in results) == 50
    assert (await sync_to_async(payer.books)()).held == 50 * CREDIT


async def test_one_bad_item_takes_no_other_down(committer: Committer) -> None:
    payer = await payer_with(100 * CREDIT)
    admits = [payer.admit(CREDIT) for _ in range(10)]
    await asyncio.gather(*(committer.submit(admit) for admit in admits))
    bad = payer.settle(admits[0], 5, input_tokens=-1)
    futures = [committer.submit(bad), *(committer.submit(payer.settle(admit, 5)) for admit in admits[1:])]
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert isinstance(results[0], psycopg.IntegrityError)
    assert all(isinstance(result, Settled) for result in results[1:])
    books = await sync_to_async(payer.books)()
    assert (books.balance, books.held) == (100 * CREDIT - 45, CREDIT)  # the bad one's hold is left to the sweep
    committer.submit_nowait(Void(admits[0].hold_id, admits[0].workspace_id, admits[0].key_id))


async def test_an_admission_whose_waiter_left_is_voided(committer: Committer) -> None:
    payer = await payer_with(10 * CREDIT)
    future = committer.submit(payer.admit(CREDIT))
    future.cancel()
    for _ in range(1_000):
        books = await sync_to_async(payer.books)()
        if books.holds == ["voided"]:
            break
        await asyncio.sleep(0.02)
    assert (books.holds, books.held) == (["voided"], 0)


async def test_cut_connections_lose_nothing_and_double_nothing(committer: Committer) -> None:
    payer = await payer_with(1_000 * CREDIT)

    async def call(i: int) -> None:
        admit = payer.admit(CREDIT, owner_id=committer.owner_id)
        if isinstance(await committer.submit(admit), Admitted):
            assert isinstance(await committer.submit(payer.settle(admit, 1)), Settled)

    async def cut() -> None:
        for _ in range(5):
            await asyncio.sleep(0.05)
            await backends_killed()

    await asyncio.gather(cut(), *(call(i) for i in range(150)))
    books = await sync_to_async(payer.books)()
    assert books.held == 0
    assert books.balance == 1_000 * CREDIT - sum(books.transfers)
    assert len(books.transfers) == 150
    assert len(books.log) == 150


async def test_closing_writes_what_is_queued(committer: Committer) -> None:
    payer = await payer_with(10 * CREDIT)
    admit = payer.admit(CREDIT)
    await committer.submit(admit)
    future = committer.submit(payer.settle(admit, 3))
    await committer.close()
    assert isinstance(await future, Settled)
    assert (await sync_to_async(payer.books)()).transfers == [3]
    assert await sync_to_async(pending)(payer) == 0
