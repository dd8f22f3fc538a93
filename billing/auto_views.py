"""``/billing/auto-topup``: the rule of automatic top-ups, the saved card, and the way into the customer portal."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import reauth
from billing import auto, customers, stripe_api, stripe_keys, stripe_payments
from billing.forms import AutoTopUpForm
from billing.models import AutoTopUp, Wallet
from billing.views import SeeOther, may_leave_for
from core import clock, errors, money, stale_forms
from events import audit
from orgs.access import MemberRequest, requires
from orgs.permissions import Permission


@require_GET
@never_cache
@requires(Permission.BILLING_READ)
@may_leave_for()
def page(request: MemberRequest) -> HttpResponse:
    """The rule and the card."""
    return _page(request, AutoTopUpForm.of(_rule(request)))


@require_POST
@never_cache
@requires(Permission.BILLING_WRITE)
@reauth.required
def change(request: MemberRequest) -> HttpResponse:
    """Keep a new rule."""
    with transaction.atomic():
        form = AutoTopUpForm.of(auto.locked(request.access.workspace), request.POST)
        if form.is_outdated():
            stale_forms.refuse(request)
            return redirect("billing:auto")
        try:
            if form.is_valid():
                auto.configure(request.access.workspace, actor=audit.actor_of(request), **form.rule())
                messages.success(request, _("Saved."))
                return redirect("billing:auto")
        except errors.InvalidRequest as error:
            form.complain(error)
    return _page(request, form, status=422)


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.BILLING_WRITE)
@reauth.required
def remove_card(request: MemberRequest) -> HttpResponse:
    """Take the saved card away, after asking."""
    customer = customers.of(request.access.workspace.pk)
    if customer is None or not customer.payment_method_id:
        return redirect("billing:auto")
    problem = ""
    if request.method == "POST":
        try:
            auto.remove_card(request.access.workspace, actor=audit.actor_of(request))
        except stripe_api.StripeFailed as error:
            problem = error.message
        else:
            messages.success(request, _("The card was removed."))
            return redirect("billing:auto")
    context = {"customer": customer, "rule": _rule(request), "problem": problem}
    return render(request, "billing/remove_card.html", context, status=502 if problem else 200)


@require_POST
@never_cache
@requires(Permission.BILLING_WRITE)
@reauth.required
def portal(request: MemberRequest) -> HttpResponse:
    """To the payment provider's own pages for cards, invoices and tax ids."""
    customer = customers.of(request.access.workspace.pk)
    if customer is None:
        return redirect("billing:auto")
    try:
        return SeeOther(stripe_payments.open_portal(customer.stripe_id, settings.SITE_URL + reverse("billing:auto")))
    except stripe_api.NotAtStripe:
        customers.forget(customer)
        return redirect("billing:auto")
    except stripe_api.StripeFailed as error:
        return _page(request, AutoTopUpForm.of(_rule(request)), problem=error.message, status=error.status)


def _rule(request: HttpRequest) -> AutoTopUp | None:
    return AutoTopUp.objects.filter(pk=request.access.workspace.pk).first()  # type: ignore[attr-defined]


def _page(request: MemberRequest, form: AutoTopUpForm, *, problem: str = "", status: int = 200) -> HttpResponse:
    workspace = request.access.workspace
    rule = _rule(request)
    context: dict[str, Any] = {
        "form": form,
        "rule": rule,
        "wallet": Wallet.objects.get(pk=workspace.pk),
        "customer": customers.of(workspace.pk),
        "may_pay": Permission.BILLING_WRITE in request.access.permissions,
        "can_pay": stripe_keys.is_configured(),
        "spent_microcredits": money.from_cents(auto.spent_this_month_cents(workspace.pk, clock.now())),
        "cap_microcredits": money.from_cents(rule.monthly_cap_cents) if rule else 0,
        "amount_microcredits": money.from_cents(rule.amount_cents) if rule else 0,
        "pay_dollars": f"{rule.amount_cents // 100}.{rule.amount_cents % 100:02d}" if rule else "",
        "pay_token": uuid.uuid4(),
        "problem": problem,
    }
    return render(request, "billing/auto.html", context, status=status)
