"""Responses that their provider keeps: who may go on from one, read it, delete it (C-RESP, C-AUTH)."""

from __future__ import annotations

from typing import Any

import pytest

from keys.models import ApiKey
from tests.fakes import responses as fake
from tests.fakes.upstream import Conversation, Route
from tests.support.gateway import CREDIT, Caller, Gateway, in_organization, price_of, wait_for
from tests.support.http import Reply
from upstreams import responses_kept
from usage.models import RequestLog

PATH = f"/v1/responses/{fake.ID}"
ITEMS = {"object": "list", "data": [{"id": "msg_0", "type": "message"}], "has_more": False}


async def keeps(talk: Conversation) -> None:
    """A provider that makes responses and keeps them."""
    path = talk.seen.path.partition("?")[0]
    if talk.seen.method == "POST":
        await fake.answers(prompt=30, output=12)(talk)
    elif talk.seen.method == "DELETE":
        await talk.json({"id": fake.ID, "object": "response", "deleted": True})
    else:
        await talk.json(ITEMS if path.endswith("/input_items") else fake.response("kept words", 30, 12))


def ask(caller: Caller, model: str, path: str = "/v1/responses", headers: Any = None, **fields: Any) -> Reply:
    return caller.send("POST", path, {"model": model, "input": "Say hello", **fields}, **(headers or {}))


@pytest.fixture
def route(gateway: Gateway) -> Route:
    return gateway.upstream.serve(keeps)


@pytest.fixture
def model(gateway: Gateway, route: Route) -> str:
    return gateway.model(route, kind="responses")


def test_only_its_own_workspace_goes_on_from_a_response(gateway: Gateway, route: Route, model: str) -> None:
    caller, stranger = gateway.caller(), gateway.caller()
    assert ask(caller, model).status == 200
    caller.settled_books()
    for path in ("/v1/responses", "/api/v1/responses/compact", "/v1/responses/input_tokens"):
        asked = route.calls
        reply = ask(stranger, model, path, previous_response_id=fake.ID)
        assert (reply.status, route.calls) == (400, asked)
        told = reply.error
        assert (told["type"], told["param"]) == ("invalid_request_error", "previous_response_id")
        assert told["code"] == "previous_response_not_found"
    books = stranger.settled_books(rows=2)
    assert (books.balance, books.held, books.holds) == (1000 * CREDIT, 0, [])
    again = ask(caller, model, previous_response_id=fake.ID, stream=True)
    assert (again.status, route.seen[-1].body["previous_response_id"]) == (200, fake.ID)
    assert caller.settled_books(rows=2).charged == 2 * price_of(30, 12)
    moved = in_organization(caller)  # the key is another workspace's now, as soon as the gateway has heard of it
    wait_for(lambda: ask(moved, model, previous_response_id=fake.ID).status == 400)


@pytest.mark.parametrize(
    ("fields", "headers"),
    [({"stream": True}, {}), ({"store": None}, {"accept": "application/json"}), ({"store": True}, {})],
)
def test_every_form_of_an_answer_is_remembered(
    gateway: Gateway, fields: dict[str, Any], headers: dict[str, str]
) -> None:
    """Streamed, whole, and streamed by a provider that was not asked to."""
    stream = b"".join(fake.stream_of(fake.response("one two", 30, 12)))
    for behaviour in (fake.answers(prompt=30, output=12), fake.sends(stream, pause=0)):
        caller, model = gateway.caller(), gateway.model(behaviour, kind="responses")
        assert ask(caller, model, headers=headers, **fields).status == 200
        assert ask(caller, model, previous_response_id=fake.ID).status == 200
        assert [row["response_id"] for row in caller.settled_books(rows=2).log] == [fake.ID] * 2


def test_what_is_not_kept_is_not_remembered(gateway: Gateway, route: Route, model: str) -> None:
    caller = gateway.caller()
    for stream in (False, True):
        assert ask(caller, model, store=False, stream=stream).status == 200
    assert caller.send("GET", PATH).status == 404
    assert {row["response_id"] for row in caller.settled_books(rows=2).log} == {None}


def test_one_that_nobody_was_given_here_is_the_providers_to_know(gateway: Gateway, route: Route, model: str) -> None:
    caller = gateway.caller()
    assert ask(caller, model, previous_response_id="resp_of_nobody", store=False).status == 200
    assert route.seen[-1].body["previous_response_id"] == "resp_of_nobody"
    assert caller.send("GET", "/v1/responses/resp_of_nobody").status == 404


