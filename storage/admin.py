"""Operators see what is stored, never its bytes, and give single workspaces limits of their own."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest

from events.admin import AuditedAdmin, ReadOnlyAdmin
from storage.models import StorageAccount, StoredObject


@admin.register(StorageAccount)
class StorageAccountAdmin(AuditedAdmin):
    list_display: ClassVar[Any] = ["workspace", "most_bytes", "most_objects"]
    search_fields: ClassVar[Any] = ["workspace__name", "workspace__slug", "=workspace__id"]
    list_select_related: ClassVar[Any] = ["workspace"]
    raw_id_fields: ClassVar[Any] = ["workspace"]
    fields: ClassVar[Any] = ["workspace", "most_bytes", "most_objects"]

    def get_readonly_fields(self, request: HttpRequest, obj: StorageAccount | None = None) -> list[str]:
        return ["workspace"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: StorageAccount | None = None) -> bool:
        return False


@admin.register(StoredObject)
class StoredObjectAdmin(ReadOnlyAdmin):
    list_display: ClassVar[Any] = [
        "filename", "workspace", "kind", "content_type", "size_bytes", "source", "created_at", "expires_at",
    ]  # fmt: skip
    list_filter: ClassVar[Any] = ["kind", "source", ("missing_since", admin.EmptyFieldListFilter)]
    search_fields: ClassVar[Any] = ["filename", "=id", "=workspace__id", "workspace__slug"]
    list_select_related: ClassVar[Any] = ["workspace"]
    ordering: ClassVar[Any] = ["-id"]
