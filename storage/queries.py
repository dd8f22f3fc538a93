"""Lists of files."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Q

from core import clock
from storage.models import StoredObject


def newest(workspace_id: UUID, *, kind: str, before: UUID | None, limit: int) -> tuple[list[StoredObject], bool]:
    """At most ``limit`` files that can be had, newest first, below the id ``before``; and whether there are more."""
    rows = StoredObject.objects.filter(workspace_id=workspace_id, stored_at__isnull=False).filter(
        Q(expires_at__isnull=True) | Q(expires_at__gt=clock.now())
    )
    if kind:
        rows = rows.filter(kind=kind)
    if before is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows.order_by("-pk")[: limit + 1])
    return found[:limit], len(found) > limit
