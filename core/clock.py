"""The one door to the time of day, so that tests can move it."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime


def now() -> datetime:
    """The current moment, UTC."""
    return datetime.now(UTC)


def unix() -> float:
    """The current moment in Unix seconds."""
    return time.time()


def monotonic() -> float:
    """Seconds on a clock that never goes back; for time-outs only."""
    return time.monotonic()


def month_of(moment: datetime) -> date:
    """The first day of the calendar month (UTC) that ``moment`` falls in; limits run by this month."""
    return moment.astimezone(UTC).date().replace(day=1)
