"""Who may cancel a job, and what is noted of it; the move itself is `jobs.lifecycle`'s."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from events import audit
from jobs import lifecycle, serving
from jobs.models import Job
from keys.auth import KeyFacts


def by_key(key: KeyFacts, job_id: str) -> dict[str, Any]:
    """``POST /jobs/{id}/cancel``: the job as it is then. A job that has ended stays as it ended. Raises NotFound."""
    job = serving.found(key.workspace_id, job_id)
    return serving.body(lifecycle.cancel(job.pk))


def by_person(job: Job, actor: audit.Actor) -> Job:
    """Cancel on a page, with an entry of the audit trail unless there was nothing left to cancel."""
    with transaction.atomic():
        row = lifecycle.cancel(job.pk)
        if job.cancel_asked_at is None and row.cancel_asked_at is not None:
            audit.record(
                "job.cancel",
                actor=actor,
                workspace_id=row.workspace_id,
                target=audit.Target("job", row.pk, row.model),
                details={"kind": row.kind, "model": row.model},
            )
    return row
