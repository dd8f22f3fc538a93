"""What a call for pictures reserves and costs, to the microcredit, however it ends (C-IMG-2, C-BILL-2)."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from typing import Any

import pytest

from tests.fakes import upstream as fake
from tests.fakes.upstream import Behaviour, Conversation
from tests.images.provider import REFUSED, ask, draws, gemini, serve
from tests.support.gateway import CREDIT, Caller, Gateway, wait_for
from tests.support.http import Reply


def charged(caller: Caller, rows: int = 1) -> tuple[int, int]:
    """What was charged, and what is left of a thousand credits, in credits; nothing is held any more."""
    books = caller.settled_books(rows)
    assert books.held == 0
    assert books.charged == 1000 * CREDIT - books.balance == books.spent
    return books.charged // CREDIT, books.balance // CREDIT


@pytest.mark.parametrize(
    ("asked", "made", "paid"),
    [(1, 1, 8), (3, 3, 24), (4, 2, 16), (2, 5, 16), (0, 1, 8), (-3, 1, 8), (50, 10, 80)],
    ids=["one", "all", "fewer", "more", "none-asked", "below", "clamped"],
)
def test_what_comes_back_is_charged_and_never_more_than_was_asked(
    gateway: Gateway, asked: int, made: int, paid: int
) -> None:
    route = gateway.upstream.serve(draws(made))
    model, caller = serve(gateway, route), gateway.caller()
    reply = ask(caller, model, n=asked)
    most = max(1, min(asked, 10))
    assert reply.status == 200
    assert len(reply.json["data"]) == min(made, most)
    assert route.seen[0].body["n"] == most
    assert reply.headers["x-hypereal-credits"] == str(paid)
    assert reply.headers["x-hypereal-reserved-credits"] == str(8 * most)
    assert reply.headers["x-hypereal-usage"] == f"units={min(made, most)}, unit=image"
    assert charged(caller) == (paid, 1000 - paid)
    row = caller.books().log[0]
    assert (row["endpoint"], row["model"], row["status"], int(row["units"])) == ("images", model, 200, min(made, most))
    assert (row["input_tokens"], row["output_tokens"]) == (0, 0)


@pytest.mark.parametrize(("size", "paid"), [("1536x1024", 8), ("2048x2048", 16), ("4096x4096", 32)])
def test_each_tier_has_its_price(gateway: Gateway, size: str, paid: int) -> None:
    model, caller = serve(gateway, draws()), gateway.caller()
    assert ask(caller, model, size=size, n=2).status == 200
    assert charged(caller) == (2 * paid, 1000 - 2 * paid)


FAILURES: dict[str, tuple[Behaviour, int, str]] = {
    "nothing-came": (draws(0), 502, "upstream_error"),
    "upstream-500": (fake.fails(500), 502, "upstream_error"),
    "upstream-429": (fake.fails(429), 503, "overloaded_error"),
    "our-account": (fake.fails(401, "Incorrect API key provided", code="invalid_api_key"), 502, "upstream_error"),
    "refused": (fake.fails(400, **REFUSED), 400, "image_generation_user_error"),
}


@pytest.mark.parametrize("name", list(FAILURES))
def test_a_call_that_made_nothing_costs_nothing(gateway: Gateway, name: str) -> None:
    behaviour, status, kind = FAILURES[name]
    model, caller = serve(gateway, behaviour), gateway.caller()
    reply = ask(caller, model, n=3)
    assert (reply.status, reply.error["type"]) == (status, kind)
    assert charged(caller) == (0, 1000)
    row = caller.books().log[0]
    assert (row["status"], row["error_type"], row["units"]) == (status, kind, None)
    assert caller.books().holds == ["voided"]


def test_an_error_inside_a_200_is_an_error(gateway: Gateway) -> None:
    async def behave(talk: Conversation) -> None:
        await talk.json({"error": REFUSED})

    model, caller = serve(gateway, behave), gateway.caller()
    reply = ask(caller, model)
    assert (reply.status, reply.error["code"]) == (400, "content_policy_violation")
    assert charged(caller) == (0, 1000)


@pytest.mark.parametrize(
    "first", [fake.fails(500), draws(0), fake.fails(403, "no")], ids=["500", "nothing", "our-account"]
)
def test_the_next_target_serves_and_one_charge_is_made(gateway: Gateway, first: Behaviour) -> None:
    model, caller = serve(gateway, first, draws()), gateway.caller()
    reply = ask(caller, model, n=2)
    assert (reply.status, len(reply.json["data"])) == (200, 2)
    assert int(reply.headers["x-hypereal-attempts"]) >= 2
    assert reply.headers["x-hypereal-provider"].endswith("-p1")
    assert charged(caller) == (16, 984)


def test_pictures_asked_for_one_by_one_are_charged_as_they_come(gateway: Gateway) -> None:
    route = gateway.upstream.serve(gemini(None, 500, None))
    model, caller = serve(gateway, route, adapter="gemini"), gateway.caller()
    reply = ask(caller, model, n=3)
    assert (reply.status, len(reply.json["data"]), route.calls) == (200, 2, 3)
    assert charged(caller) == (16, 984)


def test_a_provider_that_hangs_is_given_up(gateway: Gateway) -> None:
    async def hang(talk: Conversation) -> None:
        await talk.gone()

    server = gateway.with_settings(GATEWAY_MEDIA_SECONDS="1.5")
    model, caller = serve(gateway, hang), gateway.caller(server=server)
    reply = ask(caller, model)
    assert (reply.status, reply.error["type"]) == (504, "timeout_error")
    assert charged(caller) == (0, 1000)


def test_who_leaves_pays_for_what_was_made(gateway: Gateway) -> None:
    asked, go_on = threading.Event(), threading.Event()

    async def slow(talk: Conversation) -> None:
        asked.set()
        await asyncio.to_thread(go_on.wait, 60)
        await draws()(talk)

    model, caller = serve(gateway, slow), gateway.caller()
    connection = http.client.HTTPConnection("127.0.0.1", caller.port, timeout=90)
    body = json.dumps({"model": model, "prompt": "a red fox", "n": 2})
    connection.request("POST", "/v1/images/generations", body, caller.headers({"content-type": "application/json"}))
    assert asked.wait(60)
    connection.close()
    go_on.set()
    assert charged(caller) == (16, 984)
    assert caller.books().log[0]["status"] == 200


def test_the_same_key_of_idempotency_is_one_call(gateway: Gateway) -> None:
    route = gateway.upstream.serve(draws())
    model, caller = serve(gateway, route), gateway.caller()
    name: dict[str, Any] = {"headers": {"idempotency-key": f"once-{model}"}}
    first, again = ask(caller, model, n=2, **name), ask(caller, model, n=2, **name)
    assert (first.status, again.status, again.body) == (200, 200, first.body)
    assert again.headers["idempotency-replayed"] == "true"
    assert ask(caller, model, n=3, **name).status == 409
    assert route.calls == 1
    assert charged(caller, 2)[0] == 16


def test_no_more_is_needed_than_the_price(gateway: Gateway) -> None:
    """C-CHAT-2: the least balance of 200 credits is not for media."""
    model, caller = serve(gateway, draws()), gateway.caller(8)
    assert ask(caller, model).status == 200
    refused = ask(caller, model)
    assert (refused.status, refused.error["type"]) == (402, "insufficient_credits")
    assert (refused.error["required_credits"], refused.error["available_credits"]) == (8, 0)
    books = caller.settled_books(2)
    assert (books.balance, books.charged, books.holds) == (0, 8 * CREDIT, ["posted"])


def test_the_keys_month_holds(gateway: Gateway) -> None:
    route = gateway.upstream.serve(draws())
    model, caller = serve(gateway, route), gateway.caller()
    caller.limit(15 * CREDIT)
    assert ask(caller, model).status == 200
    refused = ask(caller, model)
    assert (refused.status, refused.error["type"]) == (402, "spending_limit_exceeded")
    assert route.calls == 1
    assert charged(caller, 2) == (8, 992)


def test_two_calls_on_a_wallet_for_one(gateway: Gateway) -> None:
    route = gateway.upstream.serve(draws())
    model, caller = serve(gateway, route), gateway.caller(16)
    replies: list[Reply] = []
    calls = [threading.Thread(target=lambda: replies.append(ask(caller, model, n=2))) for _ in range(2)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert sorted(reply.status for reply in replies) == [200, 402]
    books = caller.settled_books(2)
    assert (books.balance, books.charged, route.calls) == (0, 16 * CREDIT, 1)


def test_the_receipt_shows_the_units(gateway: Gateway) -> None:
    model, caller = serve(gateway, draws(2)), gateway.caller()
    reply = ask(caller, model, n=3, size="1536x1024")
    wait_for(lambda: caller.send("GET", f"/v1/receipts/{reply.headers['x-request-id']}").status == 200)
    receipt: Any = caller.send("GET", f"/v1/receipts/{reply.headers['x-request-id']}").json
    assert receipt["usage"]["units"] == 2
    assert receipt["lines"] == [{"bucket": "image", "quantity": 2, "credits_each": 8, "exact_credits": "16"}]
    told = [receipt[f"{name}_credits"] for name in ("reserved", "charged", "released")]
    assert told == [24, 16, 8]
    assert reply.json["hypereal"]["credits"] == 16
