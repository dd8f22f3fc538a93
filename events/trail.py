"""Reading the audit trail: searched, filtered, paged by key, and as CSV. The newest row comes first."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db.models import Q, QuerySet
from django.http import StreamingHttpResponse
from django.utils.translation import gettext as _

from core import clock, errors, ids
from events.models import AuditEvent

PAGE_ROWS: Final = 50
MOST_ROWS: Final = 200
_EXPORT_ROWS: Final = 1_000
_LONGEST_TEXT: Final = 120

COLUMNS: Final = (
    "createdAt",
    "actor",
    "action",
    "targetType",
    "targetId",
    "target",
    "details",
    "address",
    "requestId",
    "id",
)
#: A spreadsheet runs a cell that starts so as a formula, full-width forms included (OWASP, CSV injection).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(frozen=True, slots=True)
class Filters:
    """What is looked for; all that is given must fit. Days are whole days, UTC, both included."""

    text: str = ""
    actor: str = ""
    action: str = ""
    since: date | None = None
    until: date | None = None

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Filters:
        """Out of a query's members ``q``, ``actor``, ``action``, ``from`` and ``to``. Raises InvalidRequest."""
        return cls(
            text=_short(values, "q"),
            actor=_short(values, "actor"),
            action=_short(values, "action"),
            since=_day(values, "from"),
            until=_day(values, "to"),
        )

    def __bool__(self) -> bool:
        return self != Filters()

    def as_query(self) -> dict[str, str]:
        """The same as a query's members, only what is set."""
        found = {"q": self.text, "actor": self.actor, "action": self.action}
        found |= {"from": str(self.since or ""), "to": str(self.until or "")}
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and the ids from which the pages beside go on (None: there is none)."""

    rows: list[AuditEvent]
    newer: UUID | None
    older: UUID | None


def of_workspace(workspace_id: UUID) -> QuerySet[AuditEvent]:
    """What happened in a workspace."""
    return AuditEvent.objects.filter(workspace_id=workspace_id)


def of_person(user_id: UUID) -> QuerySet[AuditEvent]:
    """What happened to a person's account, in no workspace: sign-ins, second factors, addresses, sessions."""
    about = Q(target_type="user", target_id=str(user_id)) | Q(actor_id=user_id)
    return AuditEvent.objects.filter(about, workspace_id=None)


def found(rows: QuerySet[AuditEvent], filters: Filters) -> QuerySet[AuditEvent]:
    """Those of ``rows`` that fit. Times go by the id, which carries the moment and is in the index."""
    if filters.text:
        text = filters.text
        named = Q(target_label__icontains=text) | Q(actor_label__icontains=text) | Q(action__icontains=text)
        exact = ids.parse(text)
        rows = rows.filter(named | Q(target_id=text) | (Q(request_id=exact) if exact else Q()))
    if filters.actor:
        rows = rows.filter(actor_label__icontains=filters.actor)
    if filters.action:  # "api_key" and "api_key.create" alike
        rows = rows.filter(Q(action=filters.action) | Q(action__startswith=f"{filters.action}."))
    if filters.since:
        rows = rows.filter(id__gte=ids.first_at(_midnight(filters.since)))
    if filters.until:
        rows = rows.filter(id__lt=ids.first_at(_midnight(filters.until + timedelta(days=1))))
    return rows


def page(
    rows: QuerySet[AuditEvent], *, before: UUID | None = None, after: UUID | None = None, most: int = PAGE_ROWS
) -> Page:
    """The newest ``most`` rows, or those just older than ``before``, or just newer than ``after``."""
    if after is not None:
        taken = list(rows.filter(id__gt=after).order_by("id")[: most + 1])
        more, taken = len(taken) > most, taken[:most][::-1]
        return Page(taken, taken[0].pk if more else None, taken[-1].pk if taken else None)
    if before is not None:
        rows = rows.filter(id__lt=before)
    taken = list(rows.order_by("-id")[: most + 1])
    more, taken = len(taken) > most, taken[:most]
    return Page(taken, taken[0].pk if before and taken else None, taken[-1].pk if more else None)


def actions(rows: QuerySet[AuditEvent]) -> list[str]:
    """The kinds of action that occur in ``rows``, by name."""
    return sorted(rows.order_by().values_list("action", flat=True).distinct())


# ── As data ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def shown(event: AuditEvent) -> dict[str, Any]:
    """One row as the management API shows it."""
    return {
        "id": event.pk,
        "created_at": event.created_at,
        "actor": {"id": event.actor_id, "label": event.actor_label},
        "action": event.action,
        "target": {"type": event.target_type, "id": event.target_id, "label": event.target_label},
        "details": event.details,
        "address": event.address,
        "request_id": event.request_id,
    }


async def csv_pieces(rows: QuerySet[AuditEvent]) -> AsyncIterator[bytes]:
    """The CSV (RFC 4180) of ``rows`` in pieces; each is one short query, however long the reader takes."""
    yield _lines([COLUMNS])
    last: UUID | None = None
    while True:
        events = await sync_to_async(_next, thread_sensitive=True)(rows, last)
        if not events:
            return
        yield _lines(_cells(event) for event in events)
        last = events[-1].pk


def csv_response(rows: QuerySet[AuditEvent]) -> StreamingHttpResponse:
    """A download of ``rows``."""
    name = f"hypereal-audit-{clock.now().date()}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(csv_pieces(rows), content_type="text/csv; charset=utf-8", headers=headers)


def _next(rows: QuerySet[AuditEvent], last: UUID | None) -> list[AuditEvent]:
    older = rows if last is None else rows.filter(id__lt=last)
    return list(older.order_by("-id")[:_EXPORT_ROWS])


def _cells(event: AuditEvent) -> list[str]:
    details = "; ".join(f"{name}: {value}" for name, value in event.details.items())
    texts = (event.target_type, event.target_id, event.target_label, details)
    return [
        event.created_at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z",
        _text(event.actor_label),
        _text(event.action),
        *(_text(text) for text in texts),
        event.address or "",
        str(event.request_id or ""),
        str(event.pk),
    ]


def _text(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA) else value


def _lines(rows: Iterable[Iterable[str]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerows(rows)
    return buffer.getvalue().encode()


# ── Rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _short(values: Mapping[str, str], name: str) -> str:
    text = values.get(name, "").strip()
    if len(text) > _LONGEST_TEXT or "\0" in text:
        raise errors.InvalidRequest(_("This is too long to look for."), param=name)
    return text


def _day(values: Mapping[str, str], name: str) -> date | None:
    text = values.get(name, "").strip()
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
        _midnight(day + timedelta(days=1))
    except (ValueError, OverflowError):
        raise errors.InvalidRequest(_("A day looks like 2030-01-31."), param=name) from None
    if day.year < 1970:
        raise errors.InvalidRequest(_("A day looks like 2030-01-31."), param=name)
    return day


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)
