"""SIGTERM with open calls: what runs may end, what does not end is ended in its own format, everything is settled."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes import upstream as fake
from tests.fakes.upstream import Conversation
from tests.support import http
from tests.support.gateway import Gateway, body_of, price_of
from tests.support.http import data_of


async def endless(talk: Conversation) -> None:
    await talk.start()
    while True:
        await talk.chunk("sixteen letters!")
        await talk.pause(0.05)


async def half_a_second(talk: Conversation) -> None:
    await talk.gone(0.5)
    await fake.answers(prompt=10, output=20)(talk)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_open_calls_end_and_are_settled(gateway: Gateway, number: signal.Signals) -> None:
    server = gateway.start(GATEWAY_DRAIN_SECONDS="1.2")
    long, short = gateway.model(endless), gateway.model(half_a_second)
    streaming, whole = gateway.caller(server=server), gateway.caller(server=server)
    with ThreadPoolExecutor(1) as pool, streaming.stream(long, max_tokens=4000) as stream:
        first = stream.line()
        answered = pool.submit(whole.chat, short)
        time.sleep(0.2)
        server.process.send_signal(number)
        time.sleep(0.2)
        refused = whole.chat(short)
        rest = list(data_of(first + b"\n" + stream.rest()))
        assert answered.result().status == 200
    assert (refused.status, refused.error["type"], refused.headers["connection"]) == (503, "overloaded_error", "close")
    assert rest[-1]["error"]["type"] == "overloaded_error"
    assert server.process.wait(15) == 0
    books = streaming.settled_books()
    [row] = books.log
    assert (row["status"], row["estimated"], row["error_type"]) == (503, True, "overloaded_error")
    assert row["output_tokens"] == 4 * (len(rest) - 1)
    assert (books.charged, books.held) == (price_of(row["input_tokens"], row["output_tokens"]), 0)
    assert whole.settled_books().charged == price_of(10, 20)


def test_a_call_that_got_nothing_yet_is_refused_and_costs_nothing(gateway: Gateway) -> None:
    async def thinks(talk: Conversation) -> None:
        await talk.gone()

    server = gateway.start(GATEWAY_DRAIN_SECONDS="0.3", GATEWAY_KEEPALIVE_SECONDS="10")
    model = gateway.model(thinks)
    caller = gateway.caller(server=server)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(caller.chat, model, stream=stream) for stream in (False, True)]
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        replies = [call.result() for call in calls]
    assert [(reply.status, reply.error["type"]) for reply in replies] == [(503, "overloaded_error")] * 2
    assert server.process.wait(15) == 0
    books = caller.settled_books(rows=2)
    assert (books.charged, books.held, books.holds) == (0, 0, ["voided", "voided"])


def test_an_idle_server_ends_at_once(gateway: Gateway) -> None:
    server = gateway.start()
    reply = http.send(server.port, "POST", "/v1/chat/completions", body_of("x"))
    assert reply.status == 401
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 5
    assert "Traceback" not in server.log.read_text()
