"""What an operator does with money: correct a balance, see what models bring in, and who behaves unlike themselves."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar
from uuid import uuid4

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from core import clock, errors, ids, money
from core.templatetags.amounts import count_text, credits_text, usd_text
from events import audit
from events.models import AuditEvent
from events.operator_pages import StaffAdmin, Table
from orgs.models import Workspace
from statements import adjusting, margins, suspicion
from statements.margins import Margin
from statements.models import Adjustment, BillingProfile, ModelMargin, SuspiciousWorkspace

_CREDITS = Decimal(adjusting.MOST_MICROCREDITS // money.MICROCREDITS_PER_CREDIT)


class AdjustmentForm(forms.Form):
    """``token`` makes a form sent twice one adjustment."""

    workspace = forms.CharField(
        label=gettext_lazy("Workspace"),
        widget=UnfoldAdminTextInputWidget(),
        help_text=gettext_lazy("Its id or its short name (slug)."),
    )
    amount = forms.DecimalField(
        label=gettext_lazy("Credits"),
        min_value=-_CREDITS,
        max_value=_CREDITS,
        decimal_places=money.CREDIT_DECIMALS,
        widget=UnfoldAdminDecimalFieldWidget(),
        help_text=gettext_lazy("100 credits are 1 US dollar. A negative amount takes credits, below zero if need be."),
    )
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        min_length=adjusting.LEAST_REASON,
        max_length=adjusting.MOST_REASON,
        widget=UnfoldAdminTextInputWidget(),
        help_text=gettext_lazy("It stands in the audit trail, which the workspace's people can read."),
    )
    token = forms.UUIDField(widget=forms.HiddenInput)

    def clean_workspace(self) -> Workspace:
        """The workspace of that id or slug."""
        given = self.cleaned_data["workspace"].strip()
        identifier = ids.parse(given)
        wanted = {"pk": identifier} if identifier else {"slug": given}
        found = Workspace.objects.filter(**wanted).first()
        if found is None:
            raise forms.ValidationError(_("There is no such workspace."))
        return found

    def clean_amount(self) -> Decimal:
        amount: Decimal = self.cleaned_data["amount"]
        if not amount:
            raise forms.ValidationError(_("The amount must not be 0."))
        return amount


@admin.register(Adjustment)
class AdjustmentAdmin(StaffAdmin):
    adds = True
    list_display: ClassVar[Any] = ["billed_at", "workspace", "amount", "reason", "operator"]
    search_fields: ClassVar[Any] = ["=workspace_id", "=reference"]
    ordering: ClassVar[Any] = ["-id"]
    sortable_by: ClassVar[Any] = ()
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Adjustment]:
        """Adjustments only; the audit row of each is looked up once a page."""
        found: QuerySet[Adjustment] = super().get_queryset(request).filter(kind=Adjustment.Kind.ADJUSTMENT)
        return found

    @admin.display(description=gettext_lazy("credits"))
    def amount(self, row: Adjustment) -> str:
        taken = row.debit_account == row.workspace_id
        return credits_text(-row.amount_microcredits if taken else row.amount_microcredits)

    @admin.display(description=gettext_lazy("workspace"))
    def workspace(self, row: Adjustment) -> str:
        event = _event(row)
        return event.target_label if event else str(row.workspace_id)

    @admin.display(description=gettext_lazy("reason"))
    def reason(self, row: Adjustment) -> str:
        event = _event(row)
        return str(event.details.get("reason", "")) if event else ""

    @admin.display(description=gettext_lazy("operator"))
    def operator(self, row: Adjustment) -> str:
        event = _event(row)
        return event.actor_label if event else ""

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """The form; sent twice it moves credits once."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        initial = {"token": uuid4(), "workspace": request.GET.get("workspace", "")}
        form = AdjustmentForm(request.POST) if request.method == "POST" else AdjustmentForm(initial=initial)
        if form.is_bound and form.is_valid() and self._adjust(request, form):
            return HttpResponseRedirect(reverse("admin:statements_adjustment_changelist"))
        status = 422 if form.is_bound else 200
        return self.form_page(request, form, title=_("Adjust credits"), submit=_("Adjust"), status=status)

    def _adjust(self, request: HttpRequest, form: AdjustmentForm) -> bool:
        given = form.cleaned_data
        try:
            moved = adjusting.adjust(
                given["workspace"],
                amount_microcredits=money.parse_credits(given["amount"]),
                reason=given["reason"],
                actor=audit.actor_of(request),
                form_token=given["token"],
            )
        except errors.InvalidRequest as error:
            form.add_error(error.param, error.message)
            return False
        text = _("%(amount)s credits adjusted.") if moved else _("This form was sent before: nothing moved again.")
        messages.success(request, text % {"amount": credits_text(money.parse_credits(given["amount"]))})
        return True


