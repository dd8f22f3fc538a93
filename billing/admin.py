"""What an operator sees of payments, and does with them: refund, decide over payments that do not fit, read reports."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID, uuid4

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminTextInputWidget

from billing import mismatches, reversals, settling, topups
from billing.models import AutoTopUp, Reversal, StripeEvent, StripeReport, TopUp
from core import errors
from core.templatetags.amounts import credits_text
from events import audit
from events.operator_pages import StaffAdmin, Table


class ReasonForm(forms.Form):
    """Why an operator does it. It stands in the audit trail."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=reversals.REASON_LENGTH,
        widget=UnfoldAdminTextInputWidget(),
        help_text=gettext_lazy("It stands in the audit trail, which the workspace's people can read."),
    )


class RefundForm(ReasonForm):
    """``token`` makes a form sent twice one refund."""

    amount = forms.DecimalField(
        label=gettext_lazy("US dollars"),
        decimal_places=2,
        min_value=Decimal("0.01"),
        widget=UnfoldAdminDecimalFieldWidget(),
        help_text=gettext_lazy("Of what was paid, tax included. The credits that this money bought are taken back."),
    )
    token = forms.UUIDField(widget=forms.HiddenInput)
    field_order = ("amount", "reason", "token")


class NeedsALook(admin.SimpleListFilter):
    """Paid, but not what was asked for."""

    title = gettext_lazy("decision")
    parameter_name = "decision"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("open", gettext_lazy("A payment does not fit"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[TopUp]) -> QuerySet[TopUp]:
        return queryset.filter(failure=settling.MISMATCH) if self.value() == "open" else queryset


@admin.register(TopUp)
class TopUpAdmin(StaffAdmin):
    """Payments of all workspaces. Money moves by the two forms behind a row only."""

    list_display: ClassVar[Any] = [
        *("created_at", "workspace", "state", "source", "paid", "gone_back", "failure", "is_demo"),
    ]
    list_filter: ClassVar[Any] = [NeedsALook, "state", "source", "is_demo"]
    search_fields: ClassVar[Any] = [
        *(
            "=id",
            "=wallet__workspace__id",
            "wallet__workspace__name",
            "=stripe_payment_intent_id",
            "=stripe_session_id",
        ),
        "created_by__email",
    ]
    list_select_related: ClassVar[Any] = ["wallet__workspace"]
    ordering: ClassVar[Any] = ["-id"]
    hidden: ClassVar[frozenset[str]] = frozenset({"form_token", "credits_microcredits"})
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[TopUp]:
        found: QuerySet[TopUp] = super().get_queryset(request).prefetch_related("reversals")
        return found

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["acts", "went_back", "credits", *super().get_fields(request, obj)]

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("<uuid:topup_id>/refund/", wrap(self.refund), name="billing_topup_refund"),
            path("<uuid:topup_id>/accept/", wrap(self.accept), name="billing_topup_accept"),
        ]
        return [*own, *super().get_urls()]

    @admin.display(description=gettext_lazy("workspace"))
    def workspace(self, topup: TopUp) -> str:
        return str(topup.wallet.workspace)

    @admin.display(description=gettext_lazy("credits"))
    def credits(self, topup: TopUp) -> str:
        return credits_text(topup.credits_microcredits)

    @admin.display(description=gettext_lazy("paid"))
    def paid(self, topup: TopUp) -> str:
        return topups.cents_text(reversals.paid_cents(topup))

    @admin.display(description=gettext_lazy("gone back"))
    def gone_back(self, topup: TopUp) -> str:
        cents = reversals.total_cents(topup.reversals.all())
        return topups.cents_text(cents) if cents else ""

    @admin.display(description=gettext_lazy("What went back"))
    def went_back(self, topup: TopUp) -> str:
        rows = ((one.get_kind_display(), topups.cents_text(one.amount_cents), one.state, one.reason)
                for one in topup.reversals.order_by("pk"))  # fmt: skip
        return format_html_join("; ", "{} {} ({}) {}", rows) or "—"

    @admin.display(description=gettext_lazy("Do"))
    def acts(self, topup: TopUp) -> str:
        links = []
        if reversals.refundable_cents(topup) > 0:
            links.append((reverse("admin:billing_topup_refund", args=[topup.pk]), _("Refund")))
        if topup.failure == settling.MISMATCH:
            links.append((reverse("admin:billing_topup_accept", args=[topup.pk]), _("Credit what was paid")))
        return format_html_join(" · ", '<a href="{}" class="text-primary-600 underline">{}</a>', links) or "—"

    def refund(self, request: HttpRequest, topup_id: UUID) -> HttpResponse:
        """The form of a refund; sent twice it sends money back once."""
        topup = self._topup(request, topup_id)
        left = reversals.refundable_cents(topup)
        initial = {"token": uuid4(), "amount": Decimal(left) / 100}
        form = RefundForm(request.POST) if request.method == "POST" else RefundForm(initial=initial)
        if form.is_bound and form.is_valid() and self._refund(request, topup, form):
            return _back(topup)
        note = _("%(left)s of this payment can go back.") % {"left": topups.cents_text(left)}
        status = 422 if form.is_bound else 200
        return self.form_page(request, form, title=_("Refund"), submit=_("Refund"), note=note, status=status)

    def _refund(self, request: HttpRequest, topup: TopUp, form: RefundForm) -> bool:
        given, actor = form.cleaned_data, audit.actor_of(request)
        cents = int(given["amount"] * 100)
        try:
            done = reversals.refund(topup, cents, given["reason"], actor, identifier=given["token"])
        except errors.InvalidRequest as error:
            form.add_error({"amount_cents": "amount", "reason": "reason"}.get(error.param or ""), error.message)
            return False
        except errors.ProductError as error:
            form.add_error(None, error.message)
            return False
        messages.success(request, _("%(amount)s go back.") % {"amount": topups.cents_text(done.amount_cents)})
        return True

    def accept(self, request: HttpRequest, topup_id: UUID) -> HttpResponse:
        """The form that credits a payment which is not what was asked for."""
        topup = self._topup(request, topup_id)
        form = ReasonForm(request.POST or None)
        if form.is_bound and form.is_valid():
            try:
                mismatches.accept(topup.pk, reason=form.cleaned_data["reason"], actor=audit.actor_of(request))
            except errors.ProductError as error:
                form.add_error(None, error.message)
            else:
                messages.success(request, _("The payment was credited."))
                return _back(topup)
        note = _("Credits what was really paid, less tax, as the payment provider has it now.")
        title, status = _("Credit what was paid"), 422 if form.is_bound else 200
        return self.form_page(request, form, title=title, submit=title, note=note, status=status)

    def _topup(self, request: HttpRequest, topup_id: UUID) -> TopUp:
        if not self.has_view_permission(request):
            raise PermissionDenied
        topup = TopUp.objects.filter(pk=topup_id).first()
        if topup is None:
            raise Http404
        return topup


