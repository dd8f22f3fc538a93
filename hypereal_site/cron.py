"""What has to happen by itself, and how often. Every entry is an idempotent sweep: late or double runs do no harm.

They run here and not in the queue, so that money heals while Redis is away. Each lane is a thread: what waits for
somebody else, or reads all there is, holds up only its like, never the sweeps of money.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Final

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import close_old_connections, connection

from billing import auto as auto_topups
from billing import emails, expiry, reconcile, reversals, stripe_events, topups
from core import clock
from idempotency.models import StoredAnswer
from infra import reconciling as deployments_sweep
from infra import warm
from jobs import forgetting as job_forgetting
from jobs import sweep as job_sweep
from limits import watch
from sso import maintenance as sso_maintenance
from statements import mailing
from storage import sweeping as storage_sweeping
from usage import sweep, verify
from webhooks import upkeep

log = logging.getLogger(__name__)


#: What a lane that is at work when the process is to stop gets to finish, in seconds.
FAREWELL_SECONDS: Final = 30.0


class Lane(Enum):
    """What its entries wait for: a thread each, so there are never more than these."""

    BOOKS = auto()  # our own database alone, some rows at a time
    LIMITS = auto()  # keys are disabled here, and their people told by mail
    STRIPE = auto()
    JOBS = auto()  # the providers of long work
    ENGINES = auto()  # those who run GPUs
    MAIL = auto()
    OUTSIDE = auto()  # customers' servers and name servers, the storage
    LONG = auto()  # whole tables, or all that Stripe knows


@dataclass(frozen=True, slots=True)
class Entry:
    """``run`` every ``seconds``, by one process at a time."""

    name: str
    seconds: float
    run: Callable[[], object]
    lane: Lane = Lane.BOOKS


def _forget_answers() -> int:
    return StoredAnswer.objects.filter(expires_at__lt=clock.now()).delete()[0]


def _forget_sessions() -> int:
    return Session.objects.filter(expire_date__lt=clock.now() - timedelta(days=1)).delete()[0]


def _prove_books() -> None:
    report = verify.verify()
    for finding in report.findings:
        log.error(
            "the books disagree", extra={"check": finding.check.name, "wrong": finding.wrong, "rows": finding.examples}
        )
    if report.clean:
        verify.seal()


def entries() -> Sequence[Entry]:
    """The time table."""
    return (
        Entry("holds of dead processes", settings.SWEEP_SECONDS, sweep.sweep),
        Entry("overdue steps of jobs", settings.JOB_SWEEP_SECONDS, job_sweep.sweep, Lane.JOBS),
        Entry("limits and low balances", 10.0, watch.watch, Lane.LIMITS),
        Entry("open top-ups", 60.0, lambda: topups.sweep(clock.now()), Lane.STRIPE),
        Entry("automatic top-ups", 5.0, lambda: auto_topups.sweep(clock.now()), Lane.STRIPE),
        Entry("mails about automatic top-ups", 60.0, emails.sweep_auto_topups, Lane.MAIL),
        Entry("open refunds and disputes", 60.0, lambda: reversals.sweep(clock.now()), Lane.STRIPE),
        Entry("expired credits", 10.0, lambda: expiry.sweep(clock.now())),
        Entry("payments nobody told of", 3_600.0, lambda: topups.heal(clock.now()), Lane.STRIPE),
        Entry("stored Stripe events", 5.0, lambda: stripe_events.sweep(clock.now()), Lane.STRIPE),
        Entry("comparison with Stripe", 86_400.0, lambda: reconcile.nightly(clock.now()), Lane.LONG),
        Entry("old answers to idempotency keys", 3_600.0, _forget_answers),
        Entry("inputs of ended jobs", 3_600.0, lambda: job_forgetting.sweep(clock.now())),
        Entry("ended jobs that are old", 3_600.0, lambda: job_forgetting.sweep_old(clock.now())),
        Entry("old sessions", 86_400.0, _forget_sessions),
        Entry("identity providers and domains", 600.0, sso_maintenance.sweep, Lane.OUTSIDE),
        Entry("mails of statements", 3_600.0, lambda: mailing.sweep(clock.now()), Lane.MAIL),
        Entry("deployments at GPU engines", 5.0, deployments_sweep.sweep, Lane.ENGINES),
        Entry("workers that are kept warm", 30.0, warm.sweep),
        Entry("expired files", 300.0, lambda: storage_sweeping.sweep(clock.now()), Lane.OUTSIDE),
        Entry("files and their rows", 86_400.0, lambda: storage_sweeping.compare(clock.now()), Lane.LONG),
        Entry("mails about webhooks", 60.0, upkeep.notify, Lane.MAIL),
        Entry("old messages of webhooks", 3_600.0, lambda: upkeep.forget(clock.now())),
        Entry("proof of the books", 86_400.0, _prove_books, Lane.LONG),
    )


def run_forever(stop: threading.Event, table: Sequence[Entry]) -> None:
    """Run what is due until ``stop`` is set, each lane on a thread of its own."""
    threads = [
        threading.Thread(
            target=_run_lane, args=(stop, [entry for entry in table if entry.lane is lane]), name=lane.name
        )
        for lane in dict.fromkeys(entry.lane for entry in table)
    ]
    for thread in threads:
        thread.daemon = True
        thread.start()
    stop.wait()
    end = time.monotonic() + FAREWELL_SECONDS
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def _run_lane(stop: threading.Event, table: Sequence[Entry]) -> None:
    """One after the other. A failing entry is logged and tried again at its next time."""
    due = dict.fromkeys((entry.name for entry in table), 0.0)
    while not stop.is_set():
        for entry in table:
            if time.monotonic() >= due[entry.name] and not stop.is_set():
                due[entry.name] = time.monotonic() + entry.seconds
                run_once(entry)
        stop.wait(max(0.05, min(due.values()) - time.monotonic()))
    connection.close()


def run_once(entry: Entry) -> bool:
    """Run ``entry`` unless another process is at it; False where it was skipped or failed."""
    close_old_connections()
    lock = int.from_bytes(hashlib.sha256(f"cron/{entry.name}".encode()).digest()[:8], "big", signed=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [lock])
            if not cursor.fetchone()[0]:
                return False
            try:
                entry.run()
            finally:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [lock])
    except Exception:
        log.exception("a scheduled sweep failed", extra={"entry": entry.name})
        connection.close()
        return False
    return True
