"""What has to happen by itself, and how often. Every entry is an idempotent sweep: late or double runs do no harm.

They run here and not in the queue, so that money heals while Redis is away.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import close_old_connections, connection

from billing import auto, emails, expiry, reconcile, reversals, stripe_events, topups
from core import clock
from idempotency.models import StoredAnswer
from infra import reconciling as deployments_sweep
from jobs import sweep as job_sweep
from limits import watch
from sso import maintenance as sso_maintenance
from statements import mailing
from storage import sweeping as storage_sweeping
from usage import sweep, verify
from webhooks import upkeep

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """``run`` every ``seconds``, by one process at a time."""

    name: str
    seconds: float
    run: Callable[[], object]


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
        Entry("overdue steps of jobs", settings.JOB_SWEEP_SECONDS, job_sweep.sweep),
        Entry("limits and low balances", 10.0, watch.watch),
        Entry("open top-ups", 60.0, lambda: topups.sweep(clock.now())),
        Entry("automatic top-ups", 5.0, lambda: auto.sweep(clock.now())),
        Entry("mails about automatic top-ups", 60.0, emails.sweep_auto_topups),
        Entry("open refunds and disputes", 60.0, lambda: reversals.sweep(clock.now())),
        Entry("expired credits", 10.0, lambda: expiry.sweep(clock.now())),
        Entry("payments nobody told of", 3_600.0, lambda: topups.heal(clock.now())),
        Entry("stored Stripe events", 5.0, lambda: stripe_events.sweep(clock.now())),
        Entry("comparison with Stripe", 86_400.0, lambda: reconcile.nightly(clock.now())),
        Entry("old answers to idempotency keys", 3_600.0, _forget_answers),
        Entry("old sessions", 86_400.0, _forget_sessions),
        Entry("identity providers and domains", 600.0, sso_maintenance.sweep),
        Entry("mails of statements", 3_600.0, lambda: mailing.sweep(clock.now())),
        Entry("deployments at GPU engines", 5.0, deployments_sweep.sweep),
        Entry("expired files", 300.0, lambda: storage_sweeping.sweep(clock.now())),
        Entry("files and their rows", 86_400.0, lambda: storage_sweeping.compare(clock.now())),
        Entry("mails about webhooks", 60.0, upkeep.notify),
        Entry("old messages of webhooks", 3_600.0, lambda: upkeep.forget(clock.now())),
        Entry("proof of the books", 86_400.0, _prove_books),
    )


def run_forever(stop: threading.Event, table: Sequence[Entry]) -> None:
    """Run what is due until ``stop`` is set. A failing entry is logged and tried again at its next time."""
    due = dict.fromkeys((entry.name for entry in table), 0.0)
    while not stop.is_set():
        for entry in table:
            if time.monotonic() >= due[entry.name] and not stop.is_set():
                due[entry.name] = time.monotonic() + entry.seconds
                run_once(entry)
        stop.wait(max(0.05, min(due.values()) - time.monotonic()))


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
