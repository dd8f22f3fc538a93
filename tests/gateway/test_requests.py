"""The face towards callers before any call is made: addresses, methods, keys, bodies (C-URL, C-AUTH, C-ERR)."""

from __future__ import annotations

import http.client
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from core import clock
from gateway.request import GatewayRequest
from keys.models import ApiKey
from keys.secret import new_secret
from orgs.models import Workspace
from tests.fakes import upstream as fake
from tests.support import http as client
from tests.support.gateway import PATIENCE, Caller, Gateway, body_of, wait_for


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    return gateway.caller()


@pytest.mark.parametrize("path", ["/v1/models", "/api/v1/models", "/v1/models/", "/api/v1/models/"])
def test_every_form_of_an_address_answers_without_a_redirect(caller: Caller, path: str) -> None:
    reply = caller.send("GET", path)
    assert reply.status == 200
    assert reply.json["object"] == "list"
    UUID(reply.headers["x-request-id"])


HALF_A_CHARACTER = (
    rb'{"\ud800": 1}',
    rb'{"model": "\ud800", "messages": [], "input": "\ud800", "prompt": "\ud800", "contents": []}',
    rb'{"model": "m", "hypereal": {"\ud800": 1}, "service_tier": "\ud800", "intent": "\ud800"}',
)
BODY_PATHS = (
    "chat/completions", "messages", "messages/count_tokens", "responses", "responses/input_tokens", "embeddings",
    "gemini", "gemini/models/m:generateContent", "gemini/models/%ED%A0%80:countTokens", "quote", "images/generations",
    "images/edits", "videos/generate", "audio/generations", "audio/speech", "audio/transcriptions", "deployments",
    "gpu/run/none", "gpu/sdxl", "storage/upload",
)  # fmt: skip


@pytest.mark.parametrize("path", BODY_PATHS)
def test_half_a_character_is_refused_in_words(gateway: Gateway, caller: Caller, path: str) -> None:
    for body in HALF_A_CHARACTER:
        reply = caller.send("POST", f"/v1/{path}", body, content_type="application/json")
        assert 400 <= reply.status < 500, (body, reply.body)
        assert reply.json
    assert caller.books().holds == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/chat/completions", "/v1/chat/completions/"])
def test_posts_are_never_redirected(gateway: Gateway, caller: Caller, path: str) -> None:
    model = gateway.model(fake.answers())
    assert caller.send("POST", path, body_of(model)).status == 200


@pytest.mark.parametrize("path", ["/v1/nothing", "/api/v1/", "/v1", "/v1/chat", "/v1/message", "/v1//models"])
def test_what_is_not_there_is_said_in_json(gateway: Gateway, path: str) -> None:
    reply = client.send(gateway.port, "POST", path, {})
    assert reply.status == 404
    assert reply.error["type"] == "not_found_error"
    assert reply.error["message"]
    assert "x-request-id" in reply.headers


def test_a_wrong_method_names_the_right_ones(caller: Caller) -> None:
    reply = caller.send("GET", "/v1/chat/completions")
    assert (reply.status, reply.headers["allow"]) == (405, "OPTIONS, POST")
    assert reply.error["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/v1/api/hello", "/v1/"])
def test_head_is_answered_without_a_body(caller: Caller, path: str) -> None:
    reply = caller.send("HEAD", path)
    assert reply.status < 500
    assert reply.body == b""


def test_browsers_may_call_with_a_key_but_without_cookies(gateway: Gateway, caller: Caller) -> None:
    asked = {"origin": "https://app.example", "access-control-request-headers": "authorization, x-stainless-os"}
    reply = client.send(gateway.port, "OPTIONS", "/v1/chat/completions", None, asked)
    assert reply.status == 204
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert reply.headers["access-control-allow-headers"] == asked["access-control-request-headers"]
    assert "access-control-allow-credentials" not in reply.headers
    reply = caller.send("GET", "/v1/models", origin="https://app.example")
    assert reply.headers["access-control-allow-origin"] == "*"


def test_a_websocket_is_refused_so_that_clients_fall_back_at_once(gateway: Gateway) -> None:
    headers = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-key": "x", "sec-websocket-version": "13"}
    for path in ("/v1/responses", "/api/v1/responses"):
        assert client.send(gateway.port, "GET", path, None, headers).status == 426
    assert client.send(gateway.port, "GET", "/v1/responses").status == 404


@pytest.mark.parametrize(
    ("name", "form"),
    [("authorization", "Bearer {}"), ("authorization", "bearer  {}"), ("x-api-key", "{}"), ("x-goog-api-key", "{}")],
)
def test_a_key_is_taken_in_every_header(gateway: Gateway, caller: Caller, name: str, form: str) -> None:
    assert client.send(gateway.port, "GET", "/v1/models", None, {name: form.format(caller.secret)}).status == 200


