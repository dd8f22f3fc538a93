"""What workers do when they are woken."""

from __future__ import annotations

from uuid import UUID

from jobs import stepping


def step(job_id: str) -> None:
    """Make the next step of that job, if one is due. Raises the database's errors; then the sweep finds it again."""
    stepping.step(UUID(job_id))
