"""Long work at a provider, whatever its API: what is asked, how it stands, and what an adapter has to know.

An adapter is pure: it turns values into requests and answers into values. Who sends them, waits and pays is above.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from upstreams.wire import Headers, Target, UpstreamRequest

State = Literal["queued", "running", "succeeded", "failed", "cancelled", "gone"]

#: The code that callers see of a refusal for the content's sake, whoever refused.
MODERATED: Final = "content_policy_violation"


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for, by name: ``model`` is the provider's own name of it, ``job_id`` ours for this work.

    Absent members are left out of what is sent. Pictures are ``https`` URLs or base64 ``data`` URLs.
    """

    values: Mapping[str, Any] = field(repr=False)

    def get(self, name: str) -> Any:
        """The value of that name, None where it was not asked for."""
        return self.values.get(name)


@dataclass(frozen=True, slots=True)
class Output:
    """One thing that was made: where it lies, or itself where the provider sends it along."""

    url: str = ""
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a task stands. ``progress`` is a percentage; ``seconds`` are what the provider says that it delivered.

    ``message`` and ``code`` tell of a failure, cleaned; ``moderated`` says that it was for the content's sake.
    """

    state: State
    progress: int | None = None
    outputs: tuple[Output, ...] = ()
    seconds: float | None = None
    message: str = ""
    code: str = ""
    moderated: bool = False


class TaskAdapter(Protocol):
    """One provider's way of long work. ``notes`` is what ``accepted`` returned: plain JSON, kept with the work."""

    #: Whether a request may be sent again without a second task: it bears the job's id, and the provider heeds it.
    idempotent: bool
    #: Whether pictures must be sent along as base64: the provider fetches none.
    inline_pictures: bool
    #: Whether a task that was cancelled under way is billed all the same.
    bills_cancelled: bool
    #: Seconds between two looks, to begin with.
    poll_seconds: float

    def submit(self, target: Target, ask: Ask) -> UpstreamRequest:
        """The request that begins it. Raises UpstreamRefusal for what this target can't be asked."""
        ...

    def accepted(
        self, target: Target, ask: Ask, status: int, headers: Mapping[str, str], body: bytes
    ) -> dict[str, Any]:
        """The notes of a task that was begun. Raises UpstreamError."""
        ...

    def find(self, target: Target, ask: Ask) -> UpstreamRequest | None:
        """The request that asks after a task by the job's id, where nobody knows whether it began; None: no way."""
        ...

    def found(self, target: Target, ask: Ask, status: int, body: bytes) -> dict[str, Any] | None:
        """The notes of the task that ``find`` found, None where there is none."""
        ...

    def look(self, target: Target, notes: Mapping[str, Any]) -> UpstreamRequest:
        """The request that asks how it goes."""
        ...

    def standing(
        self, target: Target, notes: Mapping[str, Any], status: int, headers: Mapping[str, str], body: bytes
    ) -> Standing:
        """How it goes. Raises UpstreamError for an answer that says nothing about the task."""
        ...

    def link(self, target: Target, output: Output) -> UpstreamRequest | None:
        """A further request that turns an output into its address; None where it is one already."""
        ...

    def linked(self, target: Target, status: int, headers: Mapping[str, str], body: bytes) -> Output:
        """The address that ``link`` asked for. Raises UpstreamError."""
        ...

    def stop(self, target: Target, notes: Mapping[str, Any], state: str) -> UpstreamRequest | None:
        """The request that cancels a task in that state; None where the provider has no way."""
        ...

    def stopped(self, target: Target, status: int, body: bytes) -> bool:
        """Whether the answer confirms that the task was cancelled."""
        ...

    def download(self, target: Target, url: str) -> Headers:
        """The headers that fetching an output needs: the key where the provider wants it, and only on its own host."""
        ...


def percentage(value: object) -> int | None:
    """A progress as providers give it: 42, 42.5, "42", "42%", 0.42 (only a fraction that is not whole); else None."""
    if isinstance(value, str):
        try:
            value = float(value.strip().rstrip("%"))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        return None
    return int(value * 100) if isinstance(value, float) and 0 < value < 1 else int(value)


def seconds(value: object) -> float | None:
    """A length in seconds, 5 or "5.042"; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 100_000:
        return None
    return float(value)
