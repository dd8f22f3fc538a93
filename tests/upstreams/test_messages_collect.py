"""A message as a stream and as one object, both ways."""

from __future__ import annotations

import json

import pytest

from tests.fakes.messages import (
    PING,
    STOP,
    closed,
    end,
    event,
    events,
    message,
    opened,
    start,
    text,
    thinking,
    tool_use,
    usage,
    words,
)
from upstreams import anthropic, messages_collect
from upstreams.errors import BadAnswer, ConnectionLost, ServerFailed
from upstreams.messages_relay import Relay
from upstreams.wire import Usage

ANSWER = message(thinking("Hm"), text("Hello \u2028 you"), tool_use("look", at={"x": [1, None]}), stop="tool_use")


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_stream_becomes_the_message(newline: bytes) -> None:
    collected = json.loads(messages_collect.collect(b"".join(events(ANSWER)).replace(b"\n", newline)))
    assert [block["type"] for block in collected["content"]] == ["thinking", "text", "tool_use"]
    assert collected["content"][2] == ANSWER["content"][2]
    assert collected["content"][0] == ANSWER["content"][0]
    assert (collected["stop_reason"], collected["usage"]["output_tokens"]) == ("tool_use", 50)


def test_a_message_becomes_a_stream_and_the_same_message_again() -> None:
    cited = {"type": "text", "text": "So", "citations": [{"type": "char_location", "cited_text": "x"}]}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result"}]}
    whole = {**ANSWER, "content": [*ANSWER["content"], cited, found], "container": {"id": "c"}}
    stream = messages_collect.as_stream(json.dumps(whole).encode())
    assert json.loads(messages_collect.collect(stream)) == whole
    relay = Relay()
    sent = b"".join(relay.feed(stream)) + b"".join(relay.close())
    assert sent == stream
    assert relay.usage == anthropic.complete(json.dumps(whole).encode())
    assert sent.count(b'"text_delta"') == 2


def test_a_tools_input_that_was_cut_off_stays_as_it_began() -> None:
    piece = event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": '{"a": "b'})
    begun = opened(type="tool_use", id="t", name="look", input={})
    stream = start(usage()) + begun + piece + closed() + end({"output_tokens": 9}, "max_tokens") + STOP
    assert json.loads(messages_collect.collect(stream))["content"] == [
        {"type": "tool_use", "id": "t", "name": "look", "input": {}}
    ]


def test_a_second_start_begins_anew() -> None:
    stream = start(usage()) + opened() + words("first") + start(usage(7)) + opened() + words("second") + end({}) + STOP
    collected = json.loads(messages_collect.collect(stream))
    assert collected["content"] == [text("second")]
    assert collected["usage"]["input_tokens"] == 7


def test_running_totals_replace_each_other() -> None:
    totals = {"input_tokens": 6, "cache_read_input_tokens": None, "output_tokens": 198}
    stream = start(usage(2, 0, read=5)) + PING + opened() + words("x") + closed() + end(totals) + STOP
    assert anthropic.complete(messages_collect.collect(stream)) == Usage(
        11, 5, output_tokens=198, service_tier="standard"
    )


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (start(usage()) + words("x"), ConnectionLost),
        (PING, BadAnswer),
        (b"data: {no\n\n", BadAnswer),
        (b"data: [1]\n\n", BadAnswer),
        (start(usage()) + event("error", error={"type": "api_error", "message": "no"}), ServerFailed),
    ],
)
def test_what_holds_no_message(stream: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        messages_collect.collect(stream)
