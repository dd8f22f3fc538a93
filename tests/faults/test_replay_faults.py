"""Everything that an upstream can do wrong, each with what wallet, log and ledger show afterwards.

Recorded exchanges are replayed with one fault each. A row of the tables below is one call by one payer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

import pytest
import pytest_django

from tests.support import http, replay
from tests.support.gateway import CREDIT, QUICK, Caller, Gateway, body_of, wait_for
from tests.support.http import Reply, Stream
from tests.support.money import Books

pytestmark = replay.NEEDED

#: A short stream with its usage, a long one, one that breaks off without an end, and a whole answer.
SHORT, LONG, UNENDED, WHOLE = (
    "openai-chat-s-tool-use-basic",
    "openai-chat-s-text",
    "openai-chat-s-cut-no-done",
    "openai-chat-text",
)
PRICES = "A"
DONE = b"data: [DONE]\n\n"
CREDITS = 500
#: What gateways know of a provider that falls silent.
SILENT = {"first_byte_seconds": 2, "idle_seconds": 3}


@dataclass(frozen=True)
class Case:
    """``exchange`` with ``faults``; ``stream``: what our caller asks for. ``told`` is an error's status and type."""

    exchange: str
    faults: dict[str, Any] = field(default_factory=dict)
    stream: bool = False
    told: tuple[int, str] = (200, "")
    attempts: int = 1

    def __str__(self) -> str:
        faults = ",".join(f"{name}={value}" for name, value in self.faults.items())
        return f"{'stream' if self.stream else 'whole'}-{'sse' if '-s-' in self.exchange else 'json'}-{faults}"


def cut_at(exchange: str, event: int, beyond: int = 0) -> int:
    """The number of bytes before an event of a recorded stream (negative: from its end)."""
    if not replay.THERE:
        return 0
    events = replay.exchange(exchange).body.split(b"\n\n")[:-1]
    return sum(len(each) + 2 for each in events[:event]) + beyond


#: The answer is whole and its usage known: the exact price.
EXACT = [
    *(Case(SHORT, {"rechunk": size}, stream=True) for size in range(1, 8)),
    *(Case(WHOLE, {"rechunk": size}) for size in (1, 7)),
    *(Case(SHORT, fault, stream=True) for fault in (
        {"crlf": 1}, {"crlf": 1, "rechunk": 3}, {"comments": 1}, {"no_done": 1}, {"usage": "auto"}, {"gzip": 1},
        {"no_length": 1}, {"first": 700}, {"body": 700}, {"delay": 30}, {"cut": cut_at(SHORT, -1)},
        {"cut": cut_at(SHORT, -1, 3)}, {"hang_after": cut_at(SHORT, 99)}, {"endless": 1},
    )),
    *(Case(WHOLE, fault) for fault in ({"gzip": 1}, {"no_length": 1}, {"first": 700}, {"body": 700})),
    # The other form than was asked for, under its own name and under a wrong one.
    *(Case(SHORT, fault) for fault in ({}, {"type": "json"}, {"type": "plain"}, {"crlf": 1})),
    *(Case(WHOLE, fault, stream=True) for fault in ({}, {"rechunk": 5}, {"gzip": 1})),
    *(Case(WHOLE, {"type": "event-stream"}, stream=stream) for stream in (False, True)),
    *(Case(WHOLE, {"fail": 1, "status": status}, stream, attempts=2) for status in (500, 502, 529)
      for stream in (False, True)),
    Case(WHOLE, {"fail": 1, "status": 429, "retry_after": 1}, attempts=2),
    Case(SHORT, {"fail": 1, "status": 429, "retry_after": 1}, stream=True, attempts=2),
]  # fmt: skip

#: Something was delivered, its usage is unknown: estimated, marked, never free and never the whole hold.
ESTIMATED = [
    Case(SHORT, {"usage": "none"}, stream=True),
    Case(SHORT, {"cut": cut_at(SHORT, -2)}, stream=True),  # behind the finish: the answer is whole
    *(Case(SHORT, {"cut": cut}, stream=True, told=(502, "upstream_error"))
      for cut in (cut_at(SHORT, 2), cut_at(SHORT, 5, 10), cut_at(SHORT, -3))),
    Case(LONG, {"malformed": 1}, stream=True, told=(502, "upstream_error")),
    Case(UNENDED, {}, stream=True, told=(502, "upstream_error")),
    Case(SHORT, {"hang_after": cut_at(SHORT, 4)}, stream=True, told=(504, "timeout_error")),
]  # fmt: skip

