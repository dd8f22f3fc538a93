"""``Idempotency-Key`` on management writes that come with an API key: the same request runs once in a workspace.

The claim, what is written and the answer are one transaction: who comes second at the same time waits for the first
and gets its answer. An answer with an error keeps nothing. (Calls that cost credits are claimed with their hold.)
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from django.db import transaction

from core import clock, errors, ids
from idempotency import replay
from idempotency.models import StoredAnswer
from idempotency.replay import Hashes

KEPT_FOR: Final = timedelta(hours=24)


class Once(NamedTuple):
    """An answer: its status, its body, and the request that it was first given to, where that was another one."""

    status: int
    body: bytes
    replay_of: UUID | None = None


def once(workspace_id: UUID, hashes: Hashes | None, request_id: UUID, status: int, work: Callable[[], Any]) -> Once:
    """What ``work`` returns, as JSON with ``status``; the stored answer where the same was asked before.

    ``hashes`` is None for a request without the header. Raises Conflict for a key that came with another request, and
    what ``work`` raises, which undoes all of it.
    """
    if hashes is None:
        return Once(status, msgspec.json.encode(work()))
    with transaction.atomic():
        earlier = _claimed(workspace_id, hashes, request_id)
        if earlier is not None:
            return _again(earlier, hashes)
        body = msgspec.json.encode(work())
        mine = StoredAnswer.objects.filter(scope_id=workspace_id, key_hash=hashes.key)
        mine.update(status=status, content_type="application/json", sealed_body=replay.seal(body))
    return Once(status, body)


def _claimed(workspace_id: UUID, hashes: Hashes, request_id: UUID) -> StoredAnswer | None:
    """What stands in the place already, or None: then it is ours. Waits for who is just taking it."""
    now = clock.now()
    place = StoredAnswer.objects.filter(scope_id=workspace_id, key_hash=hashes.key)
    place.filter(expires_at__lte=now).delete()
    claim = StoredAnswer(
        id=ids.uuid7(),
        scope_id=workspace_id,
        key_hash=hashes.key,
        request_hash=hashes.request,
        request_id=request_id,
        created_at=now,
        expires_at=now + KEPT_FOR,
    )
    StoredAnswer.objects.bulk_create([claim], ignore_conflicts=True)
    found = place.get()
    return None if found.pk == claim.pk else found


def _again(earlier: StoredAnswer, hashes: Hashes) -> Once:
    if bytes(earlier.request_hash) != hashes.request:
        raise errors.Conflict(
            "This Idempotency-Key was used before with another request.",
            param="Idempotency-Key",
            code="idempotency_key_reused",
        )
    if earlier.status is None or earlier.sealed_body is None:
        raise errors.Conflict(
            "This Idempotency-Key belongs to a request that is still running.",
            param="Idempotency-Key",
            code="still_running",
        )
    return Once(earlier.status, replay.unseal(bytes(earlier.sealed_body)), earlier.request_id)
