"""Calls that are billed by the unit and answered in one piece: pictures, speech, transcripts.

`serve` is the way of such a call, as `gateway.engine.serve` is that of one billed by the token: understand, resolve,
check by the model's rules, reserve exactly the price, run, answer. What differs between endpoints is a `UnitCall`.
The price is known before the call, so there is no least balance and no growth; what was made less than asked is not
charged. Whoever waits for the answer may leave: the call is finished and billed all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID

from catalog import pricing
from catalog.entries import ModelEntry, PriceEntry, TargetEntry
from catalog.pricing import Units
from core import clock
from core.errors import InvalidRequest, ProductError
from gateway import engine, quote
from gateway.dialects.base import Receipt
from gateway.pump import NOT_SERVED, OnePieceRun, Whole, kept
from gateway.request import JSON, Answer, GatewayRequest
from gateway.runtime import Runtime
from idempotency import replay
from idempotency.replay import Hashes
from keys.auth import KeyFacts
from upstreams import classify
from upstreams.errors import BadAnswer, TargetUnusable
from upstreams.wire import Timeouts, UpstreamRequest
from usage.items import Replay

_MOST_ERROR_BYTES: Final = 1024 * 1024


@dataclass(slots=True)
class Made:
    """What one target made: ``quantity`` units, and the things themselves as the call understands them."""

    entry: TargetEntry
    quantity: int
    things: object = field(repr=False)


class UnitCall(Protocol):
    """One understood request. Written for one call: ``order`` may keep what it found out for ``ask``."""

    @property
    def kind(self) -> str:
        """The endpoint kind, as the catalog and the log call it."""
        ...

    @property
    def model(self) -> str: ...

    @property
    def intent(self) -> str: ...

    @property
    def canonical(self) -> bytes:
        """What an Idempotency-Key is bound to: the same for the same request, however it was put into bytes."""
        ...

    def chain(self, entry: ModelEntry) -> list[TargetEntry]:
        """The model's targets that can be asked, in order."""
        ...

    def order(self, entry: ModelEntry) -> Units:
        """What is asked of this model, by its rules. Raises InvalidRequest with ``param``. Pure: no I/O."""
        ...

    async def before_hold(self, entry: ModelEntry) -> None:
        """Checks that take I/O, such as where a reference leads. Raises ProductError; nothing is reserved then."""
        ...

    async def ask(self, entry: TargetEntry, timeouts: Timeouts) -> Made:
        """Have one target make it. Raises UpstreamError, and ProductError for what no target could serve."""
        ...

    async def answer(self, made: Made, receipt: Receipt) -> tuple[bytes, str]:
        """The body for the caller and its content type. The things are paid for: this must find a way."""
        ...


@dataclass(slots=True)
class UnitTicket:
    """An admitted call billed by the unit. Its stream never is one."""

    request_id: UUID
    started: float
    key: KeyFacts
    call: UnitCall = field(repr=False)
    entry: ModelEntry
    chain: list[TargetEntry]
    price: PriceEntry
    units: Units
    hashes: Hashes | None
    gone: Callable[[], bool]

    @property
    def endpoint(self) -> str:
        """The call's kind."""
        return self.call.kind

    @property
    def stream(self) -> bool:
        """Never."""
        return False

    @property
    def price_id(self) -> UUID:
        """The price version that the call is reserved and charged by."""
        return self.price.id


async def serve(request: GatewayRequest, parse: Callable[[], UnitCall]) -> Answer:
    """One call to its answer. Raises the ProductError that the caller gets.

    ``parse`` reads the body (in a thread where it is large) and raises InvalidRequest. The request is counted before
    it is judged.
    """
    runtime, key = request.runtime, request.key
    problem: ProductError | None = None
    call: UnitCall | None = None
    try:
        call = await asyncio.to_thread(parse) if _is_large(request) else parse()
    except ProductError as error:
        problem = error
    if call is not None:
        engine.note_model(request, call.model)
    await engine.count(request)
    if problem is not None:
        raise problem
    assert call is not None
    entry, chain = engine.choose(runtime, key, call, call.chain, lambda each: _reserved(each, call.order(each)))
    request.model = entry.slug
    key.check_model(entry.slug)
    units = call.order(entry)
    reserved_microcredits = _reserved(entry, units)
    if request.quoting:
        return quote.answer_units(call.kind, entry, units)
    name = replay.presented(request.raw_headers)
    hashes = None
    if name is not None:
        hashes = await asyncio.to_thread(replay.hashes, name, "POST", request.path, call.canonical)
    await call.before_hold(entry)
    units = call.order(entry)  # what had to be looked up is known now
    reserved_microcredits = _reserved(entry, units)
    admission = await engine.admit(request, call.kind, entry, reserved_microcredits, hashes)
    if isinstance(admission, Replay):
        return engine.again(admission)
    request.logged = True  # by the run, from here on
    assert entry.price is not None
    run = UnitRun(
        runtime,
        UnitTicket(
            request.id, request.started, key, call, entry, chain, entry.price, units, hashes, request.caller_is_gone
        ),
    )
    whole = await run.answer()
    headers = engine.served_headers(entry, whole.entry, run.trail) + engine.receipt_headers(whole.receipt)
    return Answer(200, whole.body, headers, whole.content_type.encode("latin-1"))


