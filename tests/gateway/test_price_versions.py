"""A call is billed at the price version of its admission, whatever is published while it runs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from catalog import prices
from catalog.models import Model, Price
from catalog.pricing import scaled
from tests.fakes import upstream as fake
from tests.fakes.upstream import Conversation
from tests.support.gateway import PATIENCE, RATES, Gateway, price_of, wait_for


def publish(slug: str, basis_points: int) -> Price:
    rates = scaled(RATES, basis_points)
    made = prices.publish(Model.objects.get(slug=slug), rates, list_rates=RATES, factor_basis_points=basis_points)
    assert made is not None
    return made


def test_a_price_published_while_a_call_runs_is_the_next_call_s(gateway: Gateway) -> None:
    arrived, leave = threading.Event(), threading.Event()

    async def slowly(talk: Conversation) -> None:
        arrived.set()
        await talk.until(leave)
        await talk.json(fake.completion("x", 100, 50))

    model, caller = gateway.model(slowly), gateway.caller()
    first = Price.objects.get(model__slug=model)
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(caller.chat, model, max_tokens=100)
        try:
            assert arrived.wait(PATIENCE)
            second = publish(model, 20_000)
            quoted = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
            wait_for(lambda: caller.send("POST", "/v1/quote", quoted).json["price"]["version"] == 2)
        finally:
            leave.set()
        assert calling.result(PATIENCE).status == 200
    [row] = caller.settled_books().log
    assert (row["price_id"], row["charged_microcredits"]) == (first.pk, price_of(100, 50))
    assert caller.chat(model, max_tokens=100).status == 200
    rows = caller.settled_books(rows=2).log
    assert (rows[1]["price_id"], rows[1]["charged_microcredits"]) == (second.pk, 2 * price_of(100, 50))


def test_every_version_stays_to_be_read(gateway: Gateway) -> None:
    model = gateway.model(fake.answers())
    for basis_points in (20_000, 30_000):
        publish(model, basis_points)
    kept = Price.objects.filter(model__slug=model).order_by("version")
    factors = [(price.version, price.factor_basis_points, price.rates.tokens.input) for price in kept]
    first = RATES.tokens.input or 0
    assert factors == [(1, 10_000, first), (2, 20_000, 2 * first), (3, 30_000, 3 * first)]
