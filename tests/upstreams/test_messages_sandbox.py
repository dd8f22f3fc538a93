"""The sandbox as a provider of messages: whole, streamed, with tools and thinking, cached where breakpoints stand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from upstreams import anthropic, messages_collect
from upstreams.messages_relay import Relay
from upstreams.sandbox.messages import Count, Endpoint
from upstreams.sandbox.plans import Planner
from upstreams.sandbox.server import Stream, Whole
from upstreams.wire import Usage

WEATHER = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}


def request(**fields: Any) -> bytes:
    said = [{"role": "user", "content": "Say hi"}]
    return json.dumps({"model": "claude-x", "max_tokens": 500, "messages": said, **fields}).encode()


async def whole(endpoint: Endpoint, **fields: Any) -> dict[str, Any]:
    answer = await endpoint.answer(request(**fields))
    assert isinstance(answer, Whole)
    assert answer.status == 200, answer.value
    value: dict[str, Any] = answer.value
    return value


async def streamed(endpoint: Endpoint, **fields: Any) -> bytes:
    answer = await endpoint.answer(request(stream=True, **fields))
    assert isinstance(answer, Stream)
    return b"".join([event async for event in answer.events])


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint(Planner(), speed=0)


async def test_the_same_words_whole_and_streamed(endpoint: Endpoint) -> None:
    answer = await whole(endpoint)
    stream = await streamed(endpoint)
    again = json.loads(messages_collect.collect(stream))
    assert again["content"] == answer["content"]
    assert "sandbox" in answer["content"][0]["text"]
    assert (again["stop_reason"], again["usage"]) == ("end_turn", answer["usage"])
    relay = Relay()
    assert b"".join(relay.feed(stream)) + b"".join(relay.close()) == stream
    assert relay.usage == anthropic.complete(json.dumps(answer).encode())


async def test_a_tool_is_called_with_what_fits_its_schema(endpoint: Endpoint) -> None:
    fields: dict[str, Any] = {"tools": [WEATHER], "messages": [{"role": "user", "content": "the weather please"}]}
    stream = await streamed(endpoint, **fields)
    for answer in (await whole(endpoint, **fields), json.loads(messages_collect.collect(stream))):
        [call] = answer["content"]
        assert (call["type"], call["name"], set(call["input"])) == ("tool_use", "get_weather", {"city", "days"})
        assert answer["stop_reason"] == "tool_use"
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "fine"}]}
    done = await whole(endpoint, tools=[WEATHER], messages=[*fields["messages"], result])
    assert done["stop_reason"] == "end_turn"
    forced = await whole(endpoint, tools=[WEATHER], tool_choice={"type": "tool", "name": "get_weather"})
    assert forced["content"][0]["name"] == "get_weather"
    none = await whole(endpoint, **{**fields, "tool_choice": {"type": "none"}})
    assert none["content"][0]["type"] == "text"


async def test_thinking_comes_first(endpoint: Endpoint) -> None:
    answer = await whole(endpoint, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2000)
    assert [block["type"] for block in answer["content"]] == ["thinking", "text"]
    stream = await streamed(endpoint, thinking={"type": "adaptive"}, max_tokens=2000)
    assert json.loads(messages_collect.collect(stream))["content"][0] == answer["content"][0]


async def test_bounds(endpoint: Endpoint) -> None:
    answer = await whole(endpoint, max_tokens=5)
    assert (answer["stop_reason"], answer["usage"]["output_tokens"]) == ("max_tokens", 5)
    shaped = {"type": "json_schema", "schema": WEATHER["input_schema"]}
    answer = await whole(endpoint, output_config={"format": shaped})
    assert set(json.loads(answer["content"][0]["text"])) == {"city", "days"}


async def test_only_what_a_breakpoint_closes_is_cached(endpoint: Endpoint) -> None:
    long = {"type": "text", "text": "a long and winding road " * 800}
    plain = anthropic.complete(json.dumps(await whole(endpoint, system=[long])).encode())
    assert (plain.cached_input_tokens, plain.cache_write_5m_tokens) == (0, 0)
    marked = [{**long, "text": long["text"] + "anew " * 300, "cache_control": {"type": "ephemeral"}}]
    fresh = Endpoint(Planner(), speed=0)
    first = anthropic.complete(json.dumps(await whole(fresh, system=marked)).encode())
    again = anthropic.complete(json.dumps(await whole(fresh, system=marked)).encode())
    assert first.cached_input_tokens == 0 < first.cache_write_5m_tokens < first.input_tokens
    assert again.cached_input_tokens > 1024
    assert again.cached_input_tokens + again.cache_write_5m_tokens == first.cache_write_5m_tokens
    short = await whole(fresh, cache_control={"type": "ephemeral"})
    assert anthropic.complete(json.dumps(short).encode()).cache_write_5m_tokens == 0


async def test_tokens_are_counted(endpoint: Endpoint) -> None:
    counted = await Count().answer(request(tools=[WEATHER]))
    assert isinstance(counted, Whole)
    usage: Usage = anthropic.complete(json.dumps(await whole(endpoint, tools=[WEATHER])).encode())
    assert counted.value == {"input_tokens": usage.input_tokens}
    anthropic.counted(json.dumps(counted.value).encode())


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"{}", request(model=5), request(messages=[]), request(messages=["hi"]), request(max_tokens=None)],
)
async def test_faults(endpoint: Endpoint, body: bytes) -> None:
    answer = await endpoint.answer(body)
    assert isinstance(answer, Whole)
    assert (answer.status, answer.value["type"]) == (400, "error")
    assert answer.value["error"]["type"] == "invalid_request_error"
