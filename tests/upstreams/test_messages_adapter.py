"""Requests to providers that speak messages, and their whole answers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tests.fakes.messages import message, text, usage
from upstreams import anthropic
from upstreams.errors import AccountRefused, BadAnswer, ServerFailed, UpstreamRefusal
from upstreams.wire import Forwarded, Headers, Target, TargetOptions, Usage

Fields = dict[str, msgspec.Raw]


def target(base_url: str = "https://api.example.com", **options: Any) -> Target:
    return Target("anthropic", "anthropic", base_url, "claude-up", "sk-ant-1", options=TargetOptions(**options))


def fields(body: bytes) -> Fields:
    return msgspec.json.decode(body, type=Fields)


def header(headers: Headers, name: str) -> str | None:
    return dict(headers).get(name)


@pytest.mark.parametrize("base_url", ["https://api.example.com", "https://api.example.com/v1/"])
def test_a_request(base_url: str) -> None:
    messages = b'[ {"role":"user","content":"\\u00e9"} ]'
    body = b'{"model":"mine","messages": ' + messages + b',"hypereal":{"cache":false},"max_tokens":5}'
    request = anthropic.build_request(target(base_url), fields(body), stream=False)
    assert (request.method, request.path, request.origin.host) == ("POST", "/v1/messages", "api.example.com")
    assert request.body == (b'{"model":"claude-up","messages":' + messages + b',"max_tokens":5}')
    assert header(request.headers, "x-api-key") == "sk-ant-1"
    assert header(request.headers, "authorization") is None
    assert header(request.headers, "accept") == "application/json"


def test_a_stream_is_asked_for() -> None:
    request = anthropic.build_request(target(), fields(b'{"model":"mine","stream":true}'), stream=True)
    assert json.loads(request.body) == {"model": "claude-up", "stream": True}
    assert header(request.headers, "accept") == "text/event-stream"


def test_options_of_a_target() -> None:
    one = target(query="v=2", headers=(("x-extra", "1"),))
    request = anthropic.build_request(one, fields(b"{}"), stream=False)
    assert (request.path, header(request.headers, "x-extra")) == ("/v1/messages?v=2", "1")
    kept = Forwarded((("anthropic-version", "2026-10-21"),), "beta=true").onto(request)
    assert (kept.path, header(kept.headers, "anthropic-version")) == ("/v1/messages?v=2&beta=true", "2026-10-21")
    silent = anthropic.build_request(target(auth="none"), fields(b"{}"), stream=False)
    assert header(silent.headers, "x-api-key") is None
    bearer = anthropic.build_bearer_request(target(), fields(b"{}"), stream=False)
    assert header(bearer.headers, "authorization") == "Bearer sk-ant-1"
    assert header(bearer.headers, "x-api-key") is None
    counting = anthropic.count_request(target(), fields(b"{}"))
    assert counting.path == "/v1/messages/count_tokens"


def test_a_whole_answer() -> None:
    body = json.dumps(message(counts=usage(10, 3, read=5, written=4, for_an_hour=1))).encode()
    assert anthropic.complete(body) == Usage(19, 5, 3, 1, 3, service_tier="standard")
    ran = json.dumps(message(container={"id": "c"})).encode()
    assert anthropic.complete(ran).server_tool_calls == (("code_execution", 1),)


def test_an_answer_without_usage_is_estimated() -> None:
    answer = {**message(text("sixteen letters!")), "usage": None}
    assert anthropic.complete(json.dumps(answer).encode(), input_estimate=9) == Usage(
        9, output_tokens=4, estimated=True
    )


def test_a_lone_surrogate_is_no_trouble() -> None:
    body = json.dumps(message(text("\ud800"))).encode()
    assert anthropic.complete(body) == Usage(100, output_tokens=50, service_tier="standard")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', ServerFailed),
        (b'{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}', AccountRefused),
        (b'{"type":"error","error":{"type":"invalid_request_error","message":"bad"}}', UpstreamRefusal),
        (b'{"hello":"there"}', BadAnswer),
        (b"<html>", BadAnswer),
        (b'{"content": "\\ud800"}', BadAnswer),
    ],
)
def test_two_hundreds_that_are_none(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        anthropic.complete(body)


def test_a_count() -> None:
    anthropic.counted(b'{"input_tokens": 5, "context_management": null}')
    for body in (b"<html>", b"[]", b'{"input_tokens": "5"}'):
        with pytest.raises(BadAnswer):
            anthropic.counted(body)
