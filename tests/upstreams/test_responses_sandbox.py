"""The sandbox's responses over HTTP, through the product's own client, relay and readers, and by the vendor's types."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.upstreams.exchanges import objects
from upstreams import responses as adapter
from upstreams.client import Pool
from upstreams.responses_relay import Relay
from upstreams.sandbox import responses
from upstreams.sandbox.plans import Planner, count_tokens
from upstreams.sandbox.server import Server
from upstreams.wire import Origin, Timeouts, UpstreamRequest

PATIENT = Timeouts(total_seconds=20)
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}}},
}


@pytest.fixture
async def sandbox() -> AsyncIterator[Server]:
    running = Server({"/responses": responses.Endpoint(Planner(), speed=0)})
    await running.start("127.0.0.1", 0)
    yield running
    await running.close()


async def ask(running: Server, **members: Any) -> tuple[int, bytes]:
    data = json.dumps({"model": "gpt-5.4", "input": "How are you?", **members}).encode()
    pool = Pool()
    origin = Origin("http", "127.0.0.1", running.port)
    with await pool.send(UpstreamRequest("POST", origin, "/v1/responses", (), data), PATIENT) as response:
        status, answer = response.status, await response.read(4_000_000)
    await pool.aclose()
    return status, answer


async def test_an_answer_says_where_it_comes_from_and_fits_the_vendors_types(sandbox: Server) -> None:
    status, answer = await ask(sandbox)
    value = Response.model_validate_json(answer)
    assert (status, value.model, value.status) == (200, "sandbox/gpt-5.4", "completed")
    assert "sandbox" in value.output_text
    usage = adapter.complete(answer)
    assert usage.input_tokens == count_tokens("user: How are you?")
    assert value.usage is not None and value.usage.output_tokens == usage.output_tokens > 0


@pytest.mark.parametrize(
    ("members", "kinds"),
    [
        ({}, {"message"}),
        ({"reasoning": {"effort": "high"}}, {"reasoning", "message"}),
        ({"tools": [WEATHER], "tool_choice": "required"}, {"function_call"}),
        (
            {
                "tools": [WEATHER, {"type": "namespace", "name": "n", "description": "d", "tools": [WEATHER]}],
                "input": "the weather?",
            },
            {"function_call"},
        ),
        ({"max_output_tokens": 5}, {"message"}),
    ],
)
async def test_a_stream_fits_the_vendors_types_and_says_what_the_answer_says(
    sandbox: Server, members: dict[str, Any], kinds: set[str]
) -> None:
    _, stream = await ask(sandbox, stream=True, **members)
    values = objects(stream.replace(b"event: ", b"\n\nevent: ").replace(b"\ndata:", b"\n\ndata:"))
    for value in values:
        EVENTS.validate_python(value)
    assert [value["sequence_number"] for value in values] == list(range(len(values)))
    last = values[-1]["response"]
    assert {item["type"] for item in last["output"]} == kinds
    assert last["status"] == ("incomplete" if "max_output_tokens" in members else "completed")
    deltas = "".join(value["delta"] for value in values if value["type"].endswith(".delta"))
    item = last["output"][-1]
    assert deltas == (item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"])
    relay = Relay()
    assert b"".join([*relay.feed(stream), *relay.close()]) == stream
    assert relay.usage == adapter.complete(adapter.collect(stream))
    _, whole = await ask(sandbox, **members)
    assert json.loads(whole)["usage"]["output_tokens"] == last["usage"]["output_tokens"]


async def test_a_tools_result_is_answered_with_words(sandbox: Server) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "the weather?"}]},
        {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
    ]
    _, answer = await ask(sandbox, input=items, tools=[WEATHER])
    assert "result has arrived" in Response.model_validate_json(answer).output_text


async def test_a_schema_is_kept(sandbox: Server) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    text = {"format": {"type": "json_schema", "name": "x", "schema": schema}}
    _, answer = await ask(sandbox, text=text)
    assert json.loads(Response.model_validate_json(answer).output_text) == {"n": 1}


@pytest.mark.parametrize(("members", "param"), [({"input": 3}, "input"), ({"model": ""}, "model")])
async def test_faults(sandbox: Server, members: dict[str, Any], param: str) -> None:
    status, answer = await ask(sandbox, **members)
    assert (status, json.loads(answer)["error"]["param"]) == (400, param)
