"""Operators issue vouchers here, see what became of them, and withdraw them."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from core import errors
from core.templatetags.amounts import credits_text
from events import audit
from events.operator_pages import StaffAdmin
from vouchers import issuing
from vouchers.forms import IssueForm
from vouchers.models import Redemption, Voucher


@admin.register(Voucher)
class VoucherAdmin(StaffAdmin):
    adds = True
    list_display: ClassVar[Any] = [
        "ending", "credits", "redeemed_count", "redemption_limit", "expires_at", "withdrawn_at", "note", "created_by",
        "created_at",
    ]  # fmt: skip
    search_fields: ClassVar[Any] = ["ending", "note", "=id"]
    list_filter: ClassVar[Any] = [("withdrawn_at", admin.EmptyFieldListFilter)]
    hidden: ClassVar[frozenset[str]] = frozenset({"code_hash"})
    ordering: ClassVar[Any] = ["-id"]
    actions: ClassVar[Any] = ["withdraw"]

    @admin.display(description=gettext_lazy("credits"))
    def credits(self, voucher: Voucher) -> str:
        return credits_text(voucher.amount_microcredits)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """The form for a new voucher, and once it is sent the code, which nothing shows again."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = IssueForm(request.POST) if request.method == "POST" else IssueForm.empty()
        if form.is_bound and form.is_valid():
            try:
                token = form.cleaned_data["token"]
                return self._code_page(
                    request, issuing.issue(form.terms(), actor=audit.actor_of(request), form_token=token)
                )
            except errors.InvalidRequest as error:
                form.add_error(error.param, error.message)
        status = 422 if form.is_bound else 200
        return self.form_page(request, form, title=_("Issue a voucher"), submit=_("Issue"), status=status)

    def _code_page(self, request: HttpRequest, issued: issuing.Issued) -> TemplateResponse:
        title = _("Voucher over %(amount)s credits") % {"amount": credits_text(issued.voucher.amount_microcredits)}
        context = {"code": issued.code, "back": reverse("admin:vouchers_voucher_changelist")}
        return self._page(request, "operator/code.html", title, context, 200)

    @admin.action(description=gettext_lazy("Withdraw the chosen vouchers"))
    def withdraw(self, request: HttpRequest, queryset: QuerySet[Voucher]) -> None:
        actor = audit.actor_of(request)
        count = sum(issuing.withdraw(voucher, actor=actor) for voucher in queryset)
        text = ngettext("%(count)d voucher withdrawn.", "%(count)d vouchers withdrawn.", count)
        messages.success(request, text % {"count": count})


@admin.register(Redemption)
class RedemptionAdmin(StaffAdmin):
    """Who redeemed what."""

    list_display: ClassVar[Any] = ["redeemed_at", "voucher", "workspace", "credits", "credits_expire_at", "user_id"]
    list_select_related: ClassVar[Any] = ["voucher", "workspace"]
    search_fields: ClassVar[Any] = ["voucher__ending", "workspace__name", "=workspace__id", "=voucher__id"]
    ordering: ClassVar[Any] = ["-id"]

    @admin.display(description=gettext_lazy("credits"))
    def credits(self, redemption: Redemption) -> str:
        return credits_text(redemption.amount_microcredits)
