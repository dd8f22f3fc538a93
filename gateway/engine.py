"""The way of a paid call, whatever its format: understand, resolve, count, reserve, run, answer."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from catalog import resolve
from catalog.entries import ModelEntry, TargetEntry
from core import money, secrets
from core.errors import Conflict, InternalError, InvalidRequest, Overloaded, ProductError, RateLimited
from gateway import affinity, kept_responses, quote
from gateway.adapters import chain_for
from gateway.dialects.base import Call, Dialect, Receipt
from gateway.failover import Trail
from gateway.meter import Meter
from gateway.pump import Ticket, WholeRun
from gateway.request import Answer, GatewayRequest, RawHeaders, StreamAnswer
from gateway.runtime import Runtime
from gateway.streams import StreamRun
from idempotency import replay
from idempotency.replay import Hashes
from keys.auth import KeyFacts
from usage.items import Admit, Admitted, Claim, LogRow, Record, Refused, Replay

T = TypeVar("T")


class Named(Protocol):
    """A call as the catalog is asked about it: ``intent`` counts where ``model`` is empty."""

    @property
    def kind(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def intent(self) -> str: ...


_LOGGED_MODEL: Final = re.compile(r"[\w.:/@-]{1,120}", re.ASCII)


async def serve(request: GatewayRequest, dialect: Dialect) -> Answer | StreamAnswer:
    """One call to its answer, or to the beginning of its stream. Raises the ProductError that the caller gets.

    The request is counted before it is judged, so that malformed ones have their limit too.
    """
    runtime, key = request.runtime, request.key
    call, problem = await _parse(request, dialect)
    await count(request)
    if problem is not None:
        raise problem
    assert call is not None
    entry, chain = resolve_chain(runtime, key, call)
    request.model = entry.slug
    key.check_model(entry.slug)
    _check_service_tier(call, entry)
    _check_server_tools(call, entry)
    if call.other_models:
        _check_other_models(request, call)
    name = replay.presented(request.raw_headers)
    if affinity.has_equals(chain):
        chain = await _heavy(runtime, call, affinity.ordered, chain, request.raw_headers, call, key.workspace_id)
    if call.previous_response_id:
        chain = await kept_responses.of_previous(request, call.previous_response_id, chain)
    hashes = None
    if name is not None:
        hashes = await _heavy(runtime, call, replay.hashes, name, "POST", request.path, call.body)
    price_of = partial(resolve.price_of, runtime.catalog.snapshot)
    meter = await _heavy(runtime, call, Meter.of, call, entry, runtime.limits, price_of)
    if request.quoting:
        return quote.answer(call, entry, meter, runtime.limits)
    admission = await admit(
        request, call.kind, entry, meter.reserved_microcredits, hashes,
        stream=call.stream, min_balance_microcredits=runtime.limits.min_balance_microcredits,
    )  # fmt: skip
    if isinstance(admission, Replay):
        return again(admission)
    request.logged = True  # by the run, from here on
    ticket = Ticket(
        request.id, request.started, key, call, entry, chain, meter, dialect, hashes, request.caller_is_gone
    )
    if call.stream:
        return _stream(StreamRun(runtime, ticket, request.drop_connection))
    return await _whole(WholeRun(runtime, ticket, request.lasting_task()))


async def count(request: GatewayRequest) -> None:
    """Take one request off the allowance of whoever owns the key. Raises RateLimited."""
    allowance = await request.runtime.limiter.take(request.key.subject)
    request.allowance = allowance
    if not allowance.allowed:
        raise RateLimited(
            f"More than {allowance.limit} requests in this minute. Wait {allowance.retry_after} seconds.",
            retry_after=allowance.retry_after,
        )


def record_refusal(request: GatewayRequest, endpoint: str, error: ProductError, latency_ms: int) -> None:
    """The log row of a call that was refused before it had a hold."""
    key = request.key
    request.runtime.committer.submit_nowait(
        Record(
            LogRow(
                request_id=request.id,
                workspace_id=key.workspace_id,
                endpoint=endpoint,
                model=request.model,
                status=error.status,
                latency_ms=latency_ms,
                user_id=key.user_id,
                key_id=key.id,
                key_name=key.name,
                error_type=error.type,
                stream=request.stream,
            )
        )
    )


async def _parse(request: GatewayRequest, dialect: Dialect) -> tuple[Call | None, ProductError | None]:
    """The call, or what is wrong with the body."""
    body = request.body
    try:
        if len(body) > request.runtime.limits.parse_in_thread_bytes:
            call = await asyncio.to_thread(dialect.parse, body)
        else:
            call = dialect.parse(body)
    except InvalidRequest as error:
        return None, error
    request.stream = call.stream
    note_model(request, call.model)
    return call, None


def note_model(request: GatewayRequest, name: str) -> None:
    """What the log calls the model of a call that is refused: a caller may send anything, the log keeps only names."""
    if _LOGGED_MODEL.fullmatch(name):
        request.model = name


def resolve_chain(runtime: Runtime, key: KeyFacts, call: Call) -> tuple[ModelEntry, list[TargetEntry]]:
    """The model that is called, and the targets that can be asked. Raises InvalidRequest and Overloaded."""
    return choose(runtime, key, call, lambda entry: chain_for(call.spoken, entry.targets))


def choose(
    runtime: Runtime,
    key: KeyFacts,
    call: Named,
    chain_of: Callable[[ModelEntry], list[TargetEntry]],
    cost_of: Callable[[ModelEntry], int] | None = None,
) -> tuple[ModelEntry, list[TargetEntry]]:
    """The model that is called, with its targets among ``chain_of``. Raises InvalidRequest and Overloaded.

    A pinned model is honoured exactly. An intent takes the cheapest model that is qualified, that the key may call and
    that somebody serves at this moment. Where ``cost_of`` knows what this very call costs (microcredits), it says who
    is cheapest; it raises InvalidRequest for a model that can't do what is asked, and the next one is taken.
    """
    snapshot = runtime.catalog.snapshot
    if call.model:
        entry = resolve.find(snapshot, call.model, call.kind)
        chain = chain_of(entry)
    else:
        qualified = resolve.qualified(snapshot, call.intent, call.kind)
        allowed = [each for each in qualified if key.may_call(each.slug)] or qualified
        breaker = runtime.failover.breaker
        entry, chain, _ = min(
            ((each, chain_of(each), _cost(cost_of, each)) for each in allowed),
            key=lambda found: (
                not found[1],
                found[2] is None,
                found[0].sandboxed,
                not any(breaker.seconds_left(each.target) <= 0 for each in found[1]),
                found[2] or 0,
            ),
        )
    if not chain:
        raise Overloaded(f"No provider serves {entry.slug} at this moment.", headers={"Retry-After": "60"})
    return entry, chain


def _cost(cost_of: Callable[[ModelEntry], int] | None, entry: ModelEntry) -> int | None:
    """Microcredits of the call, zero where nobody can tell them yet; None for a model that can't do what is asked."""
    try:
        return cost_of(entry) if cost_of is not None else 0
    except InvalidRequest:
        return None


