"""The chat dialect as rows of input and output."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.errors import InsufficientCredits, InvalidRequest
from core.ids import uuid7
from gateway.dialects.openai_chat import DIALECT
from upstreams.wire import Usage

MESSAGES: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}]}


def parse(**fields: Any) -> Any:
    return DIALECT.parse(json.dumps({"model": "m", **MESSAGES, **fields}).encode())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"model": "m", "stream": False, "output_ceiling": None, "choices": 1, "wants_usage": False}),
        ({"stream": True}, {"stream": True, "wants_usage": False}),
        ({"stream": True, "stream_options": {"include_usage": True}}, {"wants_usage": True}),
        ({"stream": True, "stream_options": {"include_usage": None}}, {"wants_usage": False}),
        ({"stream": False, "stream_options": {"include_usage": True}}, {"wants_usage": False}),
        ({"stream": None, "n": None, "max_tokens": None}, {"stream": False, "choices": 1, "output_ceiling": None}),
        ({"max_tokens": 7}, {"output_ceiling": 7}),
        ({"max_tokens": 7, "max_completion_tokens": 9}, {"output_ceiling": 9}),
        ({"max_completion_tokens": 9, "n": 3}, {"output_ceiling": 27, "choices": 3}),
        ({"service_tier": "priority"}, {"service_tier": "priority"}),
        ({"service_tier": None}, {"service_tier": None}),
        ({"model": "", "intent": "fast"}, {"model": "", "intent": "fast"}),
    ],
)
def test_what_is_read(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    call = parse(**fields)
    assert {name: getattr(call, name) for name in expected} == expected


def test_what_is_not_read_keeps_its_bytes_and_our_own_members_go() -> None:
    body = b'{"model":"m","messages":[1] , "x": {"a" : 1.10},"hypereal":{"cache":false},"intent":"fast","y":1e2}'
    fields = {name: bytes(raw) for name, raw in DIALECT.parse(body).fields.items()}
    assert fields == {"model": b'"m"', "messages": b"[1]", "x": b'{"a" : 1.10}', "y": b"1e2"}


def test_of_doubled_members_the_last_is_read_and_the_only_one() -> None:
    call = DIALECT.parse(b'{"model":"cheap","mod\\u0065l":"dear","messages":[1]}')
    assert call.model == "dear"
    assert list(call.fields) == ["model", "messages"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"nope", None), (b"\xff\xfe", None), (b"3", None), (b"[" * 100_000, None),
        (b'{"model":' + b"[" * 100_000, None),
        (b'{"model":"m","messages":[ ]}', "messages"), (b'{"model":"m","messages":null}', "messages"),
        (b'{"model":"m","messages":{}}', "messages"), (b'{"model":"' + b"x" * 300 + b'","messages":[1]}', "model"),
        (b'{"model":"m","messages":[1],"max_tokens":1.5}', "max_tokens"),
        (b'{"model":"m","messages":[1],"max_tokens":true}', "max_tokens"),
        (b'{"model":"m","messages":[1],"max_tokens":0}', "max_tokens"),
        (b'{"model":"m","messages":[1],"n":0}', "n"),
        (b'{"model":"m","messages":[1],"service_tier":5}', "service_tier"),
        (b'{"model":"m","messages":[1],"stream":1}', "stream"),
        (b'{"model":"m","messages":[1],"stream":true,"stream_options":"x"}', "stream_options"),
    ],
)  # fmt: skip
def test_what_is_refused(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        DIALECT.parse(body)
    assert refused.value.param == param


@pytest.mark.parametrize("shift", range(4))
def test_every_language_fits_however_long_the_text(shift: int) -> None:
    """A long body is looked through in pieces, which cut characters of several bytes anywhere."""
    text = "." * shift + "日本語 🎨 é " * 200_000
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}, ensure_ascii=False).encode()
    assert len(body) > 3_000_000
    assert DIALECT.parse(body).body == body
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        DIALECT.parse(body.replace("é".encode(), b"\xe9", 1))


def test_errors_have_openais_shape() -> None:
    error = InsufficientCredits("no", extra={"required_credits": 200, "available_credits": 1.5})
    body = json.loads(DIALECT.error(error, uuid7()))
    assert body == {
        "error": {
            "type": "insufficient_credits", "code": "insufficient_credits", "param": None, "message": "no",
            "required_credits": 200, "available_credits": 1.5,
        }
    }  # fmt: skip
    frame = DIALECT.error_frame(error, uuid7())
    assert (frame[:6], frame[-2:], json.loads(frame[6:])) == (b"data: ", b"\n\n", body)


@pytest.mark.parametrize("wants_usage", [False, True])
def test_an_early_end_is_a_proper_end(wants_usage: bool) -> None:
    call = parse(stream=True, n=2, stream_options={"include_usage": wants_usage})
    frames = DIALECT.stop_frames({"id": "c1", "model": "m"}, call, Usage(input_tokens=3, output_tokens=4), "why")
    assert frames[-1] == b"data: [DONE]\n\n"
    finish = json.loads(frames[0][6:])
    assert [choice["finish_reason"] for choice in finish["choices"]] == ["length", "length"]
    assert (finish["id"], finish["hypereal"]) == ("c1", {"stopped": "why"})
    carrier = json.loads(frames[1][6:]) if wants_usage else finish
    assert carrier["usage"]["total_tokens"] == 7
    assert bool(carrier["choices"]) is not wants_usage
