"""The chain of targets: who is asked again, who is passed over, and what the caller is told (C-ROUTE-1, C-ERR-6)."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from http.client import HTTPConnection

import pytest

from tests.fakes import upstream as fake
from tests.fakes.upstream import Behaviour, Conversation
from tests.support.gateway import CREDIT, Gateway, body_of, price_of, wait_for


async def hang_up(talk: Conversation) -> None:
    await talk.start()  # a connection that closes before any byte is tried again by the client, unseen
    talk.cut()


async def malformed(talk: Conversation) -> None:
    await talk.json(b'{"choices":[{"mess')


async def html(talk: Conversation) -> None:
    await talk.json(b"<html>Bad gateway</html>", 502, {"content-type": "text/html"})


async def error_in_a_200(talk: Conversation) -> None:
    await talk.json({"error": {"message": "internal", "type": "server_error"}})


FAILING: list[Behaviour] = [fake.fails(500), fake.fails(503), fake.fails(529), hang_up, html]


@pytest.mark.parametrize("failing", [*FAILING, malformed, error_in_a_200], ids=lambda b: b.__name__)
@pytest.mark.parametrize("stream", [False, True])
def test_one_failure_is_tried_again_on_the_same_target(gateway: Gateway, failing: Behaviour, stream: bool) -> None:
    route = gateway.upstream.serve(fake.first(1, failing, fake.answers(prompt=5, output=2)))
    caller = gateway.caller()
    reply = caller.chat(gateway.model(route), stream=stream)
    assert (reply.status, route.calls) == (200, 2)
    assert reply.headers["x-hypereal-attempts"] == "2"
    books = caller.settled_books()
    assert (books.charged, books.log[0]["attempts"]) == (price_of(5, 2), 2)


def test_no_second_target_is_asked_after_the_first_content(gateway: Gateway) -> None:
    async def one_word_then_cut(talk: Conversation) -> None:
        await talk.start()
        await talk.chunk("word")
        await talk.taken()
        talk.cut()

    good = gateway.upstream.serve(fake.answers())
    reply = gateway.caller().chat(gateway.model(one_word_then_cut, good), stream=True)
    assert good.calls == 0
    assert reply.events[-1]["error"]["type"] == "upstream_error"


def test_retry_after_is_honoured(gateway: Gateway) -> None:
    limited = fake.fails(429, headers={"retry-after": "1"}, code="rate_limit_exceeded")
    route = gateway.upstream.serve(fake.first(1, limited, fake.answers()))
    model = gateway.model(route)
    caller = gateway.caller()
    started = time.monotonic()
    assert caller.chat(model).status == 200
    assert time.monotonic() - started >= 1.0
    assert route.calls == 2


def test_a_long_retry_after_leads_to_the_next_target_at_once(gateway: Gateway) -> None:
    limited = gateway.upstream.serve(fake.fails(429, headers={"retry-after": "3000"}))
    good = gateway.upstream.serve(fake.answers())
    model = gateway.model(limited, good)
    caller = gateway.caller()
    started = time.monotonic()
    assert caller.chat(model).status == 200
    assert time.monotonic() - started < 120  # nobody waited for what was asked, nor for a part of it
    assert (limited.calls, good.calls) == (1, 1)
    assert caller.chat(model).status == 200  # it is left out for as long as it asked for
    assert (limited.calls, good.calls) == (1, 2)


def test_the_callers_own_mistake_is_passed_on_and_not_repeated(gateway: Gateway) -> None:
    wrong = fake.fails(
        400, "max_tokens is too large", type="invalid_request_error", param="max_tokens", code="too_large"
    )
    bad, other = gateway.upstream.serve(wrong), gateway.upstream.serve(fake.answers())
    caller = gateway.caller(credits=400)
    reply = caller.chat(gateway.model(bad, other))
    assert (reply.status, bad.calls, other.calls) == (400, 1, 0)
    assert reply.error == {
        "type": "invalid_request_error",
        "message": "max_tokens is too large",
        "param": "max_tokens",
        "code": "too_large",
    }
    books = caller.settled_books()
    assert (books.balance, books.holds, books.log[0]["status"]) == (400 * CREDIT, ["voided"], 400)


@pytest.mark.parametrize(
    ("failing", "status", "kind"),
    [
        (fake.fails(500), 502, "upstream_error"),
        (fake.fails(429), 503, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_when_all_have_failed_there_is_one_clean_error(
    gateway: Gateway, failing: Behaviour, status: int, kind: str, stream: bool
) -> None:
    caller = gateway.caller(credits=400)
    model = gateway.model(failing, failing)
    reply = caller.chat(model, stream=stream)
    assert (reply.status, reply.error["type"]) == (status, kind)
    assert model not in reply.error["message"]
    assert ("retry-after" in reply.headers) == (status == 503)
    books = caller.settled_books()
    assert (books.balance, books.held, books.holds) == (400 * CREDIT, 0, ["voided"])
    assert (books.log[0]["attempts"], books.log[0]["status"], books.log[0]["error_type"]) == (4, status, kind)


def test_a_target_that_keeps_failing_is_left_out(gateway: Gateway) -> None:
    bad, good = gateway.upstream.serve(fake.fails(500)), gateway.upstream.serve(fake.answers())
    model = gateway.model(bad, good)
    caller = gateway.caller()
    for _ in range(8):
        assert caller.chat(model).status == 200
    assert good.calls == 8
    assert bad.calls < 8  # without a breaker: 16


def test_a_caller_who_left_a_whole_call_still_gets_it_billed(gateway: Gateway) -> None:
    left = threading.Event()

    async def slow(talk: Conversation) -> None:
        await asyncio.to_thread(left.wait, 60)
        await talk.json(fake.completion("x", 10, 20))

    route = gateway.upstream.serve(slow)
    model = gateway.model(route)
    caller = gateway.caller()
    connection = HTTPConnection("127.0.0.1", caller.port)
    headers = caller.headers({"content_type": "application/json"})
    connection.request("POST", "/v1/chat/completions", json.dumps(body_of(model)), headers)
    wait_for(lambda: route.calls == 1)
    connection.close()
    time.sleep(1.0)  # the gateway sees it go while the provider is still at it
    left.set()
    [row] = caller.settled_books().log
    assert (row["client_disconnected"], row["status"], row["charged_microcredits"]) == (True, 200, price_of(10, 20))
    wait_for(lambda: route.seen[0].ended == "complete")


def test_the_callers_key_never_goes_upstream_and_fields_pass_untouched(gateway: Gateway) -> None:
    route = gateway.upstream.serve(fake.answers())
    model = gateway.model(route)
    caller = gateway.caller()
    odd = {"tools": [{"type": "function", "x": 1.10}], "future_field": {"a": [None]}, "hypereal": {"cache": False}}
    assert caller.chat(model, **odd, headers={"x_stainless_lang": "python"}).status == 200
    [seen] = route.seen
    assert seen.headers["authorization"] == f"Bearer sk-upstream-{model}"
    assert caller.secret not in str(seen)
    assert seen.body["tools"] == odd["tools"]
    assert seen.body["future_field"] == odd["future_field"]
    assert "hypereal" not in seen.body
    assert seen.body["model"] == f"up-{model}"


def test_a_doubled_member_is_read_and_sent_as_one(gateway: Gateway) -> None:
    route = gateway.upstream.serve(fake.answers())
    model, dear = gateway.model(route), gateway.model(fake.answers())
    raw = b'{"mod\\u0065l":"%s","model":"%s","messages":[{"role":"user","content":"x"}]}' % (
        dear.encode(),
        model.encode(),
    )
    assert gateway.caller().send("POST", "/v1/chat/completions", raw).status == 200
    assert route.seen[0].body["model"] == f"up-{model}"
