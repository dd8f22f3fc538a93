"""``/billing``: what is there, how to add to it, what was added; and the door for Stripe's webhooks."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from billing import customers, history, links, stripe_api, stripe_events, stripe_keys, topups, wording
from billing.forms import AMOUNTS_CENTS, TopUpForm
from billing.models import AutoTopUp, CreditLot, Reversal, TopUp, Wallet
from core import errors, ids, money
from core.views import error_json
from events import audit
from orgs import access
from orgs.access import MemberRequest, requires
from orgs.models import Workspace
from orgs.permissions import Permission

P = ParamSpec("P")
Page = Callable[Concatenate[MemberRequest, P], HttpResponse]

#: The return page asks again this often while a payment is under way; then the mail has to tell.
MOST_POLLS: Final = 20
#: Lots that are named with their end.
MOST_EXPIRING: Final = 10
_FORM_ID: Final = "topup-%s"


class SeeOther(HttpResponseRedirect):
    """Go and GET that, whatever this request was."""

    status_code = 303


def may_leave_for() -> Callable[[Page[P]], Page[P]]:
    """Browsers hold the redirect behind a form against form-action: where the pay page is not Stripe's, allow that."""

    def decorate(view: Page[P]) -> Page[P]:
        @functools.wraps(view)
        def wrapped(request: MemberRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            response = view(request, *args, **kwargs)
            if origin := stripe_keys.own_origin():
                response._csp_update = {"form-action": [origin]}  # type: ignore[attr-defined]  # read by django-csp
            return response

        return wrapped

    return decorate


# ── Balance and history ──────────────────────────────────────────────────────────────────────────────────────────────
@require_GET
@never_cache
@requires(Permission.BILLING_READ)
@may_leave_for()
def overview(request: MemberRequest) -> HttpResponse:
    """Balance, what it is made of, the form to top up, and what was topped up before."""
    return _overview(request, TopUpForm.empty())


def _overview(request: MemberRequest, form: TopUpForm, *, problem: str = "", status: int = 200) -> HttpResponse:
    workspace = request.access.workspace
    form.auto_id = _FORM_ID
    shown = history.page(
        workspace, before=ids.parse(request.GET.get("before", "")), after=ids.parse(request.GET.get("after", ""))
    )
    context = {
        "wallet": Wallet.objects.get(pk=workspace.pk),
        "lots": _lots(workspace),
        "expiring": _expiring(workspace),
        "rule": AutoTopUp.objects.filter(pk=workspace.pk).first(),
        "customer": customers.of(workspace.pk),
        "form": form,
        "choices": [(cents, f"${cents // 100}", money.from_cents(cents)) for cents in AMOUNTS_CENTS],
        "least_microcredits": money.from_cents(settings.TOPUP_LEAST_CENTS),
        "most_microcredits": money.from_cents(settings.TOPUP_MOST_CENTS),
        "may_pay": Permission.BILLING_WRITE in request.access.permissions,
        "can_pay": stripe_keys.is_configured(),
        "problem": problem,
        "rows": [(topup, links.receipt(topup)) for topup in shown.rows],
        "newer": f"?after={shown.newer}" if shown.newer else "",
        "older": f"?before={shown.older}" if shown.older else "",
        "paging": bool(request.GET),
    }
    return render(request, "billing/overview.html", context, status=status)


def _lots(workspace: Workspace) -> list[dict[str, Any]]:
    """What is left by kind of credit, only kinds that are there."""
    lots = CreditLot.objects.filter(wallet_id=workspace.pk, remaining_microcredits__gt=0)
    sums = dict(lots.values_list("kind").annotate(Sum("remaining_microcredits")).order_by())
    return [{"kind": kind, "microcredits": sums[kind]} for kind in CreditLot.Kind if kind in sums]


def _expiring(workspace: Workspace) -> QuerySet[CreditLot]:
    """Lots with an end, the next one first."""
    lots = CreditLot.objects.filter(wallet_id=workspace.pk, remaining_microcredits__gt=0, expires_at__isnull=False)
    return lots.order_by("expires_at", "pk")[:MOST_EXPIRING]


@require_GET
@never_cache
@requires(Permission.BILLING_READ)
def export(request: MemberRequest) -> HttpResponse:
    """The history as CSV: of real payments, or with ``?mode=demo`` of the demo's. Never both."""
    asked = request.GET.get("mode", "demo" if settings.DEMO_PAYMENTS else "live")
    if asked not in ("demo", "live"):
        raise errors.InvalidRequest(_("The mode is demo or live."), param="mode")
    lines = "".join(history.csv_lines(request.access.workspace, demo=asked == "demo"))
    name = "hypereal-topups-demo.csv" if asked == "demo" else "hypereal-topups.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(lines, content_type="text/csv; charset=utf-8", headers=headers)


# ── Topping up ───────────────────────────────────────────────────────────────────────────────────────────────────────
@require_POST
@never_cache
@requires(Permission.BILLING_WRITE)
@may_leave_for()
def start(request: MemberRequest) -> HttpResponse:
    """From the form to the pay page."""
    form = TopUpForm(request.POST)
    if not form.is_valid():
        return _overview(request, form, status=422)
    try:
        topup = topups.start(
            request.access.workspace,
            actor=audit.actor_of(request),
            amount_cents=form.cleaned_data["amount_cents"],
            form_token=form.cleaned_data["token"],
            saves_card=form.cleaned_data["save_card"],
        )
    except (stripe_api.StripeFailed, errors.RateLimited) as error:
        if isinstance(error, stripe_api.StripeRefused):  # this form's top-up is over: the next attempt is a new one
            form.data = request.POST.copy()
            form.data["token"] = str(uuid.uuid4())
        return _overview(request, form, problem=error.message, status=error.status)
    if topup.state == TopUp.State.PENDING:
        return SeeOther(links.checkout(topup))
    return SeeOther(reverse("billing:return", args=[topup.pk]))


@require_GET
@never_cache
@requires()
@may_leave_for()
def came_back(request: MemberRequest, topup_id: UUID) -> HttpResponse:
    """Back from the pay page: what became of it, asked of Stripe at once."""
    topup = topups.look_again(_topup(request, topup_id))
    return render(request, "billing/return.html", _outcome(request, topup))


@require_GET
@never_cache
@requires()
def state(request: MemberRequest, topup_id: UUID) -> HttpResponse:
    """The part of the return page that changes while a payment is under way."""
    topup = topups.look_again(_topup(request, topup_id))
    response = render(request, "billing/_outcome.html", _outcome(request, topup))
    if topup.state not in topups.OPEN:
        response["HX-Refresh"] = "true"  # the balance at the top of the page has changed, too
    return response


def _topup(request: MemberRequest, topup_id: UUID) -> TopUp:
    """A top-up of any of the person's workspaces: they may have switched to another one while they paid. Of a deleted
    organization only whoever was paying learns what became of it.
    """
    topup = TopUp.objects.select_related("wallet__workspace").filter(pk=topup_id).first()
    if topup is None:
        access.not_found()
    mine = topup.source == TopUp.Source.CHECKOUT and topup.created_by_id == request.user.pk
    if mine and topup.wallet.workspace.deleted_at is not None:
        return topup
    access.in_workspace(request.user, topup.wallet_id).require(Permission.BILLING_READ)
    return topup


def _outcome(request: HttpRequest, topup: TopUp) -> dict[str, Any]:
    asked = request.GET.get("poll", "")
    polls = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 4 else 0
    cancelled = "cancelled" in request.GET and topup.state == TopUp.State.PENDING
    waiting = topup.state in topups.OPEN and not cancelled
    context = {
        "topup": topup,
        "cancelled": cancelled,
        "waiting": waiting,
        "next_poll": polls + 1 if waiting and polls < MOST_POLLS else None,
        "receipt": links.receipt(topup),
        "checkout_url": links.checkout(topup),
        "failure": wording.failure(topup),
        "balance_microcredits": Wallet.objects.get(pk=topup.wallet_id).balance_microcredits,
    }
    if topup.wallet.workspace.deleted_at is not None:
        context["deleted"] = topup.wallet.workspace.name
        context["came_too_late"] = topups.came_too_late(topup)
        context["refund_failed"] = set(topup.reversals.values_list("state", flat=True)) == {Reversal.State.UNDONE}
    return context


# ── Stripe ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@csrf_exempt
@require_POST
def stripe_webhook(request: HttpRequest) -> HttpResponse:
    """Stripe tells that something changed. 200 once it is stored; what it means is found out afterwards."""
    try:
        stripe_events.receive(request.body, request.headers.get("Stripe-Signature", ""))
    except stripe_api.BadWebhook as error:
        return error_json(error)
    return JsonResponse({"received": True})
