"""Two hundred calls at one moment: no wallet and no month of a key, member or organization is passed (C-LIM-2).

Calls that are answered in one piece reserve all they may cost: together they never pass the limit. A stream reserves a
step at a time: each that is live may pass it by one step at most.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import pytest_django

from billing.models import Wallet
from catalog import pricing
from events import audit
from limits import setting
from orgs.models import Membership
from tests.fakes import upstream as fake
from tests.fakes.upstream import Conversation
from tests.support import load
from tests.support.gateway import (
    CREDIT,
    RATES,
    SETTINGS,
    Caller,
    Gateway,
    Server,
    body_of,
    in_organization,
    price_of,
    wait_for,
)
from tests.support.load import Outcome
from upstreams import estimate
from usage import verify

CALLS = 200
AFFORDED = 50
MAX_TOKENS = 1_000
STEP_TOKENS = int(SETTINGS["GATEWAY_STEP_OUTPUT_TOKENS"])
STEP = price_of(0, STEP_TOKENS)
#: Sixty tokens, nearly a step: the second piece of a stream that got no more than its first step passes it by far.
PIECE = "x" * 240

Figures = Callable[[str], None]


@pytest.fixture(scope="module")
def three(_gateway_session: Gateway, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[list[Server]]:
    """Gateways without a least balance, so that a wallet can be spent to the last credit.

    Their patience is long: the provider says nothing before all calls are admitted, however slow the machine is.
    """
    patient = {"GATEWAY_FIRST_BYTE_SECONDS": "120", "GATEWAY_IDLE_SECONDS": "120", "GATEWAY_CONNECT_SECONDS": "60"}
    with _gateway_session.connected(django_db_blocker):
        servers = [_gateway_session.start(MIN_BALANCE_CREDITS="0", **patient) for _ in range(3)]
    yield servers
    for server in servers:
        assert server.stop() == 0


@pytest.fixture(params=[1, 3], ids=["one process", "three processes"])
def servers(request: pytest.FixtureRequest, three: list[Server]) -> Sequence[Server]:
    return three[: request.param]


def limited(gateway: Gateway, by: str, amount: int) -> Caller:
    """Someone who can spend ``amount`` microcredits: by the wallet, or by the month of a key or of one above it."""
    caller = gateway.caller(credits=0)
    if by in ("member", "organization"):
        caller = in_organization(caller)
    caller.give(amount if by == "wallet" else amount + 10_000 * CREDIT)
    if by == "key":
        caller.limit(amount)
    elif by == "member":
        membership = Membership.objects.get(workspace=caller.workspace, user=caller.user)
        setting.set_member(membership, amount, actor=audit.SYSTEM)
    elif by == "organization":
        setting.set_workspace(caller.workspace, amount, actor=audit.SYSTEM)
    return caller


def storm(caller: Caller, servers: Sequence[Server], body: bytes) -> tuple[list[Outcome], int]:
    """All calls at once, spread over the processes, and the least that was ever available meanwhile."""

    def send() -> list[Outcome]:
        return load.together(
            load.call(servers[number % len(servers)].port, caller.secret, body) for number in range(CALLS)
        )

    least = available(caller)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        while not sending.done():
            least = min(least, available(caller))
        return sending.result(), min(least, available(caller))


def available(caller: Caller) -> int:
    return Wallet.objects.get(pk=caller.workspace.pk).available_microcredits


def encoded(model: str, **fields: Any) -> bytes:
    return json.dumps(body_of(model, **fields)).encode()


@pytest.mark.parametrize("by", ["wallet", "key", "member", "organization"])
def test_whole_calls_never_pass_a_limit(gateway: Gateway, servers: Sequence[Server], by: str, figures: Figures) -> None:
    used = {"input": 0}

    async def uses_all_it_may(talk: Conversation) -> None:
        await talk.gone(0.5)
        await talk.json(fake.completion("x", used["input"], MAX_TOKENS))

    route = gateway.upstream.serve(uses_all_it_may)
    body = encoded(gateway.model(route), max_tokens=MAX_TOKENS)
    used["input"] = estimate.ceiling_input_tokens(body)
    reserved = pricing.ceiling(RATES, used["input"], MAX_TOKENS)
    assert reserved == price_of(used["input"], MAX_TOKENS)
    caller = limited(gateway, by, AFFORDED * reserved)

    outcomes, least = storm(caller, servers, body)

    statuses = [outcome.status for outcome in outcomes]
    assert (statuses.count(200), statuses.count(402)) == (AFFORDED, CALLS - AFFORDED)
    assert route.calls == AFFORDED
    refusal = "insufficient_credits" if by == "wallet" else "spending_limit_exceeded"
    assert {outcome.json["error"]["type"] for outcome in outcomes if outcome.status == 402} == {refusal}
    books = caller.settled_books(rows=CALLS)
    assert (books.spent, books.charged, sum(books.transfers)) == (AFFORDED * reserved,) * 3
    assert (books.held, books.meter_held, len(books.log)) == (0, 0, CALLS)
    if by == "wallet":
        assert (books.balance, least) == (0, 0)
    assert verify.verify().findings == ()
    figures(
        f"{CALLS} whole calls, {len(servers)} process(es), {by} affords {AFFORDED}: {route.calls} went upstream, "
        f"least available {least / CREDIT:.2f} credits"
    )


@pytest.mark.parametrize("ends", [False, True], ids=["endless", "ending"])
@pytest.mark.parametrize("by", ["wallet", "key", "member", "organization"])
def test_streams_pass_a_limit_by_a_step_each_at_most(
    gateway: Gateway, servers: Sequence[Server], by: str, ends: bool, figures: Figures
) -> None:
    async def behave(talk: Conversation) -> None:
        await talk.start()
        while route.calls < admitted:  # until all that is there is reserved: then no hold can grow
            await talk.pause(0.05)
        await talk.gone(0.5)
        await talk.chunk(PIECE)
        while not ends:
            await talk.pause(0.05)
            await talk.chunk(PIECE)
        # Nobody could foresee this much: it came with the end, in thoughts that were never shown.
        await talk.send(fake.event("", finish="stop", usage=fake.usage(10, 2 * STEP_TOKENS)) + fake.DONE)
        await talk.end()

    admitted = CALLS * 3 // 4
    route = gateway.upstream.serve(behave)
    body = encoded(gateway.model(route), stream=True, max_tokens=4_000)
    limit = admitted * pricing.ceiling(RATES, estimate.ceiling_input_tokens(body), STEP_TOKENS)
    caller = limited(gateway, by, limit)

    outcomes, least = storm(caller, servers, body)

    live = [outcome for outcome in outcomes if outcome.status == 200]
    assert len(live) + sum(outcome.status == 402 for outcome in outcomes) == CALLS
    assert route.calls == len(live) == admitted
    assert all(outcome.whole for outcome in live)
    books = caller.settled_books(rows=CALLS)
    assert books.spent == books.charged == sum(books.transfers)
    overshoot = max(0, books.spent - limit)
    if ends:
        assert 0.8 * STEP * len(live) < overshoot <= STEP * len(live)
    else:
        assert all(b'"length"' in outcome.body for outcome in live)
        assert overshoot == 0  # what is delivered is covered before
        wait_for(lambda: all(seen.ended == "gateway gone" for seen in route.seen))
    assert (books.held, books.meter_held, len(books.log)) == (0, 0, CALLS)
    assert verify.verify().findings == ()
    figures(
        f"{CALLS} {'ending' if ends else 'endless'} streams, {len(servers)} process(es), {by} affords {admitted}: "
        f"{len(live)} lived, overshoot {overshoot / STEP / len(live):.2f} steps each, "
        f"least available {least / CREDIT:.2f} credits"
    )
