"""Calls to ``/messages`` for tests: a model with prices for every bucket, and what its tokens cost."""

from __future__ import annotations

from typing import Any

from catalog.pricing import Rates, ServiceTier, TokenRates
from tests.fakes import upstream as fake
from tests.support import http
from tests.support.gateway import CREDIT, Caller, Gateway

#: Credits a thousand tokens: 1 for input, 0.1 read, 1.25 and 2 written, 4 for output; 5 for a search.
RATES = Rates(
    tokens=TokenRates(
        input=1000 * CREDIT,
        cached_input=100 * CREDIT,
        cache_write_5m=1250 * CREDIT,
        cache_write_1h=2000 * CREDIT,
        output=4000 * CREDIT,
    ),
    service_tiers=(ServiceTier("fast", TokenRates(input=6000 * CREDIT, output=24_000 * CREDIT)),),
    server_tools=(("web_search_requests", 5 * CREDIT),),
)


def price_of(fresh: int, output: int, read: int = 0, written: int = 0, for_an_hour: int = 0) -> int:
    """Microcredits of a call at RATES."""
    return fresh * 1000 + read * 100 + (written - for_an_hour) * 1250 + for_an_hour * 2000 + output * 4000


def model(
    gateway: Gateway, *behaviours: fake.Behaviour | fake.Route | str, rates: Rates = RATES, **columns: Any
) -> str:
    """A new model of ``/messages`` whose chain is these providers."""
    slug = gateway.new_model(*behaviours, rates=rates, kind="messages", adapter="anthropic", **columns)
    gateway.until_known(slug)
    return slug


def body(model: str, said: str = "Say hello", **fields: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 1000, "messages": [{"role": "user", "content": said}], **fields}


def ask(
    caller: Caller, model: str, query: str = "", headers: dict[str, str] | None = None, **fields: Any
) -> http.Reply:
    """One call, a stream read to its end."""
    path = f"/v1/messages{query}"
    return http.send(caller.port, "POST", path, body(model, **fields), caller.headers(headers or {}))


def kinds(reply: http.Reply) -> list[str]:
    """The types of a stream's events."""
    return [event["type"] for event in reply.events]
