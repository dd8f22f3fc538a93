"""The workspace's own signing secret, for messages to addresses that are no endpoints (a job's ``webhookUrl``).

It is made when it is first needed, and can be looked at again: calls bring their addresses with them, so there is no
moment at which it could be shown once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction

from core import clock
from events import audit
from orgs.models import Workspace
from webhooks import signing
from webhooks.models import WorkspaceSecret


def of(workspace_id: UUID) -> WorkspaceSecret:
    """The workspace's secret, made now where there is none yet."""
    found = WorkspaceSecret.objects.filter(pk=workspace_id).first()
    if found is not None:
        return found
    fresh = WorkspaceSecret(workspace_id=workspace_id)
    signing.give_secret(fresh)
    WorkspaceSecret.objects.bulk_create([fresh], ignore_conflicts=True)  # somebody may have been faster
    return WorkspaceSecret.objects.get(pk=workspace_id)


def reveal(workspace: Workspace, *, actor: audit.Actor) -> str:
    """The secret in words, for a member who may manage webhooks. Who looked at it is recorded."""
    with transaction.atomic():
        text = signing.current(of(workspace.pk))
        _record("webhook_secret.reveal", workspace, actor)
    return text


def rotate(workspace: Workspace, *, actor: audit.Actor, end_previous: bool = False, seen: str | None = None) -> str:
    """A new secret by `signing.rotate`, which says what ``end_previous`` and ``seen`` are. Raises Conflict."""
    with transaction.atomic():
        of(workspace.pk)
        row = WorkspaceSecret.objects.select_for_update().get(pk=workspace.pk)
        text = signing.rotate(row, clock.now(), end_previous=end_previous, seen=seen)
        row.save()
        _record("webhook_secret.rotate", workspace, actor, {"end_previous": end_previous})
    return text


def _record(action: str, workspace: Workspace, actor: audit.Actor, details: Mapping[str, Any] | None = None) -> None:
    target = audit.Target("webhook_secret", workspace.pk, workspace.name)
    audit.record(action, actor=actor, target=target, workspace_id=workspace.pk, details=details)
