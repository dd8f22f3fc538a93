"""The outbox: what customers' servers are to be told, written in the transaction of what happened.

Neither stands without the other, so a notice is neither lost nor sent about something that was rolled back. `webhooks`
looks for new rows every second; whoever writes needs to know nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

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
    Outbox.objects.create(workspace_id=workspace_id, event=event, data=_storable(dict(data)), url=url)


def _storable(value: Any) -> Any:
    """``value`` without what PostgreSQL's JSON can't hold: texts come from providers, and a NUL or half of a surrogate
    pair in one must not undo the transaction that it belongs to."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {_storable(name): _storable(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(member) for member in value]
    return value
