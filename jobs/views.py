"""``/jobs``: what runs, how far it is, what came of it; and the way to stop it."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from core import errors, ids, toasts
from events import audit
from jobs import cancelling, serving, showing
from jobs.models import Job
from orgs.access import MemberRequest, requires
from orgs.permissions import Permission

#: Jobs on one page.
ROWS: Final = 20
_TOAST_TONES: Final = {"success": "success", "error": "error", "warning": "warning"}
_FILTERS: Final = ("kind", "state", "model")


@require_safe
@requires(Permission.USAGE_READ)
def jobs(request: MemberRequest) -> HttpResponse:
    """The newest jobs that match. Rows of open ones ask for themselves again until they have ended."""
    workspace_id = request.access.workspace.pk
    given = {name: value for name in _FILTERS if (value := request.GET.get(name, ""))}
    before = ids.parse(request.GET.get("before", ""))
    error = None
    try:
        rows = list(serving.filtered(workspace_id, before=before, **given)[: ROWS + 1])
    except errors.InvalidRequest as refused:
        rows, error = [], refused
    context: dict[str, Any] = {
        "shown": [showing.of(job) for job in rows[:ROWS]],
        "given": given,
        "error": error,
        "is_new": not rows and not given and before is None,
        "states": Job.State.choices,
        "kinds": _values(workspace_id, "kind"),
        "models": _values(workspace_id, "model"),
        "first": _address(given) if before is not None else "",
        "older": _address(given | {"before": str(rows[ROWS - 1].pk)}) if len(rows) > ROWS else "",
        **_rights(request),
    }
    response = render(request, "jobs/page.html", context, status=error.status if error else 200)
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_safe
@requires(Permission.USAGE_READ)
def job(request: MemberRequest, job_id: UUID) -> HttpResponse:
    """One job: how it goes or ended, its money, its attempts, its results."""
    one = showing.of(_found(request, job_id))
    response = render(request, "jobs/job.html", {"one": one, **_rights(request)})
    if request.headers.get("HX-Request") and not one.is_open:  # the last time that a page asks: its end is said aloud
        toasts.say(response, one.label, tone=_TOAST_TONES.get(one.tone, "info"))
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_safe
@requires(Permission.USAGE_READ)
def row(request: MemberRequest, job_id: UUID) -> HttpResponse:
    """One row of the list, for a page that watches it."""
    return render(request, "jobs/_row.html", {"one": showing.of(_found(request, job_id)), **_rights(request)})


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.JOBS_WRITE)
def cancel(request: MemberRequest, job_id: UUID) -> HttpResponse:
    """Asks, then cancels. Twice is once; a job that has ended meanwhile stays as it ended."""
    found = _found(request, job_id)
    if request.method != "POST":
        return render(request, "jobs/cancel.html", {"one": showing.of(found)})
    _tell(request, cancelling.by_person(found, audit.actor_of(request)))
    return _to(found)


def _tell(request: MemberRequest, job: Job) -> None:
    if job.state == Job.State.CANCELLED:
        messages.success(request, _("The job is cancelled."))
    elif job.is_final:
        messages.info(request, _("The job had already ended."))
    else:
        messages.success(request, _("The provider is being asked to stop."))


def _to(job: Job) -> HttpResponseRedirect:
    return redirect("job", job_id=job.pk)


def _found(request: MemberRequest, job_id: UUID) -> Job:
    job = Job.objects.filter(pk=job_id, workspace_id=request.access.workspace.pk).first()
    if job is None:
        raise Http404
    return job


def _rights(request: MemberRequest) -> dict[str, Any]:
    return {"may_cancel": Permission.JOBS_WRITE in request.access.permissions}


def _values(workspace_id: UUID, column: str) -> list[str]:
    """What the workspace's newest jobs have in that column: choices for a filter."""
    newest = Job.objects.filter(workspace_id=workspace_id).order_by("-id")[:1_000]
    return sorted(set(newest.values_list(column, flat=True)))


def _address(given: dict[str, str]) -> str:
    return f"{reverse('jobs')}?{urlencode(given)}" if given else reverse("jobs")
