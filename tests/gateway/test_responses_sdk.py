"""The official OpenAI SDK's responses against the real gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.fakes import responses as fake
from tests.support.gateway import Caller, Gateway, price_of

WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    return gateway.caller()


@pytest.fixture
def sdk(caller: Caller) -> Iterator[openai.OpenAI]:
    base_url = f"http://127.0.0.1:{caller.port}/api/v1"
    with openai.OpenAI(api_key=caller.secret, base_url=base_url, max_retries=0, timeout=90) as client:
        yield client


def test_a_turn(gateway: Gateway, sdk: openai.OpenAI, caller: Caller) -> None:
    model = gateway.model(fake.answers("Hello there", prompt=30, output=12), kind="responses")
    answer = sdk.responses.create(model=model, input="hi", store=False)
    assert answer.output_text == "Hello there"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 12
    assert caller.settled_books().charged == price_of(30, 12)


def test_a_turn_of_an_upstream_that_always_streams(gateway: Gateway, sdk: openai.OpenAI, caller: Caller) -> None:
    """The SDK can't read a stream where it asked for none, and says so by what it accepts."""
    events = fake.stream_of(fake.response("Hello there", prompt=30, output=12))
    model = gateway.model(fake.sends(*events, pause=0), kind="responses")
    assert sdk.responses.create(model=model, input="hi").output_text == "Hello there"
    assert caller.settled_books().charged == price_of(30, 12)


def test_a_streamed_turn(gateway: Gateway, sdk: openai.OpenAI, caller: Caller) -> None:
    model = gateway.model(fake.answers("Hello there you", prompt=30, output=12), kind="responses")
    text = ""
    with sdk.responses.stream(model=model, input="hi") as stream:
        for event in stream:
            text += event.delta if event.type == "response.output_text.delta" else ""
        final = stream.get_final_response()
    assert text.strip() == final.output_text == "Hello there you"
    assert final.usage is not None
    assert final.usage.output_tokens == 12
    assert caller.settled_books().charged == price_of(30, 12)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_turn(gateway: Gateway, sdk: openai.OpenAI, caller: Caller, streamed: bool) -> None:
    called = fake.call("get_weather", '{"city":"Lahore"}')
    route = gateway.upstream.serve(fake.answers(prompt=30, output=12, output_items=[called]))
    model = gateway.model(route, kind="responses")
    asked: Any = {"model": model, "input": "the weather in Lahore?", "tools": [WEATHER]}
    if streamed:
        with sdk.responses.stream(**asked) as stream:
            first = stream.get_final_response()
    else:
        first = sdk.responses.create(**asked)
    [item] = first.output
    assert item.type == "function_call"
    assert (item.name, item.arguments) == ("get_weather", '{"city":"Lahore"}')
    route.behaviour = fake.answers("Sunny", prompt=50, output=3)
    result: Any = {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}
    second = sdk.responses.create(model=model, input=[result], previous_response_id=first.id, tools=[WEATHER])
    assert second.output_text == "Sunny"
    assert route.seen[1].body["previous_response_id"] == fake.ID
    assert caller.settled_books(rows=2).charged == price_of(30, 12) + price_of(50, 3)


def test_an_answer_in_a_shape(gateway: Gateway, sdk: openai.OpenAI) -> None:
    class Town(BaseModel):
        name: str

    route = gateway.upstream.serve(fake.answers('{"name":"Lahore"}'))
    parsed = sdk.responses.parse(model=gateway.model(route, kind="responses"), input="a town?", text_format=Town)
    assert parsed.output_parsed == Town(name="Lahore")
    assert route.seen[0].body["text"]["format"]["type"] == "json_schema"


def test_a_stream_that_fails_ends_in_an_event_that_the_sdk_knows(gateway: Gateway, sdk: openai.OpenAI) -> None:
    failing = fake.sends(fake.beginning(), fake.delta("some words"), fake.failed("server_error"), pause=0.25)
    model = gateway.model(failing, kind="responses")
    *_, last = sdk.responses.create(model=model, input="hi", stream=True)
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert (last.response.error.code, last.response.id) == ("server_error", fake.ID)


def test_each_error_raises_its_own_class(gateway: Gateway, sdk: openai.OpenAI, caller: Caller) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        sdk.responses.create(model="none-such", input="hi")
    assert (bad.value.param, bad.value.code) == ("model", "model_not_found")
    assert bad.value.request_id
    model = gateway.model(fake.sends(fake.beginning() + fake.failed("server_error")), kind="responses")
    with pytest.raises(openai.InternalServerError):
        sdk.responses.create(model=model, input="hi")
    assert _how_a_stream_fails(sdk, model) in ("InternalServerError", "response.failed")
    with pytest.raises(openai.BadRequestError) as unpriced:
        sdk.responses.create(model=model, input="hi", tools=[{"type": "web_search"}])
    assert unpriced.value.param == "tools[0]"
    poor = gateway.caller(credits=1)
    with pytest.raises(openai.APIStatusError) as unpaid:
        sdk.with_options(api_key=poor.secret).responses.create(model=model, input="hi", stream=True)
    assert unpaid.value.status_code == 402
    assert caller.settled_books(rows=4).charged == 0


def _how_a_stream_fails(sdk: openai.OpenAI, model: str) -> str:
    """A status, or, where the retries took long enough for a keep-alive to go out first, the stream's last event."""
    try:
        *_, last = sdk.responses.create(model=model, input="hi", stream=True)
    except openai.APIStatusError as error:
        return type(error).__name__
    return last.type
