"""Answers that no reader was made for: one clean end in the caller's format, and books that agree with it (C-ERR-6)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import messages as anthropic
from tests.fakes import upstream as chat
from tests.fakes.upstream import DONE, Behaviour, Conversation, event
from tests.faults.formats import CHAT, INPUT, MESSAGES, OUTPUT, Format
from tests.support import http
from tests.support.gateway import CREDIT, Gateway

HELLO, FINISH = event("hello there"), event("", finish="stop")


def streams(*parts: bytes) -> Behaviour:
    async def behave(talk: Conversation) -> None:
        await talk.start()
        for part in parts:
            await talk.send(part)
        await talk.end()

    return behave


def says(value: Any) -> Behaviour:
    async def behave(talk: Conversation) -> None:
        await talk.json(value)

    return behave


def choice(**members: Any) -> bytes:
    return event("", choices=[{"delta": {}, "finish_reason": None, **members}])


# ── nothing that could be called an answer: the next target is asked ─────────────────────────────────────────────────
NO_ANSWERS: list[tuple[Format, Behaviour]] = [
    (CHAT, streams(DONE)),
    (CHAT, streams(b": PROCESSING\n\n", event("", choices=[]), DONE)),
    (CHAT, says({"choices": []})),
    (CHAT, says({"choices": {}})),
    (CHAT, says({"choices": [None]})),
    (CHAT, says({**chat.completion("x"), "choices": "\ud83d"})),
    (MESSAGES, streams(anthropic.STOP)),
]


def test_what_is_no_answer_is_another_targets_turn(gateway: Gateway) -> None:
    models = []
    for spoken, behaviour in NO_ANSWERS:
        routes = (gateway.upstream.serve(behaviour), gateway.upstream.serve(spoken.well))
        kinds = {"kind": spoken.kind, "adapter": spoken.adapter, "rates": spoken.rates}
        models.append(gateway.new_model(*routes, **kinds))  # type: ignore[arg-type]
    gateway.until_known(models[-1])
    for model, (spoken, _) in zip(models, NO_ANSWERS, strict=True):
        for stream in (False, True):
            caller = gateway.caller()
            reply = caller.send("POST", spoken.path, {"model": model, **spoken.asked, "stream": stream})
            assert (reply.status, reply.headers["x-hypereal-provider"]) == (200, f"{model}-p1")
            books = caller.settled_books()
            assert (books.charged, books.holds, books.held) == (spoken.price_of(INPUT, OUTPUT), ["posted"], 0)


# ── odd, and an answer all the same ──────────────────────────────────────────────────────────────────────────────────
UNCOUNTED: list[dict[str, Any]] = [
    {"prompt_tokens": -5, "completion_tokens": -7, "total_tokens": -12},
    {"prompt_tokens": "5", "completion_tokens": None, "total_tokens": [1]},
    {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    {"prompt_tokens": 10**13},
    {},
]


def test_counts_that_count_nothing_are_estimated(gateway: Gateway) -> None:
    """Text that was delivered is never free, and what was estimated is marked."""
    models = []
    for usage in UNCOUNTED:
        ended = streams(HELLO, FINISH, event("", choices=[], usage=usage), DONE)
        whole = says({**chat.completion("hello there"), "usage": usage})
        models += [(gateway.new_model(ended), True), (gateway.new_model(whole), False)]
    counts = {"input_tokens": 0, "output_tokens": 0}
    message = anthropic.answers(anthropic.text("hello there"), counts=counts)
    claude = {"kind": "messages", "adapter": "anthropic", "rates": MESSAGES.rates}
    model = gateway.new_model(message, **claude)  # type: ignore[arg-type]
    gateway.until_known(model)
    for spoken, name, stream in [(CHAT, *each) for each in models] + [
        (MESSAGES, model, True),
        (MESSAGES, model, False),
    ]:
        caller = gateway.caller()
        assert caller.send("POST", spoken.path, {"model": name, **spoken.asked, "stream": stream}).status == 200
        books = caller.settled_books()
        [row] = books.log
        assert row["estimated"], (spoken.kind, stream)
        assert row["input_tokens"] > 0 and row["output_tokens"] > 0
        assert books.charged == spoken.price_of(row["input_tokens"], row["output_tokens"])


@pytest.mark.parametrize(
    "parts",
    [
        [choice(index=[1], delta={"content": "hello"}), choice(index={}, finish_reason="stop"), DONE],
        [HELLO, event("", choices=None), event("", choices=[1, None, "x"]), event("", choices={"a": 1}), FINISH, DONE],
        [HELLO, b"event: ping\ndata: {}\n\n", b"id: 7\nretry: 5\n\n", FINISH, DONE],
    ],
)
def test_odd_members_do_no_harm(gateway: Gateway, parts: list[bytes]) -> None:
    caller = gateway.caller()
    reply = caller.chat(gateway.model(streams(*parts)), stream=True)
    assert reply.status == 200
    assert reply.body.endswith(DONE)
    books = caller.settled_books()
    assert (books.log[0]["status"], books.log[0]["error_type"], books.holds) == (200, "", ["posted"])


@pytest.mark.parametrize("message", ["text", [1], {"tool_calls": [None, 1]}, {"tool_calls": 7, "content": "x"}])
def test_an_odd_whole_answer_becomes_a_stream(gateway: Gateway, message: Any) -> None:
    whole = {**chat.completion("x", 30, 12), "choices": [{"message": message, "finish_reason": "stop"}, None]}
    caller = gateway.caller()
    reply = caller.chat(gateway.model(says(whole)), stream=True)
    assert (reply.status, reply.body.endswith(DONE)) == (200, True)
    assert caller.settled_books().charged == CHAT.price_of(30, 12)


# ── addresses that nothing answers at ────────────────────────────────────────────────────────────────────────────────
def in_openai(error: dict[str, Any]) -> bool:
    return {"type", "message", "code", "param"} <= set(error["error"]) and "status" not in error["error"]


def in_anthropic(error: dict[str, Any]) -> bool:
    return error["type"] == "error" and bool(error["request_id"])


def in_google(error: dict[str, Any]) -> bool:
    return (error["error"]["code"], error["error"]["status"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("path", "shaped", "told"),
    [
        ("nothing", in_openai, "nothing"), ("messages/batches", in_anthropic, "nothing"),
        ("messages/batches/1/results", in_anthropic, "nothing"), ("gemini/v1beta/cachedContents", in_google, "nothing"),
        ("gemini/nothing", in_google, "nothing"), ("completions", in_openai, "/v1/chat/completions"),
        ("conversations", in_openai, "previous_response_id"), ("files", in_openai, "/v1/storage"),
        ("messagesx", in_openai, "nothing"), ("", in_openai, "nothing"),
    ],
)  # fmt: skip
def test_nothing_there_is_told_in_the_format_of_the_place(
    gateway: Gateway, path: str, shaped: Callable[[dict[str, Any]], bool], told: str
) -> None:
    for method in ("GET", "POST"):
        reply = http.send(gateway.port, method, f"/v1/{path}", {"model": "x"} if method == "POST" else None, {})
        assert (reply.status, reply.json["error"]["type"]) == (404, "not_found_error")
        assert shaped(reply.json), reply.body
        assert told in reply.json["error"]["message"]
        assert ("request-id" in reply.headers) == (shaped is in_anthropic)
        assert json.dumps(reply.json).count(reply.headers["x-request-id"]) == (shaped is in_anthropic)


def test_a_long_line_in_small_pieces(gateway: Gateway) -> None:
    """Three megabytes in one event: nothing of it is lost, and the stream's own end follows."""
    long = event("x" * 3_000_000)
    pieces = [long[at : at + 100_000] for at in range(0, len(long), 100_000)]
    usage = event("", choices=[], usage=chat.usage(30, 12))
    caller = gateway.caller(credits=10_000)
    reply = caller.chat(
        gateway.model(streams(HELLO, *pieces, FINISH, usage, DONE), max_output_tokens=1_000_000), stream=True
    )
    assert long in reply.body
    books = caller.settled_books()
    assert (books.charged, books.balance) == (CHAT.price_of(30, 12), 10_000 * CREDIT - CHAT.price_of(30, 12))
