"""Models of speech behind real fake providers, and what an official SDK calls them with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from openai import OpenAI

from catalog.pricing import Rates
from tests.fakes import upstream as fake
from tests.support.gateway import CREDIT, Caller, Gateway

PRICE = 5 * CREDIT
FLAT = Rates(unit="request", unit_prices=(("default", PRICE),))
#: Microcredits for a begun second, a character, a byte.
SECOND, CHARACTER, BYTE = 10_000, 1_500, 2_000
BY_SECOND = Rates(unit="second", unit_prices=(("default", SECOND),))
BY_CHARACTER = Rates(unit="character", unit_prices=(("default", CHARACTER),))
BY_BYTE = Rates(unit="byte", unit_prices=(("default", BYTE),))

SPEAKS: dict[str, Any] = {"capabilities": ["speech"], "media": {"max_text_bytes": 300}}
CLONES: dict[str, Any] = {
    "capabilities": ["speech", "voice_cloning"],
    "media": {"max_text_bytes": 300, "min_reference_seconds": 10, "max_audio_seconds": 60},
}
WRITES: dict[str, Any] = {"capabilities": ["transcription"], "media": {"max_audio_seconds": 60}}

Maker = Callable[..., str]


@pytest.fixture
def audio_model(gateway: Gateway) -> Maker:
    """Makes a model of speech: what it can do, then its providers; Fish Audio's way and a flat price unless told."""

    def make(
        can: dict[str, Any], *providers: fake.Behaviour | fake.Route, rates: Rates = FLAT, adapter: str = "fish"
    ) -> str:
        return gateway.model(*providers, rates=rates, kind="audio", adapter=adapter, **can)

    return make


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    """Somebody with a thousand credits."""
    return gateway.caller()


@pytest.fixture
def sdk(caller: Caller) -> OpenAI:
    """The official SDK with the caller's key; it repeats nothing by itself."""
    return OpenAI(api_key=caller.secret, base_url=f"http://127.0.0.1:{caller.port}/v1", max_retries=0)
