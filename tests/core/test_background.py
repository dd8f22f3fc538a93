"""Wake-ups, on a real Redis."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import django_rq
import pytest
from pytest_django import DjangoCaptureOnCommitCallbacks
from rq.job import Job

from core.background import enqueue_on_commit

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("seconds", [0.01, 0.5, 1.0, 2.75])
def test_nobody_is_woken_before_the_time(
    seconds: float, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    """RQ compares whole seconds: one woken early finds nothing due, and no other wake-up comes."""
    queue, name = django_rq.get_queue("bulk"), str(uuid4())
    asked = time.time()
    with django_capture_on_commit_callbacks(execute=True):
        enqueue_on_commit("jobs.tasks.step", name, queue="bulk", job_id=name, after_seconds=seconds)
    noted = time.time()
    try:
        woken = queue.scheduled_job_registry.get_scheduled_time(name).timestamp()
        assert asked + seconds < woken < noted + seconds + 1.2
    finally:
        queue.scheduled_job_registry.remove(name, delete_job=True)


def test_what_is_due_now_is_queued_now(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    queue, name = django_rq.get_queue("bulk"), str(uuid4())
    with django_capture_on_commit_callbacks(execute=True):
        enqueue_on_commit("jobs.tasks.step", name, queue="bulk", job_id=name)
        assert not Job.exists(name, queue.connection), "before the commit"
    try:
        assert name in queue.get_job_ids()
    finally:
        Job.fetch(name, queue.connection).delete()


def test_a_wake_up_takes_the_place_of_one_whose_time_has_not_come(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    queue, (waiting, queued, later) = django_rq.get_queue("bulk"), (str(uuid4()) for _ in range(3))

    def wake(name: str, **terms: Any) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            enqueue_on_commit("jobs.tasks.step", name, queue="bulk", job_id=name, **terms)

    try:
        wake(waiting, after_seconds=60)
        wake(queued)
        wake(later, after_seconds=90, instead_of=waiting)
        wake(later, after_seconds=90, instead_of=queued)
        assert queue.scheduled_job_registry.get_job_ids() == [later]
        assert not Job.exists(waiting, queue.connection)
        assert Job.fetch(queued, queue.connection).args == (queued,) and queued in queue.get_job_ids()
    finally:
        for name in (queued, later):
            Job.fetch(name, queue.connection).delete()
