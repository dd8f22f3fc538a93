"""A messages stream on its way through: what leaves when, what is read from it, and how it may end."""

from __future__ import annotations

import json
from typing import Any

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
from tests.upstreams.watched import Watched
from upstreams import messages_relay
from upstreams.errors import AccountRefused, BadAnswer, ServerFailed, UpstreamRefusal
from upstreams.messages_relay import Relay
from upstreams.wire import Usage

ANSWER = message(
    thinking('Hm, \u2028 "error" [DONE]'), text('Hello event: error\n\n"message_stop"'), tool_use("look", at=1)
)
STREAM = events(ANSWER)


def fed(*pieces: bytes, relay: Relay | None = None) -> tuple[Relay, bytes]:
    relay = relay or Relay()
    return relay, b"".join(b"".join(relay.feed(piece)) for piece in pieces)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("step", [1, 7, 64, 10**6])
def test_events_go_through_to_the_byte(step: int, newline: bytes) -> None:
    whole = b"".join(STREAM).replace(b"\n", newline)
    relay, sent = fed(*(whole[at : at + step] for at in range(0, len(whole), step)))
    sent += b"".join(relay.end_of_stream())
    assert relay.finished
    assert relay.done
    assert sent + b"".join(relay.close()) == whole
    assert relay.usage == Usage(100, output_tokens=50, service_tier="standard")
    assert relay.billable_usage(7) == relay.usage


def test_nothing_leaves_before_the_first_content() -> None:
    preface = [start(usage()), PING, opened(type="thinking", thinking="", signature=""), b": comment\n\n", words("")]
    relay, sent = fed(*preface)
    assert (sent, relay.first_content_seen) == (b"", False)
    assert relay.usage is not None and relay.usage.input_tokens == 100
    relay, sent = fed(words("H"), relay=relay)
    assert sent == b"".join(preface) + words("H")


@pytest.mark.parametrize(
    "first",
    [
        words("H"),
        opened(type="tool_use", id="t", name="look", input={}),
        opened(type="redacted_thinking", data="x"),
        event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "h"}),
        event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "s"}),
        event("content_block_delta", index=0, delta={"type": "compaction_delta", "content": "so far"}),
    ],
)
def test_what_content_is(first: bytes) -> None:
    assert fed(start(usage()), first)[0].first_content_seen


def test_nothing_leaves_from_the_stop_reason_on() -> None:
    relay, sent = fed(start(usage(10, 0)), opened(), words("Hi"), closed(), end({"output_tokens": 3}), PING)
    assert (sent, relay.finished, relay.done) == (start(usage(10, 0)) + opened() + words("Hi") + closed(), True, False)
    assert b"".join(relay.close()) == end({"output_tokens": 3}) + PING + messages_relay.STOP
    assert relay.usage is not None and relay.usage.output_tokens == 3


def test_a_delta_without_a_stop_reason_only_counts() -> None:
    running = event("message_delta", delta={"stop_reason": None}, usage={"input_tokens": 15_665, "output_tokens": 9})
    relay, sent = fed(start(usage(2037, 0)), words("Hi"), running)
    assert (relay.finished, relay.usage) == (False, Usage(15_665, output_tokens=9, service_tier="standard"))
    assert sent.endswith(running)


def test_where_each_event_tells_something_the_rest_is_not_searched_for_each() -> None:
    running = event("message_delta", delta={"stop_reason": None}, usage={"input_tokens": 15_665, "output_tokens": 9})
    for number in (200, 2000):
        relay, _sent = fed(start(usage(2037, 0)), words("Hi"))
        block = Watched(running * number)
        assert relay.feed(block) == [block]
        assert block.searched < 20_000 * number


def test_a_second_start_begins_the_counts_anew() -> None:
    relay, sent = fed(
        start(usage(17, 0, read=9)), words("Hi"), start(usage(18, 0)), words("Ho"), end({"output_tokens": 5})
    )
    assert relay.usage == Usage(18, output_tokens=5, service_tier="standard")
    assert sent.count(b"message_start\n") == 2


def test_content_behind_an_end_goes_on() -> None:
    relay, sent = fed(words("a"), end({"output_tokens": 3}), words("b"))
    assert sent == words("a") + end({"output_tokens": 3}) + words("b")
    assert not relay.finished


def test_an_answer_without_content_stands() -> None:
    relay, sent = fed(start(usage(20, 0)), opened(), closed(), end({"output_tokens": 0}, "refusal"), STOP)
    assert (sent, relay.finished, relay.first_content_seen) == (b"", True, False)
    assert (
        b"".join(relay.close())
        == start(usage(20, 0)) + opened() + closed() + end({"output_tokens": 0}, "refusal") + STOP
    )
    assert relay.billable_usage(0) == Usage(20, service_tier="standard")


