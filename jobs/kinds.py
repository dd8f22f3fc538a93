"""What a kind of long work knows how to do, and what came of a step. The lifecycle around it is the same for all.

A kind has three functions: ask the provider to begin, ask how it goes, ask it to stop. Each is one short step: nothing
waits inside, a step that has to come back later says when. A step may run twice (its process died behind the answer),
so it first looks at what ``job.notes`` already tells. Whom it asks it writes to ``job.provider``, ``job.target`` (the
target's label) and ``job.sandbox`` before it asks; these are stored with what comes of the step, also where it raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from catalog.pricing import Line

if TYPE_CHECKING:
    from jobs.models import Job


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """The provider is at work: look again in ``seconds``.

    ``progress`` is a percentage, None where nobody knows. ``notes`` are merged into ``job.notes`` (the provider's own
    id, what was copied already). ``started`` says that the provider may bill from here on.
    """

    seconds: float
    progress: int | None = None
    notes: Mapping[str, Any] = {}
    started: bool = True


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """It is made. ``result`` is what the poll shows; ``units`` are what was delivered, in the price's unit."""

    result: Mapping[str, Any]
    charge_microcredits: int
    units: Decimal | None = None
    charge_lines: Sequence[Line] = ()
    execution_ms: int | None = None
    #: What the provider did not tell was measured by us.
    estimated: bool = False


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """It will not be made. ``error_type`` is a word of core.errors; a charge stands only where work was billed."""

    error_type: str
    message: str
    code: str = ""
    charge_microcredits: int = 0
    charge_lines: Sequence[Line] = ()
    execution_ms: int | None = None


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """This provider can't: begin again, at the next one (``job.notes`` says which), after ``seconds``."""

    seconds: float
    notes: Mapping[str, Any] = {}
    error: str = ""


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """The provider has stopped, or never began; what it bills for that, if anything."""

    charge_microcredits: int = 0
    units: Decimal | None = None
    charge_lines: Sequence[Line] = ()
    execution_ms: int | None = None
    estimated: bool = False


Step = Waiting | Done | Failed | Elsewhere
Stop = Waiting | Stopped | Done | Failed


class Kind(Protocol):
    """One kind of long work."""

    #: The word in the table of jobs and in the log's column ``endpoint``: ``videos``, ``gpu``.
    name: str
    #: The queue that its wake-ups go to.
    queue: str

    def start(self, job: Job) -> Step:
        """Ask a provider to begin. Raises UpstreamError for what may be tried again, ProductError for what may not."""
        ...

    def poll(self, job: Job) -> Step:
        """Ask how it goes. Raises as ``start`` does."""
        ...

    def stop(self, job: Job) -> Stop:
        """Ask the provider to stop. ``Done`` where it was ready before that. Raises as ``start`` does."""
        ...

    def shown(self, job: Job) -> dict[str, Any]:
        """The members of a poll's answer that are this kind's own (``data`` with fresh signed addresses)."""
        ...


_kinds: dict[str, Callable[[], Kind]] = {}


def register(name: str, make: Callable[[], Kind]) -> None:
    """Declare a kind, from an AppConfig's ``ready``."""
    _kinds[name] = make


def unregister(name: str) -> None:
    """Forget a kind; its open jobs run into their deadlines."""
    _kinds.pop(name, None)


def kind_of(name: str) -> Kind:
    """The kind of that name. Raises LookupError."""
    return _kinds[name]()


def queue_of(name: str) -> str:
    """The queue that wake-ups of jobs of that kind go to."""
    make = _kinds.get(name)
    return make().queue if make is not None else "default"


def names() -> frozenset[str]:
    """Every declared kind."""
    return frozenset(_kinds)
