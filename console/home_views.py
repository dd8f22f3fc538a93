"""The front door: what Hypereal is for strangers, how things stand for members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from billing.models import CreditLot, Wallet
from console import snippets
from core import clock
from keys import lookup
from orgs import access
from orgs.access import Access, MemberRequest, requires
from usage import queries
from usage.filters import UsageQuery

_RECENT_CALLS = 5
_RECENT_DAYS = 90


@require_GET
@never_cache
def home(request: HttpRequest) -> HttpResponse:
    """Landing page for strangers, overview for members."""
    if request.user.is_authenticated:
        return overview(request)
    return render(request, "console/landing.html", {"base_url": snippets.base_url()})


@requires()
def overview(request: MemberRequest) -> HttpResponse:
    """Balance, this month, the last calls, and what is left to do before the first one."""
    return render(request, "console/overview.html", _figures(request.access))


@require_POST
@requires(None, even_locked=True)
def switch_workspace(request: MemberRequest) -> HttpResponse:
    """Work in another of one's workspaces from now on, and go back to where one was."""
    access.switch(request, request.POST.get("workspace", ""))
    target = request.POST.get("next", "/")
    safe = url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
    return HttpResponseRedirect(target if safe else "/")


@dataclass(frozen=True, slots=True)
class Steps:
    """The way to the first call, and how far this workspace has come."""

    topped_up: bool
    has_key: bool
    has_called: bool

    @property
    def done(self) -> int:
        return sum((self.topped_up, self.has_key, self.has_called))


def _figures(member: Access) -> dict[str, Any]:
    workspace_id = member.workspace.pk
    today = clock.now().date()
    keys = lookup.of_workspace(member)
    month = queries.summary(workspace_id, UsageQuery(days=today.day, today=today)).totals
    recent = queries.page(workspace_id, UsageQuery(days=_RECENT_DAYS, today=today), _RECENT_CALLS)
    steps = Steps(
        topped_up=CreditLot.objects.filter(wallet_id=workspace_id).exists(),
        has_key=keys.exists(),
        has_called=queries.has_any(workspace_id),
    )
    return {
        "wallet": Wallet.objects.get(pk=workspace_id),
        "month": month,
        "active_keys": keys.filter(enabled=True).exclude(expires_at__lte=clock.now()).count(),
        "recent": recent.rows,
        "steps": steps,
        "base_url": snippets.base_url(),
        "curl": snippets.snippets()[0],
    }
