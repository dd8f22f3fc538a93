"""A pump owns one admitted call to its very end: the upstream, the growth of the hold, and the settlement.

It runs in a task of its own, because whoever waits for the answer may leave at any moment, and money must not depend on
when that is noticed. The answer only reads what the pump has ready.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from catalog.entries import ModelEntry, TargetEntry
from core import clock
from core.errors import InternalError, ProductError
from gateway.dialects.base import Call, Dialect
from gateway.exchange import Exchange, Opened
from gateway.failover import CALLER_LEFT_STATUS, CallerLeft, Trail, cut_short
from gateway.meter import Meter
from gateway.pipe import Pipe
from gateway.runtime import Runtime, shutting_down
from idempotency import replay
from idempotency.replay import Hashes
from keys.auth import KeyFacts
from upstreams.errors import ConnectionLost, UpstreamError
from upstreams.wire import Usage
from usage.items import Answer, Extend, Extended, LogRow, Result, Settle, Void

logger = logging.getLogger(__name__)

NOT_SERVED: Final = Usage()
#: Seconds to read the last bytes of a finished stream, so that its connection can serve again.
_LAST_BYTES_SECONDS: Final = 1.0
_OUT_OF_CREDITS: Final = (
    "The stream was ended here: the balance, or the API key's monthly limit, does not cover more of it."
)


class _OutOfCredits(Exception):
    """The hold could not grow: the stream ends in order, and what was delivered is billed."""


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


@dataclass(slots=True)
class Whole:
    """A whole answer, settled."""

    entry: TargetEntry
    attempts: int
    body: bytes = field(repr=False)
    charged_microcredits: int


class Run:
    """What both kinds of calls have in common: the task, its interruption, the log row, the ends."""

    def __init__(self, runtime: Runtime, ticket: Ticket) -> None:
        self.ticket = ticket
        self.trail = Trail()
        self._runtime = runtime
        self._limits = runtime.limits
        self._exchange = Exchange(runtime.pool, ticket.call, runtime.limits, ticket.meter.input_estimate)
        self._interruption: ProductError | None = None
        self._ending = False
        self._first_at: float | None = None
        runtime.runs.add(self)
        self.task = asyncio.get_running_loop().create_task(self._run())

    def interrupt(self, reason: ProductError) -> None:
        """End the call now, unless it is ending already; what was delivered is settled."""
        if not self._ending and self._interruption is None:
            self._interruption = reason
            self.task.cancel()

    async def _run(self) -> None:
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

    def _unexpected(self, error: Exception) -> InternalError:
        """Log where it happened, never what was in the values: they may be somebody's words."""
        where = "".join(traceback.format_tb(error.__traceback__))
        logger.error(
            "a call failed unexpectedly: %s", type(error).__name__,
            extra={"request_id": str(self.ticket.request_id), "where": where},
        )  # fmt: skip
        return InternalError("Something went wrong on our side.")

    async def _settle(self, usage: Usage, status: int, error_type: str = "", answer: Answer | None = None) -> int:
        """Charge and log; durable when this returns, unless that took too long: then it goes on by itself."""
        ticket = self.ticket
        charge = ticket.meter.charge(usage)
        if charge.unpriced:
            logger.warning("used without a price", extra={"model": ticket.entry.slug, "unpriced": charge.unpriced})
        row = self._row(usage, status, error_type)
        row.saved_microcredits = ticket.meter.saved_microcredits(usage, charge.amount_microcredits)
        key = ticket.key
        settle = Settle(ticket.request_id, key.workspace_id, key.id, charge.amount_microcredits, row, answer)
        await self._runtime.write(settle)
        return charge.amount_microcredits

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
            endpoint=ticket.call.kind,
            model=ticket.entry.slug,
            status=status,
            latency_ms=int((now - ticket.started) * 1000),
            user_id=key.user_id,
            key_id=key.id,
            key_name=key.name,
            provider=target.provider if target is not None else "",
            target=f"{target.provider}/{target.region}/{target.upstream_model}"[:254] if target is not None else "",
            attempts=self.trail.attempts,
            error_type=error_type,
            stream=ticket.call.stream,
            ttfb_ms=int((self._first_at - ticket.started) * 1000) if self._first_at is not None else None,
            input_tokens=usage.input_tokens,
            cached_input_tokens=usage.cached_input_tokens,
            cache_write_tokens=usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
            output_tokens=usage.output_tokens,
            price_id=ticket.meter.price_id,
            estimated=usage.estimated,
            client_disconnected=self._caller_is_gone(),
            sandbox=last is not None and last.sandbox,
        )


