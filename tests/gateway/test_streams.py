"""Streams from their first byte to their last, and every way for them to end (C-CHAT-3, C-CHAT-6, C-ROUTE-1)."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.fakes import upstream as fake
from tests.fakes.upstream import DONE, Conversation, event, usage
from tests.support.gateway import CREDIT, QUICK, SETTINGS, Gateway, price_of, wait_for
from tests.support.http import data_of


async def endless(talk: Conversation) -> None:
    """Four tokens each 20 ms, until somebody hangs up."""
    await talk.start()
    while True:
        await talk.chunk("sixteen letters!")
        await talk.pause(0.02)


def texts(events: list[Any]) -> str:
    return "".join(
        choice["delta"].get("content", "") for e in events if isinstance(e, dict) for choice in e.get("choices", ())
    )


def test_usage_stands_in_a_chunk_of_its_own_when_asked_for(gateway: Gateway) -> None:
    route = gateway.upstream.serve(fake.answers(prompt=7, output=3))
    model = gateway.model(route)
    events = gateway.caller().chat(model, stream=True, stream_options={"include_usage": True}).events
    assert events[-1] == "[DONE]"
    assert (events[-2]["choices"], events[-2]["usage"]["prompt_tokens"]) == ([], 7)
    assert all(not e.get("usage") for e in events[:-2])


def test_usage_is_asked_for_upstream_and_shown_on_the_finish_chunk_when_not_asked_for(gateway: Gateway) -> None:
    route = gateway.upstream.serve(fake.answers(prompt=7, output=3))
    model = gateway.model(route)
    events = gateway.caller().chat(model, stream=True).events
    assert route.seen[0].body["stream_options"] == {"include_usage": True}
    assert all(e == "[DONE]" or e["choices"] for e in events)
    assert events[-2]["usage"]["completion_tokens"] == 3


def test_headers_of_a_stream(gateway: Gateway) -> None:
    model = gateway.model(fake.answers())
    reply = gateway.caller().chat(model, stream=True)
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"
    assert "content-length" not in reply.headers
    assert reply.headers["x-hypereal-provider"] == f"{model}-p0"
    assert reply.headers["x-ratelimit-limit"] == "1000"


def test_silence_before_the_first_byte_is_filled(gateway: Gateway) -> None:
    go_on = threading.Event()

    async def late(talk: Conversation) -> None:
        await talk.until(go_on)
        await fake.answers(prompt=5, output=2)(talk)

    caller = gateway.caller(server=gateway.with_settings(**QUICK))
    with caller.stream(gateway.model(late)) as stream:
        assert [stream.line(), stream.line()] == [b": keep-alive"] * 2
        go_on.set()
        assert stream.rest().endswith(b"data: [DONE]\n\n")
    assert caller.settled_books().charged == price_of(5, 2)


def test_silence_in_the_middle_is_filled(gateway: Gateway) -> None:
    async def pausing(talk: Conversation) -> None:
        await talk.start()
        await talk.chunk("one ")
        await talk.until(go_on)
        await talk.chunk("two")
        await talk.send(event("", finish="stop", usage=usage(4, 2)))
        await talk.send(DONE)
        await talk.end()

    go_on = threading.Event()
    caller = gateway.caller(server=gateway.with_settings(**QUICK))
    with caller.stream(gateway.model(pausing)) as stream:
        first, silence = stream.line(), stream.line()
        go_on.set()
        rest = stream.rest()
    assert silence == b": keep-alive"
    assert texts(list(data_of(first + b"\n" + rest))) == "one two"


def test_an_upstream_without_a_last_word_does_not_keep_the_caller_waiting(gateway: Gateway) -> None:
    async def no_done(talk: Conversation) -> None:
        await talk.start()
        await talk.chunk("text")
        await talk.send(event("", finish="stop", usage=usage(4, 2)))
        await talk.gone()

    caller, model = gateway.caller(), gateway.model(no_done)
    started = time.monotonic()
    reply = caller.chat(model, stream=True)
    assert reply.events[-1] == "[DONE]"
    assert time.monotonic() - started < float(SETTINGS["GATEWAY_IDLE_SECONDS"]) / 2
    assert caller.settled_books().charged == price_of(4, 2)


def test_no_usage_at_all_is_estimated_and_marked(gateway: Gateway) -> None:
    async def silent(talk: Conversation) -> None:
        await talk.start()
        await talk.chunk("sixteen letters!")
        await talk.send(event("", finish="stop"))
        await talk.send(DONE)
        await talk.end()

    caller = gateway.caller()
    events = caller.chat(gateway.model(silent), stream=True).events
    [row] = caller.settled_books().log
    assert (row["estimated"], row["output_tokens"]) == (True, 4)
    assert events[-2]["usage"]["completion_tokens"] == 4
    assert row["charged_microcredits"] == price_of(row["input_tokens"], 4)


@pytest.mark.parametrize("chunks", [0, 1, 5])
def test_a_caller_who_leaves_pays_for_what_came(gateway: Gateway, chunks: int) -> None:
    route = gateway.upstream.serve(endless)
    caller = gateway.caller(credits=500)
    with caller.stream(gateway.model(route), max_tokens=4000) as stream:
        for _ in range(chunks):
            assert stream.line().startswith(b"data: ")
        stream.leave()
    books = caller.settled_books()
    [row] = books.log
    assert row["client_disconnected"] is True
    assert row["estimated"] is True
    # It was read on for 0.8 s, some 40 chunks of four tokens, and then the upstream was hung up on: far from the end.
    assert 4 * max(chunks, 1) <= row["output_tokens"] < 4000
    assert books.charged == price_of(row["input_tokens"], row["output_tokens"])
    assert (books.balance, books.held) == (500 * CREDIT - books.charged, 0)
    wait_for(lambda: route.seen[0].ended == "gateway gone")


def test_a_caller_who_leaves_shortly_before_the_end_pays_the_exact_price(gateway: Gateway) -> None:
    async def soon_done(talk: Conversation) -> None:
        await talk.start()
        await talk.chunk("text ")
        await talk.until(left)
        await talk.chunk("more")
        await talk.send(event("", finish="stop", usage=usage(40, 20)))
        await talk.send(DONE)
        await talk.end()

    left = threading.Event()
    server = gateway.with_settings(GATEWAY_LEFT_CLIENT_READ_ON_SECONDS="20")
    caller = gateway.caller(server=server)
    with caller.stream(gateway.model(soon_done)) as stream:
        stream.line()
        stream.leave()
    time.sleep(1.0)  # the gateway sees it go while the provider still has words to say
    left.set()
    [row] = caller.settled_books().log
    assert (row["client_disconnected"], row["estimated"], row["charged_microcredits"]) == (
        True,
        False,
        price_of(40, 20),
    )


def test_a_caller_who_leaves_before_anything_came_pays_the_prompt(gateway: Gateway) -> None:
    async def thinks(talk: Conversation) -> None:
        await talk.gone()

    route = gateway.upstream.serve(thinks)
    caller = gateway.caller(server=gateway.with_settings(**QUICK))
    with caller.stream(gateway.model(route)) as stream:
        assert stream.line() == b": keep-alive"
        stream.leave()
    [row] = caller.settled_books().log
    assert (row["status"], row["client_disconnected"], row["output_tokens"]) == (499, True, 0)
    assert row["charged_microcredits"] == price_of(row["input_tokens"], 0) > 0
    wait_for(lambda: route.seen[0].ended != "open")


def test_a_caller_who_does_not_read_is_let_go(gateway: Gateway) -> None:
    async def floods(talk: Conversation) -> None:
        await talk.start()
        block = event("x" * 1000) * 50
        while True:
            await talk.send(block)

    route = gateway.upstream.serve(floods)
    caller = gateway.caller(credits=1_000_000, server=gateway.with_settings(**QUICK))
    with caller.stream(gateway.model(route)) as stream:
        stream.line()
        books = caller.settled_books()
    assert books.log[0]["client_disconnected"] is True
    assert books.held == 0
    wait_for(lambda: route.seen[0].ended == "gateway gone")


def test_a_long_stream_extends_its_hold(gateway: Gateway) -> None:
    async def long(talk: Conversation) -> None:
        await talk.start()
        for _ in range(200):
            await talk.chunk("sixteen letters!")
        await talk.send(event("", finish="stop", usage=usage(10, 800)))
        await talk.send(DONE)
        await talk.end()

    caller = gateway.caller(credits=1000)
    reply = caller.chat(gateway.model(long), stream=True, max_tokens=4000)
    assert reply.events[-1] == "[DONE]"
    assert caller.settled_books().balance == 1000 * CREDIT - price_of(10, 800)


@pytest.mark.parametrize("asked", [False, True])
def test_a_stream_beyond_the_credits_ends_in_order_and_bills_what_came(gateway: Gateway, asked: bool) -> None:
    route = gateway.upstream.serve(endless)
    caller = gateway.caller(credits=1000)
    caller.limit(2 * CREDIT)  # 500 tokens of output at most
    options = {"stream_options": {"include_usage": True}} if asked else {}
    reply = caller.chat(gateway.model(route), stream=True, max_tokens=4000, **options)
    assert reply.status == 200
    assert reply.events[-1] == "[DONE]"
    finish = reply.events[-3 if asked else -2]
    assert finish["choices"][0]["finish_reason"] == "length"
    assert "limit" in finish["hypereal"]["stopped"]
    assert finish["id"] == "chatcmpl-1"
    shown = reply.events[-2]["usage"]
    books = caller.settled_books()
    [row] = books.log
    assert (row["output_tokens"], row["status"]) == (shown["completion_tokens"], 200)
    assert 100 < row["output_tokens"] <= 500
    assert books.spent == books.charged <= 2 * CREDIT
    wait_for(lambda: route.seen[0].ended == "gateway gone")


def test_a_whole_answer_to_a_streaming_call_becomes_a_stream(gateway: Gateway) -> None:
    async def whole(talk: Conversation) -> None:
        await talk.json(fake.completion("all at once", 9, 3))

    caller = gateway.caller()
    reply = caller.chat(gateway.model(whole), stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert texts(reply.events) == "all at once"
    assert caller.settled_books().charged == price_of(9, 3)


def test_a_stream_to_a_whole_call_is_collected(gateway: Gateway) -> None:
    async def always_streams(talk: Conversation) -> None:
        await talk.start()
        await talk.chunk("piece ")
        await talk.chunk("by piece")
        await talk.send(event("", finish="stop", usage=usage(9, 3)))
        await talk.send(DONE)
        await talk.end()

    caller = gateway.caller()
    reply = caller.chat(gateway.model(always_streams))
    assert reply.headers["content-type"] == "application/json"
    assert reply.json["choices"][0]["message"]["content"] == "piece by piece"
    assert caller.settled_books().charged == price_of(9, 3)
