"""A stream as one object, and one object as a stream."""

from __future__ import annotations

import json

import pytest

from tests.upstreams.exchanges import COMPLETION, DONE, FINISH, HELLO, ROLE, STREAM, USAGE, chunk, event, objects
from upstreams.chat_collect import as_stream, collect
from upstreams.chat_relay import Relay
from upstreams.errors import BadAnswer, ConnectionLost, ServerFailed
from upstreams.openai import complete
from upstreams.wire import Usage


def test_a_text() -> None:
    answer = json.loads(collect(b"".join(STREAM)))
    assert answer["object"] == "chat.completion"
    assert answer["id"] == "chatcmpl-t1" and answer["usage"] == USAGE
    choice = answer["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": 'Hello world\u2028and "error" [done]'}
    assert choice["finish_reason"] == "stop"


def test_everything_a_message_may_hold() -> None:
    def call(index: int, **function: str) -> dict[str, object]:
        return {"index": index, "function": function}

    parts = [
        event({"choices": [], "id": "", "model": "", "prompt_filter_results": [{}]}),
        chunk({"role": "assistant", "content": None, "reasoning_content": "let me "}),
        chunk({"reasoning_content": "think"}),
        chunk(
            {
                "tool_calls": [
                    {"index": 0, "id": "call_a", "type": "function", "function": {"name": "f", "arguments": ""}}
                ]
            }
        ),
        chunk({"tool_calls": [call(0, arguments='{"x":')]}),
        chunk(
            {
                "tool_calls": [
                    {"index": 1, "id": "call_b", "type": "function", "function": {"name": "g", "arguments": "{"}}
                ]
            }
        ),
        chunk({"tool_calls": [call(0, arguments="1}"), call(1, arguments="}")]}),
        chunk({"refusal": "no"}),
        chunk({}, "tool_calls"),
        chunk({"content": "second"}, index=1),
        chunk({"function_call": {"name": "h", "arguments": "{"}}, index=1),
        chunk({"function_call": {"arguments": "}"}}, "function_call", index=1),
        DONE,
    ]
    answer = json.loads(collect(b"".join(parts)))
    first, second = answer["choices"]
    assert first["message"] == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "let me think",
        "refusal": "no",
        "tool_calls": [
            {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "call_b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }
    assert second["message"]["function_call"] == {"name": "h", "arguments": "{}"}
    assert (first["finish_reason"], second["finish_reason"]) == ("tool_calls", "function_call")


def test_tool_calls_without_an_index() -> None:
    def piece(**members: object) -> bytes:
        return chunk({"tool_calls": [members]})

    parts = [
        piece(id="a", type="function", function={"name": "f", "arguments": "{"}),
        piece(function={"arguments": "}"}),
        piece(id="b", type="function", function={"name": "g", "arguments": "[]"}),
        FINISH,
        DONE,
    ]
    calls = json.loads(collect(b"".join(parts)))["choices"][0]["message"]["tool_calls"]
    assert [(call["id"], call["function"]["arguments"]) for call in calls] == [("a", "{}"), ("b", "[]")]


def test_log_probabilities_are_strung_together() -> None:
    def piece(token: str) -> bytes:
        logprobs = {"content": [{"token": token, "logprob": -0.1}], "refusal": None}
        return event({"id": "x", "choices": [{"index": 0, "delta": {"content": token}, "logprobs": logprobs}]})

    answer = json.loads(collect(piece("a") + piece("b") + FINISH + DONE))
    assert [item["token"] for item in answer["choices"][0]["logprobs"]["content"]] == ["a", "b"]


def test_content_in_parts() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    parts = [chunk({"content": [thinking]}), chunk({"content": [{"type": "text", "text": "4"}]}), FINISH, DONE]
    message = json.loads(collect(b"".join(parts)))["choices"][0]["message"]
    assert message["content"] == [thinking, {"type": "text", "text": "4"}]


def test_failures() -> None:
    with pytest.raises(ConnectionLost):
        collect(ROLE + HELLO)
    with pytest.raises(ServerFailed):
        collect(ROLE + event({"error": {"type": "server_error", "message": "x"}}))
    with pytest.raises(BadAnswer):
        collect(DONE)
    with pytest.raises(BadAnswer):
        collect(b"data: <html>\n\n")


def test_a_missing_done_or_blank_line_is_forgiven() -> None:
    assert json.loads(collect(ROLE + HELLO + FINISH.rstrip()))["choices"][0]["message"]["content"] == "Hello"


def test_an_object_as_a_stream() -> None:
    stream = as_stream(json.dumps(COMPLETION).encode())
    relay = Relay(client_wants_usage=True)
    sent = b"".join([*relay.feed(stream), *relay.end_of_stream(), *relay.close()])
    assert relay.done and relay.usage == Usage(input_tokens=21, cached_input_tokens=16, output_tokens=3)
    values = objects(sent)
    assert values[0]["choices"][0]["delta"]["content"] == "Hello world"
    assert values[0]["object"] == "chat.completion.chunk"
    assert values[-2]["usage"] == USAGE and values[-1] == "[DONE]"


def test_there_and_back() -> None:
    call = {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    choices = [{"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [call]},
                "logprobs": None, "finish_reason": "tool_calls"}]  # fmt: skip
    answer = {**COMPLETION, "choices": choices}
    back = collect(as_stream(json.dumps(answer).encode()))
    assert json.loads(back) == answer
    assert complete(back).output_tokens == 3