class WholeRun(Run):
    """A call that is answered in one piece. It is finished and billed whether or not its caller still waits."""

    def __init__(self, runtime: Runtime, ticket: Ticket) -> None:
        self.answer: asyncio.Future[Whole] = asyncio.get_running_loop().create_future()
        super().__init__(runtime, ticket)

    async def _run(self) -> None:
        try:
            try:
                whole = await self._serve()
            except ProductError as error:
                await self._fail(error)
            except asyncio.CancelledError:
                await self._fail(self._reason())
            except Exception as error:
                await self._fail(self._unexpected(error))
            else:
                if not self.answer.done():
                    self.answer.set_result(whole)
        finally:
            self._runtime.runs.discard(self)
            if not self.answer.done():
                self.answer.cancel()

    async def _serve(self) -> Whole:
        ticket = self.ticket
        completed = await self._runtime.failover.serve(
            ticket.chain, self._exchange.complete, self.trail, self._caller_is_gone
        )
        self._ending = True
        self._first_at = clock.monotonic()
        answer = None
        if ticket.hashes is not None:
            answer = Answer(200, "application/json", await asyncio.to_thread(replay.seal, completed.body))
        charged = await self._settle(completed.usage, 200, answer=answer)
        return Whole(completed.entry, self.trail.attempts, completed.body, charged)

    async def _fail(self, error: ProductError) -> None:
        self._ending = True
        await self._void(error)
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # where nobody waits any more, nobody needs to be told


