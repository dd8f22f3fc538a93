"""What can be asked of the books of calls, and what comes back: plain values, the same for every door.

Each item is idempotent, so a batch whose outcome is unknown is simply applied again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from billing.books import Moment
from catalog.pricing import Line
from core import errors, ids


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One question to one target: provider/region/upstream model, how long it took, what went wrong (one word)."""

    target: str
    ms: int
    error: str = ""
    status: int | None = None


class LogRow(msgspec.Struct, kw_only=True):
    """One row of the request log, by its column names. ``id`` and ``billed_at`` are set when it is written."""

    request_id: UUID
    workspace_id: UUID
    endpoint: str
    model: str
    status: int
    latency_ms: int
    user_id: UUID | None = None
    key_id: UUID | None = None
    key_name: str = ""
    provider: str = ""
    target: str = ""
    attempts: int = 0
    error_type: str = ""
    stream: bool = False
    ttfb_ms: int | None = None
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    units: Decimal | None = None
    charged_microcredits: int = 0
    saved_microcredits: int = 0
    price_id: UUID | None = None
    estimated: bool = False
    late: bool = False
    client_disconnected: bool = False
    sandbox: bool = False
    attempt_trace: list[Attempt] | None = None
    charge_lines: Sequence[Line] | None = None
    response_id: str | None = None
    id: UUID | None = None
    billed_at: Moment | None = None


class Claim(msgspec.Struct, frozen=True):
    """An ``Idempotency-Key`` that came with a call."""

    key_hash: bytes
    request_hash: bytes
    is_stream: bool


class Answer(msgspec.Struct, frozen=True):
    """What a claim's first call answered, sealed; ``sealed_body`` is None for a stream, which is never replayed."""

    status: int
    content_type: str
    sealed_body: bytes | None


class Admit(msgspec.Struct, frozen=True):
    """May this key make this call, and are ``amount_microcredits`` there to reserve for it?"""

    hold_id: UUID
    workspace_id: UUID
    key_id: UUID
    amount_microcredits: int
    owner_id: UUID | None
    endpoint: str
    model: str
    price_id: UUID | None
    min_balance_microcredits: int = 0
    claim: Claim | None = None


class Extend(msgspec.Struct, frozen=True):
    """Raise a pending hold to ``amount_microcredits`` in all."""

    hold_id: UUID
    workspace_id: UUID
    key_id: UUID
    amount_microcredits: int


class Settle(msgspec.Struct, frozen=True):
    """The call ended: charge it, log it, and give back what was reserved too much."""

    hold_id: UUID
    workspace_id: UUID
    key_id: UUID
    charge_microcredits: int
    log: LogRow
    answer: Answer | None = None

    @property
    def late_id(self) -> UUID:
        """The log row's id where this call is already logged as interrupted."""
        return ids.beside(self.hold_id)


class Void(msgspec.Struct, frozen=True):
    """The call failed or never ran: nothing is charged and all of the hold goes back."""

    hold_id: UUID
    workspace_id: UUID
    key_id: UUID
    log: LogRow | None = None
    state: str = "voided"
    #: What an Idempotency-Key was answered stays: a job's submission is answered long before the job ends.
    keeps_answer: bool = False


class Record(msgspec.Struct, frozen=True):
    """A call that never got a hold (refused, rate-limited, bad): only a log row."""

    log: LogRow


Item = Admit | Extend | Settle | Void | Record


class Admitted(msgspec.Struct, frozen=True):
    """The hold stands. ``available_microcredits`` is what was left after it."""

    hold_id: UUID
    available_microcredits: int


class Refused(msgspec.Struct, frozen=True):
    """Not admitted; ``error()`` is what the caller is told. A value, so that one refusal never poisons a batch."""

    error: Callable[[], errors.ProductError]


class Replay(msgspec.Struct, frozen=True):
    """The same Idempotency-Key was answered before: this is the stored answer."""

    request_id: UUID
    status: int
    content_type: str
    sealed_body: bytes


class Extended(msgspec.Struct, frozen=True):
    granted: bool


class Settled(msgspec.Struct, frozen=True):
    """What was charged, and when. ``late``: the hold was gone, so the charge was made without it."""

    charged_microcredits: int
    billed_at: datetime
    late: bool


class Done(msgspec.Struct, frozen=True):
    """A void or a record is written."""


Result = Admitted | Refused | Replay | Extended | Settled | Done