class UnitRun(OnePieceRun[UnitTicket]):
    """One admitted call billed by the unit, to its settlement."""

    async def _serve(self) -> Whole:
        ticket = self.ticket
        made = await self._runtime.failover.serve(
            ticket.chain, self._ask, self.trail, self._caller_is_gone, total_seconds=self._limits.media_seconds
        )
        self._ending = True
        self._first_at = clock.monotonic()
        receipt = self._receipt(made)
        body, content_type = await ticket.call.answer(made, receipt)
        await self._settle(receipt, 200, answer=await kept(ticket.hashes, body, content_type))
        return Whole(made.entry, self.trail.attempts, body, content_type, receipt)

    async def _ask(self, entry: TargetEntry, timeouts: Timeouts) -> Made:
        """One attempt. An answer with nothing in it served nobody: the next target is asked."""
        own = entry.target.options
        patient = Timeouts(
            connect_seconds=timeouts.connect_seconds,
            first_byte_seconds=own.first_byte_seconds or timeouts.total_seconds,
            idle_seconds=own.idle_seconds or timeouts.total_seconds,
            total_seconds=timeouts.total_seconds,
        )
        made = await self.ticket.call.ask(entry, patient)
        if made.quantity < 1:
            raise BadAnswer("the upstream's answer holds nothing", status=200)
        return made

    def _receipt(self, made: Made) -> Receipt:
        """What came back, never more than was asked for, at the price that was reserved."""
        ticket, target = self.ticket, made.entry.target
        units = Units(min(made.quantity, ticket.units.quantity), ticket.units.tier)
        charge = pricing.charge(ticket.price.rates, units=units)
        return Receipt(
            request_id=ticket.request_id,
            model=ticket.entry.slug,
            provider=target.provider,
            target=target.label,
            attempts=self.trail.attempts,
            sandbox=made.entry.sandbox,
            usage=NOT_SERVED,
            charged_microcredits=charge.amount_microcredits,
            saved_microcredits=0,
            reserved_microcredits=pricing.unit_ceiling(ticket.price.rates, ticket.units),
            price_version=ticket.price.version,
            lines=charge.lines,
            unit=ticket.price.rates.unit,
            units=units.quantity,
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """A provider's answer with status 200, read to its end. Header names are in lower case."""

    headers: Mapping[str, str]
    body: bytes = field(repr=False)


async def exchange(
    runtime: Runtime, request: UpstreamRequest, timeouts: Timeouts
) -> tuple[int, Mapping[str, str], bytes]:
    """Send one request and read its answer: status, headers (names in lower case) and body. Raises UpstreamError."""
    try:
        response = await runtime.pool.send(request, timeouts)
    except ValueError:
        raise TargetUnusable("the target's settings make no request") from None
    with response:
        most = runtime.limits.max_answer_bytes if response.status < 400 else _MOST_ERROR_BYTES
        return response.status, response.headers, await response.read(most)


async def send(
    runtime: Runtime, entry: TargetEntry, request: UpstreamRequest, timeouts: Timeouts, *, known: bytes = b""
) -> Reply:
    """`exchange` with a target. Raises UpstreamError, also for any status but 200.

    ``known`` is the caller's own request: its URLs may stand in a refusal's message.
    """
    status, headers, body = await exchange(runtime, request, timeouts)
    if status != 200:
        raise classify.refuse(status, headers, body, secret=entry.target.secret, known=known)
    return Reply(headers, body)


def _reserved(entry: ModelEntry, units: Units) -> int:
    """Microcredits that the call holds: exactly its price. Raises InvalidRequest for a tier without one."""
    assert entry.price is not None
    try:
        return pricing.unit_ceiling(entry.price.rates, units)
    except pricing.NotPriced:
        raise InvalidRequest(
            f"{entry.slug} has no price for what is asked.", param="model", code="model_not_priced"
        ) from None


def _is_large(request: GatewayRequest) -> bool:
    return len(request.body) > request.runtime.limits.parse_in_thread_bytes


#: The content type of most answers.
JSON_TYPE: Final = JSON.decode("latin-1")
