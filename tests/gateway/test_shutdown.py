"""SIGTERM with open calls: what runs may end, what does not end is ended in its own format, everything is settled."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes import upstream as fake
from tests.fakes.upstream import Conversation
from tests.support import http
from tests.support.gateway import Gateway, body_of, price_of, wait_for
from tests.support.http import data_of


async def endless(talk: Conversation) -> None:
    await talk.start()
    while True:
        await talk.chunk("sixteen letters!")
        await talk.pause(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_open_calls_end_and_are_settled(gateway: Gateway, number: signal.Signals) -> None:
    go_on = threading.Event()

    async def short_one(talk: Conversation) -> None:
        await talk.until(go_on)
        await fake.answers(prompt=10, output=20)(talk)

    server = gateway.start(GATEWAY_DRAIN_SECONDS="6")
    route = gateway.upstream.serve(short_one)
    long, short = gateway.model(endless), gateway.model(route)
    streaming, whole, other = (gateway.caller(server=server) for _ in range(3))
    with ThreadPoolExecutor(1) as pool, streaming.stream(long, max_tokens=4000) as stream:
        first = stream.line()
        answered = pool.submit(whole.chat, short)
        wait_for(lambda: route.calls == 1)
        server.process.send_signal(number)
        wait_for(lambda: other.chat("none-such").status == 503)  # it has heard the signal
        refused = whole.chat(short)
        go_on.set()
        rest = list(data_of(first + b"\n" + stream.rest()))
        assert answered.result().status == 200
    assert (refused.status, refused.error["type"], refused.headers["connection"]) == (503, "overloaded_error", "close")
    assert rest[-1]["error"]["type"] == "overloaded_error"
    assert server.process.wait(60) == 0
    books = streaming.settled_books()
    [row] = books.log
    assert (row["status"], row["estimated"], row["error_type"]) == (503, True, "overloaded_error")
    assert row["output_tokens"] == 4 * (len(rest) - 1)
    assert (books.charged, books.held) == (price_of(row["input_tokens"], row["output_tokens"]), 0)
    assert whole.settled_books().charged == price_of(10, 20)


def test_a_call_that_got_nothing_yet_is_refused_and_costs_nothing(gateway: Gateway) -> None:
    async def thinks(talk: Conversation) -> None:
        await talk.gone()

    server = gateway.start(GATEWAY_DRAIN_SECONDS="0.3")
    route = gateway.upstream.serve(thinks)
    model = gateway.model(route)
    caller = gateway.caller(server=server)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(caller.chat, model, stream=stream) for stream in (False, True)]
        wait_for(lambda: route.calls == 2)
        server.process.send_signal(signal.SIGTERM)
        replies = [call.result() for call in calls]
    assert [(reply.status, reply.error["type"]) for reply in replies] == [(503, "overloaded_error")] * 2
    assert server.process.wait(60) == 0
    books = caller.settled_books(rows=2)
    assert (books.charged, books.held, books.holds) == (0, 0, ["voided", "voided"])


def test_an_idle_server_ends_at_once(gateway: Gateway) -> None:
    server = gateway.start(GATEWAY_DRAIN_SECONDS="60")
    reply = http.send(server.port, "POST", "/v1/chat/completions", body_of("x"))
    assert reply.status == 401
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 30  # half of what it would give to open calls
    assert "Traceback" not in server.log.read_text()
