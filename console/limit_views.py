"""``/billing/limits``: what an organization and its members may spend in a month, and when to warn of a low balance."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts import reauth
from console.limit_forms import LimitsForm
from events import audit
from limits import setting
from limits.models import LowBalance
from orgs.access import MemberRequest, requires
from orgs.models import Membership, Workspace
from orgs.permissions import Permission


@require_http_methods(["GET", "POST"])
@never_cache
def limits(request: HttpRequest) -> HttpResponse:
    """The limits as they are and what is used of them; a POST sets them."""
    return save(request) if request.method == "POST" else show(request)


@requires(Permission.BILLING_READ)
def show(request: MemberRequest) -> HttpResponse:
    """What is set and used."""
    workspace = request.access.workspace
    low = LowBalance.objects.filter(pk=workspace.pk).values_list("below_microcredits", flat=True).first()
    uses = setting.uses(workspace)
    form = LimitsForm.shown(_members(workspace), uses, workspace.pk, low, organization=_is_organization(workspace))
    return _page(request, form, uses)


@requires(Permission.BILLING_WRITE)
def save(request: MemberRequest) -> HttpResponse:
    """Set all that were changed at once, or none where one is not an amount."""
    workspace, actor = request.access.workspace, audit.actor_of(request)
    form = LimitsForm(request.POST, members=_members(workspace), organization=_is_organization(workspace))
    if not form.is_valid():
        return _page(request, form, setting.uses(workspace), status=422)
    reauth.ask(request)
    with transaction.atomic():
        if _is_organization(workspace) and form.is_touched("workspace"):
            setting.set_workspace(workspace, form.cleaned_data["workspace"], actor=actor)
        for name, row in form.members.items():
            if form.is_touched(name):
                setting.set_member(row, form.cleaned_data[name], actor=actor)
        if form.is_touched("low_balance"):
            setting.set_low_balance(workspace, form.cleaned_data["low_balance"], actor=actor)
    messages.success(request, _("Saved."))
    return HttpResponseRedirect(reverse("limits"))


def _page(
    request: MemberRequest, form: LimitsForm, uses: Mapping[UUID, setting.Use], *, status: int = 200
) -> HttpResponse:
    workspace = request.access.workspace
    context = {
        "form": form,
        "is_organization": _is_organization(workspace),
        "use": uses[workspace.pk],
        "rows": [(row, uses[row.pk], form[name]) for name, row in form.members.items()],
        "may_write": Permission.BILLING_WRITE in request.access.permissions,
    }
    return render(request, "limits/page.html", context, status=status)


def _is_organization(workspace: Workspace) -> bool:
    return workspace.kind == Workspace.Kind.ORGANIZATION


def _members(workspace: Workspace) -> list[Membership]:
    if not _is_organization(workspace):
        return []
    return list(workspace.memberships.select_related("user").order_by("created_at", "id"))