def _event(row: Adjustment) -> AuditEvent | None:
    """The audit row that says who did it and why; kept on the row, which is shown once."""
    if not hasattr(row, "_event"):
        rows = AuditEvent.objects.filter(workspace_id=row.workspace_id, target_id=str(row.reference))
        row._event = rows.first()  # type: ignore[attr-defined]
    found: AuditEvent | None = row._event  # type: ignore[attr-defined]
    return found


class PeriodForm(forms.Form):
    """Which days, and what the operator pays below the list."""

    days = forms.IntegerField(
        label=gettext_lazy("Days"), min_value=1, max_value=366, widget=UnfoldAdminIntegerFieldWidget()
    )
    discount = forms.IntegerField(
        label=gettext_lazy("Discount on list prices, %"), min_value=0, max_value=99, required=False,
        widget=UnfoldAdminIntegerFieldWidget(),
    )  # fmt: skip


@admin.register(ModelMargin)
class ModelMarginAdmin(StaffAdmin):
    """Not a list of rows but one page of figures."""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Revenue against cost at list price, by model."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = PeriodForm({"days": request.GET.get("days", "30"), "discount": request.GET.get("discount", "0")})
        valid = form.is_valid()
        days, discount = (form.cleaned_data["days"], form.cleaned_data["discount"] or 0) if valid else (30, 0)
        today = clock.now().date()
        found = margins.by_model(today - timedelta(days=days - 1), today, discount_basis_points=discount * 100)
        table = Table(
            _("The last %(days)d days, UTC") % {"days": days},
            [_("Model"), _("Requests"), _("Revenue, credits"), _("Cost at list price"), _("Margin"), _("Margin, %")],
            [_margin_row(margin) for margin in [*found, _total(found)]] if found else [],
            note=_(
                "Revenue is what calls were charged. Cost is the same usage at the vendor's list price in force that "
                "day, less the discount given here; models without a list price have none and are left out of the sum."
            ),
            empty=_("There were no calls."),
        )
        return self.figures_page(request, title=_("Margins by model"), tables=[table], form=form)


def _total(found: list[Margin]) -> Margin:
    known = [margin for margin in found if margin.cost_microcredits is not None]
    return Margin(
        _("All with a list price"),
        sum(margin.requests for margin in known),
        sum(margin.revenue_microcredits for margin in known),
        sum(margin.cost_microcredits or 0 for margin in known),
    )


def _margin_row(margin: Margin) -> list[str]:
    percent = margin.percent
    return [
        margin.model,
        count_text(margin.requests),
        f"{credits_text(margin.revenue_microcredits)} ({usd_text(margin.revenue_microcredits)})",
        credits_text(margin.cost_microcredits),
        credits_text(margin.margin_microcredits),
        "—" if percent is None else f"{percent:.1f}",
    ]


@admin.register(SuspiciousWorkspace)
class SuspiciousWorkspaceAdmin(StaffAdmin):
    """Not a list of rows but one page of figures."""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Each rule with the workspaces it points at."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        found = suspicion.suspects()
        tables = [
            Table(
                str(rule.title),
                [_("Workspace"), _("Kind"), _("Since"), _("Evidence")],
                [_suspect_row(suspect) for suspect in found[rule.name]],
                note=str(rule.meaning),
                empty=_("Nobody."),
            )
            for rule in suspicion.RULES
        ]
        return self.figures_page(request, title=_("Suspicious usage"), tables=tables)


def _suspect_row(suspect: suspicion.Suspect) -> list[str | SafeString]:
    workspace = suspect.workspace
    address = reverse("admin:orgs_workspace_change", args=[workspace.pk])
    link = format_html('<a class="underline" href="{}">{}</a>', address, workspace.name)
    return [link, workspace.get_kind_display(), f"{workspace.created_at:%Y-%m-%d}", suspect.evidence]


@admin.register(BillingProfile)
class BillingProfileAdmin(StaffAdmin):
    list_display: ClassVar[Any] = ["workspace", "legal_name", "email", "tax_id", "created_at"]
    list_select_related: ClassVar[Any] = ["workspace"]
    search_fields: ClassVar[Any] = ["legal_name", "email", "tax_id", "workspace__name", "=workspace__id"]
    ordering: ClassVar[Any] = ["-id"]
