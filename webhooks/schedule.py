"""When a delivery that failed is tried again, and when an endpoint that keeps failing is given up."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Final

#: The pauses after each failed attempt. All of them are three days, less a few minutes.
PAUSES: Final = (
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(minutes=30),
    timedelta(hours=1),
    timedelta(hours=2),
    timedelta(hours=4),
    timedelta(hours=8),
    timedelta(hours=8),
    timedelta(hours=12),
    timedelta(hours=12),
    timedelta(hours=12),
    timedelta(hours=12),
)
#: A pause is up to this part shorter or longer, so that receivers coming back do not meet everything at once.
JITTER: Final = 0.1
#: A receiver that asks for more time (Retry-After) gets this much at most.
MOST_ASKED: Final = timedelta(hours=12)

_random = random.SystemRandom()


def next_try(failed: int, now: datetime, *, asked_seconds: float | None = None) -> datetime | None:
    """When to try again after so many failures, the receiver having asked for a pause of ``asked_seconds``.

    None once the delivery is to be given up.
    """
    if failed > len(PAUSES):
        return None
    pause = PAUSES[failed - 1] * _random.uniform(1 - JITTER, 1 + JITTER)
    if asked_seconds is not None:
        pause = max(pause, min(timedelta(seconds=asked_seconds), MOST_ASKED))
    return now + pause
