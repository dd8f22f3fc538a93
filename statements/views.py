"""``/billing/statements``: each month of a workspace as a page, as CSV and as PDF; and who they are made out to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from billing import links
from billing.models import TopUp
from core import clock, errors, stale_forms
from events import audit
from orgs import access
from orgs.access import MemberRequest, requires
from orgs.permissions import Permission
from statements import composing, csv_file, profiles, wording
from statements.composing import Statement
from statements.forms import ProfileForm
from statements.months import Month
from usage import export, queries

#: Months that the list shows; older ones have addresses all the same.
MOST_LISTED: Final = 60


@dataclass(frozen=True, slots=True)
class Listed:
    month: Month
    used_microcredits: int
    is_current: bool


@require_safe
@never_cache
@requires(Permission.BILLING_READ)
def overview(request: MemberRequest) -> HttpResponse:
    """Every month since the workspace exists, newest first."""
    workspace = request.access.workspace
    current = Month.of(clock.now())
    spent = composing.spent_by_month(workspace.pk)
    first, month, listed = composing.first_month(workspace.pk), current, list[Listed]()
    while month >= first and len(listed) < MOST_LISTED:
        listed.append(Listed(month, spent.get(month, 0), month == current))
        month = month.previous
    context = {"months": listed, "profile": profiles.newest(workspace.pk), "may_write": _may_write(request)}
    return render(request, "statements/overview.html", context)


@require_safe
@never_cache
@requires(Permission.BILLING_READ)
def statement(request: MemberRequest, month: str) -> HttpResponse:
    """One month."""
    workspace, made = request.access.workspace, _made(request, month)
    topups = [movement.reference for movement in made.movements if movement.key.startswith("topup")]
    receipts = {topup.pk: links.receipt(topup) for topup in TopUp.objects.filter(pk__in=topups)}
    context: dict[str, Any] = {
        "statement": made,
        "workspace": workspace,
        "profile": profiles.at(workspace.pk, made.month.end),
        "flows": wording.headed(made.flows),
        "movements": [(words, each, receipts.get(each.reference)) for words, each in wording.described(made.movements)],
        "newer": str(made.month.next) if made.month < Month.of(clock.now()) else "",
        "older": str(made.month.previous) if made.month > composing.first_month(workspace.pk) else "",
        "may_write": _may_write(request),
    }
    return render(request, "statements/statement.html", context)


@require_safe
@never_cache
@requires(Permission.BILLING_READ)
def statement_csv(request: MemberRequest, month: str) -> HttpResponse:
    """One month as CSV."""
    made = _made(request, month)
    return _file("".join(csv_file.lines(made)).encode(), "text/csv; charset=utf-8", f"statement-{made.number}.csv")


@require_safe
@never_cache
@requires(Permission.BILLING_READ)
def statement_pdf(request: MemberRequest, month: str) -> HttpResponse:
    """One month as PDF."""
    from statements import pdf  # takes half a second to load, and is seldom asked for

    workspace, made = request.access.workspace, _made(request, month)
    profile = profiles.at(workspace.pk, made.month.end)
    return _file(pdf.render(made, workspace, profile), "application/pdf", f"statement-{made.number}.pdf")


@require_safe
@requires(Permission.BILLING_READ)
def calls_csv(request: MemberRequest, month: str) -> HttpResponse:
    """Every call of one month as CSV, in the columns of the usage export, sent while it is read."""
    wanted, workspace = _month(request, month), request.access.workspace
    answer: Any = export.response(queries.stream(workspace.pk, wanted.query), wanted.last_day)
    answer["Content-Disposition"] = f'attachment; filename="hypereal-calls-{wanted}.csv"'
    return answer  # type: ignore[no-any-return]  # a streaming one, which Django's types keep apart


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@requires(Permission.BILLING_READ)
def profile(request: MemberRequest) -> HttpResponse:
    """Who statements are made out to. Everybody who sees payments sees it, who may pay may change it."""
    workspace = request.access.workspace
    if request.method != "POST":
        return _profile_page(request, ProfileForm.of(profiles.newest(workspace.pk)))
    request.access.require(Permission.BILLING_WRITE)
    with transaction.atomic():
        form = ProfileForm.of(profiles.locked(workspace), request.POST)
        if form.is_outdated():
            stale_forms.refuse(request)
            return HttpResponseRedirect(reverse("statements:profile"))
        try:
            if form.is_valid():
                profiles.change(workspace, actor=audit.actor_of(request), **form.cleaned_data)
                messages.success(request, _("Saved."))
                return HttpResponseRedirect(reverse("statements:profile"))
        except errors.InvalidRequest as error:
            form.add_error(error.param, error.message)
    return _profile_page(request, form, status=422)


def _profile_page(request: MemberRequest, form: ProfileForm, status: int = 200) -> HttpResponse:
    context = {"form": form, "may_write": _may_write(request), "profile": profiles.newest(request.access.workspace.pk)}
    return render(request, "statements/profile.html", context, status=status)


def _may_write(request: MemberRequest) -> bool:
    return Permission.BILLING_WRITE in request.access.permissions


def _month(request: MemberRequest, text: str) -> Month:
    """The month of an address: one in which the workspace existed. Others are not there."""
    month = Month.parse(text)
    if month is None or month > Month.of(clock.now()) or month < composing.first_month(request.access.workspace.pk):
        access.not_found()
    return month


def _made(request: MemberRequest, month: str) -> Statement:
    return composing.compose(request.access.workspace.pk, _month(request, month))


def _file(content: bytes, content_type: str, name: str) -> HttpResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(content, content_type=content_type, headers=headers)
