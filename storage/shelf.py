"""How bytes come to lie under a row, and go again. The door for others is `storage.objects`.

A row comes first, under its workspace's lock and within its limits, then its bytes; it goes first, then its bytes.
Whatever dies in between is swept (`storage.sweeping`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import IO
from uuid import UUID

from django.conf import settings
from django.core.files import File
from django.core.files.storage import Storage, storages
from django.db import transaction
from django.db.models import Count, Sum

from core import clock, faults, ids
from core.errors import Conflict, InvalidRequest, RequestTooLarge
from storage import names, sniffing
from storage.models import Kind, Source, StorageAccount, StoredObject
from storage.spool import Spool, too_large

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose file it is, and who or what brought it."""

    workspace_id: UUID
    source: str = Source.UPLOAD
    key_id: UUID | None = None
    user_id: UUID | None = None
    job_id: UUID | None = None
    form_token: UUID | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """What a workspace has stored, and how much it may."""

    used_bytes: int
    used_objects: int
    most_bytes: int
    most_objects: int


def keep(spool: Spool, owner: Owner, *, kind: str, filename: str, content_type: str = "") -> StoredObject:
    """Make a file of what is in the spool, which stays the caller's to close. Raises as `storage.objects.store`."""
    media_type = _media_type(spool, owner, kind, content_type)
    row = _book(
        owner,
        kind=kind or sniffing.kind_of(media_type),
        filename=names.clean(filename, media_type),
        content_type=media_type,
        size_bytes=spool.size_bytes,
        sha256=spool.sha256,
    )
    faults.point("storage.booked")
    try:
        spool.file.seek(0)
        _save(row, spool.file)
    except BaseException:
        row.delete()
        remove(row.place)
        raise
    faults.point("storage.written")
    row.stored_at = clock.now()
    row.save(update_fields=["stored_at"])
    return row


def room(workspace_id: UUID) -> Room:
    """What the workspace uses of what it may."""
    account = StorageAccount.objects.filter(pk=workspace_id).first() or StorageAccount(workspace_id=workspace_id)
    return _room(account)


def backend() -> Storage:
    """Where bytes lie: a folder, or an S3 bucket."""
    return storages["objects"]


def _media_type(spool: Spool, owner: Owner, kind: str, claimed: str) -> str:
    if kind and kind not in Kind.values:
        raise InvalidRequest(f"kind must be one of {', '.join(Kind.values)}.", param="kind")
    media_type = sniffing.content_type(spool.head, claimed)
    if not kind:
        return media_type
    media_type = sniffing.claim_for(kind, claimed, media_type)
    if not sniffing.fits(kind, media_type):
        if owner.source == Source.UPLOAD:
            raise InvalidRequest(f"The file is not of the kind {kind}: its bytes are {media_type}.", param="kind")
        log.warning("a result is not what it should be", extra={"kind": kind, "media_type": media_type})
    return media_type


def _book(owner: Owner, *, kind: str, filename: str, content_type: str, size_bytes: int, sha256: str) -> StoredObject:
    """The row, made while its workspace is locked. Raises RequestTooLarge, Conflict."""
    if owner.source == Source.UPLOAD:
        check_size(size_bytes)
    StorageAccount.objects.get_or_create(workspace_id=owner.workspace_id)
    with transaction.atomic():
        account = StorageAccount.objects.select_for_update().get(pk=owner.workspace_id)
        if owner.source == Source.UPLOAD:
            if owner.form_token and StoredObject.objects.filter(form_token=owner.form_token).exists():
                raise Conflict("This form was sent already.", code="already_stored")
            check_room(_room(account), size_bytes)
        identifier, now = ids.uuid7(), clock.now()
        return StoredObject.objects.create(
            id=identifier,
            workspace_id=owner.workspace_id,
            kind=kind,
            source=owner.source,
            filename=filename,
            content_type=content_type,
            size_bytes=size_bytes,
            sha256=sha256,
            place=place_of(identifier),
            key_id=owner.key_id,
            user_id=owner.user_id,
            job_id=owner.job_id,
            form_token=owner.form_token,
            created_at=now,
            expires_at=now + timedelta(days=settings.STORAGE_RESULT_DAYS)
            if owner.source == Source.RESULT and settings.STORAGE_RESULT_DAYS
            else None,
        )


def place_of(identifier: UUID) -> str:
    """Where the bytes of that file lie: nothing that anybody chose is in it, and folders stay small."""
    return f"{identifier.hex[-2:]}/{identifier.hex}"


def _room(account: StorageAccount) -> Room:
    used = StoredObject.objects.filter(workspace_id=account.pk).aggregate(size=Sum("size_bytes"), count=Count("pk"))
    return Room(
        used_bytes=int(used["size"] or 0),
        used_objects=int(used["count"]),
        most_bytes=settings.STORAGE_MOST_BYTES if account.most_bytes is None else account.most_bytes,
        most_objects=settings.STORAGE_MOST_OBJECTS if account.most_objects is None else account.most_objects,
    )


def check_size(size_bytes: int) -> None:
    """Raise RequestTooLarge for a file that is larger than any may be."""
    if size_bytes > settings.STORAGE_MOST_FILE_BYTES:
        raise too_large(settings.STORAGE_MOST_FILE_BYTES)


def check_room(room: Room, size_bytes: int) -> None:
    """Raise RequestTooLarge unless a file of that size has room."""
    if room.used_objects >= room.most_objects:
        raise RequestTooLarge(
            f"There are {room.used_objects} files, and no more than {room.most_objects} may be stored. Delete some.",
            param="file",
            code="storage_full",
            extra={"limit_objects": room.most_objects, "used_objects": room.used_objects},
        )
    if room.used_bytes + size_bytes > room.most_bytes:
        raise RequestTooLarge(
            f"The file has {size_bytes} bytes, and {max(0, room.most_bytes - room.used_bytes)} of "
            f"{room.most_bytes} are free. Delete some files.",
            param="file",
            code="storage_full",
            extra={"limit_bytes": room.most_bytes, "used_bytes": room.used_bytes},
        )


def _save(row: StoredObject, content: IO[bytes]) -> None:
    # S3 keeps the type with the bytes and serves it; a folder has no use for it.
    file = File(content, name=row.place)
    file.content_type = row.content_type  # type: ignore[attr-defined]
    saved = backend().save(row.place, file)
    if saved != row.place:  # somebody put a file there by hand
        backend().delete(saved)
        raise OSError(f"there are bytes already at {row.place}")


def remove(place: str) -> None:
    """Delete bytes; what can't be deleted now, the sweep finds."""
    try:
        backend().delete(place)
    except Exception as error:
        log.warning("stored bytes could not be deleted: %s", type(error).__name__, extra={"place": place})