@pytest.mark.parametrize(
    ("headers", "query", "word"),
    [
        ({}, "", "No API key"),
        ({"authorization": "Bearer sk-foreign"}, "", "begin with ck_"),
        ({"authorization": "Basic Y2tfOng="}, "", "No API key"),
        ({"x-api-key": "ck_short"}, "", "mistyped"),
        ({}, "?key=anything", "No API key"),
    ],
)
def test_requests_without_a_good_key_are_refused(
    gateway: Gateway, headers: dict[str, str], query: str, word: str
) -> None:
    reply = client.send(gateway.port, "GET", f"/v1/models{query}", None, headers)
    assert reply.status == 401
    assert reply.error["type"] == "authentication_error"
    assert reply.headers["www-authenticate"] == "Bearer"
    assert word in reply.error["message"]


def test_an_unknown_key_is_told_from_a_mistyped_one(gateway: Gateway, caller: Caller) -> None:
    reply = client.send(gateway.port, "GET", "/v1/models", None, {"x-api-key": new_secret()})
    assert (reply.status, "not known" in reply.error["message"]) == (401, True)
    reply = client.send(gateway.port, "GET", "/v1/models", None, {"x-api-key": caller.secret[:-1] + "~"})
    assert (reply.status, "mistyped" in reply.error["message"]) == (401, True)


def test_a_key_in_the_query_is_refused_and_reaches_no_log(gateway: Gateway, caller: Caller) -> None:
    for headers in ({}, {"authorization": f"Bearer {caller.secret}"}):
        reply = client.send(gateway.port, "GET", f"/v1/models?key={caller.secret}", None, headers)
        assert reply.status == 401
        assert caller.secret not in reply.body.decode()
    assert caller.secret not in gateway.with_settings().log.read_text()


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ({"enabled": False}, "disabled"),
        ({"enabled": False, "disabled_reason": "spending_limit"}, "spending limit"),
        ({"expires_at": "past"}, "expired"),
        ({"deleted_at": "past"}, "deleted"),
    ],
)
def test_a_key_that_stopped_working_says_why_and_at_once(gateway: Gateway, columns: dict[str, Any], word: str) -> None:
    caller = gateway.caller()
    assert caller.send("GET", "/v1/models").status == 200
    past = clock.now() - timedelta(seconds=1)
    ApiKey.objects.filter(pk=caller.key.pk).update(
        **{name: past if value == "past" else value for name, value in columns.items()}
    )
    wait_for(lambda: caller.send("GET", "/v1/models").status == 401)
    assert word in caller.send("GET", "/v1/models").error["message"]


def test_a_suspended_account_and_a_maker_who_left_are_refused(gateway: Gateway) -> None:
    caller = gateway.caller()
    assert caller.send("GET", "/v1/models").status == 200
    Workspace.objects.filter(pk=caller.workspace.pk).update(active=False)
    wait_for(lambda: caller.send("GET", "/v1/models").status == 401)
    Workspace.objects.filter(pk=caller.workspace.pk).update(active=True)
    wait_for(lambda: caller.send("GET", "/v1/models").status == 200)
    caller.workspace.memberships.filter(user=caller.user).delete()
    wait_for(lambda: caller.send("GET", "/v1/models").status == 401)


def test_a_key_may_be_bound_to_networks_and_models(gateway: Gateway) -> None:
    mine, other = gateway.model(fake.answers()), gateway.model(fake.answers())
    caller = gateway.caller(allowed_networks=["10.0.0.0/8"])
    reply = caller.chat(mine)
    assert (reply.status, reply.error["type"]) == (403, "permission_error")
    caller = gateway.caller(allowed_networks=["127.0.0.0/8", "::1/128"], allowed_models=[mine])
    assert caller.chat(mine).status == 200
    reply = caller.chat(other)
    assert (reply.status, reply.error["param"]) == (403, "model")
    row = caller.settled_books(rows=2).log[1]
    assert (row["status"], row["model"], row["error_type"], row["charged_microcredits"]) == (
        403, other, "permission_error", 0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "trusted", "found"),
    [
        ([b"203.0.113.7, 10.0.0.2"], 2, "203.0.113.7"),
        ([b"203.0.113.7", b"10.0.0.2"], 2, "203.0.113.7"),
        ([b"192.0.2.66", b"203.0.113.7", b"10.0.0.2"], 2, "203.0.113.7"),
        ([b"192.0.2.66", b"203.0.113.7"], 1, "203.0.113.7"),
        ([], 1, "10.0.0.1"),
        ([b"192.0.2.66"], 0, "10.0.0.1"),
    ],
)
def test_a_proxy_may_write_its_address_on_a_line_of_its_own(lines: list[bytes], trusted: int, found: str) -> None:
    headers = [(b"x-forwarded-for", line) for line in lines]
    scope = {"method": "GET", "client": ("10.0.0.1", 5), "headers": [(b"host", b"x"), *headers]}
    assert str(GatewayRequest(scope, None, "/models").address(trusted)) == found


