"""The rows of deliveries: which are due and for whom, what came of an attempt, and sending one again.

Every attempt has a lease. Two senders never hold the same delivery; one that dies leaves it to the next after the
lease, so a message is sent at least once, always under the same ``webhook-id``. Whoever changes an endpoint and its
deliveries locks the endpoint first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from core import clock, errors, ids
from core.secrets import Unreadable
from events import audit
from events.models import Outbox
from webhooks import default_secret, schedule, signing
from webhooks.models import Attempt, Delivery, Endpoint

#: Attempts at one place, and for one workspace, at the same time: a slow receiver holds up nobody but itself.
PLACE_MOST: Final = 2
WORKSPACE_MOST: Final = 6
ANSWER_BYTES: Final = 1_024
#: How much longer than its attempt a lease lasts.
_SLACK: Final = timedelta(seconds=30)

_WAITING = Delivery.State.WAITING

# Of each place the oldest that are due, as many as it may still have; then of each workspace in turn.
_DUE = """
WITH busy AS (
  SELECT place, workspace_id FROM webhooks_delivery WHERE state = 'waiting' AND lease_until > %(now)s),
places AS (
  SELECT DISTINCT place FROM webhooks_delivery
  WHERE state = 'waiting' AND run_after <= %(now)s AND (lease_until IS NULL OR lease_until <= %(now)s)),
candidates AS (
  SELECT next.* FROM places CROSS JOIN LATERAL (
    SELECT d.id, d.workspace_id, d.run_after FROM webhooks_delivery d
    WHERE d.place = places.place AND d.state = 'waiting' AND d.run_after <= %(now)s
      AND (d.lease_until IS NULL OR d.lease_until <= %(now)s)
    ORDER BY d.run_after
    LIMIT greatest(0, %(place_most)s - (SELECT count(*) FROM busy WHERE busy.place = places.place))) next),
ranked AS (
  SELECT c.id, c.run_after, row_number() OVER (PARTITION BY c.workspace_id ORDER BY c.run_after)
    + (SELECT count(*) FROM busy WHERE busy.workspace_id = c.workspace_id) AS place_in_line
  FROM candidates c)
