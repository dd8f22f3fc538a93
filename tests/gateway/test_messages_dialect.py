"""What a messages request asks for, read from its bytes; errors and early ends in the format's own words."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InsufficientCredits, InvalidRequest, Overloaded
from gateway.dialects.anthropic_messages import DIALECT, Receipts, dialect_for
from gateway.dialects.base import Call, Receipt
from upstreams.wire import Usage

ID = UUID(int=7)


def parse(**fields: Any) -> Call:
    said = [{"role": "user", "content": "hi"}]
    return DIALECT.parse(json.dumps({"model": "m", "max_tokens": 100, "messages": said, **fields}).encode())


def test_a_plain_request() -> None:
    call = parse(hypereal={"cache": True}, intent="chat")
    assert (call.kind, call.model, call.stream, call.output_ceiling) == ("messages", "m", False, 100)
    assert (call.service_tier, call.server_tools, call.other_models) == (None, (), ())
    assert set(call.fields) == {"model", "max_tokens", "messages"}
    assert b"cache_control" in bytes(call.fields["messages"])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"stream": True}, {"stream": True}),
        ({"max_tokens": 0}, {"output_ceiling": 0}),
        ({"service_tier": "standard_only"}, {"service_tier": "standard_only"}),
        ({"speed": "standard", "inference_geo": "global"}, {"service_tier": None}),
        ({"speed": "fast"}, {"service_tier": "fast", "service_tier_param": "speed"}),
        ({"inference_geo": "us"}, {"service_tier": "inference_geo_us", "service_tier_param": "inference_geo"}),
        ({"tools": [{"type": "web_search_20250305"}]}, {"server_tools": (("web_search_requests", "tools[0]"),)}),
        ({"tools": [{}, {"type": "code_execution_20260120"}]}, {"server_tools": (("code_execution", "tools[1]"),)}),
        ({"tools": [{"type": "laser_20300101"}]}, {"server_tools": (("laser", "tools[0]"),)}),
        ({"tools": [{"type": "advisor_20260301", "model": "o"}]}, {"other_models": (("o", "tools[0].model"),)}),
        (
            {"fallbacks": [{"model": "a"}, {"model": "b", "max_tokens": 900, "speed": "standard"}]},
            {
                "other_models": (("a", "fallbacks[0].model"), ("b", "fallbacks[1].model")),
                "output_ceiling": 900,
            },
        ),
        ({"tools": None, "fallbacks": None, "speed": None, "hypereal": None}, {"server_tools": (), "other_models": ()}),
    ],
    ids=str,
)
def test_what_is_read(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    call = parse(**fields)
    assert {name: getattr(call, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"messages": "hi"}, "messages"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"tools": {}}, "tools"),
        ({"tools": ["web_search"]}, "tools"),
        ({"tools": [{"type": "advisor_20260301"}]}, "tools[0].model"),
        ({"fallbacks": [{"model": 5}]}, "fallbacks"),
        ({"fallbacks": [{"model": "a", "speed": "fast"}]}, "fallbacks[0].speed"),
        ({"fallbacks": [{"model": "a", "max_tokens": -1}]}, "max_tokens"),
        ({"speed": 5}, "speed"),
        ({"speed": "fast", "inference_geo": "us"}, "inference_geo"),
        ({"hypereal": []}, "hypereal"),
    ],
    ids=str,
)
def test_what_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(**fields)
    assert refused.value.param == param


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model":"m","messages":' + b"[" * 200_000])
def test_what_is_no_request(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        DIALECT.parse(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
members = st.sampled_from(
    ["tools", "system", "messages", "fallbacks", "speed", "inference_geo", "hypereal", "stream", "max_tokens", "model"]
)


@given(st.dictionaries(members, json_values, max_size=4))
def test_any_json_is_understood_or_refused(fields: dict[str, Any]) -> None:
    try:
        call = parse(**fields)
    except InvalidRequest:
        return
    assert msgspec.json.encode(call.fields)
    assert call.output_ceiling is not None and call.output_ceiling >= 0


@pytest.mark.parametrize(
    ("headers", "query", "kept", "passed"),
    [
        ([], b"", [("anthropic-version", "2023-06-01")], ""),
        ([(b"anthropic-version", b"2026-10-21")], b"beta=true", [("anthropic-version", "2026-10-21")], "beta=true"),
        (
            [(b"anthropic-beta", b"a,b"), (b"x-api-key", b"ck_1"), (b"anthropic-beta", b"c")],
            b"key=ck_1&beta=true",
            [("anthropic-version", "2023-06-01"), ("anthropic-beta", "a,b,c")],
            "beta=true",
        ),
        ([], b"beta=false&x=1", [("anthropic-version", "2023-06-01")], ""),
    ],
)
def test_what_of_a_request_goes_upstream(
    headers: list[tuple[bytes, bytes]], query: bytes, kept: list[tuple[str, str]], passed: str
) -> None:
    body = b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}]}'
    forwarded = dialect_for(headers, query).parse(body).forwarded
    assert (list(forwarded.headers), forwarded.query) == (kept, passed)
    assert dialect_for(headers, query).parse_count(body).forwarded == forwarded


def test_errors() -> None:
    error = InsufficientCredits("Too poor.", extra={"required_credits": 5, "available_credits": 1.5})
    told = {"type": "insufficient_credits", "message": "Too poor.", "code": "insufficient_credits", **error.extra}
    assert json.loads(DIALECT.error(error, ID)) == {"type": "error", "error": told, "request_id": str(ID)}
    frame = DIALECT.error_frame(Overloaded("busy"), ID)
    assert frame.startswith(b"event: error\ndata: {")
    assert frame.endswith(b"}\n\n")


@pytest.mark.parametrize(
    ("identity", "kinds"),
    [
        ({"id": "msg_1", "model": "m", "started": True, "open_block": 2}, ["content_block_stop"]),
        ({"id": "msg_1", "model": "m", "started": True, "open_block": None}, []),
        ({"id": "msg_1", "model": "m", "started": False, "open_block": None}, ["message_start"]),
        ({}, ["message_start"]),
    ],
)
def test_an_early_end_fits_what_was_sent(identity: dict[str, Any], kinds: list[str]) -> None:
    frames = DIALECT.stop_frames(identity, parse(), Usage(10, output_tokens=5), "no more")
    events = [json.loads(frame.split(b"data: ")[1]) for frame in frames]
    assert [event["type"] for event in events] == [*kinds, "message_delta", "message_stop"]
    assert (events[-2]["delta"]["stop_reason"], events[-2]["usage"]["output_tokens"]) == ("max_tokens", 5)
    if kinds == ["content_block_stop"]:
        assert events[0]["index"] == 2


def test_the_reason_of_an_early_end_stays_beside_the_receipt() -> None:
    frames = DIALECT.stop_frames({}, parse(), Usage(10, output_tokens=5), "no more")
    receipts = Receipts("auto", 1)
    receipt = Receipt(ID, "m", "p", "p//u", 1, True, Usage(10, output_tokens=5), 2_500_000, 0)
    told = json.loads(receipts.in_stream(frames, receipt)[-2].split(b"data: ")[1])["hypereal"]
    assert (told["stopped"], told["credits"], told["sandbox"]) == ("no more", 2.5, True)
