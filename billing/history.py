"""A workspace's top-ups, for pages and files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from billing import links, reversals
from billing.models import TopUp
from core import money
from orgs.models import Workspace

PAGE_LENGTH: Final = 20
COLUMNS: Final = (
    *("id", "created_at", "completed_at", "mode", "source", "state", "currency", "amount", "paid", "reversed"),
    *("credits", "credits_taken_back", "stripe_payment_intent", "receipt_url"),
)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the history, newest first; ``newer`` and ``older`` are the ids to page on from, or None."""

    rows: Sequence[TopUp]
    newer: UUID | None
    older: UUID | None


def page(workspace: Workspace, *, before: UUID | None = None, after: UUID | None = None) -> Page:
    """A workspace's top-ups by key: those before an id, or those after it, or the newest."""
    mine = TopUp.objects.filter(wallet_id=workspace.pk).prefetch_related("reversals")
    if after is not None:
        rows = list(mine.filter(pk__gt=after).order_by("pk")[: PAGE_LENGTH + 1])
        more, rows = len(rows) > PAGE_LENGTH, rows[:PAGE_LENGTH][::-1]
        return Page(rows, newer=rows[0].pk if more else None, older=rows[-1].pk if rows else None)
    found = mine.filter(pk__lt=before) if before is not None else mine
    rows = list(found.order_by("-pk")[: PAGE_LENGTH + 1])
    more, rows = len(rows) > PAGE_LENGTH, rows[:PAGE_LENGTH]
    newer = rows[0].pk if rows and before is not None else None
    return Page(rows, newer=newer, older=rows[-1].pk if more else None)


def csv_lines(workspace: Workspace, *, demo: bool) -> Iterator[str]:
    """The whole history as CSV, oldest first: real payments, or the demo's, never both in one file.

    Times in UTC, amounts in the currency, credits exact. No field holds text that somebody typed.
    """
    yield _line(COLUMNS)
    mine = TopUp.objects.filter(wallet_id=workspace.pk, is_demo=demo).prefetch_related("reversals").order_by("pk")
    for topup in mine.iterator(chunk_size=500):
        yield _line(_fields(topup))


def _fields(topup: TopUp) -> tuple[object, ...]:
    paid = topup.completed_at is not None
    return (
        topup.pk,
        topup.created_at.isoformat(),
        topup.completed_at.isoformat() if topup.completed_at else "",
        "demo" if topup.is_demo else "live",
        topup.source,
        topup.state,
        topup.currency,
        _plain(topup.amount_cents),
        _plain(reversals.paid_cents(topup)) if paid else "0.00",
        _plain(reversals.total_cents(topup.reversals.all())),
        money.credits(topup.credits_microcredits) if paid else 0,
        money.credits(sum(one.taken_microcredits for one in topup.reversals.all())),
        topup.stripe_payment_intent_id,
        links.receipt(topup),
    )


def _plain(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _line(fields: Sequence[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(fields)
    return buffer.getvalue()
