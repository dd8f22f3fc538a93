"""``/infra``: deployments of the workspace, how they are, what they cost; and ``/gpu-recommend``, the hosted models."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_safe

from catalog import endpoints
from core import clock, errors, ids, stale_forms
from events import audit
from infra import deployments, engine, forms, hosted, rates, warm
from infra.models import Deployment
from jobs import showing
from jobs.models import Job
from orgs import access
from orgs.access import MemberRequest, requires
from orgs.permissions import Permission
from upstreams.errors import UpstreamError
from usage.models import RequestLog

State = Deployment.State

TONES: Final = {
    State.CREATING: "info",
    State.READY: "success",
    State.SCALING: "info",
    State.FAILED: "error",
    State.DELETED: "neutral",
}
#: Runs that a deployment's page lists.
LISTED: Final = 10
LOG_LINES: Final = 40


@require_GET
@never_cache
@requires(Permission.USAGE_READ)
def overview(request: MemberRequest) -> HttpResponse:
    """What runs here, what it cost this month, what seconds cost."""
    rows = deployments.of_workspace(request.access.workspace.pk)
    context = {
        "rows": [_shown(row) for row in rows[:5]],
        "count": len(rows),
        "ready": sum(row.state == State.READY for row in rows),
        "workers": sum(_living(row) for row in rows),
        "spent_microcredits": _spent(request.access.workspace.pk),
        "prices": rates.table(),
        **_rights(request),
    }
    return render(request, "infra/overview.html", context)


@require_GET
@never_cache
@requires(Permission.USAGE_READ)
def listing(request: MemberRequest) -> HttpResponse:
    """Every deployment of the workspace."""
    rows = [_shown(row) for row in deployments.of_workspace(request.access.workspace.pk)]
    return render(request, "infra/deployments.html", {"rows": rows, **_rights(request)})


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.GPU_WRITE)
def new(request: MemberRequest) -> HttpResponse:
    """Three steps: image, hardware, settings and secrets. What was filled in travels along in the form."""
    like = _like(request)
    if request.method == "GET":
        return _step(request, 0, forms.ImageForm(initial=forms.fresh(0, like)), {})
    at = _step_number(request)
    kept: dict[str, Any] = {}
    for number in range(at + 1):
        form = forms.STEPS[number](request.POST)
        if not form.is_valid():
            return _step(request, number, form, _raw(request, number), status=422)
        kept |= form.cleaned_data
    if request.POST.get("back"):
        return _step(request, at - 1, forms.STEPS[at - 1](initial=kept), _raw(request, at - 1))
    if at + 1 < len(forms.STEPS):
        following = forms.STEPS[at + 1](initial=forms.fresh(at + 1, like))
        return _step(request, at + 1, following, _raw(request, at + 1), kept=kept)
    return _create(request, kept)


@require_GET
@never_cache
@requires(Permission.USAGE_READ)
def detail(request: MemberRequest, deployment_id: UUID) -> HttpResponse:
    """One deployment: how it is, its runs, logs, cost, and how it is called."""
    row = _found(request, deployment_id)
    context = {**_of_one(row), **_runs(row), **_rights(request), "logs": _logs(row) if _may_write(request) else None}
    return render(request, "infra/deployment.html", context)


@require_GET
@never_cache
@requires(Permission.USAGE_READ)
def state(request: MemberRequest, deployment_id: UUID) -> HttpResponse:
    """The part of the page that changes by itself, for a page that watches it."""
    row = _found(request, deployment_id)
    return render(request, "infra/_state.html", {**_of_one(row), **_rights(request)})


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.GPU_WRITE)
def edit(request: MemberRequest, deployment_id: UUID) -> HttpResponse:
    """Change what is wanted; the engine follows."""
    row = _found(request, deployment_id)
    if request.method == "GET":
        return render(request, "infra/edit.html", {"form": forms.EditForm(row=row), "row": row})
    form = forms.EditForm(request.POST, row=row)
    form.full_clean()  # looks a name up: the row is not held for that
    with transaction.atomic():
        if form.is_outdated_by(forms.EditForm(row=deployments.locked(row))):
            stale_forms.refuse(request)
            return HttpResponseRedirect(request.path)
        try:
            if form.is_valid():
                deployments.change(row, form.changes(), actor=audit.actor_of(request))
                messages.success(request, _("Saved. The engine takes it over now."))
                return HttpResponseRedirect(reverse("infra:deployment", args=[row.pk]))
        except errors.ProductError as error:
            form.add_error(None, error.message)
    return render(request, "infra/edit.html", {"form": form, "row": row}, status=422)


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.GPU_WRITE)
def delete(request: MemberRequest, deployment_id: UUID) -> HttpResponse:
    """Asks, then deletes."""
    row = _found(request, deployment_id)
    if request.method == "POST":
        deployments.delete(row, actor=audit.actor_of(request))
        messages.success(request, _("“%(name)s” is deleted.") % {"name": row.name})
        return HttpResponseRedirect(reverse("infra:deployments"))
    return render(request, "infra/delete.html", {"row": row, "open": len(deployments.open_runs(row))})


@require_safe
def recommend(request: HttpRequest) -> HttpResponse:
    """Hosted models with price, limits and an example; anybody may read it."""
    context = {
        "models": hosted.models(),
        "site": settings.SITE_URL,
        "local": engine.chosen() == engine.LOCAL,
        "may_try": bool(engine.chosen()) and _may_spend(request),
    }
    return render(request, "infra/recommend.html", context)


# ── The three steps ──────────────────────────────────────────────────────────────────────────────────────────────────
def _step(
    request: MemberRequest,
    number: int,
    form: Any,
    carried: dict[str, list[str]],
    *,
    kept: dict[str, Any] | None = None,
    status: int = 200,
) -> HttpResponse:
    """One step's form; ``carried`` are the fields of the steps before it."""
    gpu_types = (kept or {}).get("gpu_types") or carried.get("gpu_types") or []
    tariff = rates.of_runs(gpu_types) if gpu_types else None
    workers = int(((kept or {}).get("min_workers") or (carried.get("min_workers") or ["0"])[0]) or 0)
    context = {
        "form": form,
        "number": number,
        "steps": [_("Image"), _("Hardware"), _("Settings and secrets")],
        "carried": [(name, value) for name, values in carried.items() for value in values],
        "prices": rates.table(),
        "tariff": tariff,
        "warm": rates.of_warm(gpu_types) if gpu_types and workers else None,
        "workers": workers,
        "is_local": engine.chosen() == engine.LOCAL,
        "has_engine": bool(engine.chosen()),
    }
    return render(request, "infra/new.html", context, status=status)


