"""``/usage``: what calls cost, by day and model, and every one of them. All of it answers to one `UsageQuery`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_safe

from accounts.models import User
from core import errors, toasts
from core.templatetags.amounts import count_text, credits_text
from orgs.access import MemberRequest, requires
from orgs.permissions import Permission
from usage import charts, queries, receipts
from usage.filters import MOST_LATENCY_MS, MOST_TEXT, UsageQuery
from usage.models import RequestLog
from usage.queries import Facets, Summary
from usage.templatetags.usage_calls import duration_text, endpoint_path
from usage.tiles import tiles

#: Rows of the log that a page starts with, and that each "load more" adds.
ROWS: Final = 50
RANGES: Final = (1, 7, 30, 90)
#: What the first-call snippet asks for.
EXAMPLE_MODEL: Final = "gpt-5.5"
STATUS_CLASSES: Final = ("2xx", "4xx", "5xx")


@dataclass(frozen=True, slots=True)
class Chip:
    """One filter in force and the address of the page without it."""

    label: str
    value: str
    without: str


@require_safe
@requires(Permission.USAGE_READ)
def usage(request: MemberRequest) -> HttpResponse:
    """The whole page. htmx asks for it again with other filters and takes only the parts that change."""
    try:
        query = UsageQuery.parse(request.GET)
    except errors.InvalidRequest as error:
        return _page(request, UsageQuery.parse(QueryDict()), {"error": error})
    workspace_id = request.access.workspace.pk
    if not queries.has_any(workspace_id):
        return _page(request, query, {"is_new": True})
    try:
        context = _figures(queries.summary(workspace_id, query), query)
        context["top"] = queries.dearest(workspace_id, query)
        context |= _rows(queries.page(workspace_id, query, ROWS), query)
    except errors.TimedOut as error:
        context = {"error": error}
    return _page(request, query, context)


@require_safe
@requires(Permission.USAGE_READ)
def more_requests(request: MemberRequest) -> HttpResponse:
    """The rows that follow a cursor, for the end of the table."""
    query = UsageQuery.parse(request.GET)
    page = queries.page(request.access.workspace.pk, query, ROWS)
    return render(request, "usage/_rows.html", {**_rows(page, query), "is_more": True})


@require_safe
@requires(Permission.USAGE_READ)
def request_detail(request: MemberRequest, row_id: UUID) -> HttpResponse:
    """Everything the log knows of one call: a dialog for htmx, a page of its own otherwise."""
    row = queries.call(request.access.workspace.pk, row_id)
    if row is None:
        raise Http404
    context = {"row": row, "person": _person(row), "receipt": receipts.of_row(row)}
    template = "usage/_detail_dialog.html" if request.headers.get("HX-Request") else "usage/request.html"
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


def _page(request: MemberRequest, query: UsageQuery, context: dict[str, Any]) -> HttpResponse:
    workspace = request.access.workspace
    facets = queries.facets(workspace.pk, query)
    address = _address(query)
    context |= {
        "query": query,
        "workspace": workspace,
        "scope": _("all keys") if query.key_id is None else _key_name(query.key_id, facets),
        "ranges": [_range(query, days) for days in RANGES],
        "export": _with_query(reverse("api:export_usage"), query.but(limit=None).query_string()),
        "chips": _chips(query, facets),
        "without_filters": _address(UsageQuery(days=query.days, today=query.today)),
        "choices": _choices(query, facets),
        "given": request.GET,
        "base_url": f"{settings.SITE_URL}/api/v1",
        "example_model": EXAMPLE_MODEL,
        "most": {"text": MOST_TEXT, "latency_ms": MOST_LATENCY_MS},
    }
    is_htmx = bool(request.headers.get("HX-Request"))
    error = context.get("error")
    # htmx puts only successes into the page, and the words about what is wrong belong there.
    response = render(request, "usage/page.html", context, status=error.status if error and not is_htmx else 200)
    if is_htmx and not error:
        response["HX-Push-Url"] = address
        toasts.say(response, _heard(context), tone="")
    patch_vary_headers(response, ["HX-Request"])
    return response


def _heard(context: dict[str, Any]) -> str:
    """What a screen reader says once the figures have changed: a toast without a tone is not shown."""
    requests = context["summary"].totals.requests if "summary" in context else 0
    return ngettext("%(count)s request found", "%(count)s requests found", requests) % {"count": count_text(requests)}


def _figures(summary: Summary, query: UsageQuery) -> dict[str, Any]:
    shown = charts.series(summary)
    days = [cost.day for cost in summary.days]
    table = [(cost, [one.by_day[at] for one in shown]) for at, cost in enumerate(summary.days)]
    return {
        "summary": summary,
        "tiles": tiles(summary, query.days),
        "legend": [(one, _address(query.but(models=(one.label,))) if one.swatch else "") for one in shown],
        "daily_figure": charts.daily(days, shown),
        "donut_figure": charts.donut(shown),
        "daily_table": list(reversed(table)),
    }


def _rows(page: queries.Page, query: UsageQuery) -> dict[str, Any]:
    if page.next_before is None:
        return {"rows": page.rows, "more": "", "more_page": ""}
    following = query.but(before=page.next_before)
    more = _with_query(reverse("usage_requests"), following.query_string())
    return {"rows": page.rows, "more": more, "more_page": _address(following)}


def _range(query: UsageQuery, days: int) -> dict[str, Any]:
    text = _("Today") if days == 1 else _("%(days)d d") % {"days": days}
    return {"text": text, "href": _address(query.but(days=days)), "is_current": query.days == days}


def _chips(query: UsageQuery, facets: Facets) -> list[Chip]:
    """The filters in force, each with a way to take it off."""
    found = [
        Chip(_("Model"), model, _address(query.but(models=tuple(name for name in query.models if name != model))))
        for model in query.models
    ]
    if query.endpoint:
        found.append(Chip(_("Endpoint"), endpoint_path(query.endpoint), _address(query.but(endpoint=""))))
    if query.status:
        found.append(Chip(_("Status"), query.status, _address(query.but(status=""))))
    if query.key_id is not None:
        found.append(Chip(_("Key"), _key_name(query.key_id, facets), _address(query.but(key_id=None))))
    if latency := _bounds(query.min_latency_ms, query.max_latency_ms, duration_text):
        without = _address(query.but(min_latency_ms=None, max_latency_ms=None))
        found.append(Chip(_("Latency"), latency, without))
    if cost := _bounds(query.min_cost_microcredits, query.max_cost_microcredits, credits_text):
        without = _address(query.but(min_cost_microcredits=None, max_cost_microcredits=None))
        found.append(Chip(_("Credits"), cost, without))
    if query.text:
        found.append(Chip(_("Text"), query.text, _address(query.but(text=""))))
    return found


def _key_name(key_id: UUID, facets: Facets) -> str:
    return dict(facets.keys).get(key_id, str(key_id))


def _bounds(least: int | None, most: int | None, worded: Any) -> str:
    if least is None and most is None:
        return ""
    if most is None:
        return f"≥ {worded(least)}"
    return f"≤ {worded(most)}" if least is None else f"{worded(least)} – {worded(most)}"


def _choices(query: UsageQuery, facets: Facets) -> dict[str, Any]:
    """What the filter form offers: what occurs in these days, and what is chosen already."""
    keys = [(str(key_id), name) for key_id, name in facets.keys]
    if query.key_id is not None and str(query.key_id) not in dict(keys):
        keys.append((str(query.key_id), str(query.key_id)))
    statuses = {str(status) for status in facets.statuses} | ({query.status} if query.status else set())
    return {
        "models": sorted({*facets.models, *query.models}),
        "endpoints": sorted({*facets.endpoints, *([query.endpoint] if query.endpoint else [])}),
        "statuses": [*STATUS_CLASSES, *sorted(statuses - {*STATUS_CLASSES})],
        "keys": keys,
        "key": str(query.key_id or ""),
    }


def _person(row: RequestLog) -> str:
    if row.user_id is None:
        return ""
    user = User.objects.filter(pk=row.user_id).first()
    return user.email if user else ""


def _address(query: UsageQuery) -> str:
    return _with_query(reverse("usage"), query.query_string())


def _with_query(path: str, query_string: str) -> str:
    return f"{path}?{query_string}" if query_string else path
