"""The CSV of a month is its statement is the ledger, and is sent in constant memory, however many calls there were."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from decimal import Decimal

import psutil
import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.db.models import Sum

from billing.models import Transfer
from statements import composing, csv_file
from statements.months import Month
from tests.statements.generated import fill
from tests.support.money import Payer, new_payer
from usage import export, queries, verify

MONTH = Month(2026, 3)
CREDIT = 1_000_000
#: What an export may add to the process, whatever its length.
MOST_BYTES = 24 * 1024 * 1024


class Reader:
    """Reads a download piece by piece and keeps sums only."""

    def __init__(self) -> None:
        self.rows, self.microcredits, self.size, self.peak = 0, 0, 0, 0
        self._process = psutil.Process()
        self._rest = ""
        self._cost = export.COLUMNS.index("costCredits")

    async def read(self, stream: export.CsvStream) -> None:
        before = self._process.memory_info().rss
        async for piece in stream:
            self.size += len(piece)
            self._count(self._rest + piece.decode())
            self.peak = max(self.peak, self._process.memory_info().rss - before)

    def _count(self, text: str) -> None:
        lines = text.split("\r\n")
        self._rest = lines.pop()
        for cells in csv.reader(lines):
            if cells[0] != "requestId":
                self.rows += 1
                self.microcredits += int(Decimal(cells[self._cost]) * CREDIT)


def agrees(payer: Payer, calls: int) -> Reader:
    """Compare the four and return what the reader saw."""
    made = composing.compose(payer.workspace.pk, MONTH)
    taken = Transfer.objects.filter(
        workspace_id=payer.workspace.pk, kind="usage", billed_at__gte=MONTH.start, billed_at__lt=MONTH.end
    ).aggregate(total=Sum("amount_microcredits"))["total"]
    reader = Reader()
    async_to_sync(reader.read)(export.CsvStream(queries.stream(payer.workspace.pk, MONTH.query)))
    assert reader.rows == made.usage.requests == calls
    assert reader.microcredits == made.used_microcredits == taken
    for parts in (made.keys, made.members):
        assert sum(share.charged_microcredits for share in parts) == taken
    in_file = [line.split(",") for line in csv_file.lines(made)]
    by_model = [Decimal(line[-1].strip()) for line in in_file if line[0] == "model"]
    assert sum(by_model) * CREDIT == taken
    assert made.opening_microcredits + sum(flow.amount_microcredits for flow in made.flows) == made.closing_microcredits
    return reader


def analyze() -> None:
    """Tell the planner how many rows there are now: nobody else will before a transaction of so many ends."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE usage_requestlog, billing_transfer, usage_rollup")


@pytest.mark.django_db
def test_twenty_thousand_calls_agree_and_stream_in_constant_memory() -> None:
    payer = new_payer()
    fill(payer, MONTH, 20_000)
    analyze()
    reader = agrees(payer, 20_000)
    assert reader.size > 2_000_000
    assert reader.peak < MOST_BYTES
    assert composing.compose(payer.workspace.pk, MONTH.next).flows == []
    with connection.cursor() as cursor:  # the bound on an export's scans ends with its transaction, which is the test's
        cursor.execute("SET LOCAL statement_timeout = 0")
    assert verify.verify().clean


@pytest.mark.torture
@pytest.mark.timeout(1_800)
def test_a_million_calls_agree_and_stream_in_constant_memory(committed: None, figures: Callable[[str], None]) -> None:
    payer = new_payer()
    with transaction.atomic():
        fill(payer, MONTH, 1_000_000)
    analyze()
    started = time.monotonic()
    composing.compose(payer.workspace.pk, MONTH)
    composed = time.monotonic() - started
    reader = agrees(payer, 1_000_000)
    figures(
        f"a month of 1,000,000 calls: statement in {composed:.1f} s; CSV of {reader.size / 1e6:.0f} MB, "
        f"the process grew by {reader.peak / 1e6:.1f} MB at most"
    )
    assert reader.peak < MOST_BYTES
