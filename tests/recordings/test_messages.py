"""Every recorded message through the real gateway: what the caller gets, and the exact charge (C-MSG, C-CHAT-4).

Each runs once under either price list of the recordings folder; one of them forces rounding. Tools that are billed by
use have a price of zero there, as the index knows none.
"""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from typing import Any

import anthropic
import jsonschema
import pytest
import pytest_django
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from pydantic import TypeAdapter, ValidationError

from catalog import pricing
from tests.recordings import sdks
from tests.recordings.whole_index import PRICE_LISTS, Figures, Models, Ran, cases, models_of
from tests.support import replay
from tests.support.gateway import Caller, Gateway
from tests.support.http import Reply
from tests.support.replay import Exchange
from upstreams.wire import Usage

pytestmark = replay.NEEDED

ENDPOINTS = ("messages", "messages.count_tokens")
#: Another model that recorded answers name, for an advisor's part or a fallback's; always at this price list.
OTHER, OTHER_PRICES = "claude-opus-4-8", "A"
FREE_TOOLS = (("code_execution", 0), ("web_fetch_requests", 0), ("web_search_requests", 0))
#: What our caller is told when the only target answers so. What is not listed is the caller's own fault: passed on.
TOLD = {
    "anthropic-messages-err-401": (502, "upstream_error"),
    "anthropic-messages-err-429": (503, "overloaded_error"),
    "anthropic-messages-err-500": (502, "upstream_error"),
    "anthropic-messages-err-529": (503, "overloaded_error"),
}
#: So many answers at least must satisfy the vendor's types and schemas.
LEAST_VALID = 24

ran = Ran()


@pytest.fixture(scope="module")
def models(upstream: Any, _gateway_session: Gateway, django_db_blocker: pytest_django.DjangoDbBlocker) -> Models:
    """A model for each exchange and price list, whose only provider answers with that exchange."""

    def new_model(exchange: Exchange, price_list: str) -> str:
        return _gateway_session.new_model(
            upstream.base(exchange.id, **pace(exchange)),
            kind="messages",
            adapter="anthropic",
            rates=replace(replay.rates(price_list), server_tools=FREE_TOOLS),
            max_output_tokens=128_000,
        )

    with _gateway_session.connected(django_db_blocker):
        _gateway_session.new_model(name=OTHER, kind="messages", rates=replay.rates(OTHER_PRICES))
    return models_of(_gateway_session, django_db_blocker, ENDPOINTS, new_model)


def pace(exchange: Exchange) -> dict[str, int]:
    """An error that comes at once with the first content is none in the middle: another target would take over."""
    return {"delay": 100} if "error_in_stream" in exchange.tags else {}


def ask(caller: Caller, exchange: Exchange, model: str, path: str = "/v1/messages") -> Reply:
    return caller.send("POST", f"{path}?beta=true", {**exchange.request, "model": model})


@pytest.mark.parametrize("price_list", PRICE_LISTS)
@pytest.mark.parametrize("exchange", cases(["messages"], lambda exchange: exchange.status == 200))
def test_answers(gateway: Gateway, models: Models, exchange: Exchange, price_list: str) -> None:
    caller = gateway.caller(credits=5000)
    reply = ask(caller, exchange, models[exchange.id, price_list])
    assert reply.status == 200, reply.body
    books = caller.settled_books()
    [row] = books.log
    assert (books.held, books.charged, sum(books.transfers)) == (0, row["charged_microcredits"], books.charged)
    assert str(row["request_id"]) == reply.headers["request-id"]
    if "error_in_stream" in exchange.tags:
        assert (row["estimated"], row["input_tokens"]) == (True, exchange.facts["billed"]["input_tokens"])
    else:
        check_bill(exchange, row, price_list)
    if exchange.is_stream:
        check_stream(exchange, reply, row)
    else:
        answer = reply.json
        assert answer.pop("hypereal")["credits"] == row["charged_microcredits"] / 1_000_000
        assert answer == exchange.response["body"]
        check_types(exchange, [exchange.response["body"]], [reply.json])
    ran.cases.add((exchange.id, price_list))


@pytest.mark.parametrize("exchange", cases(["messages"], lambda exchange: exchange.status == 200))
def test_the_official_library_reads_all_of_it(gateway: Gateway, models: Models, exchange: Exchange) -> None:
    caller, body = gateway.caller(credits=5000), {**exchange.request, "model": models[exchange.id, "A"]}
    if "error_in_stream" in exchange.tags:
        with pytest.raises(anthropic.APIStatusError, match="overloaded"):
            sdks.read(caller, "/v1/messages?beta=true", body)
        return
    got = sdks.read(caller, "/v1/messages?beta=true", body)
    told = [value.pop("hypereal") for value in got if "hypereal" in value]
    assert [Decimal(str(own["credits"])) for own in told] == [Decimal(caller.settled_books().charged) / 1_000_000]
    if exchange.is_stream:  # the library keeps pings to itself
        sent = [data_of(event) for event in exchange.body.split(b"\n\n") if event.strip()]
        assert got == [value for value in sent if value["type"] != "ping"]
    else:
        assert got == [exchange.response["body"]]


