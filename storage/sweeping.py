"""Clears away what nobody will come back for: expired results, bytes without a row, rows without bytes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from core import ids
from storage import objects, shelf
from storage.models import StoredObject

log = logging.getLogger(__name__)

#: An upload that has lasted longer than this is dead.
_UNDER_WAY: Final = timedelta(hours=6)
#: A bucket or a disk that is not there for a while must not cost anybody their list of files.
_MISSING: Final = timedelta(days=7)
#: Files of an organization that was deleted.
_DELETED: Final = timedelta(days=30)
_BATCH: Final = 500


def sweep(now: datetime) -> int:
    """Delete what has expired and what an uploader that died left; how many files went."""
    gone = 0
    for rows in (
        StoredObject.objects.filter(expires_at__lte=now),
        StoredObject.objects.filter(stored_at__isnull=True, created_at__lt=now - _UNDER_WAY),
        StoredObject.objects.filter(missing_since__lt=now - _MISSING),
        StoredObject.objects.filter(workspace__deleted_at__lt=now - _DELETED),
    ):
        for row in rows.order_by("pk")[:_BATCH]:
            try:
                gone += objects.delete(row)
            except Exception:  # the others are not to wait for it
                log.exception("a file could not be deleted", extra={"file": str(row.pk)})
    return gone


def compare(now: datetime) -> tuple[int, int]:
    """Hold bytes against rows, folder by folder: bytes without a row go, rows without bytes are marked.

    Returns how many of each there were.
    """
    orphans = missing = 0
    for number in range(256):
        folder = f"{number:02x}"
        places = set(_places(folder))
        rows = dict(StoredObject.objects.filter(place__startswith=f"{folder}/").values_list("place", "pk"))
        for place in places - rows.keys():
            identifier = ids.parse(place.partition("/")[2])
            if identifier is not None and ids.time_of(identifier) < now - _UNDER_WAY:
                shelf.remove(place)
                orphans += 1
        missing += _mark(now, [rows[place] for place in rows.keys() - places], [rows[p] for p in rows.keys() & places])
    if orphans or missing:
        log.warning("stored bytes and their rows differ", extra={"orphans": orphans, "missing": missing})
    return orphans, missing


def _mark(now: datetime, missing: list[UUID], found: list[UUID]) -> int:
    count = 0
    if missing:
        lost = StoredObject.objects.filter(pk__in=missing, stored_at__lt=now - _UNDER_WAY)
        count = lost.count()
        lost.filter(missing_since__isnull=True).update(missing_since=now)
    if found:
        StoredObject.objects.filter(pk__in=found, missing_since__isnull=False).update(missing_since=None)
    return count


def _places(folder: str) -> Iterator[str]:
    try:
        _folders, names = shelf.backend().listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        yield f"{folder}/{name}"
