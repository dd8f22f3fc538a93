"""The CSV: exact, harmless, one line a call, and never more of it in memory than a piece."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.db.models import Sum

from billing.models import Transfer
from tests.support.money import Payer, new_payer
from tests.usage import rows
from usage import export, queries
from usage.filters import UsageQuery

CREDIT = 1_000_000
NOW = datetime(2026, 5, 10, 12, tzinfo=UTC)


def row(**fields: Any) -> Any:
    values = {
        "id": UUID("0196b000-0000-7000-8000-000000000001"),
        "request_id": UUID("0196b000-0000-7000-8000-000000000001"),
        "billed_at": datetime(2026, 5, 10, 23, 59, 59, 999_999, UTC),
        "endpoint": "chat",
        "model": "gpt-5.5",
        "provider": "openai",
        "status": 200,
        "latency_ms": 1200,
        "ttfb_ms": 300,
        "input_tokens": 10,
        "cached_input_tokens": 4,
        "cache_write_tokens": 1,
        "output_tokens": 7,
        "units": None,
        "charged_microcredits": 1_234_567,
        "estimated": False,
        "error_type": "",
        "key_name": "prod",
    }
    return SimpleNamespace(**{**values, **fields})


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_a_line_has_the_members_of_the_json_in_their_order() -> None:
    assert tuple(export.entry(row())) == export.COLUMNS
    [line] = read("".join(export.csv_lines([row()])))
    assert line == {
        "requestId": "0196b000-0000-7000-8000-000000000001",
        "createdAt": "2026-05-10T23:59:59.999Z",
        "endpoint": "chat",
        "model": "gpt-5.5",
        "provider": "openai",
        "status": "200",
        "latencyMs": "1200",
        "ttfbMs": "300",
        "inputTokens": "10",
        "cachedInputTokens": "4",
        "cacheWriteTokens": "1",
        "outputTokens": "7",
        "units": "",
        "costCredits": "1.234567",
        "estimated": "false",
        "errorType": "",
        "keyName": "prod",
    }


def test_json_says_null_where_there_is_nothing() -> None:
    entry = export.entry(row(ttfb_ms=None))
    assert (entry["ttfbMs"], entry["units"], entry["errorType"], entry["costCredits"]) == (None, None, None, 1.234567)


@pytest.mark.parametrize(
    ("charged", "cell"),
    [(0, "0"), (1, "0.000001"), (CREDIT, "1"), (10 * CREDIT, "10"), (12_500_000, "12.5"), (10**15, "1000000000")],
)
def test_costs_are_exact_decimals(charged: int, cell: str) -> None:
    [line] = read("".join(export.csv_lines([row(charged_microcredits=charged)])))
    assert line["costCredits"] == cell


@pytest.mark.parametrize(
    ("units", "cell", "number"), [("4.000000", "4", 4), ("36.500000", "36.5", 36.5), ("0.000000", "0", 0)]
)
def test_units_have_no_idle_zeros(units: str, cell: str, number: float) -> None:
    given = row(units=Decimal(units))
    assert read("".join(export.csv_lines([given])))[0]["units"] == cell
    assert export.entry(given)["units"] == number


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_no_cell_starts_a_formula(start: str) -> None:
    text = f'{start}HYPERLINK("http://evil","x")'
    fields = dict.fromkeys(("endpoint", "model", "provider", "error_type", "key_name"), text)
    [line] = read("".join(export.csv_lines([row(**fields)])))
    for name in ("endpoint", "model", "provider", "errorType", "keyName"):
        assert line[name] == f"'{text}"
    assert not any(cell.startswith(tuple("=+-@\t\r\n")) for cell in line.values())


def test_the_form_is_rfc_4180() -> None:
    nasty = 'a "quoted", two\r\nlined name'
    text = "".join(export.csv_lines([row(key_name=nasty), row()]))
    assert text.startswith(",".join(export.COLUMNS) + "\r\n")
    assert text.endswith("\r\n")
    assert '"a ""quoted"", two\r\nlined name"' in text
    assert [line["keyName"] for line in read(text)] == [nasty, "prod"]


class Source:
    """Rows that tell how far they were read and whether they were closed."""

    def __init__(self, length: int) -> None:
        self.length, self.taken, self.opened, self.closed = length, 0, 0, 0

    @contextmanager
    def __call__(self) -> Iterator[Iterator[Any]]:
        self.opened += 1
        try:
            yield self._rows()
        finally:
            self.closed += 1

    def _rows(self) -> Iterator[Any]:
        for _ in range(self.length):
            self.taken += 1
            yield row()


async def test_a_stream_reads_no_further_than_it_has_sent() -> None:
    source = Source(100_000)
    stream = export.CsvStream(source())
    assert source.opened == 0
    first = await anext(stream)
    assert first.count(b"\r\n") == queries.STREAM_ROWS
    assert source.taken < 2 * queries.STREAM_ROWS
    stream.close()
    assert (source.opened, source.closed) == (1, 1)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_whole_stream_closes_its_rows_by_itself() -> None:
    source = Source(2_500)
    pieces = [piece async for piece in export.CsvStream(source())]
    assert b"".join(pieces).count(b"\r\n") == 2_501
    assert (source.opened, source.closed) == (1, 1)


async def test_a_stream_that_breaks_closes_its_rows() -> None:
    source = Source(1)
    source._rows = lambda: (1 / 0 for _ in range(1))  # type: ignore[method-assign]
    stream = export.CsvStream(source())
    with pytest.raises(ZeroDivisionError):
        await anext(stream)
    assert source.closed == 1


async def test_a_reader_that_is_cancelled_leaves_a_stream_that_can_be_closed() -> None:
    source = Source(100_000)
    stream = export.CsvStream(source())
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    stream.close()
    assert source.opened == source.closed


def test_the_answer_is_a_download_that_a_proxy_does_not_hold_back() -> None:
    answer = export.response(Source(1)(), date(2026, 5, 10))
    assert answer.is_async
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == 'attachment; filename="hypereal-usage-2026-05-10.csv"'
    assert answer["X-Accel-Buffering"] == "no"


@pytest.fixture
def payer(db: None) -> Payer:
    return new_payer(balance=10_000 * CREDIT)


def exported(payer: Payer, query: UsageQuery) -> list[dict[str, str]]:
    async def whole() -> bytes:
        stream = export.CsvStream(queries.stream(payer.workspace.pk, query))
        return b"".join([piece async for piece in stream])

    return read(async_to_sync(whole)().decode())


def test_the_sum_is_the_ledgers_to_the_microcredit(payer: Payer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "STREAM_ROWS", 3)
    monkeypatch.setattr(export, "STREAM_ROWS", 3)
    payer.give(7 * CREDIT)  # a second lot: a call may take two transfers
    for number in range(11):
        rows.call(payer, 1_333_333 * number + 1, at=NOW - timedelta(days=number), lasted=timedelta(minutes=5))
    rows.call(payer, 9_999_000_000, at=NOW)
    rows.refused(payer, at=NOW)
    other = new_payer(balance=100 * CREDIT)
    rows.call(other, 50, at=NOW)
    query = UsageQuery(days=7, today=NOW.date())
    lines = exported(payer, query)
    ledger = Transfer.objects.filter(
        workspace_id=payer.workspace.pk, kind="usage", billed_at__gte=query.start, billed_at__lt=query.end
    )
    assert len(lines) == 9
    total = sum(Decimal(line["costCredits"]) for line in lines)
    assert total * CREDIT == ledger.aggregate(sum=Sum("amount_microcredits"))["sum"]
    assert {line["keyName"] for line in lines} == {"test"}


def test_rows_come_through_a_cursor_of_the_server_outside_of_which_nothing_stays(payer: Payer) -> None:
    rows.call(payer, 5, at=NOW)
    with queries.stream(payer.workspace.pk, UsageQuery(today=NOW.date())) as found:
        next(found)
        assert len(_cursors()) == 1
    assert _cursors() == []


def _cursors() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_cursors WHERE name <> ''")
        return [name for (name,) in cursor.fetchall()]
