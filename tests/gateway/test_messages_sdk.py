"""The official Anthropic SDK against the real gateway: what it sends, and what it makes of what comes back."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest
from anthropic.types import ToolParam

from tests.fakes import messages as fake
from tests.gateway.messages import model, price_of
from tests.support.gateway import CREDIT, Caller, Gateway

WEATHER: ToolParam = {
    "name": "weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    return gateway.caller()


@pytest.fixture(params=["/api", ""], ids=["below /api", "at the root"])
def sdk(caller: Caller, request: pytest.FixtureRequest) -> Iterator[anthropic.Anthropic]:
    base_url = f"http://127.0.0.1:{caller.port}{request.param}"
    with anthropic.Anthropic(api_key=caller.secret, base_url=base_url, max_retries=0, timeout=90) as client:
        yield client


def test_a_turn(gateway: Gateway, sdk: anthropic.Anthropic, caller: Caller) -> None:
    counts = fake.usage(30, 12, read=1000, written=200)
    slug = model(gateway, fake.answers(fake.text("Hello there"), counts=counts))
    answer = sdk.messages.create(model=slug, max_tokens=100, messages=[{"role": "user", "content": "hi"}])
    assert [block.text for block in answer.content if block.type == "text"] == ["Hello there"]
    assert (answer.usage.cache_read_input_tokens, answer.usage.cache_creation_input_tokens) == (1000, 200)
    assert answer._request_id
    assert answer.model_extra is not None
    told = answer.model_extra["hypereal"]
    books = caller.settled_books()
    assert books.transfers == [price_of(30, 12, 1000, 200)]
    assert told["credits"] == books.charged / CREDIT
    assert told["cache"]["saved_credits"] == books.log[0]["saved_microcredits"] / CREDIT > 0
    assert str(books.log[0]["request_id"]) == answer._request_id


def test_a_streamed_turn_with_thinking_and_a_tool(gateway: Gateway, sdk: anthropic.Anthropic, caller: Caller) -> None:
    content = (fake.thinking("Which city?"), fake.text("I look it up"), fake.tool_use("weather", city="Ürümqi"))
    route = gateway.upstream.serve(fake.answers(*content, counts=fake.usage(80, 40), stop="tool_use"))
    slug = model(gateway, route)
    with sdk.messages.stream(
        model=slug,
        max_tokens=4000,
        thinking={"type": "enabled", "budget_tokens": 1024},
        tools=[WEATHER],
        messages=[{"role": "user", "content": "weather in Ürümqi?"}],
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text.strip() == "I look it up"
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use"]
    [call] = [block for block in final.content if block.type == "tool_use"]
    assert (call.name, call.input) == ("weather", {"city": "Ürümqi"})
    assert (final.stop_reason, final.usage.output_tokens) == ("tool_use", 40)
    assert route.seen[0].body["thinking"] == {"type": "enabled", "budget_tokens": 1024}
    assert caller.settled_books().transfers == [price_of(80, 40)]


def test_the_last_event_tells_what_the_call_cost(gateway: Gateway, sdk: anthropic.Anthropic, caller: Caller) -> None:
    slug = model(gateway, fake.answers(counts=fake.usage(30, 12, read=500)))
    seen = []
    for event in sdk.messages.create(
        model=slug, max_tokens=100, messages=[{"role": "user", "content": "hi"}], stream=True
    ):
        if event.type == "message_delta":
            seen.append((event.model_extra or {})["hypereal"])
    [told] = seen
    books = caller.settled_books()
    assert told["credits"] == books.charged / CREDIT == price_of(30, 12, 500) / CREDIT
    assert told["cache"]["read_tokens"] == 500
    assert told["model"] == slug


def test_a_tools_result_is_sent_back(gateway: Gateway, sdk: anthropic.Anthropic) -> None:
    route = gateway.upstream.serve(fake.answers(fake.text("Sunny")))
    slug = model(gateway, route)
    answer = sdk.messages.create(
        model=slug,
        max_tokens=100,
        tools=[WEATHER],
        messages=[
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "25 degrees"}]},
        ],
    )
    assert answer.content[0].type == "text"
    sent = route.seen[0].body
    assert sent["messages"][2]["content"][0]["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in sent["messages"][1]["content"][0]
    assert sent["tools"][0]["cache_control"] == {"type": "ephemeral"}


def test_the_beta_interface(gateway: Gateway, sdk: anthropic.Anthropic) -> None:
    route = gateway.upstream.serve(fake.answers())
    slug = model(gateway, route)
    answer = sdk.beta.messages.create(
        model=slug,
        max_tokens=100,
        betas=["context-management-2025-06-27", "effort-2025-11-24"],
        context_management={"edits": [{"type": "clear_tool_uses_20250919"}]},
        messages=[{"role": "user", "content": "hi"}],
        extra_body={"hypereal": {"cache": False}},
    )
    assert answer.content[0].type == "text"
    [seen] = route.seen
    assert seen.path.endswith("/v1/messages")
    assert seen.headers["anthropic-beta"] == "context-management-2025-06-27,effort-2025-11-24"
    assert seen.body["context_management"] == {"edits": [{"type": "clear_tool_uses_20250919"}]}
    assert "hypereal" not in seen.body
    assert seen.body["messages"][0]["content"] == "hi"


def test_tokens_are_counted(gateway: Gateway, sdk: anthropic.Anthropic, caller: Caller) -> None:
    slug = model(gateway, fake.answers())
    counted = sdk.messages.count_tokens(model=slug, messages=[{"role": "user", "content": "hi"}])
    assert counted.input_tokens == 42
    assert sdk.beta.messages.count_tokens(model=slug, messages=[{"role": "user", "content": "hi"}]).input_tokens == 42
    assert caller.books().log == []


def test_models_are_listed(gateway: Gateway, sdk: anthropic.Anthropic) -> None:
    slug = model(gateway, fake.answers())
    listed = sdk.models.list(limit=1000)
    assert slug in [entry.id for entry in listed.data]
    assert sdk.models.retrieve(slug).type == "model"


def test_each_error_raises_its_own_class(gateway: Gateway, sdk: anthropic.Anthropic, caller: Caller) -> None:
    def turn(client: anthropic.Anthropic, slug: str) -> None:
        client.messages.create(model=slug, max_tokens=100, messages=[{"role": "user", "content": "hi"}])

    with pytest.raises(anthropic.BadRequestError) as bad:
        turn(sdk, "none-such")
    assert "available_models" in bad.value.body["error"]  # type: ignore[index]
    assert bad.value.request_id
    fine = model(gateway, fake.answers())
    with pytest.raises(anthropic.AuthenticationError):
        turn(sdk.with_options(api_key="ck_nothing"), fine)
    with pytest.raises(anthropic.PaymentRequiredError):
        turn(sdk.with_options(api_key=gateway.caller(credits=1).secret), fine)
    with pytest.raises(anthropic.InternalServerError):
        turn(sdk, model(gateway, fake.fails(500)))
    with pytest.raises(anthropic.PermissionDeniedError):
        turn(sdk.with_options(api_key=gateway.caller(allowed_models=["another"]).secret), fine)


def test_an_error_in_mid_stream_is_raised(gateway: Gateway, sdk: anthropic.Anthropic) -> None:
    slug = model(gateway, fake.streams(fake.start(fake.usage()), fake.opened(), fake.words("half a sen"), cut=True))
    with (
        pytest.raises(anthropic.APIStatusError) as broken,
        sdk.messages.stream(model=slug, max_tokens=100, messages=[{"role": "user", "content": "hi"}]) as stream,
    ):
        stream.until_done()
    assert "broke off" in str(broken.value)
