"""How each provider's targets fare, for operators: the page and the same as JSON. Gateways report, this reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from ninja import Router

from catalog import live, target_health
from catalog.target_health import CLOSED, OPEN, Health, ProcessReport
from core import errors
from orgs import access
from orgs.access import Access, MemberRequest, requires

router = Router(tags=["Operators"])

LATELY, ALL, BY_PROCESS = "lately", "all", "processes"
_VIEWS: Final = (LATELY, ALL, BY_PROCESS)


@dataclass(frozen=True, slots=True)
class Row:
    """One target: how it fares, and which models have it in their chains."""

    health: Health
    models: tuple[str, ...]

    @property
    def in_trouble(self) -> bool:
        """Whether calls pass it over, or it failed lately."""
        return self.health.circuit != CLOSED or self.health.failures > 0

    @property
    def seen(self) -> bool:
        """Whether somebody called it lately, or nobody may."""
        return self.health.calls > 0 or self.in_trouble

    @property
    def tone(self) -> str:
        """The colour of its state."""
        if self.health.circuit != CLOSED:
            return "error" if self.health.circuit == OPEN else "warning"
        return "warning" if self.health.failures else "success" if self.health.calls else "neutral"

    @property
    def failed_at(self) -> datetime | None:
        """When it failed last."""
        return datetime.fromtimestamp(self.health.failed_at, UTC) if self.health.failed_at else None


def rows(reports: list[ProcessReport]) -> list[Row]:
    """Every target of the catalog and every reported one: trouble first, then the busiest."""
    models: dict[str, set[str]] = {}
    for entry in live.current().models.values():
        for target in entry.targets:
            models.setdefault(target.target.label, set()).add(entry.slug)
    known = target_health.merged(reports)
    found = [
        Row(known.get(name) or target_health.unreported(name), tuple(sorted(models.get(name, ()))))
        for name in {**models, **known}
    ]
    return sorted(found, key=_urgency)


def _urgency(row: Row) -> tuple[Any, ...]:
    health = row.health
    return health.circuit == CLOSED, -health.error_percent, -health.calls, health.target


@never_cache
@require_safe
@requires()
def targets(request: MemberRequest) -> HttpResponse:
    """``/status/targets``; htmx asks for it again every few seconds."""
    _operators_only(request.access)
    view = request.GET.get("view", LATELY)
    view = view if view in _VIEWS else LATELY
    reports = target_health.read(settings.REDIS_URL)
    found = rows(reports or [])
    texts = {LATELY: _("Called lately"), ALL: _("All"), BY_PROCESS: _("By process")}
    address = reverse("target_health")
    context = {
        "view": view,
        "views": [
            {"text": texts[each], "href": f"{address}?view={each}", "is_current": each == view} for each in _VIEWS
        ],
        "here": f"{address}?view={view}",
        "unreachable": reports is None,
        "reports": reports or [],
        "rows": [row for row in found if view == ALL or row.seen],
        "by_process": view == BY_PROCESS,
        "minutes": target_health.WINDOW_MINUTES,
        "left_out": sum(row.health.circuit != CLOSED for row in found),
        "failing": sum(row.in_trouble for row in found),
        "calls": sum(row.health.calls for row in found),
        "every_seconds": int(target_health.EVERY_SECONDS),
    }
    return render(request, "console/targets.html", context)


class _Operator(access.member):
    """Opens a management endpoint to operators of this installation."""

    def __call__(self, request: HttpRequest) -> Access:
        who = super().__call__(request)
        _operators_only(who)
        return who


@router.get("/status/targets", auth=_Operator(), response={200: None}, summary="Health of providers' targets")
def targets_json(request: HttpRequest) -> JsonResponse:
    """Each target as the gateways saw it in the last minutes. ``redis`` unreachable: nobody could report."""
    reports = target_health.read(settings.REDIS_URL)
    found = rows(reports or [])
    return JsonResponse(
        {
            "redis": "unreachable" if reports is None else "ok",
            "windowMinutes": target_health.WINDOW_MINUTES,
            "processes": [{"process": report.process, "reportedAt": _moment(report.at)} for report in reports or []],
            "targets": [{**_told(row.health), "models": row.models, "processes": _processes(row)} for row in found],
        }
    )


def _operators_only(who: Access) -> None:
    if not who.user.is_staff:
        raise errors.PermissionDenied(_("This is for operators of the installation."))


def _processes(row: Row) -> list[dict[str, Any]]:
    return [{"process": name, **dict(_facts(health))} for name, health in row.health.by_process]


def _told(health: Health) -> dict[str, Any]:
    place = {"provider": health.provider, "region": health.region or None, "upstreamModel": health.upstream_model}
    return {**place, **dict(_facts(health))}


def _facts(health: Health) -> Iterator[tuple[str, Any]]:
    yield "circuit", health.circuit
    yield "leftOutSeconds", health.open_seconds
    yield "calls", health.calls
    yield "failures", health.failures
    yield "errorPercent", round(health.error_percent, 2)
    yield "p50Ms", health.p50_ms
    yield "p95Ms", health.p95_ms
    yield "lastError", health.last_error or None
    yield "lastStatus", health.last_status
    yield "lastFailedAt", _moment(health.failed_at) if health.failed_at else None


def _moment(unix_seconds: float) -> str:
    moment = datetime.fromtimestamp(unix_seconds, UTC).replace(tzinfo=None)
    return f"{moment.isoformat(timespec='milliseconds')}Z"
