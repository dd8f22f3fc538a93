"""What callers see of jobs: the bodies of answers and notices, and the reads and writes behind the endpoints."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from core import ids, money
from core.errors import InvalidRequest, NotFound
from jobs import kinds
from jobs.models import Job
from keys.auth import KeyFacts

log = logging.getLogger(__name__)

#: Where a job is polled: a path, for any host that the caller reached us by.
POLL_PATH: Final = "/api/v1/jobs/"
USUAL_ROWS: Final = 20
MOST_ROWS: Final = 100


def accepted(job: Job) -> dict[str, Any]:
    """The answer to a submission: 202."""
    return {
        "jobId": str(job.pk),
        "pollUrl": f"{POLL_PATH}{job.pk}",
        "status": job.state,
        "model": job.model,
        "reservedCredits": money.credits_json(job.reserved_microcredits),
    }


def body(job: Job) -> dict[str, Any]:
    """What a poll shows, and what a notice says; ``costCredits`` is null until the job has ended."""
    cost = job.cost_microcredits
    shown: dict[str, Any] = {
        "jobId": str(job.pk),
        "kind": job.kind,
        "status": job.state,
        "model": job.model,
        "progress": job.progress,
        "data": [],
        "costCredits": None if cost is None else money.credits_json(cost),
        "reservedCredits": money.credits_json(job.reserved_microcredits),
        "error": _error(job),
        "cancelRequested": job.cancel_asked_at is not None,
        "sandbox": job.sandbox,
        "createdAt": _moment(job.created_at),
        "startedAt": _moment(job.started_at),
        "finishedAt": _moment(job.finished_at),
    }
    return shown | _shown_by_kind(job)


def listed(
    workspace_id: UUID, *, kind: str = "", state: str = "", model: str = "", cursor: str = "", limit: str = ""
) -> dict[str, Any]:
    """A page of the workspace's jobs, the newest first: ``{"jobs": […], "nextCursor": …}``.

    Raises InvalidRequest that names the parameter.
    """
    size = _size(limit)
    rows = list(filtered(workspace_id, kind=kind, state=state, model=model, before=_cursor(cursor))[: size + 1])
    shown = [body(row) for row in rows[:size]]
    return {"jobs": shown, "nextCursor": str(rows[size - 1].pk) if len(rows) > size else None}


def filtered(
    workspace_id: UUID, *, kind: str = "", state: str = "", model: str = "", before: UUID | None = None
) -> QuerySet[Job]:
    """The workspace's jobs that match, the newest first. Raises InvalidRequest for a state that there is not."""
    rows = Job.objects.filter(workspace_id=workspace_id).order_by("-id")
    if state:
        if state not in Job.State.values:
            raise InvalidRequest(f"status must be one of {', '.join(Job.State.values)}.", param="status")
        rows = rows.filter(state=state)
    for column, value in (("kind", kind), ("model", model)):
        if value:  # PostgreSQL knows no text with a NUL, so nothing has that name
            rows = rows.filter(**{column: value}) if "\0" not in value else rows.none()
    return rows.filter(pk__lt=before) if before is not None else rows


def found(workspace_id: UUID, job_id: str) -> Job:
    """A job of this workspace. Raises NotFound, also for another workspace's."""
    identifier = ids.parse(job_id)
    row = Job.objects.filter(pk=identifier, workspace_id=workspace_id).first() if identifier is not None else None
    if row is None:
        raise NotFound("There is no job of that id.", code="job_not_found")
    return row


def shown(key: KeyFacts, job_id: str) -> dict[str, Any]:
    """``GET /jobs/{id}``. Raises NotFound."""
    return body(found(key.workspace_id, job_id))


def _shown_by_kind(job: Job) -> dict[str, Any]:
    """What the kind shows of it. A mistake in there must not keep a job from ending, or from being seen."""
    try:
        with transaction.atomic():
            return kinds.kind_of(job.kind).shown(job)
    except Exception:
        log.exception("a job can't be shown by its kind", extra={"job": str(job.pk), "kind": job.kind})
        return {}


def _error(job: Job) -> dict[str, Any] | None:
    if not job.error_type:
        return None
    return {"type": job.error_type, "code": job.error_code or None, "message": job.error_message}


def _moment(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None


def _size(text: str) -> int:
    if not text:
        return USUAL_ROWS
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= MOST_ROWS:
        raise InvalidRequest(f"limit must lie between 1 and {MOST_ROWS}.", param="limit")
    return int(text)


def _cursor(text: str) -> UUID | None:
    if not text:
        return None
    identifier = ids.parse(text)
    if identifier is None:
        raise InvalidRequest("cursor must be the nextCursor of the page before.", param="cursor")
    return identifier
