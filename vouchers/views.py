"""``/billing/voucher``: type a code, get its credits."""

from __future__ import annotations

from typing import Final

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from core import errors
from core.templatetags.amounts import credits_text
from events import audit
from orgs.access import MemberRequest, requires
from orgs.permissions import Permission
from vouchers import redeeming
from vouchers.forms import RedeemForm
from vouchers.models import Redemption

#: Earlier redemptions that the page lists.
LISTED: Final = 20


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@requires(Permission.BILLING_WRITE)
def redeem(request: MemberRequest) -> HttpResponse:
    """The form, and what this workspace redeemed before. Sent twice it credits once."""
    if request.method != "POST":
        return _page(request, RedeemForm())
    form = RedeemForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    workspace = request.access.workspace
    try:
        done = redeeming.redeem(workspace, form.cleaned_data["code"], actor=audit.actor_of(request))
    except (errors.NotFound, errors.Conflict, errors.RateLimited) as error:
        form.add_error("code", error.message)
        return _page(request, form, status=error.status)
    amount = {"amount": credits_text(done.redemption.amount_microcredits)}
    if done.again:
        messages.info(request, _("This voucher was redeemed here already: %(amount)s credits.") % amount)
    else:
        messages.success(request, _("%(amount)s credits added.") % amount)
    return HttpResponseRedirect(reverse("vouchers:redeem"))


def _page(request: MemberRequest, form: RedeemForm, status: int = 200) -> HttpResponse:
    mine = Redemption.objects.filter(workspace=request.access.workspace).select_related("voucher")
    context = {"form": form, "redemptions": mine.order_by("-pk")[:LISTED]}
    return render(request, "vouchers/redeem.html", context, status=status)
