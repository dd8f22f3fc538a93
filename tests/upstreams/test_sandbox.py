"""The sandbox over HTTP, through the product's own client, relay and readers."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.upstreams.exchanges import objects
from upstreams import classify, openai
from upstreams.chat_relay import Relay
from upstreams.client import Pool
from upstreams.errors import UpstreamRefusal
from upstreams.sandbox import chat, server
from upstreams.sandbox.plans import Planner, Prompt, Tool, count_tokens, sample
from upstreams.sandbox.server import Server
from upstreams.wire import Origin, Target, TargetOptions, Timeouts, UpstreamRequest, Usage

PATIENT = Timeouts(total_seconds=20)
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}, "days": {"type": "integer"}},
        },
    },
}


@pytest.fixture
async def sandbox() -> AsyncIterator[Server]:
    running = Server({"/chat/completions": chat.Endpoint(Planner(), speed=0)})
    await running.start("127.0.0.1", 0)
    yield running
    await running.close()


def body(text: str = "How are you?", **members: Any) -> dict[str, Any]:
    return {"model": "gpt-5.4", "messages": [{"role": "user", "content": text}], **members}


async def ask(
    running: Server, request: Any, path: str = "/v1/chat/completions", method: str = "POST"
) -> tuple[int, bytes]:
    data = request if isinstance(request, bytes) else json.dumps(request).encode()
    pool = Pool()
    upstream = UpstreamRequest(method, Origin("http", "127.0.0.1", running.port), path, (), data)
    with await pool.send(upstream, PATIENT) as response:
        status, answer = response.status, await response.read(4_000_000)
    await pool.aclose()
    return status, answer


async def answer(running: Server, request: Any) -> dict[str, Any]:
    status, data = await ask(running, request)
    assert status == 200
    value: dict[str, Any] = json.loads(data)
    return value


async def test_an_answer_says_where_it_comes_from(sandbox: Server) -> None:
    value = await answer(sandbox, body())
    assert value["model"] == "sandbox/gpt-5.4" and value["system_fingerprint"] == "sandbox"
    assert "sandbox" in value["choices"][0]["message"]["content"]
    usage = openai.complete(json.dumps(value).encode())
    assert usage.input_tokens == count_tokens("user: How are you?")
    assert usage.output_tokens == value["usage"]["completion_tokens"] > 20
    assert value["usage"]["total_tokens"] == usage.input_tokens + usage.output_tokens


async def test_the_same_request_gets_the_same_words(sandbox: Server) -> None:
    first, again, other = [await answer(sandbox, body(text)) for text in ("a", "a", "b")]
    assert first["choices"] == again["choices"] != other["choices"]
    assert first["id"] != again["id"]


@pytest.mark.parametrize("wants_usage", [True, False])
async def test_a_stream_says_the_same_as_the_json(sandbox: Server, wants_usage: bool) -> None:
    whole = await answer(sandbox, body())
    target = Target(
        "sandbox", "openai", f"http://127.0.0.1:{sandbox.port}", "gpt-5.4", options=TargetOptions(auth="none")
    )
    fields = msgspec.json.decode(json.dumps(body()).encode(), type=dict[str, msgspec.Raw])
    relay, sent, pool = Relay(client_wants_usage=wants_usage), b"", Pool()
    with await pool.send(openai.build_request(target, fields, stream=True), PATIENT) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async for piece in response:
            sent += b"".join(relay.feed(piece))
    sent += b"".join(relay.close())
    await pool.aclose()
    values = objects(sent)
    text = "".join(value["choices"][0]["delta"].get("content") or "" for value in values[:-1] if value["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert relay.done and relay.usage == openai.complete(json.dumps(whole).encode())
    assert relay.output_tokens_estimate > 10


async def test_usage_only_where_it_is_asked_for(sandbox: Server) -> None:
    _, plain = await ask(sandbox, body(stream=True))
    assert all(not value.get("usage") for value in objects(plain)[:-1])
    _, asked = await ask(sandbox, body(stream=True, stream_options={"include_usage": True}))
    assert objects(asked)[-2]["usage"]["total_tokens"] > 0 and objects(asked)[-2]["choices"] == []


async def test_a_repeated_long_prefix_counts_as_cached(sandbox: Server) -> None:
    system = {"role": "system", "content": "You are a patient clerk. " * 400}
    usages = []
    for question in ("one", "two", "three"):
        request = body()
        request["messages"] = [system, {"role": "user", "content": question}]
        usages.append(openai.complete(json.dumps(await answer(sandbox, request)).encode()))
    assert usages[0].cached_input_tokens == 0
    assert usages[1].cached_input_tokens == usages[2].cached_input_tokens >= 1024
    assert usages[1].cached_input_tokens < usages[1].input_tokens
    other_model = await answer(sandbox, {**body(), "messages": [system], "model": "other"})
    assert other_model["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


async def test_a_tool_is_called_when_the_question_is_about_it(sandbox: Server) -> None:
    request = body("What is the weather in Lahore?", tools=[WEATHER])
    choice = (await answer(sandbox, request))["choices"][0]
    call = choice["message"]["tool_calls"][0]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    arguments = json.loads(call["function"]["arguments"])
    assert set(arguments) == {"city", "unit", "days"} and arguments["unit"] in ("c", "f")
    small_talk = (await answer(sandbox, body("Good morning", tools=[WEATHER])))["choices"][0]
    assert small_talk["finish_reason"] == "stop"
    messages = [*request["messages"], choice["message"], {"role": "tool", "tool_call_id": call["id"], "content": "sun"}]
    after = (await answer(sandbox, {**request, "messages": messages}))["choices"][0]
    assert after["finish_reason"] == "stop" and "result" in after["message"]["content"]


async def test_a_tool_is_called_with_the_arguments_that_the_question_spells_out(sandbox: Server) -> None:
    weather = {**WEATHER["function"]["parameters"], "required": ["city", "unit"]}
    names = ("weather_of_old", "get_weather")
    tools = [{"type": "function", "function": {"name": name, "parameters": weather}} for name in names]
    for said, arguments in (
        ('Call get_weather with {"city": "Ürümqi {}"}, please', {"city": "Ürümqi {}"}),
        ('get_weather: {not JSON} {"planet": "Mars"} {"city": "Lahore", "days": 2}', {"city": "Lahore", "days": 2}),
    ):
        message = (await answer(sandbox, body(said, tools=tools)))["choices"][0]["message"]
        function = message["tool_calls"][0]["function"]
        called = json.loads(function["arguments"])
        assert function["name"] == "get_weather"
        assert called.pop("unit") in ("c", "f")
        assert called == arguments
    message = (await answer(sandbox, body('get_weather {"planet": 1}', tools=tools)))["choices"][0]["message"]
    assert set(json.loads(message["tool_calls"][0]["function"]["arguments"])) == {"city", "unit", "days"}


async def test_a_streamed_tool_call(sandbox: Server) -> None:
    _, data = await ask(sandbox, body("Use a tool", tools=[WEATHER], stream=True))
    deltas = [value["choices"][0]["delta"] for value in objects(data)[:-1]]
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert calls[0]["function"]["name"] == "get_weather" and calls[0]["id"].startswith("call_")
    json.loads("".join(call["function"]["arguments"] for call in calls))


@pytest.mark.parametrize(
    ("choice", "finish"),
    [
        ("required", "tool_calls"),
        ({"type": "function", "function": {"name": "get_weather"}}, "tool_calls"),
        ("none", "stop"),
        ("auto", "stop"),
    ],
)
async def test_tool_choice(sandbox: Server, choice: Any, finish: str) -> None:
    value = await answer(sandbox, body("Good morning", tools=[WEATHER], tool_choice=choice))
    assert value["choices"][0]["finish_reason"] == finish


async def test_limits_and_stops(sandbox: Server) -> None:
    short = await answer(sandbox, body(max_tokens=5))
    assert short["choices"][0]["finish_reason"] == "length" and short["usage"]["completion_tokens"] == 5
    stopped = await answer(sandbox, body(stop=["sandbox"]))
    assert stopped["choices"][0]["message"]["content"] == "This is the Hypereal "
    long = await answer(sandbox, body("Write 9000 words"))
    assert long["usage"]["completion_tokens"] <= 4000
    several = await answer(sandbox, body(n=3))
    assert [choice["index"] for choice in several["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in several["choices"]}) == 3


async def test_json_when_json_is_wanted(sandbox: Server) -> None:
    value = await answer(sandbox, body(response_format={"type": "json_object"}))
    assert json.loads(value["choices"][0]["message"]["content"])["sandbox"] is True
    schema = {
        "type": "object",
        "properties": {"n": {"type": "number", "minimum": 7}, "tags": {"type": "array", "items": {"const": "x"}}},
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    value = await answer(sandbox, body(response_format=wanted))
    assert json.loads(value["choices"][0]["message"]["content"]) == {"n": 7, "tags": ["x"]}


async def test_thinking_is_counted(sandbox: Server) -> None:
    usage = openai.complete(json.dumps(await answer(sandbox, body(reasoning_effort="high"))).encode())
    assert 0 < usage.reasoning_tokens < usage.output_tokens


@pytest.mark.parametrize(
    ("request_body", "param"),
    [
        (b"{not json", None),
        (b"[]", "model"),
        (b'{"messages":[]}', "model"),
        (b'{"model":"x"}', "messages"),
        (b'{"model":"x","messages":[]}', "messages"),
        (b'{"model":"x","messages":["hi"]}', "messages"),
    ],
)
async def test_faults_are_openais_400(sandbox: Server, request_body: bytes, param: str | None) -> None:
    status, data = await ask(sandbox, request_body)
    failure = classify.refuse(status, {}, data)
    assert isinstance(failure, UpstreamRefusal) and (failure.status, failure.param) == (400, param)


@pytest.mark.parametrize(
    ("members"),
    [
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}, "x"]}]},
        {"messages": [{"role": "assistant", "tool_calls": [None, {"function": {"name": "f"}}]}]},
        {"tools": ["x", {"type": "web_search"}], "tool_choice": "required"},
        {"n": 10**9, "max_tokens": "many", "stop": 5 * ["x"], "response_format": "json"},
        {
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": 1}}}}],
            "tool_choice": "required",
        },
        {"max_tokens": 1, "reasoning_effort": "low"},
    ],
)
async def test_odd_requests_are_answered(sandbox: Server, members: dict[str, Any]) -> None:
    value = await answer(sandbox, {**body(), **members})
    assert value["usage"]["completion_tokens"] >= 1


async def test_other_paths_and_methods(sandbox: Server) -> None:
    assert await ask(sandbox, b"", "/health", "GET") == (200, b'{"status":"ok"}')
    assert (await ask(sandbox, b"", "/chat/completions", "GET"))[0] == 405
    assert (await ask(sandbox, body(), "/v1/nothing"))[0] == 404


async def test_bounds(sandbox: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_LIMIT_BYTES", 100)
    assert (await ask(sandbox, b"x" * 101))[0] == 413
    monkeypatch.setattr(server, "CONNECTION_LIMIT", 0)
    assert (await ask(sandbox, body()))[0] == 503


async def test_a_caller_who_leaves_ends_the_stream() -> None:
    running = Server({"/chat/completions": chat.Endpoint(Planner(), speed=1)})
    await running.start("127.0.0.1", 0)
    pool = Pool()
    request = UpstreamRequest("POST", Origin("http", "127.0.0.1", running.port), "/chat/completions", (),
                              json.dumps(body("in 900 words", stream=True)).encode())  # fmt: skip
    with await pool.send(request, PATIENT) as response:
        await response.receive()
    for _ in range(3_000):
        if not running._connections:
            break
        await asyncio.sleep(0.02)
    assert not running._connections
    await pool.aclose()
    await running.close()


def test_the_memory_of_prefixes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upstreams.sandbox.plans.CACHE_ENTRIES", 50)
    planner = Planner()
    for number in range(20):
        planner.plan(Prompt(model="m", text=str(number) + "x" * 20_000, question=""))
    assert len(planner._seen) <= 50


def test_a_schema_that_never_ends_is_cut_short() -> None:
    endless: dict[str, Any] = {"type": "object", "properties": {}}
    endless["properties"]["again"] = endless
    assert len(json.dumps(sample(endless, random.Random(1)))) < 500
    assert Tool("f", endless).name == "f"


def test_it_runs_as_a_program_and_ends_on_sigterm() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "upstreams.sandbox", "--port", str(port), "--speed", "0"]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": "."})
    try:
        for _ in range(1_200):
            try:
                with socket.create_connection(("127.0.0.1", port), 60) as connection:
                    connection.sendall(b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n")
                    assert b'{"status":"ok"}' in connection.recv(4096)
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        else:
            pytest.fail("the sandbox does not answer")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_the_planner_counts_what_it_says() -> None:
    plan = Planner().plan(Prompt(model="m", text="user: hi", question="hi"))
    assert Usage(input_tokens=plan.input_tokens, output_tokens=plan.output_tokens).output_tokens == count_tokens(
        "".join(plan.pieces)
    )
