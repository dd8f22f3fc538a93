"""Operators see and change the catalog here. An edit takes a row out of the files' care; prices only gain versions."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.admin import TabularInline

from catalog import codec, forms, prices
from catalog.models import Alias, Model, Price, Provider, Target
from events.admin import AuditedAdmin


class TakesOver(AuditedAdmin):
    """Marks a row as the operator's when they change what the files say of it."""

    actions = ("give_back",)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Compares with the stored row, not by the form: a new key, say, is nothing that the files speak of."""
        stored = type(obj)._default_manager.get(pk=obj.pk) if change else None
        names = [field.attname for field in obj._meta.concrete_fields if field.name in form.cleaned_data]
        if stored is None or any(getattr(stored, name) != getattr(obj, name) for name in names):
            obj.managed = False
        super().save_model(request, obj, form, change)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The next load would bring a row of the files back: such a row is disabled instead."""
        return (obj is None or not obj.managed) and bool(super().has_delete_permission(request, obj))

    def get_actions(self, request: HttpRequest) -> Any:
        """Without the bulk deletion, which asks no row."""
        return {name: action for name, action in super().get_actions(request).items() if name != "delete_selected"}

    @admin.action(description=_("Give back to the catalog files"))
    def give_back(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Hand the rows to the next ``load_catalog``."""
        with transaction.atomic():
            for row in queryset.select_for_update().filter(managed=False):
                self.log_change(request, row, "Given back to the catalog files.")
            count = queryset.filter(managed=False).update(managed=True)
        text = ngettext("%(count)d row goes by the files again.", "%(count)d rows go by the files again.", count)
        self.message_user(request, text % {"count": count}, messages.SUCCESS)


class TargetInline(TabularInline):  # type: ignore[misc]
    model = Target
    extra = 0
    fields = ("position", "provider", "upstream_model", "region", "enabled", "managed")
    readonly_fields = ("managed",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class PriceInline(TabularInline):  # type: ignore[misc]
    """The price history, to read."""

    model = Price
    extra = 0
    fields = (
        "version", "effective_since", "input_microcredits_per_mtok", "cached_input_microcredits_per_mtok",
        "output_microcredits_per_mtok", "unit", "unit_prices", "guess", "note",
    )  # fmt: skip
    readonly_fields = fields
    ordering = ("-version",)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Provider)
class ProviderAdmin(TakesOver):
    form = forms.ProviderForm
    list_display = ("slug", "name", "adapter", "base_url", "enabled", "stored_key", "secret_env", "managed")
    list_filter = ("adapter", "enabled", "managed")
    search_fields = ("slug", "name")
    readonly_fields = ("stored_key", "managed")
    fields = (
        "slug", "name", "adapter", "base_url", "kinds", "enabled", "stored_key", "new_secret", "remove_secret",
        "secret_env", "price_factor_basis_points", "options", "managed",
    )  # fmt: skip

    @admin.display(description=_("stored key"), boolean=True)
    def stored_key(self, provider: Provider) -> bool:
        return provider.has_secret

    def save_model(self, request: HttpRequest, obj: Provider, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if "price_factor_basis_points" in form.changed_data and change:
            added = prices.reprice(obj)
            text = ngettext("%(count)d price was published anew.", "%(count)d prices were published anew.", added)
            self.message_user(request, text % {"count": added}, messages.SUCCESS)


@admin.register(Model)
class CatalogModelAdmin(TakesOver):
    form = forms.ModelForm
    list_display = ("slug", "name", "vendor", "endpoints", "enabled", "managed")
    list_filter = ("vendor", "enabled", "managed")
    search_fields = ("slug", "name", "family")
    readonly_fields = ("managed",)
    inlines = (TargetInline, PriceInline)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """A target that was added or changed here is the operator's from now on."""
        for row in formset.save(commit=False):
            if isinstance(row, Target):
                row.managed = False
            row.save()
        formset.save_m2m()


@admin.register(Alias)
class AliasAdmin(TakesOver):
    form = forms.AliasForm
    list_display = ("name", "model", "managed")
    list_filter = ("managed",)
    search_fields = ("name", "model__slug")
    autocomplete_fields = ("model",)
    readonly_fields = ("managed",)


@admin.register(Price)
class PriceAdmin(AuditedAdmin):
    """Versions are added and read. Adding one here takes the model's price out of the files' care."""

    form = forms.PriceForm
    list_display = ("model", "version", "effective_since", "input_microcredits_per_mtok",
                    "output_microcredits_per_mtok", "unit", "guess", "managed")  # fmt: skip
    list_filter = ("guess", "managed", "unit")
    search_fields = ("model__slug",)
    autocomplete_fields = ("model",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Price, form: Any, change: bool) -> None:
        made = prices.publish(
            obj.model,
            obj.rates,
            list_rates=codec.from_json(obj.list_prices),
            factor_basis_points=obj.factor_basis_points,
            guess=obj.guess,
            note=obj.note,
            effective_since=obj.effective_since,
        )
        if made is None:
            self.message_user(request, _("The newest version says the same already."), messages.WARNING)
        obj.pk = (made or obj.model.prices.order_by("-version")[0]).pk
