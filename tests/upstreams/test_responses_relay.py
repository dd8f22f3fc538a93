"""The relay, the reader and the collector of Responses, on exchanges of our own writing."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tests.fakes import responses as fake
from upstreams import responses
from upstreams.errors import (
    AccountRefused,
    BadAnswer,
    ConnectionLost,
    ServerFailed,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRefusal,
)
from upstreams.responses_relay import PREFACE_LIMIT_BYTES, Relay
from upstreams.wire import Target, Usage

WHOLE = fake.response("one two three", 30, 12)
EVENTS = fake.stream_of(WHOLE)
STREAM = b"".join(EVENTS)
USED = Usage(input_tokens=30, output_tokens=12, service_tier="default")


def run(stream: bytes, step: int = 10**6) -> tuple[Relay, bytes]:
    relay = Relay()
    sent = b"".join(b"".join(relay.feed(stream[at : at + step])) for at in range(0, len(stream), step))
    return relay, sent + b"".join(relay.end_of_stream())


def item(kind: str, **members: Any) -> dict[str, Any]:
    return {"id": "i", "type": kind, "status": "completed", **members}


def test_a_request_keeps_every_byte_but_the_models_name() -> None:
    body = (
        b'{"model":"m","input":"\\u00e9","tools":[{"type" : "namespace"}],"store":false,"hypereal":{"cache":1},"n":1e2}'
    )
    target = Target("acme", "openai", "https://acme.example/v1/", "their-name", secret="sk")
    request = responses.build_request(target, msgspec.json.decode(body, type=dict[str, msgspec.Raw]), stream=False)
    assert request.path == "/v1/responses"
    assert request.body == (
        b'{"model":"their-name","input":"\\u00e9","tools":[{"type" : "namespace"}],"store":false,"n":1e2}'
    )


@pytest.mark.parametrize("step", [1, 2, 3, 50, 10**6])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_everything_goes_through_and_the_last_event_waits_for_the_settlement(step: int, newline: bytes) -> None:
    stream = STREAM.replace(b"\n", newline)
    relay, sent = run(stream, step)
    last = EVENTS[-1].replace(b"\n", newline)
    assert sent + last == stream
    assert (relay.finished, relay.done, relay.error, relay.usage) == (True, True, None, USED)
    assert relay.close() == [last]


def test_nothing_leaves_before_the_first_content() -> None:
    relay = Relay()
    added = fake.event("response.output_item.added", item=item("message", content=[]), output_index=0)
    part = fake.event("response.content_part.added", part={"type": "output_text", "text": ""})
    for quiet in (
        fake.beginning(),
        b": hello\n\n",
        fake.event("keepalive"),
        added,
        part,
        fake.event("response.queued"),
    ):
        assert relay.feed(quiet) == []
    assert not relay.first_content_seen
    [sent] = relay.feed(fake.delta("Hi"))
    assert relay.first_content_seen
    assert sent.startswith(fake.beginning()) and sent.endswith(fake.delta("Hi"))


@pytest.mark.parametrize(
    "event",
    [
        fake.delta("x"),
        fake.event("response.reasoning_summary_text.delta", delta="x"),
        fake.event("response.reasoning_text.delta", delta="x"),
        fake.event("response.function_call_arguments.delta", delta="{"),
        fake.event("response.output_item.added", item=item("function_call", name="f")),
        fake.event("response.output_item.added", item=item("web_search_call")),
        fake.event("response.output_item.done", item=item("reasoning", encrypted_content="x")),
        fake.event("response.web_search_call.searching"),
        fake.event("response.of_a_kind_to_come", x=1),
    ],
)
def test_what_counts_as_content(event: bytes) -> None:
    relay = Relay()
    relay.feed(fake.beginning())
    assert b"".join(relay.feed(event)) == fake.beginning() + event
    assert relay.first_content_seen


def test_an_answer_without_content_is_whole_all_the_same() -> None:
    end = fake.event("response.completed", response={**WHOLE, "output": []})
    relay, sent = run(fake.beginning() + end)
    assert (sent, relay.finished, relay.first_content_seen) == (b"", True, False)
    assert b"".join(relay.close()) == fake.beginning() + end


def test_what_comes_behind_the_end_is_dropped() -> None:
    relay, sent = run(STREAM + b"data: [DONE]\n\n" + fake.delta("more"))
    assert sent + b"".join(relay.close()) == STREAM


def test_words_of_the_format_inside_texts_change_nothing() -> None:
    text = 'say "response.completed", "type":"error", data: [DONE] and event: error\n\n"error": {"x":1}'
    stream = b"".join([fake.beginning(), fake.delta(text), fake.delta(text), EVENTS[-1]])
    relay, sent = run(stream)
    assert sent + b"".join(relay.close()) == stream
    assert relay.error is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("server_error", ServerFailed), ("insufficient_quota", AccountRefused), ("invalid_api_key", AccountRefused),
        ("rate_limit_exceeded", UpstreamRateLimited), ("invalid_prompt", UpstreamRefusal),
        ("context_length_exceeded", UpstreamRefusal), ("image_content_policy_violation", UpstreamRefusal),
        ("vector_store_timeout", ServerFailed), ("brand_new", ServerFailed),
    ],
)  # fmt: skip
@pytest.mark.parametrize("content", [False, True])
def test_a_failed_response_is_an_error_of_its_class(code: str, kind: type[UpstreamError], content: bool) -> None:
    before = fake.beginning() + (fake.delta("Hi") if content else b"")
    relay, sent = run(before + fake.failed(code, "why") + fake.delta("more"))
    assert isinstance(relay.error, kind)
    assert (sent, relay.finished) == (before if content else b"", False)
    with pytest.raises(kind):
        responses.collect(before + fake.failed(code, "why"))
    body = json.dumps({**WHOLE, "status": "failed", "error": {"code": code, "message": "why"}}).encode()
    with pytest.raises(kind):
        responses.complete(body)


@pytest.mark.parametrize(
    "event",
    [
        fake.event("error", code="server_error", message="x", param=None),
        b'event: error\ndata: {"error":{"message":"x"}}\n\n',
        b'data: {"error":{"message":"x"}}\n\n',
        b'data: {"error":"x"}\n\n',
        fake.event("response.failed", response=None),
        fake.event("response.failed", response={"error": None}),
    ],
)
def test_every_form_of_an_error_is_one(event: bytes) -> None:
    for before in (fake.beginning(), fake.beginning() + fake.delta("Hi")):
        relay, _ = run(before + event)
        assert isinstance(relay.error, ServerFailed)


def test_a_cut_stream_is_not_finished_and_is_estimated() -> None:
    relay, sent = run(fake.beginning() + fake.delta("sixteen letters!") + fake.delta("x") + fake.delta("half")[:-9])
    assert sent == fake.beginning() + fake.delta("sixteen letters!") + fake.delta("x")
    assert (relay.finished, relay.error) == (False, None)
    assert relay.billable_usage(7) == Usage(input_tokens=7, output_tokens=5, estimated=True)
    with pytest.raises(ConnectionLost):
        responses.collect(fake.beginning() + fake.delta("x"))


@pytest.mark.parametrize(
    "broken", [fake.delta("half")[:-9] + b"\n\n", b"data: <html>\n\n", b'event: x\ndata: {"a":}\n\n']
)
def test_what_no_client_could_read_reaches_none(broken: bytes) -> None:
    before = fake.beginning() + fake.delta("sixteen letters!")
    for cut in (len(before), 10**6):
        relay, sent = run(before + fake.delta("x") + broken + fake.delta("y"), cut)
        assert isinstance(relay.error, BadAnswer)
        assert sent == before + fake.delta("x")
        assert relay.billable_usage(7).output_tokens == 5
    readable = fake.delta("x") + b": note\n\n" + fake.delta("y").replace(b"\n", b"\r\n")
    relay, sent = run(before + readable, len(before))
    assert (sent, relay.error) == (before + readable, None)


def test_a_last_event_without_its_blank_line_counts() -> None:
    relay, _ = run(STREAM[:-2])
    assert (relay.finished, relay.usage) == (True, USED)
    assert json.loads(responses.collect(STREAM[:-2])) == WHOLE


def test_texts_that_are_repeated_whole_are_not_counted_twice() -> None:
    again = fake.event("response.output_text.done", text="sixteen letters!")
    done = fake.event("response.output_item.done", item=fake.message("sixteen letters!"))
    for step in (1, 10**6):
        relay, _ = run(fake.beginning() + fake.delta("sixteen letters!") + again + done, step)
        assert relay.output_tokens_estimate == 4


def test_a_preface_without_end_is_no_answer() -> None:
    relay = Relay()
    for _ in range(5):
        relay.feed(fake.event("keepalive", padding="x" * (PREFACE_LIMIT_BYTES // 4)))
    assert isinstance(relay.error, BadAnswer)


SEARCH = item("web_search_call", action={"type": "search", "query": "q"})
OPENED = item("web_search_call", action={"type": "open_page"})


@pytest.mark.parametrize(
    ("members", "calls"),
    [
        ({"output": [SEARCH, OPENED, SEARCH, fake.message("x")]}, {"web_search_call": 2}),
        ({"output": [item("web_search_call")]}, {"web_search_call": 1}),
        ({"output": [SEARCH], "tool_usage": {"web_search": {"num_requests": 3}}}, {"web_search_call": 3}),
        ({"output": [SEARCH], "tool_usage": {"web_search": {"num_requests": 0}}}, {"web_search_call": 1}),
        ({"output": [item("code_interpreter_call"), item("file_search_call"), item("mcp_call")]},
         {"code_interpreter_call": 1, "file_search_call": 1, "mcp_call": 1}),
        ({"output": [item("function_call"), item("custom_tool_call"), item("local_shell_call"), item("computer_call"),
                     item("tool_search_call", execution="client"), 3]}, {}),
    ],
)  # fmt: skip
def test_uses_of_server_tools(members: dict[str, Any], calls: dict[str, int]) -> None:
    output = [each for each in members["output"] if isinstance(each, dict)]
    whole = {**WHOLE, **members}
    assert dict(responses.complete(json.dumps(whole).encode()).server_tool_calls) == calls
    stream = fake.beginning() + fake.event("response.completed", response=whole)
    relay, _ = run(stream)
    assert relay.usage is not None
    assert dict(relay.usage.server_tool_calls) == calls
    told = {**whole, "output": []}  # what the last event leaves out was seen before
    shown = b"".join(fake.event("response.output_item.done", item=each, output_index=0) for each in output)
    relay, _ = run(fake.beginning() + fake.delta("x") + shown + fake.event("response.completed", response=told))
    assert relay.usage is not None
    assert dict(relay.usage.server_tool_calls) == calls
    cut, _ = run(fake.beginning() + fake.delta("x") + shown)
    seen = {name: min(count, sum(each["type"] == name for each in output)) for name, count in calls.items()}
    assert dict(cut.billable_usage(1).server_tool_calls) == seen


def test_events_of_our_own_go_on_from_the_upstreams() -> None:
    relay = Relay()
    assert dict(relay.identity) == {"response": {}, "sequence_number": 0}
    relay.feed(fake.beginning(id="resp_x") + fake.delta("x", 7) + fake.delta("y", 8))
    assert (relay.identity["response"]["id"], relay.identity["sequence_number"]) == ("resp_x", 9)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", BadAnswer), (b'{"id":', BadAnswer), (b'{"object":"response"}', BadAnswer), (b"[]", BadAnswer),
        (b'{"error":{"code":"insufficient_quota"}}', AccountRefused), (b'{"output":null}', BadAnswer),
        (b'{"output":[],"status":"failed"}', UpstreamError), (b'{"output":"x"}', BadAnswer),
    ],
)  # fmt: skip
def test_what_is_no_response(body: bytes, kind: type[UpstreamError]) -> None:
    with pytest.raises(kind):
        responses.complete(body)


def test_a_response_without_usage_is_estimated() -> None:
    usage = responses.complete(json.dumps({**WHOLE, "usage": None}).encode(), input_estimate=5)
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (5, 4, True)


def test_a_lone_surrogate_is_billed_like_any_text() -> None:
    body = json.dumps(fake.response("\ud800", 30, 12)).encode()
    assert responses.complete(body) == USED
    stream = responses.as_stream(body)
    relay, sent = run(stream)
    assert (relay.usage, sent + b"".join(relay.close())) == (USED, stream)
    assert responses.complete(responses.collect(stream)) == USED


@pytest.mark.parametrize("whole", [
    WHOLE, fake.response("", 1, 1), {**WHOLE, "status": "incomplete", "incomplete_details": {"reason": "x"}},
    {**WHOLE, "output": [item("reasoning", summary=[]), fake.call("f", "{}"), item("custom_tool_call", input="x")]},
])  # fmt: skip
def test_a_whole_response_as_a_stream_and_back(whole: dict[str, Any]) -> None:
    stream = responses.as_stream(json.dumps(whole).encode())
    assert json.loads(responses.collect(stream)) == whole
    values = [json.loads(part.split(b"data: ")[1]) for part in stream.split(b"\n\n")[:-1]]
    assert [value["sequence_number"] for value in values] == list(range(len(values)))
    done = [value["item"] for value in values if value["type"] == "response.output_item.done"]
    assert done == whole["output"]
    assert values[-1]["type"] == f"response.{whole['status']}"
