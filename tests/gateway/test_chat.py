"""Chat completions through the real gateway: what the caller gets, and what the books show afterwards (C-CHAT)."""

from __future__ import annotations

from tests.fakes import upstream as fake
from tests.support.gateway import CREDIT, Gateway, price_of


def test_a_whole_answer_is_billed_and_logged(gateway: Gateway) -> None:
    caller = gateway.caller(credits=1000)
    model = gateway.model(fake.answers("Hello there", prompt=100, output=50, cached=20))
    reply = caller.chat(model, max_tokens=200)
    assert reply.status == 200, reply.body
    assert reply.json["choices"][0]["message"]["content"] == "Hello there"
    charged = price_of(100, 50, cached=20)
    assert reply.headers["x-hypereal-credits"] == "0.282"
    assert reply.headers["x-hypereal-model"] == model
    assert reply.headers["x-hypereal-attempts"] == "1"
    books = caller.books()
    assert (books.balance, books.held, books.transfers) == (1000 * CREDIT - charged, 0, [charged])
    [row] = books.log
    assert str(row["request_id"]) == reply.headers["x-request-id"]
    assert (row["status"], row["model"], row["stream"], row["estimated"]) == (200, model, False, False)
    assert (row["input_tokens"], row["cached_input_tokens"], row["output_tokens"]) == (100, 20, 50)
    assert row["saved_microcredits"] == price_of(100, 50) - charged


def test_a_stream_is_relayed_billed_and_logged(gateway: Gateway) -> None:
    caller = gateway.caller(credits=1000)
    model = gateway.model(fake.answers("Hello there you", prompt=100, output=50))
    reply = caller.chat(model, stream=True)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = reply.events
    text = "".join(e["choices"][0]["delta"].get("content", "") for e in events[:-1] if e["choices"])
    assert text == "Hello there you "
    assert events[-1] == "[DONE]"
    finish = events[-2]
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert finish["usage"]["completion_tokens"] == 50
    books = caller.books()
    assert (books.balance, books.held, books.transfers) == (1000 * CREDIT - price_of(100, 50), 0, [price_of(100, 50)])
    assert books.log[0]["stream"] is True
    assert books.log[0]["ttfb_ms"] is not None
