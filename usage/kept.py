"""Whose a response is that its provider keeps: the log says who was given it, and who made it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from usage.models import RequestLog


@dataclass(frozen=True, slots=True)
class Made:
    """Who made a response: the model's id, the provider's, and the target as the log names it; and for whom."""

    workspace_id: UUID
    model: str
    provider: str
    target: str


def made_by(workspace_id: UUID, response_id: str) -> Made | None:
    """Who made the response of that id: the one that this workspace was given, else one that another was given.

    None where nobody was given any.
    """
    rows = RequestLog.objects.filter(response_id=response_id).order_by("-id")
    columns = ("workspace_id", "model", "provider", "target")
    found = rows.filter(workspace_id=workspace_id).values_list(*columns).first() or rows.values_list(*columns).first()
    return Made(*found) if found is not None else None
