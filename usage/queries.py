"""Reading the books of calls, one workspace at a time: sums out of the daily rollup, rows out of the log.

The log is read through its (workspace_id, id) and (workspace_id, charged_microcredits) indexes, bounded by the time
that its ids carry, and never for longer than SCAN_SECONDS.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

import psycopg
from django.db import OperationalError, connection, transaction
from django.db.models import Count, Max, Min, Q, QuerySet, Sum
from django.db.models.functions import TruncDate
from django.utils.translation import gettext as _

from catalog import endpoints
from core import errors, ids
from keys.models import ApiKey
from usage.filters import UsageQuery
from usage.models import RequestLog, Rollup

#: A row is filed under the day it was billed, its id is made when the call starts: no call lives longer than this.
LONGEST_CALL: Final = timedelta(days=2)
#: How far the clocks of two machines may stand apart.
CLOCK_DRIFT: Final = timedelta(hours=1)
#: After so long a search over the log gives up: other people's pages need the database, too.
SCAN_SECONDS: Final = 5
TOP_ROWS: Final = 10
#: Rows that a download holds in memory at a time, and how long its reader may let the database wait for the next ones.
STREAM_ROWS: Final = 1_000
STREAM_IDLE_SECONDS: Final = 300

#: What an entry of the log shows, by column; the rest of a row is for its detail page.
ENTRY_FIELDS: Final = (
    "id",
    "request_id",
    "billed_at",
    "endpoint",
    "model",
    "provider",
    "status",
    "latency_ms",
    "ttfb_ms",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "units",
    "charged_microcredits",
    "estimated",
    "error_type",
    "key_name",
)
#: What only a receipt shows.
_RECEIPT_FIELDS: Final = ("attempt_trace", "charge_lines")
_SUMMED = (
    "requests",
    "errors",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "charged_microcredits",
    "saved_microcredits",
)
_ERROR = Q(status__gte=400)


class Entry(Protocol):
    """What a row of the log has, whether read as a model or as a plain tuple with ENTRY_FIELDS."""

    id: Any
    request_id: Any
    billed_at: Any
    endpoint: Any
    model: Any
    provider: Any
    status: Any
    latency_ms: Any
    ttfb_ms: Any
    input_tokens: Any
    cached_input_tokens: Any
    cache_write_tokens: Any
    output_tokens: Any
    units: Any
    charged_microcredits: Any
    estimated: Any
    error_type: Any
    key_name: Any


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over some calls. ``errors`` counts statuses from 400 on."""

    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    charged_microcredits: int = 0
    saved_microcredits: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(getattr(self, name) + getattr(other, name) for name in _SUMMED))


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What one model cost."""

    model: str
    totals: Totals


@dataclass(frozen=True, slots=True)
class DayCost:
    """What one day cost, and how much of it by model."""

    day: date
    totals: Totals
    by_model: dict[str, int]


@dataclass(frozen=True, slots=True)
class Summary:
    """The sums of one query: in all, by model (dearest first), by day (every day of the range, oldest first)."""

    totals: Totals
    models: list[ModelCost]
    days: list[DayCost]
    #: The same selection over as many days before; None where only the log could tell.
    previous: Totals | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of the log, newest first, and where the next page begins (None: this is the last one)."""

    rows: list[RequestLog]
    next_before: UUID | None


@dataclass(frozen=True, slots=True)
class Facets:
    """What occurs in a range of days, for the filters' choices."""

    models: list[str]
    endpoints: list[str]
    statuses: list[int]
    #: Ids and names, deleted keys included.
    keys: list[tuple[UUID, str]]


def summary(workspace_id: UUID, query: UsageQuery) -> Summary:
    """Sums for ``query``. Raises TimedOut where only the log can tell and the log is too long."""
    if query.fits_rollup:
        found = _sums_of_rollup(workspace_id, query)
        previous = _total_of_rollup(workspace_id, query.previous())
    else:
        found, previous = _sums_of_log(workspace_id, query), None
    return _summarise(query, found, previous)


def page(workspace_id: UUID, query: UsageQuery, rows: int) -> Page:
    """The newest rows for ``query`` below its cursor, at most ``rows`` (its own limit goes first). Raises TimedOut."""
    most = query.limit or rows
    narrow = _where_it_occurs(workspace_id, query)
    if narrow is None:
        return Page([], None)
    selected = _log(workspace_id, narrow)
    if query.before is not None:
        selected = selected.filter(id__lt=query.before)
    with _bounded():
        found = list(selected.defer(*_RECEIPT_FIELDS).order_by("-id")[: most + 1])
    return Page(found[:most], found[most - 1].id if len(found) > most else None)


