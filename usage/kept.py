"""Whose a response is that its provider keeps: the log says who was given it, and who made it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from usage.models import RequestLog


@dataclass(frozen=True, slots=True)
class Made:
    """Who made a response: the model's id, the provider's, and the target as the log names it."""

    model: str
    provider: str
    target: str


def made_by(workspace_id: UUID, response_id: str) -> Made | None:
    """Who made the response that this workspace was given under that id; None where it was given none."""
    rows = RequestLog.objects.filter(workspace_id=workspace_id, response_id=response_id).order_by("-id")
    found = rows.values_list("model", "provider", "target").first()
    return Made(*found) if found is not None else None