class StreamRun(Run):
    """A call that is answered piece by piece through ``pipe``."""

    def __init__(self, runtime: Runtime, ticket: Ticket, drop_connection: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self.pipe = Pipe(loop, keepalive=ticket.dialect.keepalive, keepalive_seconds=runtime.limits.keepalive_seconds)
        self.opened: Opened | None = None
        self._loop = loop
        self._drop_connection = drop_connection
        self._left = False
        self._timer: asyncio.TimerHandle | None = None
        self._asked_tokens = 0
        self._extension: asyncio.Future[Result] | None = None
        self._extension_refused = False
        super().__init__(runtime, ticket)

    def caller_left(self) -> None:
        """Nobody reads any more: read on for a moment for the final usage, then bill what was received."""
        if self._left:
            return
        self._left = True
        self.pipe.leave()
        if self.opened is None and not self._exchange.sent:
            self.interrupt(CallerLeft("the caller left"))
        elif not self._ending:
            self._arm(CallerLeft("the caller left"))

    def _caller_is_gone(self) -> bool:
        return self._left or self.ticket.gone()

    async def _run(self) -> None:
        error: ProductError | None = None
        stopped = False
        try:
            try:
                await self._pump()
            except _OutOfCredits:
                stopped = True
            except UpstreamError as failure:
                error = self._broken(failure)
            except ProductError as failure:
                error = failure
            except asyncio.CancelledError:
                error = self._reason()
            except Exception as failure:
                error = self._unexpected(failure)
            self._ending = True
            if self._timer is not None:
                self._timer.cancel()
            await self._end(error, stopped=stopped)
        finally:
            self._runtime.runs.discard(self)
            self.pipe.end()
            if self.opened is not None:
                self.opened.response.close()

    # ── while it runs ────────────────────────────────────────────────────────────────────────────────────────────────
    async def _pump(self) -> None:
        ticket, pipe = self.ticket, self.pipe
        opened = await self._runtime.failover.serve(ticket.chain, self._exchange.open, self.trail, self._caller_is_gone)
        self.opened = opened
        self._first_at = clock.monotonic()
        relay, receive = opened.relay, opened.response.receive
        pieces = opened.first
        threshold = ticket.meter.extend_above_tokens
        while True:
            for piece in pieces:
                if not pipe.offer(piece):
                    await self._wait_for_room()
            if relay.error is not None:
                raise relay.error
            if relay.done or opened.ended:
                break
            if relay.finished:
                self._arm(None)
            elif relay.output_tokens_estimate > threshold:
                await self._extend(relay.output_tokens_estimate)
                threshold = ticket.meter.extend_above_tokens
            chunk = await receive()
            opened.ended = not chunk
            pieces = relay.feed(chunk) if chunk else relay.end_of_stream()
        if not relay.finished:
            raise ConnectionLost("the upstream closed before the end of its stream")

    async def _wait_for_room(self) -> None:
        if not await self.pipe.room(self._limits.slow_reader_seconds):
            self._drop_connection()
            self.caller_left()

    async def _extend(self, used_tokens: int) -> None:
        """Ask for one step more without holding the stream up, unless all that is covered has been used."""
        meter, ticket = self.ticket.meter, self.ticket
        while True:
            if self._extension is None:
                if self._extension_refused and used_tokens < meter.granted_tokens:
                    return  # the last step is still good for a while; credits may come back until it is used up
                self._asked_tokens = meter.next_tokens(used_tokens)
                amount = meter.microcredits_for(self._asked_tokens)
                self._extension = self._runtime.committer.submit(
                    Extend(ticket.request_id, ticket.key.workspace_id, ticket.key.id, amount)
                )
            assert self._extension is not None
            if not self._extension.done() and used_tokens < meter.granted_tokens:
                return
            final = used_tokens >= meter.granted_tokens
            granted = await self._is_granted(self._extension)
            self._extension = None
            if granted:
                meter.granted_tokens = self._asked_tokens
                self._extension_refused = False
                if used_tokens <= meter.extend_above_tokens:
                    return
            elif final and self._extension_refused:
                raise _OutOfCredits
            else:
                self._extension_refused = True

    async def _is_granted(self, extension: asyncio.Future[Result]) -> bool:
        try:
            async with asyncio.timeout(self._limits.idle_seconds):
                result = await extension
        except TimeoutError:
            return False
        return isinstance(result, Extended) and result.granted

    def _arm(self, reason: ProductError | None) -> None:
        """Bound what is left of the stream: an upstream may keep silent after its end, or a caller may have left."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._limits.read_on_seconds, self._time_is_up, reason)

    def _time_is_up(self, reason: ProductError | None) -> None:
        self.interrupt(reason or CallerLeft("the upstream kept silent after the end"))

    def _broken(self, failure: UpstreamError) -> ProductError | None:
        """A stream that broke after its first content; what breaks behind the finish chunk harms nobody."""
        assert self.opened is not None
        if self.opened.relay.finished:
            return None
        self._runtime.failover.note(self.opened.entry.target, failure)
        self.trail.errors.append(failure)
        return cut_short(failure)

    # ── at the end ───────────────────────────────────────────────────────────────────────────────────────────────────
    async def _end(self, error: ProductError | None, *, stopped: bool) -> None:
        opened, ticket = self.opened, self.ticket
        if opened is None:
            assert error is not None
            await self._end_unopened(error)
            return
        relay, meter = opened.relay, ticket.meter
        if error is not None and relay.finished:
            error = None  # the answer is whole, whatever happened behind it
        usage = relay.billable_usage(meter.input_estimate() if relay.usage is None else 0)
        answer = Answer(200, "text/event-stream", None) if ticket.hashes is not None else None
        if error is not None:
            opened.response.close()
            status, kind = (200, "") if isinstance(error, CallerLeft) else (error.status, error.type)
            await self._settle(usage, status, kind, answer)
            if not isinstance(error, CallerLeft):
                self.pipe.offer(ticket.dialect.error_frame(error, ticket.request_id))
        elif stopped and not relay.finished:
            opened.response.close()
            await self._settle(usage, 200, "insufficient_credits", answer)
            frames = ticket.dialect.stop_frames(relay.identity, ticket.call, usage, _OUT_OF_CREDITS)
            self.pipe.offer(b"".join(frames))
        else:
            await self._settle(usage, 200, answer=answer)
            self.pipe.offer(b"".join(relay.close(usage if relay.usage is None else None)))
        self.pipe.end()
        await self._read_last_bytes(opened)

    async def _end_unopened(self, error: ProductError) -> None:
        """No content came. Nobody pays, unless the caller left while somebody was at work on the call."""
        ticket = self.ticket
        if isinstance(error, CallerLeft) and self._exchange.sent:
            usage = Usage(input_tokens=ticket.meter.input_estimate(), estimated=True)
            answer = Answer(200, "text/event-stream", None) if ticket.hashes is not None else None
            await self._settle(usage, CALLER_LEFT_STATUS, error.type, answer)
            return
        await self._void(error)
        if not self.pipe.fail(error):
            self.pipe.offer(ticket.dialect.error_frame(error, ticket.request_id))
            self.pipe.end()

    async def _read_last_bytes(self, opened: Opened) -> None:
        """A connection that was read to its end can serve the next call."""
        if opened.ended:
            return
        try:
            async with asyncio.timeout(_LAST_BYTES_SECONDS):
                while await opened.response.receive():
                    pass
        except (UpstreamError, TimeoutError):
            pass