def dearest(workspace_id: UUID, query: UsageQuery) -> list[RequestLog]:
    """The ten most expensive calls of ``query`` that cost anything. Raises TimedOut."""
    narrow = _where_it_occurs(workspace_id, query, charged_microcredits__gt=0)
    if narrow is None:
        return []
    selected = _log(workspace_id, narrow).filter(charged_microcredits__gt=0)
    with _bounded():
        return list(selected.defer(*_RECEIPT_FIELDS).order_by("-charged_microcredits")[:TOP_ROWS])


def call(workspace_id: UUID, row_id: UUID) -> RequestLog | None:
    """One row of this workspace's log, or None: another workspace's row is not there."""
    return RequestLog.objects.filter(workspace_id=workspace_id, id=row_id).first()


def logged_as(workspace_id: UUID, request_id: UUID) -> RequestLog | None:
    """The row of the call that was answered under ``request_id``: the late one where there is one. Raises TimedOut."""
    row = call(workspace_id, request_id)
    if row is not None and row.error_type != "interrupted":
        return row
    late = RequestLog.objects.filter(
        workspace_id=workspace_id,
        request_id=request_id,
        id__gt=request_id,
        id__lt=ids.first_at(ids.time_of(request_id) + LONGEST_CALL),
    )
    with _bounded():
        return late.first() or row


def facets(workspace_id: UUID, query: UsageQuery) -> Facets:
    """What occurs in the days of ``query``, whatever its other filters."""
    days = UsageQuery(days=query.days, today=query.today)
    found = list(_rollup(workspace_id, days).values_list("model", "endpoint", "status", "key_id").distinct())
    keys = ApiKey.objects.filter(workspace_id=workspace_id, id__in={row[3] for row in found}).order_by("name", "id")
    return Facets(
        models=sorted({row[0] for row in found}),
        endpoints=sorted({row[1] for row in found}),
        statuses=sorted({row[2] for row in found}),
        keys=list(keys.values_list("id", "name")),
    )


def has_any(workspace_id: UUID) -> bool:
    """Whether this workspace ever made a call."""
    return Rollup.objects.filter(workspace_id=workspace_id).exists()


@contextmanager
def stream(workspace_id: UUID, query: UsageQuery) -> Iterator[Iterator[Entry]]:
    """All rows for ``query``, newest first, through a cursor of the server: one snapshot, STREAM_ROWS in memory.

    To be opened, read and closed in one thread. A reader that stops reading loses it after STREAM_IDLE_SECONDS.
    """
    selected = _log(workspace_id, query).order_by("-id").values_list(*ENTRY_FIELDS, named=True)
    with transaction.atomic():
        _set_local("idle_in_transaction_session_timeout", STREAM_IDLE_SECONDS)
        rows = selected.iterator(chunk_size=STREAM_ROWS)
        try:
            yield rows
        finally:
            rows.close()  # type: ignore[attr-defined]  # a generator, which frees its cursor


def _where_it_occurs(workspace_id: UUID, query: UsageQuery, **wanted: Any) -> UsageQuery | None:
    """The same query over no more days than the rollup has something for; None where it has nothing.

    Spares the log a search through everything for a rare model or status.
    """
    if not (query.is_filtered and query.fits_rollup):
        return query
    found = _rollup(workspace_id, query).filter(**wanted).aggregate(first=Min("day"), last=Max("day"))
    if found["first"] is None:
        return None
    return replace(query, days=(found["last"] - found["first"]).days + 1, today=found["last"])


def _rollup(workspace_id: UUID, query: UsageQuery) -> QuerySet[Rollup]:
    return Rollup.objects.filter(
        _narrowed(query), workspace_id=workspace_id, day__gte=query.first_day, day__lte=query.today
    )


def _log(workspace_id: UUID, query: UsageQuery) -> QuerySet[RequestLog]:
    rows = RequestLog.objects.filter(
        _narrowed(query),
        workspace_id=workspace_id,
        id__gte=ids.first_at(query.start - LONGEST_CALL),
        id__lt=ids.first_at(query.end + CLOCK_DRIFT),
        billed_at__gte=query.start,
        billed_at__lt=query.end,
    )
    bounds = {
        "latency_ms__gte": query.min_latency_ms,
        "latency_ms__lte": query.max_latency_ms,
        "charged_microcredits__gte": query.min_cost_microcredits,
        "charged_microcredits__lte": query.max_cost_microcredits,
    }
    rows = rows.filter(**{name: value for name, value in bounds.items() if value is not None})
    return rows.filter(_worded(query.text)) if query.text else rows


