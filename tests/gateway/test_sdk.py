"""The official OpenAI SDK against the real gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.fakes import upstream as fake
from tests.support.gateway import Caller, Gateway, price_of


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    return gateway.caller()


@pytest.fixture
def sdk(caller: Caller) -> Iterator[openai.OpenAI]:
    base_url = f"http://127.0.0.1:{caller.port}/api/v1"
    with openai.OpenAI(api_key=caller.secret, base_url=base_url, max_retries=0, timeout=90) as client:
        yield client


def test_a_turn(gateway: Gateway, sdk: openai.OpenAI, caller: Caller) -> None:
    model = gateway.model(fake.answers("Hello there", prompt=30, output=12))
    answer = sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
    assert answer.choices[0].message.content == "Hello there"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12
    assert caller.settled_books().charged == price_of(30, 12)


@pytest.mark.parametrize("asked", [False, True])
def test_a_streamed_turn(gateway: Gateway, sdk: openai.OpenAI, caller: Caller, asked: bool) -> None:
    model = gateway.model(fake.answers("Hello there you", prompt=30, output=12))
    text, seen = "", None
    options: Any = {"include_usage": True} if asked else openai.omit
    for chunk in sdk.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "hi"}], stream=True, stream_options=options
    ):
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        seen = chunk.usage or seen
    assert text.strip() == "Hello there you"
    assert seen is not None
    assert seen.completion_tokens == 12
    assert caller.settled_books().charged == price_of(30, 12)


def test_each_error_raises_its_own_class(gateway: Gateway, sdk: openai.OpenAI, caller: Caller) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        sdk.chat.completions.create(model="none-such", messages=[{"role": "user", "content": "hi"}])
    assert bad.value.param == "model"
    assert "available_models" in bad.value.body  # type: ignore[operator]
    assert bad.value.request_id
    broken = gateway.model(fake.fails(500))
    with pytest.raises(openai.InternalServerError):
        sdk.chat.completions.create(model=broken, messages=[{"role": "user", "content": "hi"}])
    with pytest.raises(openai.AuthenticationError):
        sdk.with_options(api_key="ck_nothing").models.list()
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("none-such")
    poor = gateway.caller(credits=1)
    with pytest.raises(openai.APIStatusError) as unpaid:
        sdk.with_options(api_key=poor.secret).chat.completions.create(
            model=broken, messages=[{"role": "user", "content": "hi"}]
        )
    assert unpaid.value.status_code == 402


def test_models_are_listed(gateway: Gateway, sdk: openai.OpenAI) -> None:
    model = gateway.model(fake.answers())
    assert model in [entry.id for entry in sdk.models.list()]
