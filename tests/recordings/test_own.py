"""Exchanges of our own writing through the real gateway, on any machine: the shapes that cost money when misread."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.fakes.upstream import Behaviour, Conversation
from tests.support.gateway import Gateway, price_of
from tests.upstreams import exchanges
from tests.upstreams.exchanges import COMPLETION, DONE, FINISH, HELLO, IDENTITY, ROLE, STREAM, USAGE, chunk, event


def usage(prompt: int, output: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output, **more}


def pieces(*sent: bytes) -> Behaviour:
    async def behave(talk: Conversation) -> None:
        await talk.start()
        for piece in sent:
            await talk.send(piece)
        await talk.end()

    return behave


def whole(answer: Any) -> Behaviour:
    async def behave(talk: Conversation) -> None:
        await talk.json(answer)

    return behave


def named(behave: Behaviour, name: str) -> Behaviour:
    behave.__name__ = name
    return behave


HIDDEN_THINKING = {**COMPLETION, "usage": {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109}}
CALLS = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "look", "arguments": '{"at":"\\u2028 [DONE]"}'},
}
SECOND = chunk({"content": "too"}, index=1), chunk({}, "stop", index=1)

#: What the provider sends to a stream, and the price of it: input, output and cached tokens.
STREAMS: list[tuple[Behaviour, int]] = [
    (named(pieces(*STREAM), "event by event"), price_of(21, 3, 16)),
    (named(pieces(b"".join(STREAM)), "all at once"), price_of(21, 3, 16)),
    (named(pieces(*(bytes([byte]) for byte in b"".join(STREAM))), "byte by byte"), price_of(21, 3, 16)),
    (named(pieces(b"".join(STREAM).replace(b"\n", b"\r\n")), "CRLF"), price_of(21, 3, 16)),
    (
        named(
            pieces(
                chunk({"content": "a"}, usage=usage(40, 1)),
                chunk({"content": "b"}, usage=usage(40, 2)),
                chunk({}, "stop", usage=usage(40, 5)),
                DONE,
            ),
            "running totals",
        ),
        price_of(40, 5),
    ),
    (
        named(
            pieces(ROLE, HELLO, FINISH, event({**IDENTITY, "choices": [], "usage": HIDDEN_THINKING["usage"]}), DONE),
            "thinking",
        ),
        price_of(35, 74),
    ),
    (
        named(
            pieces(ROLE, chunk({"tool_calls": [CALLS]}), chunk({}, "tool_calls"), exchanges.USAGE_ONLY, DONE), "tools"
        ),
        price_of(21, 3, 16),
    ),
    (
        named(pieces(ROLE, HELLO, FINISH, *SECOND, exchanges.USAGE_ONLY, DONE), "two choices"),
        price_of(21, 3, 16),
    ),
    (
        named(
            pieces(b"".join([ROLE, HELLO, chunk({}, "length", usage=USAGE), event({"error": {"code": 400}})])),
            "an error behind the end, in the same packet",
        ),
        price_of(21, 3, 16),
    ),
]


@pytest.mark.parametrize("asked", [False, True], ids=["", "usage asked for"])
@pytest.mark.parametrize(("behave", "price"), STREAMS, ids=lambda value: getattr(value, "__name__", ""))
def test_streams(gateway: Gateway, behave: Behaviour, price: int, asked: bool) -> None:
    caller = gateway.caller()
    options = {"stream_options": {"include_usage": True}} if asked else {}
    reply = caller.chat(gateway.model(behave), stream=True, n=2 if "choices" in behave.__name__ else 1, **options)
    assert (reply.status, reply.events[-1]) == (200, "[DONE]")
    chunks = [ChatCompletionChunk.model_validate(value) for value in reply.events[:-1]]
    with_usage = [chunk for chunk in chunks if chunk.usage is not None]
    assert [chunk.choices == [] for chunk in with_usage][-1:] == [asked]
    assert with_usage[-1].usage is not None
    books = caller.settled_books()
    assert (books.charged, books.held, sum(books.transfers)) == (price, 0, price)
    assert books.log[0]["input_tokens"] == with_usage[-1].usage.prompt_tokens


@pytest.mark.parametrize(
    ("answer", "price"),
    [
        (COMPLETION, price_of(21, 3, 16)),
        (HIDDEN_THINKING, price_of(35, 74)),
        ({**COMPLETION, "usage": usage(10, 0)}, price_of(10, 0)),
        ({**COMPLETION, "usage": usage(5, 2, prompt_tokens_details={"cached_tokens": 9})}, price_of(5, 2, 5)),
        ({**COMPLETION, "usage": usage(7, 2, prompt_tokens_details=None)}, price_of(7, 2)),
    ],
    ids=["plain", "hidden thinking", "nothing came out", "more cached than sent", "nulls"],
)
def test_whole_answers(gateway: Gateway, answer: dict[str, Any], price: int) -> None:
    caller = gateway.caller()
    reply = caller.chat(gateway.model(whole(answer)))
    assert reply.json == answer
    ChatCompletion.model_validate(reply.json)
    assert caller.settled_books().charged == price


def test_an_answer_without_usage_is_estimated(gateway: Gateway) -> None:
    caller = gateway.caller()
    answer = {name: value for name, value in COMPLETION.items() if name != "usage"}
    assert caller.chat(gateway.model(whole(answer))).json == answer
    [row] = caller.settled_books().log
    assert (row["estimated"], row["output_tokens"]) == (True, 3)
    assert row["charged_microcredits"] == price_of(row["input_tokens"], 3)


def test_a_second_choice_may_take_its_time(gateway: Gateway) -> None:
    """Longer than the gateway reads on behind an end: with two choices asked for, one end is not the end."""

    async def behave(talk: Conversation) -> None:
        await talk.start()
        await talk.send(HELLO + FINISH)
        await talk.gone(1.3)
        await talk.send(b"".join([*SECOND, exchanges.USAGE_ONLY, DONE]))
        await talk.end()

    caller = gateway.caller()
    reply = caller.chat(gateway.model(behave), stream=True, n=2)
    assert [choice["index"] for value in reply.events[:-1] for choice in value["choices"]] == [0, 0, 1, 1]
    assert caller.settled_books().charged == price_of(21, 3, 16)
