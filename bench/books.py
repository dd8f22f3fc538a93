"""Do the books agree with what the upstream saw? Rows = calls, sum = price × calls, and the product's own proof."""

from __future__ import annotations

import msgspec

from bench.prices import CALL_MICROCREDITS


class Books(msgspec.Struct, frozen=True):
    """Counts and sums over the stand's whole database; amounts in microcredits."""

    log_rows: int
    #: Rows with another status or charge than each call here must have.
    odd_rows: int
    charged_microcredits: int
    open_holds: int
    findings: list[str]


def faults(books: Books, calls: int) -> list[str]:
    """What is wrong with the books after ``calls`` calls reached the upstream; empty where they agree."""
    claims = {
        f"{books.log_rows} log rows for {calls} calls": books.log_rows == calls,
        f"{books.odd_rows} rows with another status or charge than expected": books.odd_rows == 0,
        f"{books.charged_microcredits} microcredits charged for {calls} calls at {CALL_MICROCREDITS}": (
            books.charged_microcredits == calls * CALL_MICROCREDITS
        ),
        f"{books.open_holds} holds are still open": books.open_holds == 0,
    }
    return [claim for claim, holds in claims.items() if not holds] + books.findings
