"""Admission and its refusals: balance, monthly limit, request limit, parallel calls (C-CHAT-2, C-ERR-3, C-LIM-2)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from catalog.pricing import Rates, TokenRates
from keys.models import ApiKey
from tests.fakes import upstream as fake
from tests.fakes.upstream import Conversation
from tests.support.gateway import CREDIT, RATES_WITH_TIERS, Gateway, price_of, wait_for


def test_a_balance_below_the_least_is_refused_before_anything_goes_upstream(gateway: Gateway) -> None:
    route = gateway.upstream.serve(fake.answers())
    model = gateway.model(route)
    caller = gateway.caller(credits=199)
    reply = caller.chat(model, max_tokens=1)
    assert (reply.status, reply.error["type"]) == (402, "insufficient_credits")
    assert (reply.error["required_credits"], reply.error["available_credits"]) == (200, 199)
    assert route.calls == 0
    books = caller.settled_books()
    assert (books.balance, books.held, books.log[0]["status"]) == (199 * CREDIT, 0, 402)
    assert (books.log[0]["error_type"], books.log[0]["model"]) == ("insufficient_credits", model)


def test_a_call_that_could_cost_more_than_there_is_is_refused(gateway: Gateway) -> None:
    route = gateway.upstream.serve(fake.answers())
    model = gateway.model(route, max_output_tokens=1_000_000)
    caller = gateway.caller(credits=300)
    reply = caller.chat(model, max_tokens=100_000)
    assert (reply.status, reply.error["type"]) == (402, "insufficient_credits")
    assert reply.error["required_credits"] > 400
    assert caller.chat(model, max_tokens=100_000, stream=True).status == 200  # a stream reserves a step only
    assert route.calls == 1


def test_the_monthly_limit_of_a_key_holds(gateway: Gateway) -> None:
    model = gateway.model(fake.answers(prompt=100, output=50))
    caller = gateway.caller(credits=1000)
    caller.limit(int(2.5 * CREDIT))
    assert caller.chat(model, max_tokens=500).status == 200
    reply = caller.chat(model, max_tokens=600)
    assert (reply.status, reply.error["type"]) == (402, "spending_limit_exceeded")
    books = caller.settled_books(rows=2)
    assert (books.spent, books.meter_held) == (price_of(100, 50), 0)


def test_parallel_calls_never_reserve_more_than_there_is(gateway: Gateway) -> None:
    all_decided = threading.Event()

    async def slowly(talk: Conversation) -> None:
        await talk.until(all_decided)  # every call is either here or refused: all are in flight together
        await talk.json(fake.completion("x", 10, 100))

    route = gateway.upstream.serve(slowly)
    server = gateway.with_settings(GATEWAY_FIRST_BYTE_SECONDS="120")
    model = gateway.model(route)
    caller = gateway.caller(credits=220, server=server)
    # 1,000 tokens of output reserve 4 credits each, and a little for the input: at most 54 at once.
    with ThreadPoolExecutor(80) as pool:
        calls = [pool.submit(caller.chat, model, max_tokens=1000) for _ in range(80)]
        try:
            wait_for(lambda: sum(call.done() for call in calls) + route.calls >= 80)
        finally:
            all_decided.set()
        statuses = [call.result().status for call in calls]
    admitted = statuses.count(200)
    assert admitted + statuses.count(402) == 80
    assert 50 <= admitted <= 54
    assert route.calls == admitted
    books = caller.settled_books(rows=80)
    assert books.balance == 220 * CREDIT - admitted * price_of(10, 100)
    assert (books.held, len(books.log)) == (0, 80)


def test_requests_are_counted_by_account_and_said_in_headers(gateway: Gateway) -> None:
    server = gateway.with_settings(RATE_LIMIT_PER_MINUTE="7")
    model = gateway.model(fake.answers())
    caller = gateway.caller(server=server)
    other = gateway.caller(server=server)
    ApiKey.objects.filter(pk=other.key.pk).update(workspace=caller.workspace, created_by=caller.user)
    replies = [(caller if i % 2 else other).chat(model) for i in range(12)]
    statuses = [reply.status for reply in replies]
    if len({reply.headers["x-ratelimit-reset"] for reply in replies}) == 1:  # unless the minute ended in between
        assert statuses == [200] * 7 + [429] * 5
        remaining = [int(reply.headers["x-ratelimit-remaining"]) for reply in replies]
        assert remaining == [6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0]
    refused = next(reply for reply in replies if reply.status == 429)
    assert refused.error["type"] == "rate_limit_error"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-limit"] == "7"
    wait_for(lambda: any(row["status"] == 429 and row["model"] == model for row in caller.books().log))


def test_a_service_tier_passes_only_where_it_has_a_price(gateway: Gateway) -> None:
    async def at_that_tier(talk: Conversation) -> None:
        await talk.json({**fake.completion("x", 100, 50), "service_tier": talk.body.get("service_tier")})

    caller = gateway.caller()
    plain = gateway.model(at_that_tier)
    reply = caller.chat(plain, service_tier="priority")
    assert (reply.status, reply.error["param"]) == (400, "service_tier")
    assert caller.chat(plain, service_tier="auto").status == 200
    priced = gateway.model(at_that_tier, rates=RATES_WITH_TIERS)
    reply = caller.chat(priced, service_tier="priority")
    assert reply.status == 200
    assert caller.settled_books(rows=3).log[-1]["charged_microcredits"] == 2 * price_of(100, 50)


def test_usage_beyond_the_hold_is_charged_all_the_same(gateway: Gateway) -> None:
    model = gateway.model(fake.answers(prompt=100, output=5000))
    caller = gateway.caller(credits=1000)
    assert caller.chat(model, max_tokens=10).status == 200
    assert caller.settled_books().balance == 1000 * CREDIT - price_of(100, 5000)


def test_numbers_that_no_ledger_can_hold_leave_no_hold_behind(gateway: Gateway) -> None:
    rates = Rates(tokens=TokenRates(input=10**9, output=10**15))
    model = gateway.model(fake.answers(prompt=10, output=9 * 10**11), rates=rates)
    caller = gateway.caller(credits=10**8)
    assert caller.chat(model, max_tokens=10).status == 200
    wait_for(lambda: caller.books().holds == ["voided"])
    books = caller.books()
    assert (books.balance, books.held, books.log) == (10**8 * CREDIT, 0, [])
