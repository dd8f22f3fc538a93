"""What a stream's reader gets, byte by byte, and what the relay learns on the way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.upstreams.exchanges import (
    DONE,
    FINISH,
    HELLO,
    IDENTITY,
    ROLE,
    STREAM,
    USAGE,
    USAGE_ONLY,
    WORLD,
    chunk,
    event,
    objects,
)
from tests.upstreams.watched import Watched
from upstreams.chat_relay import HELD_LIMIT_EVENTS, Relay
from upstreams.errors import AccountRefused, BadAnswer, ServerFailed, UpstreamRateLimited, UpstreamRefusal
from upstreams.wire import Usage

ESTIMATE = Usage(input_tokens=7, output_tokens=2, estimated=True)
AZURE_OPENING = event({"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": [{}]})
COMMENT = b": OPENROUTER PROCESSING\n\n"


def run(parts: list[bytes], *, wants_usage: bool = False, step: int = 0) -> tuple[Relay, bytes]:
    """Feed a stream, whole parts or ``step`` bytes at a time, and close it as the gateway would."""
    relay = Relay(client_wants_usage=wants_usage)
    stream = b"".join(parts)
    pieces = [stream[i : i + step] for i in range(0, len(stream), step)] if step else parts
    sent: list[bytes] = []
    for piece in pieces:
        sent += relay.feed(piece)
    sent += relay.end_of_stream()
    if relay.finished and relay.error is None:
        sent += relay.close(ESTIMATE)
    return relay, b"".join(sent)


def test_a_caller_who_asked_gets_the_stream_untouched() -> None:
    relay, sent = run(STREAM, wants_usage=True)
    assert sent == b"".join(STREAM)
    assert relay.usage == Usage(input_tokens=21, cached_input_tokens=16, output_tokens=3)
    assert relay.finished and relay.done and relay.first_content_seen


def test_a_caller_who_did_not_ask_finds_usage_on_the_finish_chunk() -> None:
    _, sent = run(STREAM)
    assert sent.startswith(ROLE + HELLO + WORLD)
    last, done = objects(sent)[-2:]
    assert (last["choices"][0]["finish_reason"], last["usage"], done) == ("stop", USAGE, "[DONE]")
    assert all(value["choices"] for value in objects(sent)[:-1])


@pytest.mark.parametrize("wants_usage", [True, False])
@given(st.integers(1, 700))
def test_the_network_does_not_matter(wants_usage: bool, step: int) -> None:
    _, whole = run(STREAM, wants_usage=wants_usage)
    _, cut = run(STREAM, wants_usage=wants_usage, step=step)
    assert cut == whole


def test_a_block_with_nothing_to_look_at_is_one_slice() -> None:
    relay = Relay(client_wants_usage=False)
    relay.feed(ROLE + HELLO)
    block = WORLD * 50
    assert relay.feed(block) == [block]
    assert relay.feed(block)[0] is block


def test_nothing_leaves_before_the_first_content() -> None:
    relay = Relay(client_wants_usage=False)
    for opening in (
        COMMENT,
        AZURE_OPENING,
        ROLE,
        chunk({"role": "assistant", "reasoning": None, "reasoning_details": []}),
    ):
        assert relay.feed(opening) == []
        assert not relay.first_content_seen
    assert b"".join(relay.feed(HELLO)).endswith(
        ROLE + chunk({"role": "assistant", "reasoning": None, "reasoning_details": []}) + HELLO
    )
    assert relay.first_content_seen


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x"},
        {"content": [{"type": "text", "text": "x"}]},
        {"reasoning_content": "x"},
        {"reasoning": "x"},
        {"refusal": "x"},
        {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"function_call": {"name": "f", "arguments": ""}},
        {"audio": {"id": "a", "data": "UklG"}},
    ],
    ids=lambda delta: next(iter(delta)),
)
def test_what_counts_as_content(delta: dict[str, Any]) -> None:
    relay = Relay(client_wants_usage=False)
    relay.feed(ROLE)
    assert relay.feed(chunk(delta)) == [ROLE + chunk(delta)]


def test_without_usage_the_estimate_is_shown() -> None:
    shown = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    relay, sent = run([ROLE, HELLO, FINISH, DONE])
    assert relay.usage is None
    assert shown.items() <= objects(sent)[-2]["usage"].items()
    _, sent = run([ROLE, HELLO, FINISH, DONE], wants_usage=True)
    assert objects(sent)[-2]["choices"] == []
    assert shown.items() <= objects(sent)[-2]["usage"].items()
    assert {name: IDENTITY[name] for name in ("id", "model")}.items() <= objects(sent)[-2].items()


def test_what_is_billed_without_usage_is_marked() -> None:
    relay, _ = run([ROLE, HELLO, chunk({"content": "x" * 400}), FINISH, DONE])
    usage = relay.billable_usage(7)
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (7, 102, True)


def test_many_short_pieces_count_at_least_one_token_each() -> None:
    relay = Relay(client_wants_usage=False)
    relay.feed(b"".join(chunk({"content": "x"}) for _ in range(30)))
    assert relay.output_tokens_estimate == 30
    relay.feed(
        b"".join(chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{\\"a\\"'}}]}) for _ in range(10))
    )
    assert relay.output_tokens_estimate == 40 and relay.output_tokens_estimate < 60


def test_usage_on_the_finish_chunk() -> None:
    parts = [ROLE, HELLO, chunk({}, "stop", usage=USAGE), DONE]
    assert run(parts)[1] == b"".join(parts)
    _, sent = run(parts, wants_usage=True)
    finish, last = objects(sent)[-3:-1]
    assert finish["usage"] is None and finish["choices"][0]["finish_reason"] == "stop"
    assert last["choices"] == [] and last["usage"] == USAGE


def test_usage_with_choices_behind_the_finish_chunk() -> None:
    trailing = chunk({"role": "assistant", "content": ""}, usage=USAGE)
    parts = [ROLE, HELLO, FINISH, trailing, DONE]
    relay, sent = run(parts)
    assert sent == b"".join(parts)
    assert relay.usage is not None and relay.usage.output_tokens == 3


@pytest.mark.parametrize("wants_usage", [True, False])
def test_running_usage_passes_unchanged_and_the_last_one_counts(wants_usage: bool) -> None:
    totals = [{"prompt_tokens": 40, "completion_tokens": n, "total_tokens": 40 + n} for n in range(4)]
    parts = [chunk({"content": "abc"}, usage=total) for total in totals[:3]] + [chunk({}, "stop", usage=totals[3])]
    relay, sent = run([*parts, DONE], wants_usage=wants_usage)
    assert sent.startswith(b"".join(parts))
    assert relay.usage == Usage(input_tokens=40, output_tokens=3)
    assert (objects(sent)[-2]["choices"] == []) is wants_usage


def test_where_each_event_tells_something_the_rest_is_not_searched_for_each() -> None:
    part = chunk({"content": "abc"}, usage={"prompt_tokens": 40, "completion_tokens": 1, "total_tokens": 41})
    for events in (200, 2000):
        relay = Relay(client_wants_usage=False)
        relay.feed(part)
        block = Watched(part * events)
        assert relay.feed(block) == [block]
        assert block.searched < 20_000 * events


def test_a_long_plain_run_is_searched_to_its_end() -> None:
    for plain in (1, 20, 500):
        relay = Relay(client_wants_usage=False)
        relay.feed(HELLO)
        assert b"".join(relay.feed(WORLD * plain + FINISH)) == WORLD * plain
        assert relay.finished


def test_several_choices_bear_usage_on_the_last_finish_chunk_only() -> None:
    def piece(index: int, finish: str | None = None) -> bytes:
        return chunk({} if finish else {"content": "x"}, finish, index)

    parts = [piece(0), piece(1), piece(0, "stop"), piece(1), piece(1, "length"), USAGE_ONLY, DONE]
    _, sent = run(parts)
    found = objects(sent)
    assert [value.get("usage") for value in found[:-1]] == [None, None, None, None, USAGE]
    assert sent.startswith(b"".join(parts[:4]))
    assert run(parts, wants_usage=True)[1] == b"".join(parts)


@pytest.mark.parametrize("together", [True, False], ids=["side by side", "one after the other"])
def test_a_stream_of_several_choices_is_finished_with_the_last(together: bool) -> None:
    def piece(index: int, finish: str | None = None) -> bytes:
        return chunk({} if finish else {"content": "x"}, finish, index)

    relay = Relay(client_wants_usage=False, choices=2)
    order = [piece(0), piece(1), piece(0, "stop"), piece(1)] if together else [piece(0), piece(0, "stop"), piece(1)]
    for part in order:
        relay.feed(part)
        assert not relay.finished
    assert b"".join(relay.end_of_stream()) == b"" and not relay.finished, "one choice was cut"
    relay.feed(piece(1, "stop"))
    assert relay.finished


def test_fewer_choices_than_were_asked_for() -> None:
    relay = Relay(client_wants_usage=False, choices=3)
    relay.feed(HELLO + FINISH)
    assert not relay.finished
    relay.end_of_stream()
    assert relay.finished
    done = Relay(client_wants_usage=False, choices=3)
    done.feed(HELLO + FINISH + DONE)
    assert done.finished


def test_choices_that_finish_one_right_after_the_other() -> None:
    parts = [chunk({"content": "x"}), chunk({}, "stop", 0), chunk({}, "stop", 1), USAGE_ONLY, DONE]
    found = objects(run(parts)[1])
    assert [value.get("usage") for value in found[:-1]] == [None, None, USAGE]


def test_usage_without_any_finish_chunk_gets_a_chunk_of_its_own() -> None:
    found = objects(run([ROLE, HELLO, USAGE_ONLY, DONE])[1])
    assert found[-2]["usage"] == USAGE and found[-2]["choices"][0]["delta"] == {}


def test_chunks_behind_the_usage_stay_where_they_were() -> None:
    moderation = event({**IDENTITY, "choices": [], "moderation": {"flagged": False}, "usage": None})
    parts = [ROLE, HELLO, FINISH, USAGE_ONLY, moderation, DONE]
    assert run(parts, wants_usage=True)[1] == b"".join(parts)
    found = objects(run(parts)[1])
    assert found[-3]["usage"] == USAGE and "moderation" in found[-2]


def test_the_end_waits_for_close() -> None:
    relay = Relay(client_wants_usage=False)
    relay.feed(ROLE + HELLO)
    assert relay.feed(FINISH + USAGE_ONLY + DONE) == []
    assert relay.finished and relay.done


def test_content_in_the_finish_chunk_is_not_lost() -> None:
    relay, sent = run([ROLE, chunk({"content": "all"}, "stop", usage=USAGE), DONE])
    assert relay.first_content_seen
    assert sent == ROLE + chunk({"content": "all"}, "stop", usage=USAGE) + DONE


def test_an_answer_without_content_is_an_answer() -> None:
    relay, sent = run([AZURE_OPENING, ROLE, chunk({}, "content_filter"), USAGE_ONLY, DONE])
    assert relay.finished and not relay.first_content_seen and relay.error is None
    assert objects(sent)[-2]["usage"] == USAGE


def test_a_missing_done_is_forgiven_and_added() -> None:
    relay, sent = run([ROLE, HELLO, FINISH, USAGE_ONLY])
    assert relay.finished and not relay.done
    assert sent.endswith(DONE)


@pytest.mark.parametrize("end", [b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r\n"])
def test_a_last_event_without_its_blank_line(end: bytes) -> None:
    relay, sent = run([ROLE, HELLO, FINISH, end], step=11)
    assert relay.done and sent.endswith(DONE)


def test_a_cut_stream_is_not_finished() -> None:
    relay, sent = run([ROLE, HELLO, WORLD[:40]])
    assert not relay.finished and relay.error is None
    assert sent == ROLE + HELLO


@pytest.mark.parametrize("newline", [b"\r\n", b"\r"])
def test_other_line_ends(newline: bytes) -> None:
    relay, sent = run([part.replace(b"\n", newline) for part in STREAM], step=9)
    assert relay.usage == Usage(input_tokens=21, cached_input_tokens=16, output_tokens=3)
    assert sent.startswith((ROLE + HELLO).replace(b"\n", newline))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (event({"error": {"message": "The server had an error", "type": "server_error", "code": None}}), ServerFailed),
        (b"event: error\n" + event({"error": {"message": "no", "type": "invalid_request_error"}}), UpstreamRefusal),
        (event({**IDENTITY, "choices": [], "error": {"code": 429, "message": "slow down"}}), UpstreamRateLimited),
        (event({"error": {"message": "out of credit", "code": "insufficient_quota"}}), AccountRefused),
        (event({"object": "error", "message": "worker died", "code": 500}), ServerFailed),
        (event({"error": "overloaded"}), ServerFailed),
        (b"data: {not json\n\n", BadAnswer),
        (event([1, 2]), BadAnswer),
    ],
)
def test_errors_inside_the_stream(error: bytes, kind: type[Exception]) -> None:
    before, sent = run([ROLE, error, HELLO])
    assert type(before.error) is kind and sent == b"" and not before.first_content_seen
    after, sent = run([ROLE, HELLO, error, WORLD])
    assert type(after.error) is kind and sent == ROLE + HELLO


@pytest.mark.parametrize(
    "broken",
    [
        b'data: {"choices":[{"index":0,"delta":{"content":"half\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"x"}\n\n',
        b"data: <html>502</html>\n\n",
        b'data: {"a": nothing}\n\n',
        b'data: {"a": 1}{"b": 2}\n\n',
        b'data: "text"\n\n',
        b"data: " + b'{"a":' * 100_000 + b"\n\n",
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_what_no_client_could_read_reaches_none(broken: bytes, together: bool) -> None:
    parts = [ROLE, HELLO, WORLD, broken, WORLD, FINISH, DONE]
    relay, sent = run([ROLE + HELLO, b"".join(parts[2:])] if together else parts)
    assert isinstance(relay.error, BadAnswer)
    assert sent == ROLE + HELLO + WORLD
    assert relay.billable_usage(7) == run([ROLE, HELLO, WORLD])[0].billable_usage(7)


def test_what_is_loose_but_readable_goes_through() -> None:
    """Comments, data in several lines, other line ends, NaN, half a surrogate: with and without others around them."""
    odd = [COMMENT, HELLO.replace(b"{", b"{\ndata: ", 1), WORLD.replace(b"\n", b"\r\n"), COMMENT + WORLD]
    odd += [HELLO.replace(b'"index":0', b'"index":0,"logprobs":NaN'), chunk({"content": "x"}).replace(b"x", b"\\ud83d")]
    for stream in ([ROLE, HELLO, *odd, FINISH, DONE], [ROLE, HELLO, b"".join(odd), FINISH, DONE]):
        relay, sent = run(stream, wants_usage=True)
        assert relay.finished and relay.error is None
        assert sent.startswith(b"".join([ROLE, HELLO, *odd]))


def test_an_end_of_nothing_is_no_answer() -> None:
    for stream in ([DONE], [COMMENT, DONE], [AZURE_OPENING, DONE]):
        relay, sent = run(stream)
        assert relay.done and not relay.finished and sent == b""


def test_an_error_may_bring_usage() -> None:
    error = event({**IDENTITY, "choices": [], "error": {"code": 400, "message": "Token limit reached"}, "usage": USAGE})
    relay, _ = run([ROLE, HELLO, error])
    assert isinstance(relay.error, UpstreamRefusal)
    assert relay.usage is not None and relay.usage.output_tokens == 3


def test_lone_surrogates_do_not_break_the_end() -> None:
    finish = FINISH.replace(b'"delta":{}', b'"delta":{"content":"\\ud83d"}')
    _, sent = run([ROLE, HELLO, finish, USAGE_ONLY, DONE])
    assert b"\\ud83d" in sent and objects(sent)[-2]["usage"] == USAGE


def test_the_tier_of_the_answer() -> None:
    relay, _ = run([chunk({"content": "x"}, service_tier="priority"), FINISH, USAGE_ONLY, DONE])
    assert relay.usage is not None and relay.usage.service_tier == "priority"


def test_identity_for_chunks_of_the_gateways_own() -> None:
    relay, _ = run([AZURE_OPENING, ROLE, HELLO])
    assert relay.identity == {name: IDENTITY[name] for name in ("id", "created", "model")}


def test_chatter_is_bounded() -> None:
    relay = Relay(client_wants_usage=False)
    relay.feed(ROLE + HELLO + FINISH)
    relay.feed(chunk({}) * (HELD_LIMIT_EVENTS + 5))
    assert relay.done
    silent = Relay(client_wants_usage=False)
    for _ in range(300):
        silent.feed(b": " + b"x" * 4000 + b"\n\n")
    assert isinstance(silent.error, BadAnswer)
