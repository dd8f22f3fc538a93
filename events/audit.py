"""The audit trail: who did what to what, when, from where. Every management write records one row in its transaction.

`Actor` names who acts. Views make it of their request, commands and tasks use `SYSTEM`; services only pass it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest

from core import client
from events.models import AuditEvent

_LABEL_LENGTH = 254


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, as the trail will name them, and from which request."""

    user_id: UUID | None
    label: str
    address: str | None = None
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What is acted upon: its kind, its id, and how people call it."""

    type: str
    id: UUID | str
    label: str = ""


#: Acts without a person: sweeps, limits, scheduled work.
SYSTEM = Actor(user_id=None, label="system")


def operator(name: str) -> Actor:
    """Somebody at the command line, where there is no request; ``name`` is the command."""
    return Actor(user_id=None, label=f"operator: {name}")


def actor_of(request: HttpRequest) -> Actor:
    """The person who sent ``request``; an anonymous one acts as themselves without a name."""
    user = request.user
    return Actor(
        user_id=user.pk if user.is_authenticated else None,
        label=user.email if user.is_authenticated else "anonymous",
        address=address_of(request),
        request_id=getattr(request, "request_id", None),
    )


def address_of(request: HttpRequest) -> str | None:
    """The client's IP address as text, by the proxies that the operator trusts."""
    address = client.address_of(
        request.META.get("REMOTE_ADDR") or "",
        request.META.get("HTTP_X_FORWARDED_FOR", ""),
        trusted_proxies=settings.TRUSTED_PROXY_COUNT,
    )
    return None if address is None else str(address)


def record(
    action: str,
    *,
    actor: Actor,
    target: Target,
    workspace_id: UUID | None = None,
    details: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Append one row. Call it inside the transaction of the write, so that neither stands without the other.

    ``action`` is ``noun.verb`` (``api_key.create``). ``details`` must be plain JSON values and free of secrets.
    """
    return AuditEvent.objects.create(
        action=action,
        workspace_id=workspace_id,
        actor_id=actor.user_id,
        actor_label=actor.label[:_LABEL_LENGTH],
        target_type=target.type,
        target_id=str(target.id),
        target_label=target.label[:_LABEL_LENGTH],
        details=dict(details or {}),
        address=actor.address,
        request_id=actor.request_id,
    )
