"""The one door to stored files: `store`, `fetch_and_store`, `find`, `signed_url`, `open_bytes`, `delete`.

Everything here is synchronous Django; the gateway calls it by `Runtime.work`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO
from uuid import UUID

from django.conf import settings
from django.core.files import File
from django.db import transaction

from core import clock
from storage import links
from storage.fetching import fetch_and_store
from storage.models import Source, StoredObject
from storage.shelf import Owner, backend, keep, remove
from storage.spool import Spool

__all__ = ["delete", "fetch_and_store", "find", "is_there", "open_bytes", "signed_url", "store"]

Content = bytes | Iterable[bytes] | IO[bytes]


def store(
    workspace_id: UUID,
    content: Content,
    *,
    kind: str,
    filename: str,
    content_type: str = "",
    source: str = Source.UPLOAD,
    key_id: UUID | None = None,
    user_id: UUID | None = None,
    job_id: UUID | None = None,
) -> StoredObject:
    """Keep ``content`` as a file of the workspace. What it is, its bytes say; ``content_type`` is only a hint.

    Limits hold for uploads. A result has been paid for: it is kept, and counts. Raises RequestTooLarge for too large a
    file or a full shelf, InvalidRequest (``kind``) for an upload that is not what it is said to be, OSError.
    """
    owner = Owner(workspace_id, source, key_id, user_id, job_id)
    return store_for(owner, content, kind=kind, filename=filename, content_type=content_type)


def store_for(owner: Owner, content: Content, *, kind: str, filename: str, content_type: str = "") -> StoredObject:
    """`store` for an owner whose parts are put together already. Raises Conflict for a form that was sent before."""
    with Spool(settings.STORAGE_MOST_FILE_BYTES) as spool:
        spool.fill(content)
        return keep(spool, owner, kind=kind, filename=filename, content_type=content_type)


def find(workspace_id: UUID, object_id: UUID) -> StoredObject | None:
    """A workspace's file, None for another's, an expired one, or one whose bytes are still under way."""
    row = StoredObject.objects.filter(pk=object_id, workspace_id=workspace_id).first()
    return row if row is not None and is_there(row) else None


def is_there(row: StoredObject) -> bool:
    """Whether it can be had: stored, and its time is not over."""
    return row.stored_at is not None and (row.expires_at is None or row.expires_at > clock.now())


def signed_url(found: StoredObject | UUID | str, *, seconds: int | None = None) -> str:
    """An absolute address at which anybody can read the file for ``seconds`` (settings.STORAGE_URL_SECONDS).

    Never longer than the file itself is kept. Raises StoredObject.DoesNotExist for an id that is none.
    """
    row = found if isinstance(found, StoredObject) else StoredObject.objects.get(pk=found)
    wanted = seconds or settings.STORAGE_URL_SECONDS
    if row.expires_at is not None:
        wanted = max(1, min(wanted, int((row.expires_at - clock.now()).total_seconds())))
    return links.url(row.pk, row.filename, seconds=wanted)


def open_bytes(row: StoredObject) -> File[bytes]:
    """The bytes, to be read and closed. Raises OSError where they are gone."""
    return backend().open(row.place, "rb")


def delete(row: StoredObject) -> bool:
    """Forget the file: its row now, its bytes once that is committed. False where somebody was quicker."""
    place = row.place
    with transaction.atomic():
        gone, _rows = StoredObject.objects.filter(pk=row.pk).delete()
        transaction.on_commit(lambda: remove(place))
    return gone > 0
