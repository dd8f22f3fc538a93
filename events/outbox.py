"""The outbox: what customers' servers are to be told, written in the transaction of what happened.

Neither stands without the other, so a notice is neither lost nor sent about something that was rolled back. `webhooks`
looks for new rows every second; whoever writes needs to know nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from core.storable import storable
from events.models import Outbox

#: Every event there is, in the order in which people read them. docs/webhooks.md shows each one's data.
EVENTS: Final = (
    "job.succeeded",
    "job.failed",
    "job.cancelled",
    "job.expired",
    "limit.reached_80",
    "limit.reached_100",
    "balance.low",
    "key.disabled",
    "topup.completed",
    "refund.completed",
    "member.joined",
    "member.left",
    "member.role_changed",
    "sso.connection_changed",
    "deployment.ready",
    "deployment.failed",
)


def tell(workspace_id: UUID, event: str, data: Mapping[str, Any], *, url: str = "") -> None:
    """Tell the workspace's webhook endpoints that chose ``event``, and ``url`` where one is given, about ``data``.

    Call it inside the transaction of the change. ``data`` holds plain JSON values (ids and times may be UUID and
    datetime), is free of secrets, and is what receivers get, so its members are camelCase and amounts are credits.
    Raises ValueError for an event that is not one of `EVENTS`: a mistake of the caller's.
    """
    if event not in EVENTS:
        raise ValueError(f"{event!r} is no event")
    Outbox.objects.create(workspace_id=workspace_id, event=event, data=storable(dict(data)), url=url)
