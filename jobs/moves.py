"""The one table of a job's states: from where to where it may go. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from jobs.models import Job

State = Job.State

#: While a job is in one of these, its hold is pending.
OPEN: Final = frozenset({State.QUEUED, State.RUNNING})
#: From these nothing leads anywhere: money has moved.
FINAL: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED})

MOVES: Final[Mapping[str, frozenset[State]]] = {
    # A provider may answer with the finished thing, or refuse it, without ever saying that it runs.
    State.QUEUED: frozenset({State.RUNNING}) | FINAL,
    # At another provider it begins again; for whoever waits it still runs.
    State.RUNNING: FINAL,
    **{state: frozenset() for state in FINAL},
}


class ImpossibleMove(Exception):
    """A mistake of ours: the table does not have this move."""


def check(old: str, new: str) -> None:
    """Raise ImpossibleMove unless a job may go from ``old`` to ``new``."""
    if new not in MOVES[old]:
        raise ImpossibleMove(f"a job does not go from {old} to {new}")
