"""Wakes workers. Redis is disposable: a row in the database is the truth of every promised piece of work, a sweep finds
it again, so a wake-up that gets lost costs time and nothing else."""

from __future__ import annotations

import logging
from datetime import timedelta

import django_rq
from django.db import transaction

log = logging.getLogger(__name__)


def enqueue_on_commit(
    task: str, *args: object, queue: str = "default", job_id: str, after_seconds: float = 0.0
) -> None:
    """Run ``task`` (its dotted name) on a worker once the present transaction is committed, or that much later.

    ``job_id`` names this attempt, so that two wake-ups for the same thing are one. A Redis that does not answer is
    logged and never troubles the caller.
    """
    transaction.on_commit(lambda: _enqueue(task, args, queue, job_id, after_seconds))


def _enqueue(task: str, args: tuple[object, ...], queue: str, job_id: str, after_seconds: float) -> None:
    terms = {"job_id": job_id, "result_ttl": 0, "failure_ttl": 3600}
    try:
        if after_seconds > 0:
            django_rq.get_queue(queue).enqueue_in(timedelta(seconds=after_seconds), task, *args, **terms)
        else:
            django_rq.get_queue(queue).enqueue(task, *args, **terms)
    except Exception as error:
        log.warning("no wake-up for %s: %s; its sweep will do it", task, type(error).__name__)