def _create(request: MemberRequest, data: dict[str, Any]) -> HttpResponse:
    try:
        row = deployments.create(
            request.access.workspace,
            forms.terms(data),
            actor=audit.actor_of(request),
            created_by_id=request.user.pk,
            form_token=data["form_token"],
        )
    except errors.ProductError as error:
        form = forms.ImageForm(request.POST) if error.param == "slug" else forms.SettingsForm(request.POST)
        number = 0 if error.param == "slug" else 2
        form.is_valid()
        form.add_error("slug" if error.param == "slug" else None, error.message)
        return _step(request, number, form, _raw(request, number), status=error.status)
    return HttpResponseRedirect(reverse("infra:deployment", args=[row.pk]))


def _raw(request: MemberRequest, before: int) -> dict[str, list[str]]:
    """What was sent for the steps before ``before``, to be sent again."""
    posted: QueryDict = request.POST
    names = [name for form in forms.STEPS[:before] for name in form.base_fields]
    return {name: [str(value) for value in posted.getlist(name)] for name in names}


def _step_number(request: MemberRequest) -> int:
    text = request.POST.get("step", "0")
    return min(int(text), len(forms.STEPS) - 1) if text.isascii() and text.isdigit() and len(text) < 3 else 0


def _like(request: MemberRequest) -> Deployment | None:
    identifier = ids.parse(request.GET.get("like", ""))
    if identifier is None:
        return None
    return Deployment.objects.filter(workspace=request.access.workspace, pk=identifier).first()


