"""The committer while its database is locked, away, or crashes at the worst moment. Each on the gateway's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest
import uvloop
from django.db import connection

from billing.models import HoldOwner
from tests.support.gateway import CREDIT
from tests.support.installation import Installation
from tests.support.money import Payer, new_payer
from usage import committer, verify
from usage.committer import Committer
from usage.items import Admit, Admitted, Settled


class Proxy:
    """Passes connections on to a port, can cut them, and can keep new ones waiting."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.kept = asyncio.Event()
        self._target = port
        self._links: set[asyncio.Task[None]] = set()
        self._way = asyncio.Event()
        self._way.set()

    def cut(self) -> None:
        for link in self._links:
            link.cancel()

    def keep(self) -> None:
        self._way.clear()

    def let_go(self) -> None:
        self._way.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._link, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self._links, return_exceptions=True)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        to = None
        try:
            if not self._way.is_set():
                self.kept.set()
                await self._way.wait()
            there, to = await asyncio.open_connection("127.0.0.1", self._target)
            ways = [asyncio.create_task(_pour(reader, to)), asyncio.create_task(_pour(there, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._links.discard(task)
            for end in (writer, to):
                if end is not None:
                    end.close()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass


@contextmanager
def lazy_disk(installation: Installation) -> Iterator[None]:
    """What is committed without a flush stays off the disk for ten seconds."""
    with psycopg.connect(installation.cluster.url, autocommit=True) as control:
        control.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        control.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        with psycopg.connect(installation.cluster.url, autocommit=True) as control:
            control.execute("ALTER SYSTEM RESET wal_writer_delay")
            control.execute("SELECT pg_reload_conf()")


def beats_of(committer: Committer) -> int:
    return sum(HoldOwner.objects.filter(pk=committer.owner_id).values_list("beats", flat=True))


async def beats_so_far(control: psycopg.AsyncConnection, committer: Committer) -> int:
    """How often the process has beaten, asked from within a loop."""
    cursor = await control.execute("SELECT beats FROM billing_holdowner WHERE id = %s", [committer.owner_id])
    row = await cursor.fetchone()
    return int(row[0]) if row is not None else 0


async def beaten(control: psycopg.AsyncConnection, committer: Committer, times: int) -> None:
    """Wait until the process has beaten that often. Raises TimeoutError."""
    async with asyncio.timeout(60):
        while await beats_so_far(control, committer) < times:  # noqa: ASYNC110 - the database has no events
            await asyncio.sleep(0.05)


def test_a_settlement_is_not_believed_durable_over_a_line_that_is_newer_than_its_commit(
    installation: Installation,
) -> None:
    """The barrier had lost its line; while it made a new one, PostgreSQL crashed, and the commit was lost with it."""
    payer = new_payer(100 * CREDIT)
    address = urlsplit(installation.cluster.url)

    async def scenario() -> list[object]:
        async with Proxy(installation.cluster.port).running() as proxy:
            dsn = address._replace(netloc=address.netloc.rpartition(":")[0] + f":{proxy.port}").geturl()
            books = Committer(dsn, heartbeat_seconds=60)
            books.start()
            admits = [payer.admit(CREDIT) for _ in range(3)]
            assert isinstance(await books.submit(admits[0]), Admitted)
            proxy.cut()
            await asyncio.sleep(0.1)
            for admit in admits[1:]:
                assert isinstance(await books.submit(admit), Admitted)  # the writer has a new line
            proxy.keep()
            # Two of them: one alone would be flushed by the writer.
            settled = [books.submit(payer.settle(admit, CREDIT)) for admit in admits[1:]]
            await asyncio.wait_for(proxy.kept.wait(), 60)
            installation.cluster.kill()
            installation.cluster.start()
            proxy.let_go()
            results: list[object] = list(await asyncio.wait_for(asyncio.gather(*settled), 120))
            await books.close()
            return results

    with lazy_disk(installation):
        results = uvloop.run(scenario())
        installation.restart_database()  # whatever they were told must be on the disk
    assert all(isinstance(result, Settled) for result in results)
    books = payer.books()
    assert books.transfers == [CREDIT, CREDIT]
    assert (books.balance, len(books.log)) == (98 * CREDIT, 2)
    assert verify.verify().findings == ()


def test_settlements_that_were_told_survive_a_crash_at_once(installation: Installation) -> None:
    """Without the flush of the barrier, or of the writer, nothing of this would be there."""
    payer = new_payer(100 * CREDIT)

    async def scenario() -> int:
        books = Committer(installation.cluster.url, heartbeat_seconds=60)
        books.start()
        admits = [payer.admit(CREDIT) for _ in range(20)]
        await asyncio.gather(*(books.submit(admit) for admit in admits))
        told = [await books.submit(payer.settle(admits[0], CREDIT))]
        told += await asyncio.gather(*(books.submit(payer.settle(admit, CREDIT)) for admit in admits[1:]))
        installation.cluster.kill()
        installation.cluster.start()
        await books.close()
        return sum(isinstance(result, Settled) for result in told)

    with lazy_disk(installation):
        assert uvloop.run(scenario()) == 20
    connection.close()
    assert payer.books().transfers == [CREDIT] * 20
    assert verify.verify().findings == ()


def test_an_idle_process_beats_for_ever(installation: Installation) -> None:
    """The loop's timers are coarse: one that fires a little early must not be the last."""
    books: list[Committer] = []

    async def scenario() -> None:
        books.append(Committer(installation.cluster.url, heartbeat_seconds=0.0103))
        books[0].start()
        async with await psycopg.AsyncConnection.connect(installation.cluster.url, autocommit=True) as control:
            await beaten(control, books[0], 150)
        await books[0].close()

    uvloop.run(scenario())
    assert beats_of(books[0]) >= 150


def test_a_process_beats_while_a_batch_waits_for_a_lock(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody holds a wallet for long: the calls of all others must not look abandoned meanwhile."""
    monkeypatch.setattr(committer, "_OPTIONS", committer._OPTIONS.replace("lock_timeout=15s", "lock_timeout=200ms"))
    payer, other = new_payer(100 * CREDIT), new_payer(100 * CREDIT)
    kept: list[Committer] = []

    async def scenario() -> None:
        books = Committer(installation.cluster.url, heartbeat_seconds=0.1)
        kept.append(books)
        books.start()
        admits: list[tuple[Payer, Admit]] = [(each, each.admit(CREDIT)) for each in (payer, other)]
        for _, admit in admits:
            assert isinstance(await books.submit(admit), Admitted)
        async with await psycopg.AsyncConnection.connect(installation.cluster.url) as somebody:
            await somebody.execute(
                "SELECT 1 FROM billing_wallet WHERE workspace_id = %s FOR UPDATE", [payer.workspace.pk]
            )
            settled = [books.submit(each.settle(admit, CREDIT)) for each, admit in admits]
            async with await psycopg.AsyncConnection.connect(installation.cluster.url, autocommit=True) as control:
                before = await beats_so_far(control, books)
                # One in each second, which is how long a batch waits to be tried again.
                await beaten(control, books, before + 4)
            assert not settled[0].done()
            await somebody.rollback()
        assert all(isinstance(each, Settled) for each in await asyncio.gather(*settled))
        await books.close()

    uvloop.run(scenario())
    assert [each.books().transfers for each in (payer, other)] == [[CREDIT], [CREDIT]]
    assert beats_of(kept[0]) >= 4


def test_connections_that_are_cut_again_and_again_hold_nothing_up(installation: Installation) -> None:
    """A line whose end goes unheard would keep every call of the process waiting for ever."""
    payer = new_payer(1_000 * CREDIT)
    address = installation.cluster.url
    done: list[int] = []

    async def cut() -> None:
        async with await psycopg.AsyncConnection.connect(address, autocommit=True) as control:
            for _ in range(60):
                await asyncio.sleep(0.05)
                await control.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cut again'"
                )

    async def call_again_and_again(books: Committer, cutting: asyncio.Task[None]) -> None:
        while not cutting.done():
            admit = payer.admit(10, owner_id=books.owner_id)
            if isinstance(await books.submit(admit), Admitted):
                assert isinstance(await books.submit(payer.settle(admit, 1)), Settled)
                done.append(1)

    async def scenario() -> None:
        books = Committer(f"{address}?application_name=cut%20again", heartbeat_seconds=0.05)
        books.start()
        cutting = asyncio.create_task(cut())
        async with asyncio.timeout(180):
            await asyncio.gather(cutting, *(call_again_and_again(books, cutting) for _ in range(20)))
        await books.close()

    uvloop.run(scenario())
    books = payer.books()
    # None of the twenty was held up for good; how many calls each gets between two cuts is the machine's business.
    assert len(done) == len(books.transfers) == len(books.log) >= 20
    assert (books.balance, books.held) == (1_000 * CREDIT - len(done), 0)
    assert verify.verify().findings == ()
