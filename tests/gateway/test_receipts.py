"""A receipt for each call: header, receipt, log, CSV and ledger say one and the same (C-PLUS-2, C-ROUTE-4)."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import Any

import pytest
from django.http import QueryDict

from billing.models import Hold, Transfer
from catalog.models import Price
from core import ids, money
from tests.fakes import messages as speech
from tests.fakes import upstream as fake
from tests.gateway import messages
from tests.support.gateway import Caller, Gateway, price_of, wait_for_the_minute
from usage import export, queries, receipts
from usage.filters import UsageQuery
from usage.models import RequestLog


def receipt_of(caller: Caller, request_id: str, path: str = "/v1/receipts") -> dict[str, Any]:
    reply = caller.send("GET", f"{path}/{request_id}")
    assert reply.status == 200, reply.body
    found: dict[str, Any] = reply.json
    return found


def csv_of(caller: Caller, request_id: str) -> dict[str, str]:
    with queries.stream(caller.workspace.pk, UsageQuery.parse(QueryDict())) as rows:
        lines = list(csv.DictReader(io.StringIO("".join(export.csv_lines(rows)))))
    [line] = [line for line in lines if line["requestId"] == request_id]
    return line


def words(header: str) -> dict[str, int]:
    return {name: int(value) for name, _, value in (part.partition("=") for part in header.split(", "))}


def agree(caller: Caller, reply: Any) -> dict[str, Any]:
    """All that tells of one whole answer's tokens and money, held against each other; returns the receipt."""
    request_id = reply.headers["x-request-id"]
    told = receipt_of(caller, request_id)
    assert receipt_of(caller, request_id, "/api/v1/receipts") == told
    row, line = RequestLog.objects.get(request_id=request_id), csv_of(caller, request_id)
    charged = row.charged_microcredits
    ledger = Transfer.objects.filter(reference=request_id, kind=Transfer.Kind.USAGE)
    assert sum(ledger.values_list("amount_microcredits", flat=True)) == charged
    assert Decimal(line["costCredits"]) == money.credits(charged)
    assert told["charged_credits"] == money.credits_json(charged)
    assert sum(Decimal(each["exact_credits"]) for each in told["lines"]) == money.credits(charged)
    hold = Hold.objects.get(pk=request_id)
    assert told["reserved_credits"] == money.credits_json(hold.amount_microcredits)
    assert told["hold"] == hold.state == "posted"
    assert told["saved_credits"] == money.credits_json(row.saved_microcredits)
    assert row.price_id is not None
    assert told["price"]["version"] == Price.objects.get(pk=row.price_id).version
    columns = {"input_tokens": "inputTokens", "cached_input_tokens": "cachedInputTokens",
               "cache_write_tokens": "cacheWriteTokens", "output_tokens": "outputTokens"}  # fmt: skip
    for name, column in columns.items():
        assert told["usage"][name] == getattr(row, name) == int(line[column])
    if "x-hypereal-credits" in reply.headers:
        assert Decimal(reply.headers["x-hypereal-credits"]) == money.credits(charged)
        assert Decimal(reply.headers["x-hypereal-reserved-credits"]) == money.credits(hold.amount_microcredits)
        assert int(reply.headers["x-hypereal-price-version"]) == told["price"]["version"]
        assert words(reply.headers["x-hypereal-usage"]) == {name: getattr(row, name) for name in columns}
    assert len(told["attempts"]) == row.attempts == int(reply.headers["x-hypereal-attempts"])
    return told


def test_everything_that_tells_of_a_call_says_the_same(gateway: Gateway) -> None:
    model = gateway.model(fake.answers(prompt=1000, output=20, cached=400))
    caller = gateway.caller()
    told = agree(caller, caller.chat(model))
    assert told["charged_credits"] == money.credits_json(price_of(1000, 20, 400))
    assert [(line["bucket"], line["quantity"]) for line in told["lines"]] == [
        ("input", 600), ("cached_input", 400), ("output", 20)
    ]  # fmt: skip
    assert told["lines"][0]["credits_per_million_tokens"] == 1000
    assert told["saved_credits"] == money.credits_json(400 * 900)


