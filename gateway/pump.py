"""A pump owns one admitted call to its very end: the upstream, the growth of the hold, and the settlement.

It runs in a task that nobody ends but the pump's own `interrupt`, because whoever waits for the answer may leave at any
moment, and money must not depend on when that is noticed. For a stream, and wherever the server might cancel the
request's task, that is a task of its own, and the answer only reads what the pump has ready.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Generic, Protocol, TypeVar
from uuid import UUID

from catalog.entries import ModelEntry, TargetEntry
from core import clock
from core.errors import InternalError, ProductError
from gateway.dialects.base import Call, Dialect, Receipt
from gateway.exchange import Exchange
from gateway.failover import Trail
from gateway.meter import Meter
from gateway.runtime import Runtime, shutting_down
from idempotency import replay
from idempotency.replay import Hashes
from keys.auth import KeyFacts
from upstreams.responses_kept import id_in
from upstreams.wire import Usage
from usage.items import Answer, LogRow, Settle, Void

logger = logging.getLogger(__name__)

NOT_SERVED: Final = Usage()
#: Larger answers (long sound, many pictures) are not kept for a repeat under the same Idempotency-Key.
MOST_KEPT_BYTES: Final = 16 * 1024 * 1024


class AdmittedCall(Protocol):
    """What every admitted call is known by, whatever it is billed by. ``endpoint`` is the kind's word in the log."""

    @property
    def request_id(self) -> UUID: ...

    @property
    def started(self) -> float: ...

    @property
    def key(self) -> KeyFacts: ...

    @property
    def entry(self) -> ModelEntry: ...

    @property
    def gone(self) -> Callable[[], bool]: ...

    @property
    def endpoint(self) -> str: ...

    @property
    def stream(self) -> bool: ...

    @property
    def price_id(self) -> UUID | None: ...


TicketT = TypeVar("TicketT", bound=AdmittedCall)


@dataclass(slots=True)
class Ticket:
    """An admitted call. ``started`` is on the monotonic clock; ``gone`` asks whether the caller has left."""

    request_id: UUID
    started: float
    key: KeyFacts
    call: Call = field(repr=False)
    entry: ModelEntry
    chain: Sequence[TargetEntry]
    meter: Meter
    dialect: Dialect
    hashes: Hashes | None
    gone: Callable[[], bool]

    @property
    def endpoint(self) -> str:
        """The call's kind."""
        return self.call.kind

    @property
    def stream(self) -> bool:
        """Whether the caller asked for a stream."""
        return self.call.stream

    @property
    def price_id(self) -> UUID:
        """The price version that the hold was weighed by."""
        return self.meter.price_id


@dataclass(slots=True)
class Whole:
    """A whole answer, settled."""

    entry: TargetEntry
    attempts: int
    body: bytes = field(repr=False)
    content_type: str
    receipt: Receipt


class Run(Generic[TicketT]):
    """What all kinds of calls have in common: the task, its interruption, the log row, the ends."""

    def __init__(self, runtime: Runtime, ticket: TicketT, task: asyncio.Task[Any] | None = None) -> None:
        """``task`` is the running one, where the run is to be awaited in it; else it begins in one of its own."""
        self.ticket = ticket
        self.trail = Trail()
        self._runtime = runtime
        self._limits = runtime.limits
        self._interruption: ProductError | None = None
        self._ending = False
        self._first_at: float | None = None
        #: The provider's id of the answer, where it keeps that under it.
        self._response_id: str | None = None
        runtime.runs.add(self)
        self._is_awaited_in_place = task is not None
        self.task = task or runtime.loop.create_task(self._run())

    def interrupt(self, reason: ProductError) -> None:
        """End the call now, unless it is ending already; what was delivered is settled."""
        if not self._ending and self._interruption is None:
            self._interruption = reason
            self.task.cancel()

    async def _run(self) -> Any:
        raise NotImplementedError

    def _caller_is_gone(self) -> bool:
        return self.ticket.gone()

    def _reason(self) -> ProductError:
        """Why the task was cancelled. Without a word of ours it was the event loop that ends."""
        reason = self._interruption
        if reason is None:
            return shutting_down()
        self.task.uncancel()
        return reason

    def told_of_attempts(self) -> dict[str, str]:
        """Headers about the attempts so far, also on an answer that tells of their failure."""
        if not self.trail.steps:
            return {}
        return {"x-hypereal-attempts": str(self.trail.attempts), "x-hypereal-trace": self.trail.header()}

    def _unexpected(self, error: Exception) -> InternalError:
        """Log where it happened, never what was in the values: they may be somebody's words."""
        where = "".join(traceback.format_tb(error.__traceback__))
        logger.error(
            "a call failed unexpectedly: %s", type(error).__name__,
            extra={"request_id": str(self.ticket.request_id), "where": where},
        )  # fmt: skip
        return InternalError("Something went wrong on our side.")

    async def _settle(self, receipt: Receipt, status: int, error_type: str = "", answer: Answer | None = None) -> None:
        """Charge and log; durable when this returns, unless that took too long: then it goes on by itself."""
        key = self.ticket.key
        row = self._row(receipt.usage, status, error_type)
        row.saved_microcredits = receipt.saved_microcredits
        row.units = Decimal(receipt.units) if receipt.unit else None
        row.charge_lines = receipt.lines
        row.response_id = self._response_id
        charged = receipt.charged_microcredits
        await self._runtime.write(Settle(receipt.request_id, key.workspace_id, key.id, charged, row, answer))

    async def _void(self, error: ProductError) -> None:
        """Nothing was served: the hold goes back, the log tells why."""
        key = self.ticket.key
        row = self._row(NOT_SERVED, error.status, error.type)
        await self._runtime.write(Void(self.ticket.request_id, key.workspace_id, key.id, row))

    def _row(self, usage: Usage, status: int, error_type: str) -> LogRow:
        ticket, last = self.ticket, self.trail.last
        key, target = ticket.key, last.target if last is not None else None
        now = clock.monotonic()
        return LogRow(
            request_id=ticket.request_id,
            workspace_id=key.workspace_id,
            endpoint=ticket.endpoint,
            model=ticket.entry.slug,
            status=status,
            latency_ms=int((now - ticket.started) * 1000),
            user_id=key.user_id,
            key_id=key.id,
            key_name=key.name,
            provider=target.provider if target is not None else "",
            target=target.label if target is not None else "",
            attempts=self.trail.attempts,
            attempt_trace=self.trail.steps or None,
            error_type=error_type,
            stream=ticket.stream,
            ttfb_ms=int((self._first_at - ticket.started) * 1000) if self._first_at is not None else None,
            input_tokens=usage.input_tokens,
            cached_input_tokens=usage.cached_input_tokens,
            cache_write_tokens=usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
            output_tokens=usage.output_tokens,
            price_id=ticket.price_id,
            estimated=usage.estimated,
            client_disconnected=self._caller_is_gone(),
            sandbox=last is not None and last.sandbox,
        )


