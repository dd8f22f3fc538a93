"""The pump of a stream: relays what comes, lets its hold grow, and knows every way for a stream to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import structs

from core import clock
from core.errors import ProductError
from gateway.dialects.base import Receipt
from gateway.exchange import Opened
from gateway.failover import CALLER_LEFT_STATUS, CallerLeft, cut_short
from gateway.growth import Growth, OutOfCredits
from gateway.pipe import Pipe
from gateway.pump import Ticket, TokenRun
from gateway.runtime import Runtime
from upstreams.errors import ConnectionLost, UpstreamError
from upstreams.responses_kept import id_of
from upstreams.wire import Usage
from usage.items import Answer, Extend

#: Seconds to read the last bytes of a finished stream, so that its connection can serve again.
_LAST_BYTES_SECONDS: Final = 1.0
_OUT_OF_CREDITS: Final = (
    "The stream was ended here: the balance, or the API key's monthly limit, does not cover more of it."
)


class StreamRun(TokenRun):
    """A call that is answered piece by piece through ``pipe``."""

    def __init__(self, runtime: Runtime, ticket: Ticket, drop_connection: Callable[[], None]) -> None:
        loop = runtime.loop
        self.pipe = Pipe(loop, keepalive=ticket.dialect.keepalive, keepalive_seconds=runtime.limits.keepalive_seconds)
        self.opened: Opened | None = None
        self._loop = loop
        self._drop_connection = drop_connection
        self._left = False
        self._timer: asyncio.TimerHandle | None = None
        self._delivered_tokens = 0
        key = ticket.key
        self._growth = Growth(
            runtime.committer,
            ticket.meter,
            Extend(ticket.request_id, key.workspace_id, key.id, 0),
            runtime.limits.idle_seconds,
        )
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
            except OutOfCredits:
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
        ticket, pipe, meter = self.ticket, self.pipe, self.ticket.meter
        opened = await self._runtime.failover.serve(ticket.chain, self._exchange.open, self.trail, self._caller_is_gone)
        self.opened = opened
        self._first_at = clock.monotonic()
        relay, receive = opened.relay, opened.response.receive
        pieces = opened.first
        while True:
            used_tokens = relay.output_tokens_estimate
            if used_tokens > meter.extend_above_tokens and self._must_be_covered(used_tokens):
                await self._growth.cover(used_tokens)  # before delivery: nothing goes out that nothing pays for
            for piece in pieces:
                if not pipe.offer(piece):
                    await self._wait_for_room()
            self._delivered_tokens = used_tokens
            if relay.error is not None:
                raise relay.error
            if relay.done or opened.ended:
                break
            if relay.finished:
                self._arm(None)
            chunk = await receive()
            opened.ended = not chunk
            pieces = relay.feed(chunk) if chunk else relay.end_of_stream()
        if not relay.finished:
            raise ConnectionLost("the upstream closed before the end of its stream")

    def _must_be_covered(self, used_tokens: int) -> bool:
        """A stream that has come to its end is charged as it is, unless that is more than a step above its hold."""
        assert self.opened is not None
        meter = self.ticket.meter
        return not self.opened.relay.finished or used_tokens > meter.granted_tokens + self._limits.step_output_tokens

    async def _wait_for_room(self) -> None:
        if not await self.pipe.room(self._limits.slow_reader_seconds):
            self._drop_connection()
            self.caller_left()

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
        self.trail.broke(failure)
        return cut_short(failure)

    # ── at the end ───────────────────────────────────────────────────────────────────────────────────────────────────
    async def _end(self, error: ProductError | None, *, stopped: bool) -> None:
        opened, ticket = self.opened, self.ticket
        if opened is None:
            assert error is not None
            await self._end_unopened(error)
            return
        relay, meter = opened.relay, ticket.meter
        if ticket.call.kept:
            self._response_id = id_of(relay.identity.get("response"))
        if error is not None and relay.finished:
            error = None  # the answer is whole, whatever happened behind it
        usage = relay.billable_usage(meter.input_estimate() if relay.usage is None else 0)
        if stopped:
            usage = structs.replace(usage, output_tokens=self._delivered_tokens, estimated=True)
        receipt = self._receipt(usage)
        answer = Answer(200, "text/event-stream", None) if ticket.hashes is not None else None
        if error is not None:
            opened.response.close()
            status, kind = (200, "") if isinstance(error, CallerLeft) else (error.status, error.type)
            await self._settle(receipt, status, kind, answer)
            if not isinstance(error, CallerLeft):
                self.pipe.offer(ticket.dialect.error_frame(error, ticket.request_id, relay.identity))
        elif stopped:
            opened.response.close()
            await self._settle(receipt, 200, "insufficient_credits", answer)
            frames = ticket.dialect.stop_frames(relay.identity, ticket.call, usage, _OUT_OF_CREDITS)
            self.pipe.offer(b"".join(self._told(frames, receipt)))
        else:
            await self._settle(receipt, 200, answer=answer)
            self.pipe.offer(b"".join(self._told(relay.close(usage if relay.usage is None else None), receipt)))
        self.pipe.end()
        await self._read_last_bytes(opened)

    async def _end_unopened(self, error: ProductError) -> None:
        """No content came. Nobody pays, unless the caller left while somebody was at work on the call."""
        ticket = self.ticket
        if isinstance(error, CallerLeft) and self._exchange.sent:
            usage = Usage(input_tokens=ticket.meter.input_estimate(), estimated=True)
            answer = Answer(200, "text/event-stream", None) if ticket.hashes is not None else None
            await self._settle(self._receipt(usage), CALLER_LEFT_STATUS, error.type, answer)
            return
        await self._void(error)
        error.headers.update(self.told_of_attempts())
        if not self.pipe.fail(error):
            self.pipe.offer(ticket.dialect.error_frame(error, ticket.request_id))
            self.pipe.end()

    def _told(self, end: Sequence[bytes], receipt: Receipt) -> Sequence[bytes]:
        """The end of the stream with what it cost in it, where the format has a place for that."""
        receipts = self.ticket.call.receipts
        return receipts.in_stream(end, receipt) if receipts is not None else end

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
