"""Embeddings: the request, what an answer used, and the sandbox's own."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import msgspec
import pytest

from upstreams import embeddings
from upstreams.errors import AccountRefused, BadAnswer, UpstreamError, UpstreamRefusal
from upstreams.sandbox import embeddings as sandbox
from upstreams.sandbox.server import Whole
from upstreams.wire import Target, Usage

TARGET = Target("acme", "openai", "https://acme.example/v1", "their-name", secret="sk-secret")
VECTORS: list[Any] = [{"object": "embedding", "index": 0, "embedding": [0.1, -0.2]}]


def answer(**members: Any) -> bytes:
    return json.dumps({"object": "list", "data": VECTORS, "model": "m", **members}).encode()


def test_a_request_keeps_every_byte_but_the_models_name() -> None:
    body = b'{"model":"m","input":["a","\\u00e9"],"encoding_format" : "base64","dimensions":2,"hypereal":{}}'
    request = embeddings.build_request(TARGET, msgspec.json.decode(body, type=dict[str, msgspec.Raw]))
    assert (request.method, request.path) == ("POST", "/v1/embeddings")
    assert request.body == b'{"model":"their-name","input":["a","\\u00e9"],"encoding_format":"base64","dimensions":2}'
    assert ("authorization", "Bearer sk-secret") in request.headers


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"usage": {"prompt_tokens": 12, "total_tokens": 12}}, Usage(input_tokens=12)),
        ({"usage": {"prompt_tokens": 12, "total_tokens": 15}}, Usage(input_tokens=12)),
        ({"usage": {"prompt_tokens": 0, "total_tokens": 0}}, Usage(input_tokens=7, estimated=True)),
        ({"usage": None}, Usage(input_tokens=7, estimated=True)),
        ({}, Usage(input_tokens=7, estimated=True)),
    ],
)
def test_what_an_answer_used(members: dict[str, Any], expected: Usage) -> None:
    assert embeddings.complete(answer(**members), input_estimate=7) == expected


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", BadAnswer), (b"data: {}\n\n", BadAnswer), (b'{"data"', BadAnswer),
        (b'{"object":"list"}', BadAnswer),
        (b'{"data":null}', BadAnswer), (b'{"error":{"code":"insufficient_quota"}}', AccountRefused),
        (b'{"error":{"type":"invalid_request_error","message":"too long"}}', UpstreamRefusal),
    ],
)  # fmt: skip
def test_what_is_no_answer(body: bytes, kind: type[UpstreamError]) -> None:
    with pytest.raises(kind):
        embeddings.complete(body)
    with pytest.raises(kind):
        embeddings.collect(body)


async def ask(**members: Any) -> tuple[int, Any]:
    body = json.dumps({"model": "text-embedding-3-small", "input": "hello world", **members}).encode()
    whole = await sandbox.Endpoint().answer(body)
    assert isinstance(whole, Whole)
    return whole.status, whole.value


@pytest.mark.parametrize(
    ("given", "vectors", "tokens"),
    [("hello world", 1, 2), (["hello", "big world"], 2, 3), ([1, 2, 3], 1, 3), ([[1, 2], [3]], 2, 3)],
)
async def test_the_sandbox_takes_every_kind_of_input(given: Any, vectors: int, tokens: int) -> None:
    _, value = await ask(input=given)
    assert [entry["index"] for entry in value["data"]] == list(range(vectors))
    assert value["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert all(len(entry["embedding"]) == 1536 for entry in value["data"])
    assert value == (await ask(input=given))[1]


async def test_the_sandbox_speaks_base64() -> None:
    _, plain = await ask(dimensions=8)
    _, packed = await ask(dimensions=8, encoding_format="base64")
    numbers = struct.unpack("<8f", base64.b64decode(packed["data"][0]["embedding"]))
    assert numbers == pytest.approx(plain["data"][0]["embedding"])
    assert sum(number * number for number in numbers) == pytest.approx(1)


def test_texts_that_share_words_are_near() -> None:
    def near(one: str, other: str) -> float:
        return sum(a * b for a, b in zip(sandbox.vector(one, 512), sandbox.vector(other, 512), strict=True))

    assert near("a red apple", "the red apple") > 0.5 > abs(near("a red apple", "night train north"))


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": ""}, "input"), ({"input": []}, "input"), ({"input": [""]}, "input"), ({"input": [[]]}, "input"),
        ({"input": {"a": 1}}, "input"), ({"dimensions": 0}, "dimensions"), ({"dimensions": 4096}, "dimensions"),
        ({"dimensions": True}, "dimensions"), ({"model": None}, "model"),
    ],
)  # fmt: skip
async def test_the_sandbox_refuses(members: dict[str, Any], param: str) -> None:
    status, value = await ask(**members)
    assert (status, value["error"]["param"]) == (400, param)