class TokenRun(Run[Ticket]):
    """A call that is billed by the token."""

    def __init__(self, runtime: Runtime, ticket: Ticket, task: asyncio.Task[Any] | None = None) -> None:
        self._exchange = Exchange(runtime.pool, ticket.call, runtime.limits, ticket.meter.input_estimate)
        super().__init__(runtime, ticket, task)

    def _receipt(self, usage: Usage) -> Receipt:
        """What the call costs."""
        ticket, last = self.ticket, self.trail.last
        charge = ticket.meter.charge(usage)
        if charge.unpriced:
            logger.warning("used without a price", extra={"model": ticket.entry.slug, "unpriced": charge.unpriced})
        return Receipt(
            request_id=ticket.request_id,
            model=ticket.entry.slug,
            provider=last.target.provider if last is not None else "",
            target=last.target.label if last is not None else "",
            attempts=self.trail.attempts,
            sandbox=last is not None and last.sandbox,
            usage=usage,
            charged_microcredits=charge.amount_microcredits,
            saved_microcredits=ticket.meter.saved_microcredits(usage, charge.amount_microcredits),
            reserved_microcredits=ticket.meter.reserved_microcredits,
            price_version=ticket.entry.price.version if ticket.entry.price is not None else 0,
            lines=charge.lines,
        )


class OnePieceRun(Run[TicketT]):
    """A call that is answered in one piece. It is finished and billed whether or not its caller still waits."""

    async def answer(self) -> Whole:
        """The answer, settled, once. Raises the ProductError that the caller gets; then nothing is charged."""
        if self._is_awaited_in_place:
            return await self._outcome()
        await asyncio.wait((self.task,))  # a waiter who is cancelled does not end it
        outcome: Whole | ProductError = self.task.result()
        if isinstance(outcome, ProductError):
            raise outcome
        return outcome

    async def _run(self) -> Whole | ProductError:
        try:
            return await self._outcome()
        except ProductError as error:
            return error  # where nobody waits any more, nobody needs to be told

    async def _outcome(self) -> Whole:
        try:
            try:
                return await self._serve()
            except ProductError as error:
                failure = error
            except asyncio.CancelledError:
                failure = self._reason()
            except Exception as error:
                failure = self._unexpected(error)
            self._ending = True
            failure.headers.update(self.told_of_attempts())
            await self._void(failure)
            raise failure from None
        finally:
            self._runtime.runs.discard(self)

    async def _serve(self) -> Whole:
        """The answer, settled. Raises ProductError."""
        raise NotImplementedError


class WholeRun(TokenRun, OnePieceRun[Ticket]):
    """A call billed by the token that is answered in one piece."""

    async def _serve(self) -> Whole:
        ticket = self.ticket
        completed = await self._runtime.failover.serve(
            ticket.chain, self._exchange.complete, self.trail, self._caller_is_gone
        )
        self._ending = True
        self._first_at = clock.monotonic()
        receipt, body = self._receipt(completed.usage), completed.body
        if ticket.call.kept:
            self._response_id = id_in(body)
        if ticket.call.receipts is not None:
            body = ticket.call.receipts.in_answer(body, receipt)
        await self._settle(receipt, 200, answer=await kept(ticket.hashes, body, completed.content_type))
        return Whole(completed.entry, self.trail.attempts, body, completed.content_type, receipt)


async def kept(hashes: Hashes | None, body: bytes, content_type: str) -> Answer | None:
    """What a later call with the same Idempotency-Key gets; None where none came with this one.

    Of an answer beyond `MOST_KEPT_BYTES` only is kept that there was one: a later call is told so, and costs nothing.
    """
    if hashes is None:
        return None
    sealed = await asyncio.to_thread(replay.seal, body) if len(body) <= MOST_KEPT_BYTES else None
    return Answer(200, content_type, sealed)
