"""What workers do when they are woken."""

from __future__ import annotations

from uuid import UUID

from infra import reconciling


def reconcile(deployment_id: str) -> None:
    """Look at that deployment, if a look is due; the sweep finds it again otherwise."""
    reconciling.step(UUID(deployment_id))
