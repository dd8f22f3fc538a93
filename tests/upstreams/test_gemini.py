"""The adapter of Gemini's own format by itself: requests, usage, streams, and what failing answers mean."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import gemini as fake
from upstreams import classify, gemini
from upstreams.errors import AccountRefused, BadAnswer, ConnectionLost, ServerFailed, UpstreamError, UpstreamRateLimited
from upstreams.gemini_relay import Relay
from upstreams.gemini_usage import read_usage
from upstreams.wire import Target, TargetOptions

FIELDS = {"contents": msgspec.Raw(b"[1]"), "model": msgspec.Raw(b'"x"'), "hypereal": msgspec.Raw(b"{}")}


def target(base_url: str, model: str = "gemini-x", **options: Any) -> Target:
    return Target("google", "gemini", base_url, model, "k" * 20, options=TargetOptions(**options))


@pytest.mark.parametrize(
    ("base_url", "model", "path"),
    [
        ("https://g.example", "gemini-x", "/v1beta/models/gemini-x"),
        ("https://g.example/v1beta/", "gemini-x", "/v1beta/models/gemini-x"),
        ("https://g.example/v1", "models/gemini-x", "/v1/models/gemini-x"),
        ("https://g.example/x/v1beta1", "publishers/google/models/g", "/x/v1beta1/publishers/google/models/g"),
        ("https://g.example", "odd name?#", "/v1beta/models/odd%20name%3F%23"),
    ],
)
def test_where_a_request_goes(base_url: str, model: str, path: str) -> None:
    built = gemini.build_request(target(base_url, model, query="x=1"), FIELDS, stream=True)
    assert built.path == f"{path}:streamGenerateContent?alt=sse&x=1"
    assert json.loads(built.body) == {"contents": [1]}
    assert gemini.build_request(target(base_url, model), FIELDS, stream=False).path == f"{path}:generateContent"
    assert gemini.count_request(target(base_url, model), FIELDS).path == f"{path}:countTokens"


def test_the_key_stands_where_each_wants_it() -> None:
    own = dict(gemini.build_request(target("https://g.example"), FIELDS, stream=False).headers)
    bearer = dict(gemini.build_bearer_request(target("https://g.example"), FIELDS, stream=False).headers)
    none = dict(gemini.build_request(target("https://g.example", auth="none"), FIELDS, stream=False).headers)
    assert (own["x-goog-api-key"], "authorization" in own) == ("k" * 20, False)
    assert (bearer["authorization"], "x-goog-api-key" in bearer) == (f"Bearer {'k' * 20}", False)
    assert not {"authorization", "x-goog-api-key"} & set(none)


def counted(
    prompt: Any = None, said: Any = None, thoughts: Any = None, total: Any = None, **more: Any
) -> dict[str, Any]:
    names = {"promptTokenCount": prompt, "candidatesTokenCount": said, "thoughtsTokenCount": thoughts}
    return {**{name: count for name, count in {**names, "totalTokenCount": total}.items() if count is not None}, **more}


@pytest.mark.parametrize(
    ("block", "billed"),
    [
        # Thinking beside the candidates, and an old model that counted it among them.
        (counted(35, 12, 62, 109), (35, 74)),
        (counted(35, 74, 62, 109), (35, 74)),
        # What a tool brought in is input.
        (counted(32, 5, None, 2432, toolUsePromptTokenCount=2395), (2427, 5)),
        (counted(8, None, None, 8), (8, 0)),
        (counted(8, 3, 4), (8, 7)),
        (counted(-5, total="9"), (0, 0)),
    ],
)
def test_tokens_to_bill(block: dict[str, Any], billed: tuple[int, int]) -> None:
    usage = read_usage(block)
    assert (usage.input_tokens, usage.output_tokens) == billed


def test_sound_and_speed_classes_are_told_apart() -> None:
    def sound(tokens: int) -> list[dict[str, Any]]:
        return [{"modality": "TEXT", "tokenCount": 9}, {"modality": "AUDIO", "tokenCount": tokens}]

    block = {
        **fake.usage(100, 50, cached=40),
        "promptTokensDetails": sound(60),
        "cacheTokensDetails": sound(20),
        "candidatesTokensDetails": sound(30),
    }
    usage = read_usage(block)
    assert (usage.audio_input_tokens, usage.audio_output_tokens) == (40, 30)
    assert read_usage({**block, "serviceTier": "SERVICE_TIER_PRIORITY"}).service_tier == "priority"
    assert read_usage({**block, "trafficType": "ON_DEMAND_FLEX"}).service_tier == "flex"
    assert read_usage({**block, "trafficType": "ON_DEMAND", "serviceTier": "unspecified"}).service_tier is None


@given(st.dictionaries(st.sampled_from([*list(fake.usage(1, 1, 1, 1)), "toolUsePromptTokenCount"]),
                       st.none() | st.integers(-10, 10**13) | st.floats() | st.text(max_size=3)))  # fmt: skip
def test_no_usage_block_gives_negative_tokens(block: dict[str, Any]) -> None:
    usage = read_usage(block)
    assert 0 <= usage.cached_input_tokens <= usage.input_tokens
    assert 0 <= usage.reasoning_tokens <= usage.output_tokens
    assert 0 <= usage.audio_input_tokens <= usage.uncached_input_tokens


@pytest.mark.parametrize(("version", "searches"), [("gemini-3-pro", 2), ("gemini-2.5-pro", 1), ("", 2)])
def test_searches_are_counted_as_each_generation_is_billed(version: str, searches: int) -> None:
    found = {"groundingMetadata": {"webSearchQueries": ["a", "b", "a", ""]}}
    answer = {**fake.piece(fake.text("x"), finish="STOP", counts=fake.usage(), **found), "modelVersion": version}
    assert dict(gemini.complete(json.dumps(answer).encode()).server_tool_calls) == {"google_search": searches}


STREAM = [
    fake.event(fake.piece(fake.text("Hel"), counts={"promptTokenCount": 9, "totalTokenCount": 9})),
    fake.event(fake.piece(fake.text("lo"))),
    fake.event(fake.piece(fake.text(""), finish="STOP", counts=fake.usage(9, 5))),
]


@given(st.integers(1, 400))
def test_a_stream_is_relayed_to_the_byte_however_it_is_cut(size: int) -> None:
    stream, relay = b"".join(STREAM), Relay()
    out = [piece for at in range(0, len(stream), size) for piece in relay.feed(stream[at : at + size])]
    out += relay.end_of_stream()
    assert relay.finished
    assert b"".join(out) == b"".join(STREAM[:2])  # the end waits for the settlement
    assert b"".join([*out, *relay.close()]) == stream
    assert relay.billable_usage(99) == read_usage(fake.usage(9, 5))


def test_a_cut_stream_is_estimated_from_what_came() -> None:
    relay = Relay()
    relay.feed(b"".join(STREAM[:2]))
    assert (relay.finished, relay.first_content_seen) == (False, True)
    usage = relay.billable_usage(99)
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (9, 2, True)


def test_usage_is_shown_where_the_provider_sent_none() -> None:
    relay = Relay()
    relay.feed(fake.event(fake.piece(fake.text("sixteen letters!"), finish="STOP")))
    usage = relay.billable_usage(30)
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (30, 4, True)
    [last] = relay.close(usage)
    assert json.loads(last[6:])["usageMetadata"]["totalTokenCount"] == 34


def test_nothing_leaves_before_the_first_content_and_comments_never() -> None:
    relay = Relay()
    empty = fake.event(fake.piece(fake.text(""), counts={"promptTokenCount": 9, "totalTokenCount": 9}))
    assert relay.feed(b": waking up\n\n" + empty) == []
    assert not relay.first_content_seen
    assert relay.feed(STREAM[0]) == [empty + STREAM[0]]


def test_every_candidate_has_an_end_of_its_own() -> None:
    relay = Relay(choices=2)
    for index in (0, 1):
        assert not relay.finished
        relay.feed(fake.event(fake.piece(fake.text("x"), finish="STOP", index=index)))
    assert relay.finished


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (fake.error(503, "UNAVAILABLE", "The model is overloaded."), ServerFailed),
        (fake.error(429, "RESOURCE_EXHAUSTED", retryDelay="34.4s"), UpstreamRateLimited),
        (fake.error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."), AccountRefused),
        (fake.error(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), AccountRefused),
        (fake.error(400, "FAILED_PRECONDITION", "Please enable billing on your project."), AccountRefused),
        (fake.error(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted."), AccountRefused),
        (fake.error(403, "PERMISSION_DENIED"), AccountRefused),
    ],
)
def test_googles_errors(error: dict[str, Any], kind: type[UpstreamError]) -> None:
    relay = Relay()
    relay.feed(fake.event(error))
    assert isinstance(relay.error, kind)
    assert isinstance(classify.refuse(error["error"]["code"], {}, json.dumps(error).encode()), kind)
    with pytest.raises(kind):
        gemini.complete(json.dumps(error).encode())
    if kind is UpstreamRateLimited:
        assert relay.error.retry_after == 34.4


@pytest.mark.parametrize(
    "body", [b"", b"{", b"<html>", b"{}", b"[]", b'"x"', b'{"candidates": []}', b'[{"candidates": 5}]']
)
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        gemini.complete(body)


def test_a_stream_as_one_answer() -> None:
    collected = json.loads(gemini.collect(b"".join(STREAM)))
    assert collected["candidates"][0]["content"]["parts"] == [{"text": "Hello"}]
    assert collected["usageMetadata"] == fake.usage(9, 5)
    listed = json.dumps([json.loads(event[6:]) for event in STREAM]).encode()
    assert json.loads(gemini.merged(listed)) == collected
    assert gemini.complete(listed) == read_usage(fake.usage(9, 5))
    with pytest.raises(ConnectionLost):
        gemini.collect(b"".join(STREAM[:2]))
    with pytest.raises(ServerFailed):
        gemini.collect(STREAM[0] + fake.event(fake.error(500, "INTERNAL")))