@pytest.mark.parametrize(
    ("body", "param", "word"),
    [
        (b"{", None, "not valid JSON"),
        (b"", None, "not valid JSON"),
        (b"[]", None, "JSON object"),
        (b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}', None, "not UTF-8"),
        (b'{"model":"m","messages":[{"role":"user","content":"cut \xc3"}]}', None, "not UTF-8"),
        (b'{"messages":[{"role":"user","content":"x"}]}', "model", "missing"),
        (b'{"model":7,"messages":[1]}', "model", "text"),
        (b'{"model":"m","messages":[]}', "messages", "at least one"),
        (b'{"model":"m","messages":"hi"}', "messages", "list"),
        (b'{"model":"m"}', "messages", "list"),
        (b'{"model":"m","messages":[1],"stream":"yes"}', "stream", "true or false"),
        (b'{"model":"m","messages":[1],"max_tokens":"9"}', "max_tokens", "whole number"),
        (b'{"model":"m","messages":[1],"max_completion_tokens":-1}', "max_completion_tokens", "whole number"),
        (b'{"model":"m","messages":[1],"n":1000}', "n", "whole number"),
        (b'{"model":"m","messages":[1],"stream":true,"stream_options":[]}', "stream_options", "object"),
        (b'{"model":"no-such","messages":[1]}', "model", "does not exist"),
    ],
)
def test_a_bad_body_is_refused_with_the_field_named(caller: Caller, body: bytes, param: str | None, word: str) -> None:
    reply = caller.send("POST", "/v1/chat/completions", body)
    assert reply.status == 400
    assert reply.error["type"] == "invalid_request_error"
    assert (reply.error["param"], word in reply.error["message"]) == (param, True)
    assert "x-ratelimit-remaining" in reply.headers
    books = caller.settled_books()
    assert (books.log[0]["status"], books.log[0]["charged_microcredits"], books.held) == (400, 0, 0)


def test_an_unknown_model_lists_those_of_this_endpoint(gateway: Gateway, caller: Caller) -> None:
    model = gateway.model(fake.answers())
    assert model in caller.chat("no-such").error["available_models"]


def test_a_model_without_anybody_to_serve_it_costs_nothing(gateway: Gateway, caller: Caller) -> None:
    model = gateway.model()
    reply = caller.chat(model)
    assert (reply.status, reply.error["type"], "retry-after" in reply.headers) == (503, "overloaded_error", True)
    assert caller.settled_books().charged == 0


def test_bodies_have_a_limit_that_is_known_before_they_are_read(gateway: Gateway) -> None:
    server = gateway.with_settings(GATEWAY_MAX_BODY_BYTES="20000")
    caller = gateway.caller(server=server)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.putrequest("POST", "/v1/chat/completions")
    for name, value in caller.headers({"content-length": "20001"}).items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()  # not a byte of the body was sent
    assert (response.status, json.loads(response.read())["error"]["type"]) == (413, "request_too_large")
    connection.close()
    row = caller.settled_books().log[0]
    assert (row["status"], row["error_type"]) == (413, "request_too_large")


def test_a_body_in_chunks_is_read_and_counted(gateway: Gateway) -> None:
    server = gateway.with_settings(GATEWAY_MAX_BODY_BYTES="20000")
    model = gateway.model(fake.answers())
    caller = gateway.caller(server=server)
    whole = json.dumps(body_of(model)).encode()
    for parts, status in ([whole[:20], whole[20:]], 200), ([whole, *[b" " * 5000] * 5], 413):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        headers = {**caller.headers({}), "transfer-encoding": "chunked"}
        connection.request("POST", "/v1/chat/completions", iter(parts), headers, encode_chunked=True)
        assert connection.getresponse().status == status
        connection.close()


def test_compressed_bodies_are_refused_clearly(caller: Caller) -> None:
    reply = caller.send("POST", "/v1/chat/completions", b"x", content_encoding="gzip")
    assert (reply.status, reply.error["param"]) == (400, "Content-Encoding")


def test_a_large_body_passes(gateway: Gateway, caller: Caller) -> None:
    route = gateway.upstream.serve(fake.answers())
    model = gateway.model(route)
    text = "wörter " * 400_000
    assert caller.chat(model, text=text).status == 402  # its input alone costs more than the balance
    caller.give(10**13)
    assert caller.chat(model, text=text).status == 200
    assert route.seen[0].body["messages"][0]["content"] == text


def test_models_are_listed_in_both_shapes(gateway: Gateway, caller: Caller) -> None:
    model = gateway.model(fake.answers())
    assert model in [entry["id"] for entry in caller.send("GET", "/v1/models").json["data"]]
    entry = caller.send("GET", f"/api/v1/models/{model}").json
    assert (entry["id"], entry["pricing"]["input"]) == (model, 1000)
    assert caller.send("GET", "/v1/models/none-such").status == 404
    anthropic = caller.send("GET", "/v1/models?limit=1000", anthropic_version="2023-06-01").json
    assert set(anthropic) == {"data", "has_more", "first_id", "last_id"}
    assert caller.send("GET", "/v1/models?limit=x", anthropic_version="2023-06-01").status == 400
