"""What jobs were asked for is somebody's words: kept while it is needed to make them, and a day for questions.

The rest of a job that ended (its result, its errors, who was asked) stays for JOB_KEPT_DAYS. What it cost stays for
ever, in the rows of money and of the log, which nothing here touches.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.conf import settings

from core import ids
from jobs.models import Job

KEPT_FOR: Final = timedelta(days=1)
_BATCH: Final = 1_000


def sweep(now: datetime) -> int:
    """Empty ``input`` of jobs that ended a day before ``now``; how many those were."""
    ended = Job.objects.filter(finished_at__lt=now - KEPT_FOR, stop_due=False).exclude(input={})
    return ended.update(input={})


def sweep_old(now: datetime) -> int:
    """Delete jobs that ended JOB_KEPT_DAYS before ``now``, some at a time; how many those were. 0 keeps all."""
    if not settings.JOB_KEPT_DAYS:
        return 0
    moment, forgotten = now - timedelta(days=settings.JOB_KEPT_DAYS), 0
    # No job begins after its end, and ids tell when they were made: the old ones lie at the index's beginning.
    old = Job.objects.filter(pk__lt=ids.first_at(moment), finished_at__lt=moment, stop_due=False).order_by("pk")
    while batch := list(old.values_list("pk", flat=True)[:_BATCH]):
        forgotten += old.order_by().filter(pk__in=batch).delete()[0]
    return forgotten
