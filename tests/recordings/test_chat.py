"""Every recorded chat completion through the real gateway: what the caller gets, and the exact charge (C-CHAT-4).

Each runs once under either price list of the recordings folder; one of them forces rounding.
"""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import openai
import pytest
import pytest_django
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel, ValidationError

from tests.recordings import sdks
from tests.recordings.whole_index import PRICE_LISTS, Figures, Models, Ran, cases, models_of
from tests.support import replay
from tests.support.gateway import Caller, Gateway
from tests.support.http import Reply
from tests.support.replay import Exchange

pytestmark = replay.NEEDED

ENDPOINTS = ("chat.completions",)
#: Whose first target fails with this is served by the next one; the caller never hears of our account.
ACCOUNT_ERRORS = ("openai-chat-err-401", "openai-chat-err-429-quota")
#: What our caller is told when the only target answers so. What is not listed is the caller's own fault: passed on.
TOLD = {
    "openai-chat-err-401": (502, "upstream_error"),
    "openai-chat-err-429-quota": (502, "upstream_error"),
    "openai-chat-err-429-rate": (503, "overloaded_error"),
    "openai-chat-err-500": (502, "upstream_error"),
    "openai-chat-err-503-html": (503, "overloaded_error"),
    "openrouter-chat-errors-raised": (503, "overloaded_error"),
}
#: So many answers at least must satisfy the vendor's types and schemas; some providers' own do not.
LEAST_VALID = 38

ran = Ran()


@pytest.fixture(scope="module")
def models(upstream: Any, _gateway_session: Gateway, django_db_blocker: pytest_django.DjangoDbBlocker) -> Models:
    """A model for each exchange and price list, whose only provider answers with that exchange."""

    def new_model(exchange: Exchange, price_list: str) -> str:
        return _gateway_session.new_model(upstream.base(exchange.id, **pace(exchange)), rates=replay.rates(price_list))

    return models_of(_gateway_session, django_db_blocker, ENDPOINTS, new_model)


def pace(exchange: Exchange) -> dict[str, int]:
    """An error that comes at once with the first content is none in the middle: another target would take over."""
    return {"delay": 100} if "error_in_stream" in exchange.tags else {}


def ask(caller: Caller, exchange: Exchange, model: str) -> Reply:
    return caller.send("POST", "/v1/chat/completions", {**exchange.request, "model": model})


@pytest.mark.parametrize("price_list", PRICE_LISTS)
@pytest.mark.parametrize("exchange", cases(ENDPOINTS, lambda exchange: exchange.status == 200))
def test_answers(gateway: Gateway, models: Models, exchange: Exchange, price_list: str) -> None:
    caller = gateway.caller()
    reply = ask(caller, exchange, models[exchange.id, price_list])
    assert reply.status == 200, reply.body
    books = caller.settled_books()
    [row], charge = books.log, exchange.charge(price_list)
    assert (books.held, books.charged, sum(books.transfers)) == (0, row["charged_microcredits"], books.charged)
    assert str(row["request_id"]) == reply.headers["x-request-id"]
    if charge is None:
        assert row["estimated"] is True
        assert row["input_tokens"] > 0 and row["output_tokens"] > 0 and books.charged > 0
    else:
        assert (books.charged, row["estimated"]) == (charge, False)
        billed = exchange.facts["billed"]
        assert (row["input_tokens"], row["output_tokens"]) == (billed["input_tokens"], billed["output_tokens"])
        assert row["cached_input_tokens"] == billed["cache_read"]
    if exchange.is_stream:
        check_stream(exchange, reply, row)
    else:
        assert reply.body == exchange.body, "a whole answer goes through to the byte"
        check_types(exchange, [exchange.response["body"]], [reply.json])
    ran.cases.add((exchange.id, price_list))


def check_stream(exchange: Exchange, reply: Reply, row: dict[str, Any]) -> None:
    """Up to the finish everything goes through to the byte; from there usage stands where the caller expects it."""
    sent = [value for value in values_of(exchange.body) if not is_error(value)]
    until_finish = exchange.body.split(b"\n\n")[: finish_at(exchange)]
    assert reply.body.startswith(b"".join(event + b"\n\n" for event in until_finish))
    got = values_of(reply.body)
    if "cut" in exchange.tags or "error_in_stream" in exchange.tags:
        assert got[-1]["error"]["type"] == row["error_type"] == "upstream_error"
        assert (row["status"], got[:-1]) == (502, sent)
        return
    assert reply.events[-1] == "[DONE]"
    assert (row["status"], without_usage(got)) == (200, without_usage(sent))
    shown = [value for value in got if isinstance(value.get("usage"), dict)]
    if exchange.asks_usage:
        assert [value["choices"] for value in shown if not value["choices"]] == [[]]
    else:
        assert shown and all(value["choices"] for value in got if value.get("usage"))
    assert shown[-1]["usage"]["prompt_tokens"] == row["input_tokens"]
    check_types(exchange, sent, got)


