"""The sandbox as a provider of Gemini's own format: whole, streamed, with tools, thinking and schemas."""

from __future__ import annotations

import json
from typing import Any

import pytest

from upstreams import gemini, gemini_collect
from upstreams.gemini_relay import Relay
from upstreams.sandbox.gemini import Count, Endpoint, Streaming
from upstreams.sandbox.plans import Planner
from upstreams.sandbox.server import Stream, Whole

PATH = "/v1/models/gemini-x:generateContent"
WEATHER = {"name": "get_weather", "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}}}
THINKS = {"thinkingConfig": {"includeThoughts": True}}


def request(**fields: Any) -> bytes:
    return json.dumps({"contents": [{"role": "user", "parts": [{"text": "Say hi"}]}], **fields}).encode()


async def whole(**fields: Any) -> dict[str, Any]:
    answer = await Endpoint(Planner(), speed=0).answer_at(PATH, request(**fields))
    assert isinstance(answer, Whole)
    assert answer.status == 200, answer.value
    value: dict[str, Any] = answer.value
    return value


async def streamed(**fields: Any) -> bytes:
    answer = await Streaming(Planner(), speed=0).answer_at(PATH, request(**fields))
    assert isinstance(answer, Stream)
    return b"".join([event async for event in answer.events])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"generationConfig": THINKS},
        {"generationConfig": {"maxOutputTokens": 5}},
        {
            "tools": [{"functionDeclarations": [WEATHER]}],
            "contents": [{"role": "user", "parts": [{"text": "the weather please"}]}],
        },
    ],
    ids=["plain", "thinking", "cut", "tool"],
)
async def test_the_same_whole_and_streamed(fields: dict[str, Any]) -> None:
    answer, stream = await whole(**fields), await streamed(**fields)
    again = json.loads(gemini_collect.collect(stream))
    [ours], [theirs] = again["candidates"], answer["candidates"]
    assert [part for part in ours["content"]["parts"] if part != {"text": ""}] == theirs["content"]["parts"]
    assert ours["finishReason"] == theirs["finishReason"]
    assert again["usageMetadata"] == answer["usageMetadata"]
    relay = Relay()
    assert b"".join(relay.feed(stream)) + b"".join(relay.close()) == stream
    assert relay.billable_usage(0) == gemini.complete(json.dumps(answer).encode())
    assert answer["modelVersion"] == "sandbox/gemini-x"


async def test_a_tool_is_called_with_what_fits_its_schema() -> None:
    answer = await whole(
        tools=[{"function_declarations": [WEATHER]}],
        tool_config={"function_calling_config": {"mode": "ANY", "allowed_function_names": ["get_weather"]}},
    )
    [part] = answer["candidates"][0]["content"]["parts"]
    assert part["functionCall"]["name"] == "get_weather"
    assert isinstance(part["functionCall"]["args"]["city"], str)
    assert part["thoughtSignature"]
    result = {"functionResponse": {"name": "get_weather", "response": {"sky": "clear"}}}
    answered = await whole(
        tools=[{"functionDeclarations": [WEATHER]}],
        contents=[{"role": "user", "parts": [{"text": "weather"}]}, {"role": "user", "parts": [result]}],
    )
    assert "result has arrived" in answered["candidates"][0]["content"]["parts"][0]["text"]


async def test_a_schema_is_followed() -> None:
    config = {"responseMimeType": "application/json", "responseSchema": WEATHER["parameters"]}
    answer = await whole(generationConfig=config)
    assert set(json.loads(answer["candidates"][0]["content"]["parts"][0]["text"])) == {"city"}


async def test_tokens_are_counted_as_they_are_billed() -> None:
    billed = (await whole())["usageMetadata"]["promptTokenCount"]
    inner = json.dumps({"generateContentRequest": {"model": "models/x", **json.loads(request())}}).encode()
    for body in (request(), inner):
        answer = await Count().answer_at("/v1beta/models/x:countTokens", body)
        assert isinstance(answer, Whole)
        assert answer.value["totalTokens"] == billed


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"contents": []}', b'{"contents": 5}'])
async def test_faults_are_told_as_google_does(body: bytes) -> None:
    for endpoint in (Endpoint(Planner(), speed=0), Streaming(Planner(), speed=0), Count()):
        answer = await endpoint.answer_at(PATH, body)
        assert isinstance(answer, Whole)
        assert (answer.status, answer.value["error"]["status"]) == (400, "INVALID_ARGUMENT")
