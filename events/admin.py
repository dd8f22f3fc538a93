"""The operator's admin: what every table of it keeps to, and the audit trail, to be read and never written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponseBase
from unfold.admin import ModelAdmin

from events.models import AuditEvent


class AuditedAdmin(ModelAdmin):
    """Whatever is done here stands in the audit trail, also what is done to many rows at once (`events.operators`)."""

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Model]) -> list[LogEntry]:
        """One entry a row, each saved by itself: Django writes many in one go, and says so to nobody."""
        log_one = super().log_deletions
        return [entry for row in queryset for entry in log_one(request, [row])]

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponseBase | None:
        """An action on chosen rows, in one transaction with what the trail says of it."""
        with transaction.atomic():
            response: HttpResponseBase | None = super().response_action(request, queryset)
        return response


class ReadOnlyAdmin(AuditedAdmin):
    """Shows rows and changes none; for tables that only their own functions may write."""

    #: Columns that nobody needs to see.
    hidden: ClassVar[frozenset[str]] = frozenset()

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return [column.name for column in self.model._meta.fields if column.name not in self.hidden]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return self.get_fields(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display: ClassVar[Any] = ["created_at", "actor_label", "action", "target_label", "workspace_id", "address"]
    list_filter: ClassVar[Any] = ["action"]
    search_fields: ClassVar[Any] = ["actor_label", "target_label", "=target_id", "=workspace_id", "=request_id"]
    ordering: ClassVar[Any] = ["-id"]
    show_full_result_count = False