# ── What pages show ──────────────────────────────────────────────────────────────────────────────────────────────────
def _found(request: MemberRequest, deployment_id: UUID) -> Deployment:
    rows = Deployment.objects.filter(workspace=request.access.workspace, pk=deployment_id)
    row = rows.exclude(state=State.DELETED).first()
    return row if row is not None else access.not_found()


def _shown(row: Deployment) -> dict[str, Any]:
    return {
        "row": row,
        "label": State(row.state).label,
        "tone": TONES[State(row.state)],
        "moves": row.state in (State.CREATING, State.SCALING),
        "workers": _living(row),
        "tariff": _tariff(row),
    }


def _of_one(row: Deployment) -> dict[str, Any]:
    kept = rates.of_warm(row.gpu_types) if row.min_workers and _tariff(row) else None
    jobs = row.health.get("jobs", {})
    return {
        **_shown(row),
        "waiting_running": f"{jobs.get('inQueue', 0)} · {jobs.get('inProgress', 0)}",
        "warm": kept,
        "warm_hour": kept.charge(3_600_000) * row.min_workers if kept is not None else 0,
        "month_microcredits": _spent(row.workspace_id, model=row.slug),
        "site": settings.SITE_URL,
    }


def _runs(row: Deployment) -> dict[str, Any]:
    # Not by their input, which is forgotten: a slug means one deployment at a time.
    runs = Job.objects.filter(workspace_id=row.workspace_id, kind=deployments.RUN_KIND, model=row.slug)
    found = runs.filter(created_at__gte=row.created_at).order_by("-pk")[:LISTED]
    return {"runs": [showing.of(job) for job in found]}


def _logs(row: Deployment) -> list[str] | None:
    """What the engine offers, None where it offers nothing."""
    if not row.endpoint_id:
        return None
    try:
        lines = engine.by_name(row.engine).logs(row.endpoint_id)
    except UpstreamError:
        return None
    return None if lines is None else lines[-LOG_LINES:]


def _tariff(row: Deployment) -> rates.Tariff | None:
    try:
        return rates.of_runs(row.gpu_types)
    except errors.Overloaded:
        return None


def _living(row: Deployment) -> int:
    workers = row.health.get("workers", {})
    return sum(int(workers.get(name, 0)) for name in ("idle", "running", "initializing"))


def _spent(workspace_id: UUID, model: str = "") -> int:
    """Microcredits of the last thirty days on GPUs, on workers that were kept warm too."""
    since = clock.now() - timedelta(days=30)
    rows = RequestLog.objects.filter(workspace_id=workspace_id, billed_at__gte=since)
    rows = rows.filter(endpoint__in=(endpoints.GPU_RUN, endpoints.GPU, warm.KIND))
    if model:
        rows = rows.filter(endpoint__in=(endpoints.GPU_RUN, warm.KIND), model=model)
    return int(rows.aggregate(total=Sum("charged_microcredits"))["total"] or 0)


def _may_spend(request: HttpRequest) -> bool:
    """Whether a model may be tried: by members who may make keys. Strangers are asked to sign in first."""
    if not request.user.is_authenticated:
        return True
    try:
        return Permission.KEYS_WRITE in access.current(request).permissions
    except errors.PermissionDenied:
        return False


def _may_write(request: MemberRequest) -> bool:
    return Permission.GPU_WRITE in request.access.permissions


def _rights(request: MemberRequest) -> dict[str, bool]:
    return {"may_write": _may_write(request), "may_cancel": Permission.JOBS_WRITE in request.access.permissions}
