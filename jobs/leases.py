"""Who works on a job: a lease in its row, taken and renewed by the database's clock.

A worker that dies leaves a lease that ends by itself; then the next one takes the job over.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection, connections

from jobs.models import Job

log = logging.getLogger(__name__)

# One statement, so that a claim is either there for everybody or for nobody. From the first question to a provider on
# something may be under way there, so that is noted before it is asked, not after.
_CLAIM: Final = """
UPDATE jobs_job SET
  lease = %(lease)s,
  lease_until = statement_timestamp() + make_interval(secs => %(seconds)s),
  steps = steps + 1,
  asked_at = CASE WHEN finished_at IS NULL AND cancel_asked_at IS NULL AND deadline_at > statement_timestamp()
                  THEN COALESCE(asked_at, statement_timestamp()) ELSE asked_at END
WHERE id = (
  SELECT id FROM jobs_job
  WHERE id = %(id)s AND (finished_at IS NULL OR stop_due) AND run_after <= statement_timestamp()
    AND (lease_until IS NULL OR lease_until <= statement_timestamp())
  FOR UPDATE SKIP LOCKED)
RETURNING *, deadline_at <= statement_timestamp() AS past_deadline"""
_RENEW: Final = """
UPDATE jobs_job SET lease_until = statement_timestamp() + make_interval(secs => %(seconds)s)
WHERE id = %(id)s AND lease = %(lease)s"""
_DUE: Final = """
SELECT id FROM jobs_job
WHERE (finished_at IS NULL OR stop_due) AND run_after <= statement_timestamp() - make_interval(secs => %(overdue)s)
  AND (lease_until IS NULL OR lease_until <= statement_timestamp())
ORDER BY run_after LIMIT %(most)s"""


def claim(job_id: UUID) -> Job | None:
    """The job with a fresh lease; None where nothing is due, or somebody else is at it."""
    values = {"id": job_id, "lease": uuid4(), "seconds": settings.JOB_LEASE_SECONDS}
    return next(iter(Job.objects.raw(_CLAIM, values)), None)


def due(*, overdue_seconds: float, most: int) -> list[UUID]:
    """Jobs whose next step has been due for that long and that nobody works on, the oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(_DUE, {"overdue": overdue_seconds, "most": most})
        return [row[0] for row in cursor.fetchall()]


@contextmanager
def kept(job: Job) -> Iterator[None]:
    """Renew the lease of ``job`` for as long as the step runs, from a thread with a connection of its own."""
    done = threading.Event()
    keeper = threading.Thread(target=_renew, args=(job.pk, job.lease, done), daemon=True, name=f"lease-{job.pk}")
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()


def _renew(job_id: UUID, lease: UUID, done: threading.Event) -> None:
    seconds = settings.JOB_LEASE_SECONDS
    try:
        while not done.wait(seconds / 3):
            try:
                with connection.cursor() as cursor:
                    cursor.execute(_RENEW, {"id": job_id, "lease": lease, "seconds": seconds})
            except Exception as error:  # a database that is away: the next look may find it there again
                log.warning("a job's lease was not renewed: %s", type(error).__name__, extra={"job": str(job_id)})
                connection.close()
    finally:
        connections.close_all()