def _check_service_tier(call: Call, entry: ModelEntry) -> None:
    """A speed class that has no price of its own can't be billed, so it is not passed on."""
    assert entry.price is not None
    if not entry.price.rates.knows_service_tier(call.service_tier):
        known = ["auto", "default", *(tier.name for tier in entry.price.rates.service_tiers)]
        raise InvalidRequest(
            f"The {call.service_tier_param} is not offered for {entry.slug}.",
            param=call.service_tier_param,
            code="service_tier_not_offered",
            extra={"available_service_tiers": known},
        )


def _check_server_tools(call: Call, entry: ModelEntry) -> None:
    """A tool that the provider bills by use and that has no price here can't be billed, so it is not passed on."""
    assert entry.price is not None
    for name, param in call.server_tools:
        if entry.price.rates.server_tool(name) is None:
            raise InvalidRequest(
                f"This tool is not offered for {entry.slug}: it has no price there.",
                param=param,
                code="tool_not_offered",
                extra={"available_tools": sorted(name for name, _ in entry.price.rates.server_tools)},
            )


def _check_other_models(request: GatewayRequest, call: Call) -> None:
    """Models that the caller brings in by name: each needs a price, and the key must allow it."""
    snapshot = request.runtime.catalog.snapshot
    for name, param in call.other_models:
        other = resolve.exact(snapshot, name)
        if other is None or other.price is None:
            raise InvalidRequest(
                f"The model '{resolve.shown(name)}' can't be brought in here: it has no price.",
                param=param,
                code="model_not_priced",
                extra={"available_models": list(snapshot.available(call.kind))},
            )
        request.key.check_model(other.slug)


