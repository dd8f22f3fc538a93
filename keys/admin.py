"""Keys for operators: to be seen, and to be stopped."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from events import audit
from events.admin import ReadOnlyAdmin
from keys import issuing
from keys.models import ApiKey


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display: ClassVar[Any] = ["name", "prefix", "workspace", "enabled", "expires_at", "last_used_at", "deleted_at"]
    list_filter: ClassVar[Any] = ["enabled", ("deleted_at", admin.EmptyFieldListFilter)]
    search_fields: ClassVar[Any] = ["name", "prefix", "=id", "workspace__name", "workspace__slug", "created_by__email"]
    list_select_related: ClassVar[Any] = ["workspace"]
    hidden: ClassVar[frozenset[str]] = frozenset({"secret_hash", "form_token"})
    ordering: ClassVar[Any] = ["-created_at"]
    actions: ClassVar[Any] = ["disable"]

    @admin.action(description=gettext_lazy("Disable the chosen keys"))
    def disable(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        actor = audit.actor_of(request)
        living = list(queryset.filter(deleted_at=None))
        for key in living:
            issuing.change(key, actor=actor, enabled=False)
        messages.success(request, _("%(count)d changed.") % {"count": len(living)})
