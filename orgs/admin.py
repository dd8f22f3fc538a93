"""Workspaces and memberships for operators. A workspace can be suspended; the rest is done where it is recorded."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from events import audit
from events.admin import ReadOnlyAdmin
from orgs import workspaces
from orgs.models import Invitation, Membership, Workspace


@admin.register(Workspace)
class WorkspaceAdmin(ReadOnlyAdmin):
    list_display: ClassVar[Any] = ["name", "kind", "slug", "active", "created_at"]
    list_filter: ClassVar[Any] = ["kind", "active"]
    search_fields: ClassVar[Any] = ["name", "slug", "=id", "personal_user__email"]
    ordering: ClassVar[Any] = ["-created_at"]
    actions: ClassVar[Any] = ["suspend", "resume"]

    @admin.action(description=gettext_lazy("Suspend: refuse all keys of the chosen workspaces"))
    def suspend(self, request: HttpRequest, queryset: QuerySet[Workspace]) -> None:
        self._set_active(request, queryset, active=False)

    @admin.action(description=gettext_lazy("Resume the chosen workspaces"))
    def resume(self, request: HttpRequest, queryset: QuerySet[Workspace]) -> None:
        self._set_active(request, queryset, active=True)

    def _set_active(self, request: HttpRequest, queryset: QuerySet[Workspace], *, active: bool) -> None:
        actor = audit.actor_of(request)
        changed = sum(workspaces.set_active(workspace, active, actor=actor) for workspace in queryset)
        messages.success(request, _("%(count)d changed.") % {"count": changed})


@admin.register(Membership)
class MembershipAdmin(ReadOnlyAdmin):
    list_display: ClassVar[Any] = ["user", "role", "workspace", "created_at"]
    list_filter: ClassVar[Any] = ["role"]
    search_fields: ClassVar[Any] = ["user__email", "workspace__name", "workspace__slug"]
    list_select_related: ClassVar[Any] = ["user", "workspace"]
    ordering: ClassVar[Any] = ["-created_at"]


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    list_display: ClassVar[Any] = ["email", "role", "workspace", "sent_at", "expires_at", "accepted_at", "revoked_at"]
    list_filter: ClassVar[Any] = ["role"]
    search_fields: ClassVar[Any] = ["email", "workspace__name", "workspace__slug"]
    list_select_related: ClassVar[Any] = ["workspace"]
    hidden: ClassVar[frozenset[str]] = frozenset({"token_hash"})
    ordering: ClassVar[Any] = ["-created_at"]
