"""What the gateway answers under /storage: plain values in, plain values out. See `storage.objects` for the rest."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import transaction

from core import ids
from core.errors import InvalidRequest, NotFound
from events import audit
from keys.auth import KeyFacts
from storage import objects, queries, shelf
from storage.models import Kind, Source, StoredObject
from storage.multipart import MOST_OVERHEAD_BYTES, UploadForm

DEFAULT_LIMIT: Final = 50
MOST: Final = 200


def check_room(key: KeyFacts, body_bytes: int | None) -> None:
    """Refuse an upload before its bytes come, where that is sure already. Raises RequestTooLarge."""
    least = max(0, (body_bytes or 0) - MOST_OVERHEAD_BYTES)
    shelf.check_size(least)
    shelf.check_room(shelf.room(key.workspace_id), least)


def keep(key: KeyFacts, form: UploadForm, actor: audit.Actor) -> dict[str, Any]:
    """Make a file of the form, on behalf of ``actor``. Raises as `objects.store`."""
    owner = shelf.Owner(key.workspace_id, Source.UPLOAD, key_id=key.id, user_id=key.user_id)
    row = shelf.keep(
        form.spool,
        owner,
        kind=form.fields.get("kind", ""),
        filename=form.filename,
        content_type=form.content_type,
    )
    record("file.upload", row, actor)
    return as_json(row)


def page(key: KeyFacts, kind: str | None, limit: str | None, cursor: str | None) -> dict[str, Any]:
    """The newest files, of one kind or of all. Raises InvalidRequest."""
    before = _cursor(cursor)
    rows, more = queries.newest(key.workspace_id, kind=_kind(kind), before=before, limit=_limit(limit))
    return {
        "data": [as_json(row) for row in rows],
        "nextCursor": str(rows[-1].pk) if more else None,
        "usage": usage(key.workspace_id),
    }


def one(key: KeyFacts, object_id: str) -> dict[str, Any]:
    """One file, with a fresh address. Raises NotFound."""
    return as_json(_find(key, object_id))


def remove(key: KeyFacts, object_id: str, actor: audit.Actor) -> dict[str, Any]:
    """Delete a file on behalf of ``actor``. Raises NotFound."""
    row = _find(key, object_id)
    if not delete(row, actor):
        raise _nothing()
    return {"id": str(row.pk), "deleted": True}


def delete(row: StoredObject, actor: audit.Actor) -> bool:
    """Delete a file and record who did. False where somebody was quicker."""
    with transaction.atomic():
        gone = objects.delete(row)
        if gone:
            record("file.delete", row, actor)
    return gone


def record(action: str, row: StoredObject, actor: audit.Actor) -> None:
    """Write into the audit trail what happened to a file, by whichever door."""
    target = audit.Target("file", row.pk, row.filename)
    audit.record(action, actor=actor, target=target, workspace_id=row.workspace_id)


def as_json(row: StoredObject) -> dict[str, Any]:
    """A file as the API shows it."""
    return {
        "id": str(row.pk),
        "kind": row.kind,
        "filename": row.filename,
        "contentType": row.content_type,
        "sizeBytes": row.size_bytes,
        "sha256": row.sha256,
        "source": row.source,
        "jobId": str(row.job_id) if row.job_id else None,
        "url": objects.signed_url(row),
        "createdAt": _time(row.created_at),
        "expiresAt": _time(row.expires_at),
    }


def usage(workspace_id: UUID) -> dict[str, int]:
    """What is stored, and what may be."""
    room = shelf.room(workspace_id)
    return {
        "bytes": room.used_bytes,
        "limitBytes": room.most_bytes,
        "objects": room.used_objects,
        "limitObjects": room.most_objects,
        "limitFileBytes": settings.STORAGE_MOST_FILE_BYTES,
    }


def _find(key: KeyFacts, object_id: str) -> StoredObject:
    identifier = ids.parse(object_id)
    row = objects.find(key.workspace_id, identifier) if identifier is not None else None
    if row is None:
        raise _nothing()
    return row


def _nothing() -> NotFound:
    return NotFound("There is no file of that id.")


def _kind(text: str | None) -> str:
    if text and text not in Kind.values:
        raise InvalidRequest(f"kind must be one of {', '.join(Kind.values)}.", param="kind")
    return text or ""


def _limit(text: str | None) -> int:
    if not text:
        return DEFAULT_LIMIT
    if not text.isascii() or not text.isdigit() or len(text) > 4 or not 1 <= int(text) <= MOST:
        raise InvalidRequest(f"limit must lie between 1 and {MOST}.", param="limit")
    return int(text)


def _cursor(text: str | None) -> UUID | None:
    if not text:
        return None
    identifier = ids.parse(text)
    if identifier is None:
        raise InvalidRequest("cursor must be the nextCursor of an answer.", param="cursor")
    return identifier


def _time(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds") if moment else None