SELECT id FROM ranked WHERE place_in_line <= %(workspace_most)s ORDER BY place_in_line, run_after LIMIT %(most)s"""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One attempt to be made: where to, and every byte of it."""

    delivery_id: UUID
    lease: UUID
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: a status, or a reason why there is none."""

    started_at: datetime
    duration_ms: int
    status: int | None = None
    error: str = ""
    error_message: str = ""
    answer: str = ""
    #: What the receiver asked for, in seconds (Retry-After).
    asked_seconds: float | None = None

    @property
    def delivered(self) -> bool:
        """Only 2xx is; a redirect is not followed."""
        return self.status is not None and 200 <= self.status < 300


def body_of(message: Outbox) -> bytes:
    """The body: ``{type, timestamp, data}``, the same bytes on every attempt."""
    moment = message.created_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    members = {"type": message.event, "timestamp": moment, "data": message.data}
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()


# ── Claiming ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@transaction.atomic
def claim(most: int, now: datetime | None = None) -> list[Parcel]:
    """Up to ``most`` attempts that are due, each leased to the caller, who is to make them at once."""
    now = now or clock.now()
    with connection.cursor() as cursor:
        terms: dict[str, datetime | int] = {
            "now": now,
            "most": most,
            "place_most": PLACE_MOST,
            "workspace_most": WORKSPACE_MOST,
        }
        cursor.execute(_DUE, terms)
        due = [row[0] for row in cursor.fetchall()]
    rows = Delivery.objects.select_for_update(of=("self",), skip_locked=True).select_related("message", "endpoint")
    free = rows.filter(Q(lease_until=None) | Q(lease_until__lte=now), pk__in=due, state=_WAITING, run_after__lte=now)
    return [parcel for row in free if (parcel := _lease(row, now))]


def _lease(row: Delivery, now: datetime) -> Parcel | None:
    if row.endpoint is not None and not row.endpoint.enabled:
        _end(row, Delivery.State.CANCELLED, now)
        return None
    lease = ids.uuid7()
    row.lease, row.lease_until = lease, now + timedelta(seconds=settings.WEBHOOK_SECONDS) + _SLACK
    row.save(update_fields=["lease", "lease_until"])
    body, owner = body_of(row.message), row.endpoint or default_secret.of(row.workspace_id)
    try:
        keys = signing.valid_ones(owner, now)
    except Unreadable:
        _write(row, Outcome(now, 0, error="secret", error_message="The signing secret can't be read: rotate it."), now)
        return None
    headers = signing.headers(signing.message_id(row.message_id), now, body, keys)
    return Parcel(row.pk, lease, row.url, {**headers, "content-type": "application/json"}, body)


# ── Recording ────────────────────────────────────────────────────────────────────────────────────────────────────────
@transaction.atomic
def record(parcel: Parcel, outcome: Outcome, now: datetime | None = None) -> None:
    """Write down what came of an attempt, and what follows from it for the delivery and its endpoint."""
    now = now or clock.now()
    endpoints = Endpoint.objects.select_for_update(no_key=True, of=("self",))
    endpoint = endpoints.filter(deliveries=parcel.delivery_id).first()
    row = Delivery.objects.select_for_update().filter(pk=parcel.delivery_id).first()
    if row is None:  # its endpoint was deleted meanwhile
        return
    if row.lease != parcel.lease and not outcome.delivered:  # another has taken over, or it was asked for anew
        _log(row, outcome)
        return
    _write(row, outcome, now)
    if endpoint is not None:
        _judge(endpoint, outcome, now)


def _write(row: Delivery, outcome: Outcome, now: datetime) -> None:
    _log(row, outcome)
    if outcome.delivered:
        _end(row, Delivery.State.DELIVERED, now)
        return
    if row.state != _WAITING:  # cancelled under way
        return
    row.tries += 1
    again = schedule.next_try(row.tries, now, asked_seconds=outcome.asked_seconds)
    if again is None or outcome.status == 410:
        _end(row, Delivery.State.FAILED, now)
        return
    row.run_after, row.lease, row.lease_until = again, None, None
    row.save(update_fields=["tries", "run_after", "lease", "lease_until"])


def _log(row: Delivery, outcome: Outcome) -> None:
    Attempt.objects.create(
        delivery=row,
        started_at=outcome.started_at,
        duration_ms=outcome.duration_ms,
        status=outcome.status,
        error=outcome.error,
        error_message=outcome.error_message,
        answer=outcome.answer,
    )


def _end(row: Delivery, state: Delivery.State, now: datetime) -> None:
    row.state, row.ended_at, row.lease, row.lease_until = state, now, None, None
    row.save(update_fields=["state", "tries", "ended_at", "lease", "lease_until"])


def _judge(endpoint: Endpoint, outcome: Outcome, now: datetime) -> None:
    """Remember how long the (locked) endpoint has been failing, and disable it where that is too long."""
    if outcome.delivered:
        if endpoint.failing_since is not None:
            endpoint.failing_since = None
            endpoint.save(update_fields=["failing_since"])
        return
    if endpoint.failing_since is None:
        endpoint.failing_since = now
        endpoint.save(update_fields=["failing_since"])
    if not endpoint.enabled:
        return
    if outcome.status == 410:
        _give_up(endpoint, Endpoint.DisabledReason.GONE, now)
    elif now - endpoint.failing_since >= timedelta(days=settings.WEBHOOK_FAILING_DAYS):
        _give_up(endpoint, Endpoint.DisabledReason.FAILING, now)


def _give_up(endpoint: Endpoint, reason: Endpoint.DisabledReason, now: datetime) -> None:
    endpoint.notice_due = True
    disable(endpoint, reason, now)
    target = audit.Target("webhook", endpoint.pk, endpoint.url)
    audit.record(
        "webhook.disable",
        actor=audit.SYSTEM,
        target=target,
        workspace_id=endpoint.workspace_id,
        details={"reason": reason.value},
    )


def disable(endpoint: Endpoint, reason: Endpoint.DisabledReason, now: datetime) -> None:
    """Stop a locked endpoint: what waits for it is cancelled, and can be sent again by hand."""
    endpoint.enabled, endpoint.disabled_reason, endpoint.disabled_at = False, reason, now
    endpoint.save(update_fields=["enabled", "disabled_reason", "disabled_at", "notice_due"])
    waiting = Delivery.objects.filter(endpoint=endpoint, state=_WAITING)
    waiting.update(state=Delivery.State.CANCELLED, ended_at=now, lease=None, lease_until=None)


# ── By hand ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@transaction.atomic
def replay(delivery: Delivery, *, actor: audit.Actor) -> Delivery:
    """Send it once more, under the same ``webhook-id``, and retry like a new one. What waits is sent now.

    Raises Conflict where its endpoint is disabled or an attempt is being made.
    """
    now = clock.now()
    if delivery.endpoint_id is not None:
        endpoint = Endpoint.objects.select_for_update(no_key=True).filter(pk=delivery.endpoint_id).first()
        refuse_disabled(endpoint)
    row = Delivery.objects.select_for_update(of=("self",)).select_related("message", "endpoint").get(pk=delivery.pk)
    if row.state == _WAITING and row.lease_until is not None and row.lease_until > now:
        raise errors.Conflict(_("It is being sent at this moment."), code="being_sent")
    row.state, row.tries, row.run_after, row.ended_at = _WAITING, 0, now, None
    row.lease = row.lease_until = None
    row.save(update_fields=["state", "tries", "run_after", "ended_at", "lease", "lease_until"])
    target = audit.Target("webhook", row.endpoint_id or row.pk, row.url)
    details = {"delivery": str(row.pk), "message": signing.message_id(row.message_id)}
    audit.record("webhook.replay", actor=actor, target=target, workspace_id=row.workspace_id, details=details)
    return row


@transaction.atomic
def recover(endpoint: Endpoint, *, actor: audit.Actor) -> int:
    """Send everything again that the log holds and that did not reach the endpoint; returns how much that is.

    Raises Conflict where it is disabled.
    """
    fresh, now = Endpoint.objects.select_for_update(no_key=True).filter(pk=endpoint.pk).first(), clock.now()
    refuse_disabled(fresh)
    count = missed(endpoint).update(state=_WAITING, tries=0, run_after=now, ended_at=None, lease=None, lease_until=None)
    target = audit.Target("webhook", endpoint.pk, endpoint.url)
    audit.record(
        "webhook.recover", actor=actor, target=target, workspace_id=endpoint.workspace_id, details={"count": count}
    )
    return count


def missed(endpoint: Endpoint) -> QuerySet[Delivery]:
    """What did not reach the endpoint and is not tried any more."""
    return Delivery.objects.filter(endpoint=endpoint, state__in=(Delivery.State.FAILED, Delivery.State.CANCELLED))


def refuse_disabled(endpoint: Endpoint | None) -> None:
    """Raise Conflict where nothing can be sent to ``endpoint``."""
    if endpoint is None or not endpoint.enabled:
        raise errors.Conflict(_("The endpoint is disabled. Enable it first."), code="webhook_disabled")