def test_a_stream_has_the_same_receipt(gateway: Gateway) -> None:
    model = gateway.model(fake.answers(prompt=7, output=3))
    caller = gateway.caller()
    told = agree(caller, caller.chat(model, stream=True))
    assert told["stream"] is True
    assert told["charged_credits"] == money.credits_json(price_of(7, 3))


def test_a_message_shows_reads_and_both_kinds_of_writes(gateway: Gateway) -> None:
    model = messages.model(gateway, speech.answers(usage=speech.usage(100, 9, read=300, written=50, for_an_hour=20)))
    caller = gateway.caller()
    reply = messages.ask(caller, model)
    told = agree(caller, reply)
    assert [(line["bucket"], line["quantity"]) for line in told["lines"]] == [
        ("input", 100), ("cached_input", 300), ("cache_write_5m", 30), ("cache_write_1h", 20), ("output", 9)
    ]  # fmt: skip
    assert reply.json["hypereal"]["credits"] == told["charged_credits"]
    assert reply.json["hypereal"]["cache"]["saved_credits"] == told["saved_credits"]


def test_attempts_stand_in_header_log_and_receipt(gateway: Gateway) -> None:
    bad, good = gateway.upstream.serve(fake.fails(500)), gateway.upstream.serve(fake.answers())
    model = gateway.model(bad, good)
    caller = gateway.caller()
    reply = caller.chat(model)
    told = agree(caller, reply)
    assert [(each["provider"], each["outcome"], each["status"]) for each in told["attempts"]] == [
        (f"{model}-p0", "server_error", 500), (f"{model}-p0", "server_error", 500), (f"{model}-p1", "served", None)
    ]  # fmt: skip
    steps = [step.split(";") for step in reply.headers["x-hypereal-trace"].split(", ")]
    assert [step[:-1] for step in steps] == [[f"{model}-p0", "error=server_error", "status=500"]] * 2 + [
        [f"{model}-p1"]
    ]
    assert gateway.upstream.serve(fake.answers()).base_url.split("/")[2] not in str(told)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_failed_has_a_receipt_over_nothing(gateway: Gateway, stream: bool) -> None:
    caller = gateway.caller()
    reply = caller.chat(gateway.model(fake.fails(500)), stream=stream)
    assert (reply.status, reply.headers["x-hypereal-attempts"]) == (502, "2")
    assert reply.headers["x-hypereal-trace"].count("error=server_error") == 2
    caller.settled_books()
    told = receipt_of(caller, reply.headers["x-request-id"])
    assert (told["status"], told["error_type"], told["charged_credits"]) == (502, "upstream_error", 0)
    assert (told["lines"], told["hold"], len(told["attempts"])) == ([], "voided", 2)
    assert told["released_credits"] == told["reserved_credits"] > 0


def test_a_refused_call_has_a_receipt_without_a_hold(gateway: Gateway) -> None:
    caller = gateway.caller()
    reply = caller.chat("no-such-model")
    assert reply.status == 400
    caller.settled_books()
    told = receipt_of(caller, reply.headers["x-request-id"])
    assert (told["hold"], told["price"], told["attempts"], told["reserved_credits"]) == (None, None, [], 0)


def test_receipts_of_others_and_invented_ones_are_not_there(gateway: Gateway) -> None:
    owner, stranger = gateway.caller(), gateway.caller()
    reply = owner.chat(gateway.model(fake.answers()))
    request_id = reply.headers["x-request-id"]
    bodies = set()
    for name in (request_id, str(ids.uuid7()), "x", "%00"):
        answer = stranger.send("GET", f"/v1/receipts/{name}")
        assert (answer.status, answer.error["type"]) == (404, "not_found_error")
        bodies.add(answer.body)
    assert len(bodies) == 1
    assert receipts.of_request(stranger.workspace.pk, ids.parse(request_id)) is None  # type: ignore[arg-type]


def test_a_receipt_takes_a_key_and_counts_as_a_request(gateway: Gateway) -> None:
    caller, model = gateway.caller(), gateway.model(fake.answers())
    wait_for_the_minute()
    request_id = caller.chat(model).headers["x-request-id"]
    assert caller.send("GET", f"/v1/receipts/{request_id}").headers["x-ratelimit-remaining"] == "998"
    assert caller.send("POST", f"/v1/receipts/{request_id}", {}).status == 405
    assert caller.send("GET", f"/v1/receipts/{request_id}", authorization="Bearer ck_nonsense").status == 401
