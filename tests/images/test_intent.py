"""``/images/generate``: an intent in place of a model (C-IMG, C-ROUTE-2)."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.pricing import Rates
from core import ids
from tests.images.provider import MEDIA, ask, draws, serve
from tests.support.gateway import CREDIT, Gateway
from tests.support.http import Reply

SMALL: dict[str, Any] = {"sizes": {"1024x1024": "1K"}, "default_size": "1024x1024"}


def rates(credits: int) -> Rates:
    return Rates(unit="image", unit_prices=tuple((tier, credits * CREDIT) for tier in ("1K", "2K", "4K")))


@pytest.fixture
def intent() -> str:
    """One that no other test's models are qualified for."""
    return f"test-{ids.uuid7().hex[-10:]}"


def generate(gateway: Gateway, intent: str, **fields: Any) -> Reply:
    return ask(gateway.caller(), "", path="/v1/images/generate", intent=intent, **fields)


def test_the_cheapest_that_is_qualified_serves(gateway: Gateway, intent: str) -> None:
    serve(gateway, draws(), rates=rates(9), intents=[intent])
    cheap = serve(gateway, draws(), rates=rates(3), intents=[intent])
    serve(gateway, draws(), rates=rates(1), intents=[])
    reply = generate(gateway, intent)
    assert (reply.status, reply.headers["x-hypereal-model"]) == (200, cheap)
    assert reply.headers["x-hypereal-credits"] == "3"


def test_one_that_can_not_do_what_is_asked_is_passed_over(gateway: Gateway, intent: str) -> None:
    able = serve(gateway, draws(), rates=rates(9), intents=[intent], media=MEDIA)
    small = serve(gateway, draws(), rates=rates(3), intents=[intent], media=SMALL)
    assert generate(gateway, intent).headers["x-hypereal-model"] == small
    assert generate(gateway, intent, size="2048x2048").headers["x-hypereal-model"] == able


def test_the_price_of_the_very_call_decides(gateway: Gateway, intent: str) -> None:
    flat = Rates(unit="image", unit_prices=tuple((tier, 10 * CREDIT) for tier in ("1K", "2K", "4K")))
    steep = Rates(unit="image", unit_prices=(("1K", 2 * CREDIT), ("2K", 20 * CREDIT), ("4K", 40 * CREDIT)))
    one = serve(gateway, draws(), rates=flat, intents=[intent])
    other = serve(gateway, draws(), rates=steep, intents=[intent])
    assert generate(gateway, intent).headers["x-hypereal-model"] == other
    assert generate(gateway, intent, size="4096x4096").headers["x-hypereal-model"] == one


def test_a_pinned_model_is_honoured(gateway: Gateway, intent: str) -> None:
    dear = serve(gateway, draws(), rates=rates(9), intents=[intent])
    serve(gateway, draws(), rates=rates(3), intents=[intent])
    reply = ask(gateway.caller(), dear, path="/v1/images/generate", intent=intent)
    assert reply.headers["x-hypereal-model"] == dear


def test_an_unknown_intent_names_those_that_are_known(gateway: Gateway, intent: str) -> None:
    serve(gateway, draws(), intents=[intent])
    reply = generate(gateway, "text-to-cake")
    assert (reply.status, reply.error["param"]) == (400, "intent")
    assert intent in reply.error["available_intents"]
