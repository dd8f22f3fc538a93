"""Whatever a caller sends to the Gemini paths is answered in Google's shape, costs nothing unsaid and holds nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes import gemini
from tests.fakes import upstream as chat
from tests.fakes.upstream import Behaviour, Conversation
from tests.gateway.test_gemini import CONTENTS, served_by
from tests.support import http
from tests.support.gateway import Caller, Gateway

MEMBERS = (
    "contents", "messages", "model", "stream", "tools", "generationConfig", "generation_config", "systemInstruction",
    "toolConfig", "safetySettings", "cachedContent", "serviceTier", "hypereal", "intent", "n", "stop", "tool_choice",
)  # fmt: skip
INNER = (
    "parts", "role", "text", "functionCall", "functionResponse", "inlineData", "fileData", "name", "args", "id", "data",
    "functionDeclarations", "googleSearch", "maxOutputTokens", "candidateCount", "content", "thoughtSignature",
    "executableCode", "tool_calls", "function", "image_url", "response", "mimeType", "thinkingConfig",
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6) | st.just("user"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER), inner, max_size=4),
    max_leaves=15,
)
BODIES = st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=5).map(lambda body: json.dumps(body).encode())
NEARLY = st.dictionaries(st.sampled_from(MEMBERS[2:]), VALUES, max_size=3).map(
    lambda body: json.dumps({"contents": CONTENTS, **body}).encode()
)
TURNS = st.lists(VALUES, min_size=1, max_size=3).map(lambda turns: json.dumps({"contents": turns}).encode())
TALKS = st.lists(VALUES, min_size=1, max_size=3).map(lambda turns: json.dumps({"messages": turns}).encode())
PATHS = ("{base}", "{base}?alt=sse", "{method}:generateContent", "{method}:streamGenerateContent?alt=sse",
         "{method}:streamGenerateContent", "{method}:countTokens")  # fmt: skip
#: What may come of a body that no provider would take: refused here, or by the one who was asked.
ROUNDS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(params=["native", "chat"])
def called(gateway: Gateway, request: pytest.FixtureRequest) -> tuple[Caller, str]:
    """A caller, and a model whose provider speaks one of the formats and takes everything."""
    native = request.param == "native"
    behaviour = gemini.answers() if native else chat.answers()
    kind, adapter = ("gemini", "gemini") if native else ("chat", "openai")
    return gateway.caller(), served_by(gateway, behaviour, endpoints=["gemini"], kind=kind, adapter=adapter)


@pytest.mark.parametrize("path", PATHS)
def test_no_body_breaks_it(gateway: Gateway, called: tuple[Caller, str], path: str) -> None:
    caller, model = called
    target = path.format(base="/v1/gemini", method=f"/v1/gemini/v1beta/models/{model}")

    @ROUNDS
    @given(st.binary(max_size=40) | BODIES | NEARLY | TURNS | TALKS)
    def send(body: bytes) -> None:
        if "models" not in target and body[:1] == b"{":
            body = b'{"model": ' + json.dumps(model).encode() + (b", " if body[1:2] != b"}" else b"") + body[1:]
        reply = http.send(caller.port, "POST", target, body, caller.headers({}))
        assert reply.status in (200, 400, 402), (reply.status, reply.body, body)
        if reply.status != 200:
            assert reply.error["code"] == reply.status
            assert reply.error["message"]
        elif "event-stream" in reply.headers["content-type"]:
            assert all(line.startswith(b"data: ") or not line for line in reply.body.splitlines())
        else:
            assert reply.json

    send()
    books = caller.settled_books(rows=0)
    assert (books.held, sum(books.transfers)) == (0, books.charged)
    assert "unexpectedly" not in gateway.with_settings().log.read_text()


def says(body: bytes, content_type: str) -> Behaviour:
    async def behave(talk: Conversation) -> None:
        await talk.json(body, 200, {"content-type": content_type})

    return behave


ANSWERS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (*INNER, "candidates", "content", "parts", "finishReason", "usageMetadata", "error", "index")
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
PIECES = st.dictionaries(
    st.sampled_from(["candidates", "usageMetadata", "promptFeedback", "modelVersion", "error", "choices", "usage"]),
    ANSWERS,
    max_size=4,
)


@pytest.mark.parametrize("spoken", ["native", "converted"])
def test_no_answer_of_a_provider_breaks_it(gateway: Gateway, spoken: str) -> None:
    told: dict[str, Any] = {}

    async def behave(talk: Conversation) -> None:
        await says(told["body"], told["type"])(talk)

    endpoints = ["gemini", "chat"]
    slug = served_by(gateway, behave, endpoints=endpoints, kind="gemini", adapter="gemini")
    caller = gateway.caller()

    @settings(ROUNDS, max_examples=40)
    @given(st.lists(PIECES, min_size=1, max_size=3), st.sampled_from(["application/json", "text/event-stream"]))
    def send(pieces: list[Any], kind: str) -> None:
        events = kind != "application/json"
        told["body"] = b"".join(map(gemini.event, pieces)) if events else json.dumps(pieces[0]).encode()
        told["type"] = kind
        for stream in (False, True):
            body: dict[str, Any] = {"model": slug, "stream": stream}
            body |= {"contents": CONTENTS} if spoken == "native" else {"messages": [{"role": "user", "content": "x"}]}
            path = "/v1/gemini" if spoken == "native" else "/v1/chat/completions"
            reply = http.send(caller.port, "POST", path, body, caller.headers({}))
            assert reply.status != 500, (reply.body, told)
            if reply.status != 200:
                assert reply.error["message"]

    send()
    assert caller.settled_books().held == 0
    assert "unexpectedly" not in gateway.with_settings().log.read_text()