def check_bill(exchange: Exchange, row: dict[str, Any], price_list: str) -> None:
    billed = exchange.facts["billed"]
    parts = billed.get("iterations", [])
    advised = [usage_of(part) for part in parts if part["type"] == "advisor_message"]
    assert row["input_tokens"] == billed["input_tokens"] + sum(part.input_tokens for part in advised)
    assert row["output_tokens"] == billed["output_tokens"] + sum(part.output_tokens for part in advised)
    assert row["cached_input_tokens"] == billed["cache_read"]
    assert row["cache_write_tokens"] == billed["cache_write_5m"] + billed["cache_write_1h"]
    assert row["estimated"] is False
    if "charge_microcredits" in exchange.facts:
        assert row["charged_microcredits"] == exchange.charge(price_list)
        return
    fell_back = any(part["type"] == "fallback_message" for part in parts)
    own = pricing.charge(replay.rates(OTHER_PRICES if fell_back else price_list), usage_of(billed))
    others = [pricing.charge(replay.rates(OTHER_PRICES), part) for part in advised]
    assert row["charged_microcredits"] == pricing.together([own, *others]).amount_microcredits


def usage_of(counts: dict[str, Any]) -> Usage:
    cached = counts["cache_read"]
    written, for_an_hour = counts["cache_write_5m"], counts.get("cache_write_1h", 0)
    whole = counts["input_uncached"] + cached + written + for_an_hour
    return Usage(whole, cached, written, for_an_hour, counts["output_tokens"])


def check_stream(exchange: Exchange, reply: Reply, row: dict[str, Any]) -> None:
    """Everything goes through to the byte but the event that ends the message, which tells what the call cost."""
    sent = [event for event in exchange.body.split(b"\n\n") if event.strip()]
    end = next(n for n, event in enumerate(sent) if b"message_delta" in event or b"event: error" in event)
    assert reply.body.startswith(b"".join(event + b"\n\n" for event in sent[:end]))
    theirs, ours = [data_of(event) for event in sent], reply.events
    if "error_in_stream" in exchange.tags:
        assert (ours[:-1], ours[-1]["type"]) == (theirs[:end], "error")
        assert ours[-1]["error"]["type"] == row["error_type"] == "overloaded_error"
        return
    check_types(exchange, theirs, ours)
    told = ours[end].pop("hypereal")
    assert told["credits"] == row["charged_microcredits"] / 1_000_000
    assert ours == theirs


def data_of(event: bytes) -> Any:
    return json.loads(event.partition(b"data:")[2])


def check_types(exchange: Exchange, theirs: list[Any], ours: list[Any]) -> None:
    """What the provider sent right we send right, by the official library's types and by the published schema."""
    if all(fits(exchange, value) for value in theirs):
        assert all(fits(exchange, value) for value in ours)
        ran.valid.add(exchange.id)


def fits(exchange: Exchange, value: Any) -> bool:
    kind: TypeAdapter[Any] = EVENT if exchange.is_stream else MESSAGE
    name = "BetaRawMessageStreamEvent" if exchange.is_stream else "BetaMessage"
    if exchange.is_stream and value["type"] == "ping":
        return True
    try:
        kind.validate_python(value)
        jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": schemas()["$defs"]}).validate(value)
    except (ValidationError, jsonschema.ValidationError):
        return False
    return True


MESSAGE: TypeAdapter[Any] = TypeAdapter(BetaMessage)
EVENT: TypeAdapter[Any] = TypeAdapter(BetaRawMessageStreamEvent)


@lru_cache
def schemas() -> dict[str, Any]:
    """The published schemas of Anthropic's API, loosened to what real answers hold."""
    path = replay.FOLDER.parents[1] / "specs" / "anthropic-messages-schema.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("price_list", PRICE_LISTS)
@pytest.mark.parametrize("exchange", cases(["messages"], lambda exchange: exchange.status != 200))
def test_failures_cost_nothing_and_are_told_cleanly(
    gateway: Gateway, models: Models, exchange: Exchange, price_list: str
) -> None:
    caller = gateway.caller(credits=500)
    reply = ask(caller, exchange, models[exchange.id, price_list])
    books = caller.settled_books()
    [row] = books.log
    assert (books.charged, books.held, books.holds, books.transfers) == (0, 0, ["voided"], [])
    assert (row["status"], row["error_type"]) == (reply.status, reply.error["type"])
    check_error(exchange, reply)
    ran.cases.add((exchange.id, price_list))


def check_error(exchange: Exchange, reply: Reply) -> None:
    told = json.loads(reply.body.replace(b'"upstream_error"', b'"api_error"'))  # a word of our own, on every path
    jsonschema.Draft202012Validator({"$ref": "#/$defs/ErrorResponse", "$defs": schemas()["$defs"]}).validate(told)
    assert reply.json["request_id"] == reply.headers["request-id"]
    if exchange.id in TOLD:
        assert (reply.status, reply.error["type"]) == TOLD[exchange.id]
        assert ("retry-after" in reply.headers) == (reply.status == 503)
        assert "key" not in reply.error["message"].lower()
    else:
        theirs = exchange.response["body"]["error"]
        assert (reply.status, reply.error["type"]) == (exchange.status, theirs["type"])
        assert reply.error["message"] == theirs["message"]


@pytest.mark.parametrize("price_list", PRICE_LISTS)
@pytest.mark.parametrize("exchange", cases(["messages.count_tokens"], lambda _: True))
def test_counts_of_tokens(gateway: Gateway, models: Models, exchange: Exchange, price_list: str) -> None:
    caller = gateway.caller()
    reply = ask(caller, exchange, models[exchange.id, price_list], "/v1/messages/count_tokens")
    if exchange.status == 200:
        assert (reply.status, reply.body) == (200, exchange.body)
    else:
        check_error(exchange, reply)
    assert caller.books().log == []
    ran.cases.add((exchange.id, price_list))


def test_every_exchange_of_the_index_ran(request: pytest.FixtureRequest, figures: Figures) -> None:
    """Last of the file."""
    ran.check(request, figures, "recorded messages", ENDPOINTS, LEAST_VALID)
