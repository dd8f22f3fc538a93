"""What jobs were asked for is somebody's words: kept while it is needed to make them, and a day for questions."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from jobs.models import Job

KEPT_FOR: Final = timedelta(days=1)


def sweep(now: datetime) -> int:
    """Empty ``input`` of jobs that ended a day before ``now``; how many those were."""
    ended = Job.objects.filter(finished_at__lt=now - KEPT_FOR, stop_due=False).exclude(input={})
    return ended.update(input={})