def test_a_cut_is_no_end() -> None:
    relay, _ = fed(start(usage(312, 0, read=2048)), opened(), *[words("sixteen letters!")] * 5)
    assert relay.end_of_stream() == []
    assert not relay.finished
    assert relay.billable_usage(0) == Usage(2360, 2048, output_tokens=20, service_tier="standard", estimated=True)


def test_without_any_usage_both_sides_are_estimated() -> None:
    relay, _ = fed(words("sixteen letters!"), event("message_delta", delta={"stop_reason": "end_turn"}), STOP)
    assert relay.billable_usage(33) == Usage(33, output_tokens=4, estimated=True)
    shown = json.loads(b"".join(relay.close(relay.billable_usage(33))).split(b"data: ")[1].split(b"\n")[0])
    assert shown["usage"] == {
        "input_tokens": 33,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 4,
    }


def test_the_estimate_counts_texts_inputs_and_hidden_thinking() -> None:
    relay, _ = fed(start(usage(1, 0)), words("sixteen letters!"))
    assert relay.output_tokens_estimate == 4
    fed(
        event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": "12345678"}),
        relay=relay,
    )
    assert relay.output_tokens_estimate == 6
    hidden = {"type": "thinking_delta", "thinking": "", "estimated_tokens": 50}
    fed(event("content_block_delta", index=2, delta=hidden), relay=relay)
    fed(event("content_block_delta", index=2, delta=hidden), relay=relay)
    assert relay.output_tokens_estimate == 106


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, ServerFailed),
        ({"type": "authentication_error", "message": "no"}, AccountRefused),
        ({"type": "invalid_request_error", "message": "bad"}, UpstreamRefusal),
    ],
)
def test_an_error_event_ends_what_passes(error: dict[str, Any], kind: type[Exception]) -> None:
    relay, sent = fed(start(usage()), words("Hi"), event("error", error=error), words("more"))
    assert isinstance(relay.error, kind)
    assert b"more" not in sent


def test_an_overload_inside_a_stream_is_known_as_one() -> None:
    relay, _ = fed(event("error", error={"type": "overloaded_error", "message": "Overloaded"}))
    assert relay.error is not None and relay.error.status == 529


def test_what_is_no_json_is_a_bad_answer() -> None:
    assert isinstance(fed(b"data: {nope\n\n")[0].error, BadAnswer)


@pytest.mark.parametrize("broken", [words("half")[:-9] + b"\n\n", b"event: x\ndata: <html>\n\n", b'data: {"a":}\n\n'])
def test_what_no_client_could_read_reaches_none(broken: bytes) -> None:
    before = start(usage(20, 0)) + opened() + words("one")
    for pieces in ([before, words("two"), broken, words("three")], [before, words("two") + broken + words("three")]):
        relay, sent = fed(*pieces)
        assert isinstance(relay.error, BadAnswer)
        assert sent == before + words("two")
        assert relay.billable_usage(0).output_tokens == 2
    readable = words("two") + PING + b": note\n\n" + words("three").replace(b"\n", b"\r\n")
    relay, sent = fed(before, readable)
    assert (sent, relay.error) == (before + readable, None)


def test_a_stream_that_never_tells_of_its_prompt_is_estimated() -> None:
    relay, _ = fed(opened(), words("sixteen letters!"), end({"output_tokens": 2}), STOP)
    assert (relay.finished, relay.usage) == (True, None)
    assert relay.billable_usage(7) == Usage(7, output_tokens=4, estimated=True)
    late = fed(start(usage(0, 0)), words("x"), end({"input_tokens": 20, "output_tokens": 2}), STOP)[0]
    assert late.billable_usage(7) == Usage(20, output_tokens=2, service_tier="standard")


def test_an_end_of_nothing_is_no_answer() -> None:
    relay, sent = fed(STOP)
    assert (sent, relay.done, relay.finished) == (b"", True, False)


def test_the_identity_is_that_of_what_was_handed_out_before() -> None:
    relay, _ = fed(start(usage()) + opened(0) + words("a"))
    assert relay.identity == {"id": message()["id"], "model": "fake", "started": False, "open_block": None}
    fed(words("b"), relay=relay)
    assert (relay.identity["started"], relay.identity["open_block"]) == (True, 0)
    fed(closed(0) + opened(1) + words("c", 1), relay=relay)
    assert relay.identity["open_block"] == 0
    fed(closed(1), relay=relay)
    assert relay.identity["open_block"] == 1
    fed(b"", relay=relay)
    assert relay.identity["open_block"] is None
