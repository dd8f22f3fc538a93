"""Counting tokens costs nothing and counts nowhere (C-MSG-1)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.fakes import messages as anthropic
from tests.gateway.messages import body, model
from tests.support import http
from tests.support.gateway import Caller, Gateway

PATH = "/v1/messages/count_tokens"


def count(caller: Caller, slug: str, **fields: Any) -> http.Reply:
    asked = {name: value for name, value in body(slug, **fields).items() if name != "max_tokens"}
    return http.send(caller.port, "POST", f"{PATH}?beta=true", asked, caller.headers({}))


def test_it_is_relayed_without_a_trace_in_the_books(gateway: Gateway) -> None:
    route = gateway.upstream.serve(anthropic.answers())
    slug = model(gateway, route)
    caller = gateway.caller(credits=0)
    reply = count(caller, slug, system="Be brief.", hypereal={"cache": True})
    assert (reply.status, reply.json) == (200, {"input_tokens": 42})
    assert reply.headers["request-id"] == reply.headers["x-request-id"]
    assert reply.headers["x-hypereal-provider"] == f"{slug}-p0"
    [seen] = route.seen
    assert seen.path.endswith("/v1/messages/count_tokens?beta=true")
    sent = body(f"up-{slug}", system="Be brief.")
    assert seen.body == {name: value for name, value in sent.items() if name != "max_tokens"}
    assert seen.headers["anthropic-version"] == "2023-06-01"
    books = caller.books()
    assert (books.log, books.holds, books.transfers) == ([], [], [])


def test_it_is_outside_the_rate_limit(gateway: Gateway) -> None:
    server = gateway.with_settings(RATE_LIMIT_PER_MINUTE="2")
    slug = model(gateway, anthropic.answers())
    caller = gateway.caller(server=server)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: count(caller, slug), range(24)))
    assert {reply.status for reply in replies} == {200}
    assert "x-ratelimit-remaining" not in replies[0].headers
    paid = http.send(caller.port, "POST", "/v1/messages", body(slug), caller.headers({}))
    assert (paid.status, paid.headers["x-ratelimit-remaining"]) == (200, "1")


def test_the_first_healthy_target_counts(gateway: Gateway) -> None:
    failing = gateway.upstream.serve(anthropic.fails(401, "authentication_error"))
    slug = model(gateway, failing, anthropic.answers())
    reply = count(gateway.caller(), slug)
    assert (reply.status, reply.headers["x-hypereal-provider"]) == (200, f"{slug}-p1")
    assert failing.calls == 1


def test_what_is_wrong_with_it_is_told(gateway: Gateway) -> None:
    caller = gateway.caller()
    refusing = model(gateway, anthropic.fails(400, "invalid_request_error", "messages: no"))
    assert (count(caller, refusing).status, count(caller, refusing).error["message"]) == (400, "messages: no")
    assert count(caller, "nobody").error["param"] == "model"
    chat = gateway.model(anthropic.answers())
    assert "/v1/chat/completions" in count(caller, chat).error["message"]
    broken = model(gateway, anthropic.fails(500))
    assert (count(caller, broken).status, count(caller, broken).json["type"]) == (502, "error")
    assert http.send(gateway.port, "POST", PATH, body(chat), {}).status == 401
    narrow = gateway.caller(allowed_models=["another"])
    assert count(narrow, refusing).status == 403
    assert caller.books().log == []