#: Nothing was delivered: nothing is charged, and there is one clean error.
NOTHING = [
    *(Case(name, fault, stream, told=(502, "upstream_error"), attempts=2)
      for name, stream in ((SHORT, True), (WHOLE, False))
      for fault in ({"reset": 1}, {"cut": 0}, {"cut": 1}, {"status": 500})),
    Case(WHOLE, {"cut": 900}, told=(502, "upstream_error"), attempts=2),
    Case(WHOLE, {"malformed": 1}, told=(502, "upstream_error"), attempts=2),
    Case(WHOLE, {"malformed": 1}, stream=True, told=(502, "upstream_error"), attempts=2),
    Case(SHORT, {"cut": 900}, told=(502, "upstream_error"), attempts=2),
    *(Case(name, {"status": 429, "retry_after": 60}, stream, told=(503, "overloaded_error"))
      for name, stream in ((SHORT, True), (WHOLE, False))),
    *(Case(name, {"hang": 1}, stream, told=(504, "timeout_error"))
      for name, stream in ((SHORT, True), (WHOLE, False))),
    Case(WHOLE, {"hang_after": 500}, told=(504, "timeout_error")),
]  # fmt: skip


@pytest.fixture(scope="module")
def upstream() -> Iterator[Any]:
    with replay.running() as server:
        yield server


@pytest.fixture(scope="module")
def models(
    upstream: Any, _gateway_session: Gateway, django_db_blocker: pytest_django.DjangoDbBlocker
) -> dict[int, str]:
    """A model for each case, by the case's identity: the same faults twice must not share a count of requests."""
    with _gateway_session.connected(django_db_blocker):
        made = {}
        for number, case in enumerate([*EXACT, *ESTIMATED, *NOTHING]):
            # no_such_fault sets the requests of one case apart from those of others with the same faults.
            base = upstream.base(case.exchange, **case.faults, no_such_fault=number)
            options = SILENT if case.told[0] == 504 else None
            made[id(case)] = _gateway_session.new_model(base, rates=replay.rates(PRICES), options=options)
        _gateway_session.until_known([*made.values()][-1])
    return made


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    return gateway.caller(credits=CREDITS)


def run(case: Case, caller: Caller, models: dict[int, str]) -> tuple[Reply, Books, dict[str, Any]]:
    """The call; afterwards one log row, nothing held, and a wallet that is short of the charge alone."""
    reply = caller.chat(models[id(case)], stream=case.stream)
    books = caller.settled_books()
    [row] = books.log
    assert str(row["request_id"]) == reply.headers["x-request-id"]
    check(books)
    assert (row["status"], row["error_type"], row["attempts"]) == (*case.told, case.attempts)
    return reply, books, row


def check(books: Books) -> None:
    assert (books.held, books.meter_held) == (0, 0)
    assert books.balance == CREDITS * CREDIT - books.charged
    assert sum(books.transfers) == books.charged == books.rolled_up == books.spent


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_known_usage_is_billed_exactly(caller: Caller, models: dict[int, str], case: Case) -> None:
    reply, books, row = run(case, caller, models)
    recorded = replay.exchange(case.exchange)
    assert (reply.status, books.charged, row["estimated"]) == (200, recorded.charge(PRICES), False)
    assert books.holds == ["posted"]
    if case.stream:
        assert reply.events[-1] == "[DONE]"
        assert reply.body.endswith((DONE, DONE.replace(b"\n", b"\r\n")))
        assert reply.events[-2]["usage"]["completion_tokens"] == row["output_tokens"]
    else:
        assert reply.headers["content-type"] == "application/json"
        assert reply.json["object"] == "chat.completion"


@pytest.mark.parametrize("case", ESTIMATED, ids=str)
def test_unknown_usage_is_estimated_and_marked(caller: Caller, models: dict[int, str], case: Case) -> None:
    reply, books, row = run(case, caller, models)
    assert (reply.status, row["estimated"], books.holds) == (200, True, ["posted"])
    rates = replay.rates(PRICES).tokens
    assert rates.input is not None
    assert rates.output is not None
    exact = row["input_tokens"] * rates.input + row["output_tokens"] * rates.output
    assert books.charged == (exact + 500_000) // 1_000_000 > 0
    assert row["output_tokens"] > 0
    if case.told[1]:
        assert reply.events[-1]["error"]["type"] == case.told[1]
        assert "[DONE]" not in reply.events
    else:
        assert reply.events[-1] == "[DONE]"
        assert reply.events[-2]["usage"]["completion_tokens"] == row["output_tokens"]