def _narrowed(query: UsageQuery) -> Q:
    """The filters that log and rollup both know."""
    wanted = Q()
    if query.models:
        wanted &= Q(model__in=query.models)
    if query.endpoint:
        wanted &= Q(endpoint=query.endpoint)
    if query.key_id is not None:
        wanted &= Q(key_id=query.key_id)
    if query.status_range is not None:
        wanted &= Q(status__range=query.status_range)
    return wanted


def _worded(text: str) -> Q:
    digits = text.replace("-", "").lower()
    is_hex = len(digits) >= 8 and set(digits) <= set("0123456789abcdef")
    if is_hex and len(digits) == 32:
        # A late row has an id of its own, but never an older one than the call it belongs to.
        request_id = UUID(digits)
        return Q(request_id=request_id, id__gte=request_id)
    words = Q(model__icontains=text) | Q(key_name__icontains=text) | Q(provider__icontains=text)
    words |= Q(error_type__icontains=text) | Q(endpoint__icontains=text)
    words |= Q(endpoint__in=[kind for kind, path in endpoints.PATHS.items() if text.lower() in path])
    if len(text) == 3 and text.isascii() and text.isdigit():
        words |= Q(status=int(text))
    if is_hex and len(digits) < 32:
        words |= Q(request_id__range=(UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))))
    return words


def _sums_of_rollup(workspace_id: UUID, query: UsageQuery) -> Iterable[Any]:
    return _rollup(workspace_id, query).values("day", "model").annotate(**_rollup_sums()).order_by()


def _total_of_rollup(workspace_id: UUID, query: UsageQuery) -> Totals:
    found = _rollup(workspace_id, query).aggregate(**_rollup_sums())
    return Totals(**{name: found[f"sum_{name}"] or 0 for name in _SUMMED})


def _rollup_sums() -> dict[str, Any]:
    sums: dict[str, Any] = {f"sum_{name}": Sum(name) for name in _SUMMED if name != "errors"}
    return {**sums, "sum_errors": Sum("requests", filter=_ERROR)}


def _sums_of_log(workspace_id: UUID, query: UsageQuery) -> Iterable[Any]:
    sums: dict[str, Any] = {f"sum_{name}": Sum(name) for name in _SUMMED if name not in ("requests", "errors")}
    sums |= {"sum_requests": Count("id"), "sum_errors": Count("id", filter=_ERROR)}
    rows = _log(workspace_id, query).annotate(day=TruncDate("billed_at", tzinfo=UTC))
    with _bounded():
        return list(rows.values("day", "model").annotate(**sums).order_by())


def _summarise(query: UsageQuery, found: Iterable[Any], previous: Totals | None) -> Summary:
    by_day: dict[date, dict[str, int]] = {}
    day_totals: dict[date, Totals] = {}
    model_totals: dict[str, Totals] = {}
    for row in found:
        day, model = row["day"], row["model"]
        totals = Totals(**{name: row[f"sum_{name}"] or 0 for name in _SUMMED})
        day_totals[day] = day_totals.get(day, Totals()) + totals
        model_totals[model] = model_totals.get(model, Totals()) + totals
        by_day.setdefault(day, {})[model] = totals.charged_microcredits
    days = [query.first_day + timedelta(days=offset) for offset in range(query.days)]
    models = [ModelCost(model, totals) for model, totals in model_totals.items()]
    models.sort(key=lambda cost: (-cost.totals.charged_microcredits, -cost.totals.requests, cost.model))
    return Summary(
        totals=sum(day_totals.values(), Totals()),
        models=models,
        days=[DayCost(day, day_totals.get(day, Totals()), by_day.get(day, {})) for day in days],
        previous=previous,
    )


@contextmanager
def _bounded() -> Iterator[None]:
    try:
        with transaction.atomic():
            _set_local("statement_timeout", SCAN_SECONDS)
            yield
    except OperationalError as error:
        if not isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            raise
        raise errors.TimedOut(
            _("There are too many calls to search in time. Choose fewer days or narrower filters.")
        ) from None


def _set_local(setting: str, seconds: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config(%s, %s, true)", [setting, f"{seconds}s"])
