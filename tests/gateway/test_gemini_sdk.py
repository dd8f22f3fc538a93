"""Google's own SDK against the real gateway: what it sends, and what it makes of what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from tests.fakes import gemini as fake
from tests.fakes import upstream as chat
from tests.gateway.test_gemini import model, served_by
from tests.support.gateway import CREDIT, Caller, Gateway, price_of


class City(BaseModel):
    name: str
    country: str


WEATHER = types.FunctionDeclaration(
    name="weather",
    description="The weather of a city",
    parameters_json_schema={"type": "object", "properties": {"city": {"type": "string"}}},
)


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    return gateway.caller()


@pytest.fixture(params=["/api/v1/gemini", "/v1/gemini"])
def sdk(caller: Caller, request: pytest.FixtureRequest) -> Iterator[genai.Client]:
    options = types.HttpOptions(base_url=f"http://127.0.0.1:{caller.port}{request.param}", timeout=90_000)
    client = genai.Client(api_key=caller.secret, http_options=options)
    yield client
    client.close()


def test_a_turn(gateway: Gateway, sdk: genai.Client, caller: Caller) -> None:
    counts = fake.usage(100, 50, cached=20, thoughts=10)
    slug = model(gateway, fake.answers(fake.text("hm", thought=True), fake.text("Hello there"), counts=counts))
    answer = sdk.models.generate_content(model=slug, contents="hi")
    assert answer.text == "Hello there"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.total_token_count == 150
    assert answer.usage_metadata.thoughts_token_count == 10
    assert caller.settled_books().transfers == [price_of(100, 50, cached=20)]


def test_a_streamed_turn_with_a_tool_and_its_result(gateway: Gateway, sdk: genai.Client, caller: Caller) -> None:
    route = gateway.upstream.serve(fake.answers(fake.text("I look"), fake.call("weather", city="Ürümqi")))
    slug = model(gateway, route)
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[WEATHER])], temperature=0.2)
    chat_session = sdk.chats.create(model=slug, config=config)
    pieces = list(chat_session.send_message_stream("weather in Ürümqi?"))
    calls = [call for piece in pieces for call in piece.function_calls or ()]
    assert [(call.id, call.name, call.args) for call in calls] == [("c1", "weather", {"city": "Ürümqi"})]
    assert pieces[-1].usage_metadata is not None
    assert pieces[-1].usage_metadata.total_token_count == 150
    result = types.Part.from_function_response(name="weather", response={"sky": "clear"})
    list(chat_session.send_message_stream(result))
    history = route.seen[1].body["contents"]
    assert [content["role"] for content in history] == ["user", "model", "model", "user"]
    [called] = [part for content in history for part in content["parts"] if "functionCall" in part]
    assert called["thoughtSignature"] == "c2lnbmVk"
    assert called["functionCall"]["id"] == "c1"
    assert caller.settled_books(2).transfers == [price_of(100, 50)] * 2


def test_a_schema_and_a_picture_reach_the_provider(gateway: Gateway, sdk: genai.Client) -> None:
    route = gateway.upstream.serve(fake.answers(fake.text('{"name": "Ürümqi", "country": "China"}')))
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=City)
    picture = types.Part.from_bytes(data=b"\x89PNG", mime_type="image/png")
    said = types.Content(role="user", parts=[picture, types.Part.from_text(text="which?")])
    answer = sdk.models.generate_content(model=model(gateway, route), contents=said, config=config)
    assert answer.parsed == City(name="Ürümqi", country="China")
    assert route.seen[0].body["contents"][0]["parts"][0]["inlineData"]["data"] == "iVBORw=="


def test_counting_and_listing(gateway: Gateway, sdk: genai.Client, caller: Caller) -> None:
    slug = model(gateway, fake.answers())
    assert sdk.models.count_tokens(model=slug, contents="hi").total_tokens == 42
    named = {entry.name for entry in sdk.models.list(config={"page_size": 3})}
    assert f"models/{slug}" in named
    one = sdk.models.get(model=slug)
    assert (one.name, one.output_token_limit) == (f"models/{slug}", 4096)
    assert caller.books().log == []


def test_the_same_through_a_provider_that_speaks_chat(gateway: Gateway, sdk: genai.Client, caller: Caller) -> None:
    slug = served_by(gateway, chat.answers("Hello there"), endpoints=["gemini"], kind="chat", adapter="openai")
    assert sdk.models.generate_content(model=slug, contents="hi").text == "Hello there"
    pieces = list(sdk.models.generate_content_stream(model=slug, contents="hi"))
    assert "".join(piece.text or "" for piece in pieces) == "Hello there "
    assert pieces[-1].usage_metadata is not None
    assert caller.settled_books(2).transfers == [price_of(100, 50)] * 2


@pytest.mark.parametrize(
    ("failing", "code", "status"),
    [
        (fake.fails(400, "INVALID_ARGUMENT", "bad thing"), 400, "INVALID_ARGUMENT"),
        (fake.fails(403, "PERMISSION_DENIED", "our project"), 502, "UNAVAILABLE"),
        (fake.fails(500, "INTERNAL"), 502, "UNAVAILABLE"),
    ],
)
def test_errors_are_the_sdks_own(gateway: Gateway, sdk: genai.Client, failing: Any, code: int, status: str) -> None:
    with pytest.raises(errors.APIError) as caught:
        sdk.models.generate_content(model=model(gateway, failing), contents="hi")
    assert (caught.value.code, caught.value.status) == (code, status)
    assert "our project" not in str(caught.value)


def test_an_error_inside_a_stream_is_raised(gateway: Gateway, sdk: genai.Client, caller: Caller) -> None:
    slug = model(gateway, fake.streams(fake.piece(fake.text("sixteen letters!")), cut=True))
    with pytest.raises(errors.APIError, match="broke off"):
        list(sdk.models.generate_content_stream(model=slug, contents="hi"))
    assert caller.settled_books().log[0]["estimated"] is True


def test_an_empty_wallet(gateway: Gateway) -> None:
    poor = gateway.caller(credits=1)
    options = types.HttpOptions(base_url=f"http://127.0.0.1:{poor.port}/v1/gemini")
    client = genai.Client(api_key=poor.secret, http_options=options)
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model=model(gateway, fake.answers()), contents="hi")
    assert caught.value.code == 402
    assert poor.books().balance == CREDIT