def _back(topup: TopUp) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:billing_topup_change", args=[topup.pk]))


@admin.register(Reversal)
class ReversalAdmin(StaffAdmin):
    """Refunds and disputes."""

    list_display: ClassVar[Any] = ["created_at", "kind", "state", "stripe_status", "amount", "topup", "reason"]
    list_filter: ClassVar[Any] = ["kind", "state"]
    search_fields: ClassVar[Any] = ["=id", "=stripe_id", "=topup__id"]
    ordering: ClassVar[Any] = ["-id"]

    @admin.display(description=gettext_lazy("amount"))
    def amount(self, reversal: Reversal) -> str:
        return topups.cents_text(reversal.amount_cents)


@admin.register(AutoTopUp)
class AutoTopUpAdmin(StaffAdmin):
    """The rules that people have set."""

    list_display: ClassVar[Any] = ["wallet", "enabled", "paused_for", "declines", "amount_cents", "monthly_cap_cents"]
    list_filter: ClassVar[Any] = ["enabled", "paused_for"]
    search_fields: ClassVar[Any] = ["=wallet__workspace__id", "wallet__workspace__name"]


@admin.register(StripeEvent)
class StripeEventAdmin(StaffAdmin):
    """Webhooks as they came."""

    list_display: ClassVar[Any] = ["received_at", "type", "object_id", "state", "attempts", "error"]
    list_filter: ClassVar[Any] = ["state"]
    search_fields: ClassVar[Any] = ["=id", "=object_id"]
    ordering: ClassVar[Any] = ["-received_at"]
    show_full_result_count = False


@admin.register(StripeReport)
class StripeReportAdmin(StaffAdmin):
    """Nightly comparisons of Stripe with the books."""

    list_display: ClassVar[Any] = [
        "created_at",
        "found",
        "payments",
        "refunds",
        "disputes",
        "since",
        "until",
        "is_demo",
    ]
    ordering: ClassVar[Any] = ["-id"]

    @admin.display(description=gettext_lazy("differences"))
    def found(self, report: StripeReport) -> int:
        return len(report.differences)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """One comparison: every difference by name, with a way to the top-up."""
        report = self.get_object(request, object_id)
        if report is None or not self.has_view_permission(request):
            raise Http404
        table = Table(
            title=_("Differences"),
            headers=(_("What"), _("At Stripe"), _("Stripe says"), _("Top-up"), _("The books say")),
            rows=[_difference(one) for one in report.differences],
            note=_("Compared: %(payments)d payments, %(refunds)d refunds, %(disputes)d disputes.")
            % {"payments": report.payments, "refunds": report.refunds, "disputes": report.disputes},
            empty=_("Stripe and the books agree."),
        )
        return self.figures_page(request, title=str(report), tables=[table])


def _difference(one: dict[str, str]) -> tuple[object, ...]:
    topup: object = one["topup_id"]
    if TopUp.objects.filter(pk=one["topup_id"]).exists():
        url = reverse("admin:billing_topup_change", args=[one["topup_id"]])
        topup = format_html('<a href="{}" class="text-primary-600 underline">{}</a>', url, one["topup_id"])
    return (one["kind"], one["stripe_id"], one["theirs"], topup, one["ours"])
