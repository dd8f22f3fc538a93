"""From the outbox to deliveries: one for each endpoint that chose the event, one for the message's own address."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID, uuid5

from django.db import transaction

from events.models import Outbox
from orgs.models import Workspace
from webhooks.models import Delivery, Endpoint

#: Messages in one transaction at most.
MOST: Final = 200
_PLACES: Final = UUID("0e4fd0a2-5e7e-5a55-8d0f-3f6f8c1d2b90")


@transaction.atomic
def fan_out(now: datetime) -> int:
    """Make the deliveries of up to MOST messages that have none yet; returns how many messages that were.

    Two at once take different messages. A message that nobody wants to hear is forgotten.
    """
    waiting = Outbox.objects.select_for_update(skip_locked=True).filter(fanned_out_at=None)
    messages = list(waiting.order_by("id")[:MOST])
    if not messages:
        return 0
    active = _active({message.workspace_id for message in messages})
    listeners = _listeners(active)
    made = [
        delivery
        for message in messages
        if message.workspace_id in active
        for delivery in _deliveries(message, listeners[message.workspace_id], now)
    ]
    Delivery.objects.bulk_create(made, ignore_conflicts=True)
    heard = {delivery.message_id for delivery in made}
    Outbox.objects.filter(pk__in=heard).update(fanned_out_at=now)
    Outbox.objects.filter(pk__in={message.pk for message in messages} - heard).delete()
    return len(messages)


def to_endpoint(message: Outbox, endpoint: Endpoint, now: datetime) -> Delivery:
    """An unsaved delivery of ``message`` to ``endpoint``, due at once."""
    return Delivery(
        message=message, endpoint=endpoint, workspace_id=message.workspace_id, place=endpoint.pk, run_after=now
    )


def _deliveries(message: Outbox, endpoints: Iterable[Endpoint], now: datetime) -> list[Delivery]:
    found = [to_endpoint(message, endpoint, now) for endpoint in endpoints if message.event in endpoint.events]
    if message.url:
        place = uuid5(_PLACES, f"{message.workspace_id} {_host(message.url)}")
        found.append(Delivery(message=message, workspace_id=message.workspace_id, place=place, run_after=now))
    return found


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:  # the attempt will say what is wrong with it
        return ""


def _active(workspace_ids: set[UUID]) -> set[UUID]:
    return set(Workspace.objects.filter(pk__in=workspace_ids, active=True).values_list("pk", flat=True))


def _listeners(workspace_ids: set[UUID]) -> dict[UUID, list[Endpoint]]:
    """The enabled endpoints of each workspace, locked in one order: none is deleted or disabled under its delivery."""
    found: dict[UUID, list[Endpoint]] = defaultdict(list)
    rows = Endpoint.objects.select_for_update(no_key=True).filter(workspace_id__in=workspace_ids, enabled=True)
    for endpoint in rows.order_by("pk"):
        found[endpoint.workspace_id].append(endpoint)
    return found
