"""The audit trail for operators: to be read, never written."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from events.models import AuditEvent


class ReadOnlyAdmin(ModelAdmin):
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
