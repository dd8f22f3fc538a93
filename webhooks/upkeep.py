"""What happens to webhooks by itself, besides sending: old deliveries go, and people hear of endpoints given up."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from accounts import emails
from accounts.models import User
from core import ids
from events.models import Outbox
from orgs.models import Membership
from orgs.permissions import Permission, allows
from webhooks.models import Attempt, Delivery, Endpoint

log = logging.getLogger(__name__)

_BATCH: Final = 1_000
_MOST_NOTICES: Final = 100


def forget(now: datetime) -> int:
    """Delete messages older than WEBHOOK_LOG_DAYS with their deliveries and attempts; returns how many there were."""
    old = Outbox.objects.filter(pk__lt=ids.first_at(now - timedelta(days=settings.WEBHOOK_LOG_DAYS)))
    forgotten = 0
    while batch := list(old.order_by("pk").values_list("pk", flat=True)[:_BATCH]):
        with transaction.atomic():
            Attempt.objects.filter(delivery__message_id__in=batch).delete()
            Delivery.objects.filter(message_id__in=batch).delete()
            forgotten += Outbox.objects.filter(pk__in=batch).delete()[0]
    return forgotten


def notify() -> int:
    """Mail whoever may manage webhooks about endpoints that were disabled by themselves; returns how many those were.

    A mail server that is down leaves it to the next time.
    """
    told = 0
    for endpoint_id in Endpoint.objects.filter(notice_due=True).values_list("pk", flat=True)[:_MOST_NOTICES]:
        try:
            told += _notify(endpoint_id)
        except Exception:  # the mail server's trouble or this one's own: it waits, the others go out
            log.exception("a notice about a webhook waits")
    return told


@transaction.atomic
def _notify(endpoint_id: UUID) -> bool:
    rows = Endpoint.objects.select_for_update(of=("self",), no_key=True, skip_locked=True)
    endpoint = rows.select_related("workspace").filter(pk=endpoint_id, notice_due=True).first()
    if endpoint is None:
        return False
    Endpoint.objects.filter(pk=endpoint.pk).update(notice_due=False)
    context = {
        "endpoint": endpoint,
        "workspace": endpoint.workspace,
        "gone": endpoint.disabled_reason == Endpoint.DisabledReason.GONE,
        "days": settings.WEBHOOK_FAILING_DAYS,
        "page_url": settings.SITE_URL + reverse("webhook", args=[endpoint.pk]),
    }
    emails.deliver(emails.message("webhook_disabled", context, to=person.email) for person in _managers(endpoint))
    return True


def _managers(endpoint: Endpoint) -> list[User]:
    rows = Membership.objects.filter(workspace=endpoint.workspace, user__is_active=True).select_related("user")
    return [row.user for row in rows if allows(row.role, Permission.WEBHOOKS_WRITE)]