def test_a_stream_that_broke_is_kept_all_the_same(gateway: Gateway) -> None:
    failing = fake.sends(fake.beginning(), fake.delta("some words"), fake.failed("server_error"), pause=0.05)
    caller, model = gateway.caller(), gateway.model(failing, kind="responses")
    ask(caller, model, stream=True)
    [row] = caller.settled_books().log
    assert (row["response_id"], row["status"]) == (fake.ID, 502)


def test_who_made_it_is_asked_first(gateway: Gateway) -> None:
    async def busy_at_first(talk: Conversation) -> None:
        await (talk.json({"error": {"message": "no"}}, 500) if talk.attempt <= 2 else keeps(talk))

    first, second = gateway.upstream.serve(busy_at_first), gateway.upstream.serve(keeps)
    caller, model = gateway.caller(), gateway.model(first, second, kind="responses")
    assert ask(caller, model).headers["x-hypereal-provider"] == f"{model}-p1"
    assert (first.calls, second.calls) == (2, 1)
    assert ask(caller, model, previous_response_id=fake.ID).headers["x-hypereal-provider"] == f"{model}-p1"
    assert caller.send("GET", PATH).status == 200
    assert (first.calls, second.calls) == (2, 3)


def test_its_own_workspace_reads_and_deletes_it(gateway: Gateway, route: Route, model: str) -> None:
    caller = gateway.caller()
    ask(caller, model)
    read = caller.send("GET", f"{PATH}?include[]=reasoning.encrypted_content&key_is=x")
    assert (read.status, read.json) == (200, fake.response("kept words", 30, 12))
    assert route.seen[-1].path.endswith(f"/responses/{fake.ID}?include%5B%5D=reasoning.encrypted_content")
    assert route.seen[-1].headers["authorization"] == f"Bearer sk-upstream-{model}"
    items = caller.send("GET", f"{PATH}/input_items?limit=2&order=asc")
    assert (items.status, items.json) == (200, ITEMS)
    assert route.seen[-1].path.endswith("/input_items?limit=2&order=asc")
    gone = caller.send("DELETE", PATH)
    assert (gone.status, gone.json["deleted"], route.seen[-1].method) == (200, True, "DELETE")
    assert caller.send("POST", f"{PATH}/cancel").error["code"] == "background_not_offered"
    assert caller.send("GET", f"{PATH}?stream=true").error["param"] == "stream"
    books = caller.settled_books()
    assert (len(books.log), books.charged) == (1, price_of(30, 12))  # none of it is billed


def test_nobody_else_does(gateway: Gateway, route: Route, model: str) -> None:
    caller, stranger = gateway.caller(), gateway.caller()
    ask(caller, model)
    ways = [("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")]
    for method, below in ways:
        reply = stranger.send(method, PATH + below)
        assert (reply.status, reply.error["type"]) == (404, "not_found_error")
    for odd in ("resp_unknown", "a" * 300, "%00", "..%2fmodels", "a%0d%0ab", "%F0%9F%98%80"):
        assert caller.send("GET", f"/v1/responses/{odd}").status == 404
    assert route.calls == 1
    ApiKey.objects.filter(pk=caller.key.pk).update(allowed_models=["another"])
    wait_for(lambda: caller.send("GET", PATH).status == 403)
    assert {caller.send(method, PATH + below).status for method, below in ways} == {403}


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (404, {"error": {"message": "Response not found", "type": "invalid_request_error"}}, 404),
        (401, {"error": {"message": "Incorrect API key provided: sk-live-0123456789", "code": "invalid_api_key"}}, 502),
        (200, b"<html>", 502),
        (200, {"error": {"message": "oops", "type": "server_error"}}, 502),
        (200, fake.response() | {"status": "failed", "error": {"code": "server_error", "message": "x"}}, 200),
    ],
)
def test_what_the_provider_answers_is_told_cleanly(gateway: Gateway, status: int, body: Any, told: int) -> None:
    async def behave(talk: Conversation) -> None:
        await (fake.answers()(talk) if talk.seen.method == "POST" else talk.json(body, status))

    caller = gateway.caller()
    ask(caller, gateway.model(behave, kind="responses"))
    reply = caller.send("GET", PATH)
    assert reply.status == told
    assert b"sk-live" not in reply.body


def test_the_id_of_an_answer() -> None:
    assert responses_kept.id_in(b'{"id": "resp_1", "output": []}') == "resp_1"
    for odd in (b'{"id": 7}', b"{}", b'{"id": "a b"}', b'{"id": "\\u0000"}', b"nothing", b"", b'{"id": null}', b"[1]"):
        assert responses_kept.id_in(odd) is None
    assert RequestLog._meta.get_field("response_id").max_length == 200