async def admit(
    request: GatewayRequest,
    kind: str,
    entry: ModelEntry,
    reserved_microcredits: int,
    hashes: Hashes | None,
    *,
    stream: bool = False,
    min_balance_microcredits: int = 0,
) -> Admitted | Replay:
    """Reserve what the call may cost. Raises what refuses it."""
    runtime, key = request.runtime, request.key
    claim = Claim(hashes.key, hashes.request, stream) if hashes is not None else None
    assert entry.price is not None
    result = await runtime.committer.submit(
        Admit(
            hold_id=request.id,
            workspace_id=key.workspace_id,
            key_id=key.id,
            amount_microcredits=reserved_microcredits,
            owner_id=runtime.committer.owner_id,
            endpoint=kind,
            model=entry.slug,
            price_id=entry.price.id,
            min_balance_microcredits=min_balance_microcredits,
            claim=claim,
        )
    )
    if isinstance(result, Refused):
        raise result.error()
    if isinstance(result, Admitted | Replay):
        return result
    raise InternalError("Something went wrong on our side.")


async def _whole(run: WholeRun) -> Answer:
    whole = await run.answer()
    headers = served_headers(run.ticket.entry, whole.entry, run.trail)
    headers += receipt_headers(whole.receipt)
    if (receipts := run.ticket.call.receipts) is not None:
        headers += receipts.headers(whole.receipt.usage, whole.receipt.saved_microcredits)
    return Answer(200, whole.body, headers, whole.content_type.encode())


def _stream(run: StreamRun) -> StreamAnswer:
    def headers() -> RawHeaders:
        if run.opened is None:  # only a keep-alive so far
            return [(b"x-hypereal-model", run.ticket.entry.slug.encode("latin-1"))]
        served = served_headers(run.ticket.entry, run.opened.entry, run.trail)
        usage, receipts = run.opened.relay.usage, run.ticket.call.receipts
        if usage is not None and receipts is not None:
            served += receipts.headers(usage, None)
        return served

    return StreamAnswer(run.pipe, headers, run.ticket.dialect.stream_content_type, run.caller_left)


def served_headers(model: ModelEntry, entry: TargetEntry, trail: Trail) -> RawHeaders:
    """Which model, provider and attempt served, and what came of the attempts before it."""
    same = _served_by(entry.target.provider, model.slug, trail.attempts, entry.sandbox)
    return [*same, (b"x-hypereal-trace", trail.header().encode("latin-1", "replace"))]


@functools.lru_cache(maxsize=4096)
def _served_by(provider: str, model: str, attempts: int, sandbox: bool) -> tuple[tuple[bytes, bytes], ...]:
    headers = (
        (b"x-hypereal-provider", provider.encode("latin-1")),
        (b"x-hypereal-model", model.encode("latin-1")),
        (b"x-hypereal-attempts", b"%d" % attempts),
    )
    return (*headers, (b"x-hypereal-sandbox", b"1")) if sandbox else headers


def receipt_headers(receipt: Receipt) -> RawHeaders:
    """What a whole answer's receipt will say of use and money, under the words that it has there."""
    return [
        (b"x-hypereal-credits", money.credits_text(receipt.charged_microcredits).encode()),
        (b"x-hypereal-reserved-credits", money.credits_text(receipt.reserved_microcredits).encode()),
        (b"x-hypereal-price-version", b"%d" % receipt.price_version),
        (b"x-hypereal-usage", _used(receipt)),
    ]


def _used(receipt: Receipt) -> bytes:
    """What was counted: tokens, or units of one sort."""
    if receipt.unit:
        return b"units=%d, unit=%s" % (receipt.units, receipt.unit.encode("latin-1"))
    usage = receipt.usage
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    return b"input_tokens=%d, cached_input_tokens=%d, cache_write_tokens=%d, output_tokens=%d" % (
        usage.input_tokens, usage.cached_input_tokens, written, usage.output_tokens
    )  # fmt: skip


def again(stored: Replay) -> Answer:
    """The first call's answer once more, under its id."""
    try:
        body = replay.unseal(stored.sealed_body)
    except secrets.Unreadable:
        raise Conflict(
            f"This Idempotency-Key was used before, and its stored answer ({stored.request_id}) can no longer be read.",
            param="Idempotency-Key",
            extra={"request_id": str(stored.request_id)},
        ) from None
    content_type = stored.content_type.encode("latin-1")
    return Answer(stored.status, body, [(b"idempotency-replayed", b"true")], content_type, stored.request_id)


async def _heavy(runtime: Runtime, call: Call, work: Callable[..., T], *args: Any) -> T:
    """Work over the whole body: in a thread where the body is large."""
    if len(call.body) > runtime.limits.parse_in_thread_bytes:
        return await asyncio.to_thread(work, *args)
    return work(*args)
