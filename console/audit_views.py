"""Who did what: the organization's trail for those who may read it, and everybody's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from console import organization_views
from core import errors, ids
from events import trail
from events.models import AuditEvent
from orgs.access import MemberRequest, requires
from orgs.permissions import Permission


@require_GET
@never_cache
@requires(Permission.AUDIT_READ)
@organization_views.of_organization
def organization(request: MemberRequest) -> HttpResponse:
    """The organization's trail."""
    rows = trail.of_workspace(request.access.workspace.pk)
    return _page(request, rows, "organization/audit.html", export=reverse("organization_audit_csv"))


@require_GET
@never_cache
@requires(Permission.AUDIT_READ)
@organization_views.of_organization
def organization_csv(request: MemberRequest) -> HttpResponse:
    """The same, filtered alike, as a download."""
    rows = trail.found(trail.of_workspace(request.access.workspace.pk), trail.Filters.of(request.GET.dict()))
    return trail.csv_response(rows)  # type: ignore[return-value]  # the doors hand any answer on


@require_GET
@never_cache
@requires(None, even_locked=True)
def account(request: MemberRequest) -> HttpResponse:
    """What happened to one's own account."""
    return _page(request, trail.of_person(request.access.user.pk), "console/activity.html")


@dataclass(frozen=True, slots=True)
class Row:
    """One event and its details as pairs of words."""

    event: AuditEvent
    details: list[tuple[str, str]]


def _page(request: MemberRequest, rows: QuerySet[AuditEvent], template: str, *, export: str = "") -> HttpResponse:
    context: dict[str, Any] = {"asked": request.GET, "actions": trail.actions(rows)}
    try:
        filters = trail.Filters.of(request.GET.dict())
    except errors.InvalidRequest as error:
        return render(request, template, {**context, "error": error}, status=400)
    before, after = (ids.parse(request.GET.get(name, "")) for name in ("before", "after"))
    shown = trail.page(trail.found(rows, filters), before=before, after=after)
    query = filters.as_query()
    return render(
        request,
        template,
        {
            **context,
            "filters": filters,
            "rows": [Row(event, details_of(event)) for event in shown.rows],
            "newer": f"?{urlencode({**query, 'after': shown.newer})}" if shown.newer else "",
            "older": f"?{urlencode({**query, 'before': shown.older})}" if shown.older else "",
            "export": f"{export}?{urlencode(query)}" if export else "",
        },
    )


def details_of(event: AuditEvent) -> list[tuple[str, str]]:
    """The details in reading form: a change as “from → to”, nothing empty."""
    return [
        (name.replace("_", " "), _readable(value)) for name, value in event.details.items() if value not in ("", None)
    ]


def _readable(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"from", "to"}:
        return f"{_readable(value['from'])} → {_readable(value['to'])}"
    if isinstance(value, list):
        return ", ".join(_readable(part) for part in value) or "–"
    return "–" if value in (None, "") else str(value).lower() if isinstance(value, bool) else str(value)
