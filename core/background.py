"""Wakes workers. Redis is disposable: a row in the database is the truth of every promised piece of work, a sweep finds
it again, so a wake-up that gets lost costs time and nothing else."""

from __future__ import annotations

import logging
import math
from datetime import UTC, datetime
from typing import Final

import django_rq
from django.db import transaction
from rq.job import Job

from core import clock

#: How far the clocks of a worker's machine and of the database may differ before a wake-up comes too early.
_CLOCKS_DIFFER_SECONDS: Final = 0.1

log = logging.getLogger(__name__)


def enqueue_on_commit(
    task: str,
    *args: object,
    queue: str = "default",
    job_id: str,
    after_seconds: float = 0.0,
    instead_of: str = "",
) -> None:
    """Run ``task`` (its dotted name) on a worker once the present transaction is committed, or that much later.

    ``job_id`` names this attempt, so that two wake-ups for the same thing are one; ``instead_of`` names an earlier one
    that is not wanted any more if its time has not come. A Redis that does not answer is logged and never troubles the
    caller.
    """
    transaction.on_commit(lambda: _enqueue(task, args, queue, job_id, after_seconds, instead_of))


def _enqueue(
    task: str, args: tuple[object, ...], queue: str, job_id: str, after_seconds: float, instead_of: str
) -> None:
    terms = {"job_id": job_id, "result_ttl": 0, "failure_ttl": 3600}
    try:
        asked = django_rq.get_queue(queue)
        if after_seconds > 0:
            asked.enqueue_at(_whole_second_after(after_seconds), task, *args, **terms)
        else:
            asked.enqueue(task, *args, **terms)
        # One that is queued or under way already is not touched: a worker has its name.
        if instead_of and asked.connection.zrem(asked.scheduled_job_registry.key, instead_of):
            asked.connection.delete(Job.key_for(instead_of))
    except Exception as error:
        log.warning("no wake-up for %s: %s; its sweep will do it", task, type(error).__name__)


def _whole_second_after(seconds: float) -> datetime:
    """The moment in ``seconds``, or up to one later: RQ counts in whole seconds and drops what is over.

    Whoever is woken before the time finds nothing due, goes, and is not woken again.
    """
    return datetime.fromtimestamp(math.ceil(clock.now().timestamp() + seconds + _CLOCKS_DIFFER_SECONDS), UTC)
