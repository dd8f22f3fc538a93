"""``Idempotency-Key``: the stored answer again, never a second charge (C-BILL-4)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from idempotency.models import StoredAnswer
from tests.fakes import upstream as fake
from tests.fakes.upstream import Conversation
from tests.support.gateway import CREDIT, Caller, Gateway, body_of, price_of, wait_for
from tests.support.http import Reply


def call(caller: Caller, model: str, key: str = "abc", path: str = "/v1/chat/completions", **fields: Any) -> Reply:
    return caller.send("POST", path, body_of(model, **fields), idempotency_key=key)


def test_the_same_request_gets_the_same_answer_and_is_charged_once(gateway: Gateway) -> None:
    route = gateway.upstream.serve(fake.answers("Wörter ☃", prompt=100, output=50))
    model, caller = gateway.model(route), gateway.caller()
    one = call(caller, model)
    two = call(caller, model, path="/api/v1/chat/completions/")
    assert (one.status, two.status, route.calls) == (200, 200, 1)
    assert two.body == one.body
    assert two.headers["x-request-id"] == one.headers["x-request-id"]
    assert (two.headers["idempotency-replayed"], "idempotency-replayed" in one.headers) == ("true", False)
    books = caller.settled_books()
    assert books.balance == 1000 * CREDIT - price_of(100, 50)
    stored = StoredAnswer.objects.get(scope_id=caller.workspace.pk)
    assert "Wörter".encode() not in bytes(stored.sealed_body or b"")


def test_another_body_under_the_same_key_is_a_conflict(gateway: Gateway) -> None:
    model, caller = gateway.model(fake.answers()), gateway.caller()
    first = call(caller, model)
    reply = call(caller, model, text="something else")
    assert (reply.status, reply.error["type"]) == (409, "conflict_error")
    assert reply.error["request_id"] == first.headers["x-request-id"]
    assert call(caller, model, key="another", text="something else").status == 200
    assert call(gateway.caller(), model, text="something else").status == 200  # keys of others are others


def test_a_repeated_stream_is_a_conflict_that_names_the_first(gateway: Gateway) -> None:
    model, caller = gateway.model(fake.answers()), gateway.caller()
    first = call(caller, model, stream=True)
    reply = call(caller, model, stream=True)
    assert (reply.status, reply.error["request_id"]) == (409, first.headers["x-request-id"])
    assert caller.settled_books(rows=2).charged == price_of(100, 50)


def test_of_parallel_requests_one_runs(gateway: Gateway) -> None:
    decided = threading.Event()

    async def slow(talk: Conversation) -> None:
        await talk.until(decided)
        await talk.json(fake.completion("x"))

    route = gateway.upstream.serve(slow)
    model, caller = gateway.model(route), gateway.caller()
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(call, caller, model) for _ in range(8)]
        try:
            wait_for(lambda: sum(each.done() for each in calls) == 7)
        finally:
            decided.set()
        statuses = sorted(each.result().status for each in calls)
    assert statuses == [200] + [409] * 7
    assert route.calls == 1
    assert call(caller, model).status == 200


def test_a_failed_call_frees_its_key(gateway: Gateway) -> None:
    route = gateway.upstream.serve(
        fake.first(1, fake.fails(400, "wrong", type="invalid_request_error"), fake.answers())
    )
    model, caller = gateway.model(route), gateway.caller()
    assert call(caller, model).status == 400
    assert call(caller, model).status == 200
    assert caller.settled_books(rows=2).charged == price_of(100, 50)


def test_a_key_that_is_none_is_refused(gateway: Gateway) -> None:
    model, caller = gateway.model(fake.answers()), gateway.caller()
    for key in ("", "x" * 256):
        reply = call(caller, model, key=key)
        assert (reply.status, reply.error["param"]) == (400, "Idempotency-Key")