@pytest.mark.parametrize("case", NOTHING, ids=str)
def test_what_delivered_nothing_costs_nothing(caller: Caller, models: dict[int, str], case: Case) -> None:
    reply, books, _ = run(case, caller, models)
    assert (reply.status, reply.error["type"]) == case.told
    assert (books.charged, books.holds, books.transfers) == (0, ["voided"], [])
    assert ("retry-after" in reply.headers) == (reply.status == 503)
    assert "127.0.0.1" not in reply.error["message"]
    assert "injected" not in reply.error["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_five_hundred_twice_then_well(gateway: Gateway, upstream: Any, caller: Caller, stream: bool) -> None:
    recorded = replay.exchange(SHORT if stream else WHOLE)
    failing = {"fail": 2, "status": 500, "no_such_fault": f"twice-{stream}"}
    one = gateway.model(upstream.base(recorded.id, **failing), rates=replay.rates(PRICES))
    assert caller.chat(one, stream=stream).status == 502  # one retry a target, and no other target
    assert caller.chat(one, stream=stream).status == 200
    failing["no_such_fault"] = f"chain-{stream}"
    chain = gateway.model(upstream.base(recorded.id, **failing), upstream.base(recorded.id), rates=replay.rates(PRICES))
    reply = caller.chat(chain, stream=stream)
    assert (reply.status, reply.headers["x-hypereal-attempts"]) == (200, "3")
    books = caller.settled_books(rows=3)
    check(books)
    assert [row["charged_microcredits"] for row in books.log] == [0, recorded.charge(PRICES), recorded.charge(PRICES)]
    assert books.holds == ["voided", "posted", "posted"]


def test_an_endless_stream_ends_with_the_credits(gateway: Gateway, upstream: Any, caller: Caller) -> None:
    model = gateway.model(upstream.base(UNENDED, endless=1, delay=5), rates=replay.rates(PRICES))
    limit = 3 * CREDIT // 10  # two hundred tokens of output
    caller.limit(limit)
    reply = caller.chat(model, stream=True, max_tokens=4000)
    assert reply.events[-1] == "[DONE]"
    assert reply.events[-2]["choices"][0]["finish_reason"] == "length"
    books = caller.settled_books()
    check(books)
    [row] = books.log
    assert (row["status"], row["error_type"], row["estimated"]) == (200, "insufficient_credits", True)
    assert 0.6 * limit < books.charged <= limit
    wait_for(lambda: upstream.log[-1]["end"] == "client gone")


@pytest.mark.parametrize("chunks", [0, 1, 4])
def test_a_caller_who_leaves_a_stream_pays_for_what_came(
    gateway: Gateway, upstream: Any, caller: Caller, chunks: int
) -> None:
    faults = {"delay": 60} if chunks else {"first": 5000}
    model = gateway.model(upstream.base(LONG, **faults), rates=replay.rates(PRICES))
    server = gateway.with_settings(**QUICK)
    body = body_of(model, stream=True)
    with http.opened(server.port, "POST", "/v1/chat/completions", body, caller.headers({})) as stream:
        seen = [next_event(stream) for _ in range(chunks)]
        if not chunks:
            assert stream.line() == b": keep-alive"
        stream.leave()
    assert all(line.startswith(b"data: ") for line in seen)
    books = caller.settled_books()
    check(books)
    [row] = books.log
    assert (row["client_disconnected"], row["estimated"], books.holds) == (True, True, ["posted"])
    assert row["status"] == (200 if chunks else 499)
    assert row["output_tokens"] >= max(0, chunks - 1)
    assert 0 < books.charged < (replay.exchange(LONG).charge(PRICES) or 0) // 2
    wait_for(lambda: upstream.log[-1]["end"] == "client gone")


def next_event(stream: Stream) -> bytes:
    """The next line that is no keep-alive."""
    while (line := stream.line()).startswith(b":"):
        pass
    return line


def test_a_caller_who_leaves_a_whole_call_pays_for_it(gateway: Gateway, upstream: Any, caller: Caller) -> None:
    model = gateway.model(upstream.base(WHOLE, first=4_000), rates=replay.rates(PRICES))
    connection = HTTPConnection("127.0.0.1", caller.port)
    headers = caller.headers({"content_type": "application/json"})
    connection.request("POST", "/v1/chat/completions", json.dumps(body_of(model)), headers)
    wait_for(lambda: caller.books().holds == ["pending"])
    connection.close()
    books = caller.settled_books()
    check(books)
    assert (books.charged, books.log[0]["client_disconnected"]) == (replay.exchange(WHOLE).charge(PRICES), True)
    assert upstream.log[-1]["end"] == "complete"


def test_callers_keys_never_reach_an_upstream(upstream: Any, caller: Caller) -> None:
    """Last of the file: over everything that was sent."""
    assert upstream.log
    assert not [entry for entry in upstream.log if "ck_" in str(entry["headers"]) + str(entry["body"])]
    assert all(entry["headers"]["authorization"].startswith("Bearer sk-upstream-") for entry in upstream.log)
