"""One call as JSON members and as a line of CSV, and the CSV as a stream that never holds more than a few rows.

Under ASGI Django collects a synchronous iterator into a list before it sends a byte. `CsvStream` is an asynchronous
one whose rows are read in the request's own thread; closing the response, however it ends, closes its cursor.
"""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse

from core import money
from usage.queries import STREAM_ROWS, Entry

#: The members of a log entry, in the order of the CSV's columns.
COLUMNS: Final = (
    "requestId",
    "createdAt",
    "endpoint",
    "model",
    "provider",
    "status",
    "latencyMs",
    "ttfbMs",
    "inputTokens",
    "cachedInputTokens",
    "cacheWriteTokens",
    "outputTokens",
    "units",
    "costCredits",
    "estimated",
    "errorType",
    "keyName",
)

#: A spreadsheet runs a cell that starts so as a formula, full-width forms included (OWASP, CSV injection).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def entry(row: Entry) -> dict[str, Any]:
    """The call as the JSON API shows it. ``createdAt`` is the moment that dates log, ledger and rollup alike."""
    return {
        "requestId": str(row.request_id),
        "createdAt": _moment(row.billed_at),
        "endpoint": row.endpoint,
        "model": row.model,
        "provider": row.provider,
        "status": row.status,
        "latencyMs": row.latency_ms,
        "ttfbMs": row.ttfb_ms,
        "inputTokens": row.input_tokens,
        "cachedInputTokens": row.cached_input_tokens,
        "cacheWriteTokens": row.cache_write_tokens,
        "outputTokens": row.output_tokens,
        "units": _units(row.units),
        "costCredits": money.credits_json(row.charged_microcredits),
        "estimated": row.estimated,
        "errorType": row.error_type or None,
        "keyName": row.key_name,
    }


def cells(row: Entry) -> list[str]:
    """The call as the cells of one CSV line, in the order of COLUMNS; the cost is exact."""
    return [
        str(row.request_id),
        _moment(row.billed_at),
        safe_text(row.endpoint),
        safe_text(row.model),
        safe_text(row.provider),
        str(row.status),
        str(row.latency_ms),
        "" if row.ttfb_ms is None else str(row.ttfb_ms),
        str(row.input_tokens),
        str(row.cached_input_tokens),
        str(row.cache_write_tokens),
        str(row.output_tokens),
        "" if row.units is None else exact_text(row.units),
        exact_text(money.credits(row.charged_microcredits)),
        "true" if row.estimated else "false",
        safe_text(row.error_type),
        safe_text(row.key_name),
    ]


def csv_lines(rows: Iterable[Entry]) -> Iterator[str]:
    """The CSV (RFC 4180: header, CRLF, doubled quotes) of ``rows``, line by line."""
    writer = csv.writer(Returning(), lineterminator="\r\n")
    yield writer.writerow(COLUMNS)
    for row in rows:
        yield writer.writerow(cells(row))


def file_name(day: date) -> str:
    """What the download is called."""
    return f"hypereal-usage-{day.isoformat()}.csv"


def response(rows: AbstractContextManager[Iterator[Entry]], day: date) -> StreamingHttpResponse:
    """A download of ``rows``, which are opened when it is first read."""
    streaming = StreamingHttpResponse(CsvStream(rows), content_type="text/csv; charset=utf-8")
    streaming["Content-Disposition"] = f'attachment; filename="{file_name(day)}"'
    streaming["Cache-Control"] = "no-store"
    streaming["X-Accel-Buffering"] = "no"
    return streaming


class CsvStream:
    """The CSV of a cursor's rows in pieces of STREAM_ROWS lines."""

    def __init__(self, rows: AbstractContextManager[Iterator[Entry]]) -> None:
        self._opened = ExitStack()
        self._rows = rows
        self._lines: Iterator[str] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        # Thread-sensitive: opened, read and closed in the one thread that this request has.
        piece = await sync_to_async(self._next_piece, thread_sensitive=True)()
        if not piece:
            raise StopAsyncIteration
        return piece

    def _next_piece(self) -> bytes:
        try:
            if self._lines is None:
                self._lines = csv_lines(self._opened.enter_context(self._rows))
            piece = "".join(islice(self._lines, STREAM_ROWS))
        except BaseException as error:
            self._opened.__exit__(type(error), error, error.__traceback__)
            raise
        if not piece:
            self.close()
        return piece.encode()

    def close(self) -> None:
        """Give the cursor back. The response calls it when it ends, whole or broken off."""
        self._lines = iter(())
        self._opened.close()


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _units(units: Decimal | None) -> int | float | None:
    if units is None:
        return None
    return int(units) if units == units.to_integral_value() else float(units)


def safe_text(value: str) -> str:
    """A cell of CSV that no spreadsheet runs as a formula."""
    return f"'{value}" if value.startswith(_FORMULA) else value


def exact_text(number: Decimal) -> str:
    """Every decimal of a number, without idle zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


class Returning:
    """The file of a csv.writer whose ``writerow`` then returns the line."""

    def write(self, line: str) -> str:
        return line