def finish_at(exchange: Exchange) -> int:
    """The number of the first event that finishes a choice, shows usage alone, or ends the stream."""
    events = exchange.body.split(b"\n\n")
    for number, event in enumerate(events):
        value = next(iter(values_of(event + b"\n\n")), None)
        ends = value is None and b"[DONE]" in event
        if ends or (value is not None and (is_error(value) or finishes(value))):
            return number
    return len(events) - 1


def finishes(value: dict[str, Any]) -> bool:
    return any(choice.get("finish_reason") for choice in value["choices"]) or (
        not value["choices"] and bool(value.get("usage"))
    )


def is_error(value: dict[str, Any]) -> bool:
    return bool(value.get("error"))


def values_of(stream: bytes) -> list[Any]:
    """The JSON values of a stream's events, whatever their line ends."""
    lines = [line for line in stream.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b"data:")]
    return [json.loads(line[5:]) for line in lines if line[5:].strip() != b"[DONE]"]


def without_usage(values: list[Any]) -> list[Any]:
    """What is left when the documented additions, and what they stand for, are taken away."""
    rest = []
    for value in values:
        if not value["choices"] and value.get("usage"):
            continue
        rest.append({name: member for name, member in value.items() if name != "usage"})
    return rest


def check_types(exchange: Exchange, theirs: list[Any], ours: list[Any]) -> None:
    """What the provider sent right we send right, by the official library's types and by the published schema."""
    if all(fits(exchange, value) for value in theirs):
        assert all(fits(exchange, value) for value in ours)
        ran.valid.add(exchange.id)


def fits(exchange: Exchange, value: Any) -> bool:
    kind: type[BaseModel] = ChatCompletionChunk if exchange.is_stream else ChatCompletion
    name = "CreateChatCompletionStreamResponse" if exchange.is_stream else "CreateChatCompletionResponse"
    document = replay.schemas()
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    try:
        kind.model_validate(value)
        jsonschema.Draft202012Validator(schema).validate(value)
    except (ValidationError, jsonschema.ValidationError):
        return False
    return True


@pytest.mark.parametrize("exchange", cases(ENDPOINTS, lambda exchange: exchange.status == 200))
def test_the_official_library_reads_all_of_it(gateway: Gateway, models: Models, exchange: Exchange) -> None:
    caller, body = gateway.caller(), {**exchange.request, "model": models[exchange.id, "A"]}
    if {"cut", "error_in_stream"} & set(exchange.tags):
        with pytest.raises(openai.APIError, match=r"The stream broke off|overloaded"):
            sdks.read(caller, "/chat/completions", body)
        return
    got = sdks.read(caller, "/chat/completions", body)
    if exchange.is_stream:
        sent = [value for value in values_of(exchange.body) if not is_error(value)]
        assert without_usage(got) == without_usage(sent)
    else:
        assert got == [exchange.response["body"]]


@pytest.mark.parametrize("price_list", PRICE_LISTS)
@pytest.mark.parametrize("exchange", cases(ENDPOINTS, lambda exchange: exchange.status != 200))
def test_failures_cost_nothing_and_are_told_cleanly(
    gateway: Gateway, models: Models, exchange: Exchange, price_list: str
) -> None:
    caller = gateway.caller(credits=500)
    reply = ask(caller, exchange, models[exchange.id, price_list])
    books = caller.settled_books()
    [row] = books.log
    assert (books.charged, books.held, books.holds, books.transfers) == (0, 0, ["voided"], [])
    assert (row["status"], row["error_type"]) == (reply.status, reply.error["type"])
    if exchange.id in TOLD:
        assert (reply.status, reply.error["type"]) == TOLD[exchange.id]
        assert ("retry-after" in reply.headers) == (reply.status == 503)
        assert "key" not in reply.error["message"].lower()
    else:
        theirs = exchange.response["body"]["error"]
        assert reply.status == exchange.status
        assert reply.error["message"] == theirs["message"]
        assert (reply.error["type"], reply.error["code"]) == (theirs["type"], theirs["code"])
        assert reply.error["param"] == theirs.get("param")
    ran.cases.add((exchange.id, price_list))


@pytest.mark.parametrize("name", ACCOUNT_ERRORS)
def test_trouble_with_our_account_leads_to_the_next_target(gateway: Gateway, upstream: Any, name: str) -> None:
    good = replay.exchange("openai-chat-text")
    model = gateway.model(upstream.base(name), upstream.base(good.id), rates=replay.rates("A"))
    caller = gateway.caller()
    reply = caller.chat(model)
    assert (reply.status, reply.body) == (200, good.body)
    assert caller.settled_books().charged == good.charge("A")


def test_every_exchange_of_the_index_ran(request: pytest.FixtureRequest, figures: Figures) -> None:
    """Last of the file."""
    ran.check(request, figures, "recorded chat completions", ENDPOINTS, LEAST_VALID)
