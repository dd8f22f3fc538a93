"""Webhooks for operators: to be read. Secrets are not shown."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin

from events.admin import ReadOnlyAdmin
from webhooks.models import Attempt, Delivery, Endpoint


@admin.register(Endpoint)
class EndpointAdmin(ReadOnlyAdmin):
    hidden = frozenset({"sealed_secret", "sealed_previous", "form_token"})
    list_display: ClassVar[Any] = ["url", "workspace", "enabled", "disabled_reason", "failing_since", "created_at"]
    list_filter: ClassVar[Any] = ["enabled", "disabled_reason"]
    list_select_related: ClassVar[Any] = ["workspace"]
    search_fields: ClassVar[Any] = ["url", "=workspace__id", "=id"]
    ordering: ClassVar[Any] = ["-id"]


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display: ClassVar[Any] = ["created_at", "message", "endpoint", "state", "tries", "run_after"]
    list_filter: ClassVar[Any] = ["state"]
    list_select_related: ClassVar[Any] = ["message", "endpoint"]
    search_fields: ClassVar[Any] = ["=workspace_id", "=message__id", "=endpoint__id", "=id"]
    ordering: ClassVar[Any] = ["-id"]
    show_full_result_count = False


@admin.register(Attempt)
class AttemptAdmin(ReadOnlyAdmin):
    list_display: ClassVar[Any] = ["started_at", "delivery", "status", "error", "duration_ms"]
    list_filter: ClassVar[Any] = ["status", "error"]
    search_fields: ClassVar[Any] = ["=delivery__id"]
    ordering: ClassVar[Any] = ["-id"]
    show_full_result_count = False
