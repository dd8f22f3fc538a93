"""Embeddings by Google's own methods, to a provider that has them and to one that speaks OpenAI's format."""

from __future__ import annotations

from typing import Any

import pytest
from google import genai
from google.genai import types

from catalog.pricing import Rates, TokenRates
from tests.fakes import upstream as fake
from tests.fakes.upstream import Conversation
from tests.support.gateway import CREDIT, Caller, Gateway
from tests.support.http import Reply

#: One credit a thousand tokens; vectors cost nothing.
RATES = Rates(tokens=TokenRates(input=1000 * CREDIT, output=0))
NATIVE = {"embeddings": [{"values": [0.25, -0.5]}, {"values": [1.0, 0.0]}]}
OPENAI = {
    "object": "list",
    "data": [{"index": 1, "embedding": [1.0, 0.0]}, {"index": 0, "embedding": [0.25, -0.5]}],
    "usage": {"prompt_tokens": 12, "total_tokens": 12},
}
TEXTS = ["first words", "second words"]


def says(value: Any, status: int = 200) -> fake.Behaviour:
    async def behave(talk: Conversation) -> None:
        await talk.json(value, status)

    return behave


def serve(gateway: Gateway, behaviour: fake.Behaviour | fake.Route, adapter: str) -> str:
    columns: dict[str, Any] = {"max_output_tokens": None, "default_max_output_tokens": None}
    return gateway.model(behaviour, kind="embeddings", adapter=adapter, rates=RATES, **columns)


def post(caller: Caller, model: str, method: str, body: Any) -> Reply:
    return caller.send("POST", f"/v1/gemini/v1beta/models/{model}:{method}", body)


def batch(model: str, **members: Any) -> dict[str, Any]:
    return {
        "requests": [
            {"model": f"models/{model}", "content": {"parts": [{"text": text}]}, **members} for text in TEXTS
        ]
    }  # fmt: skip


def test_googles_own_library_embeds_natively(gateway: Gateway) -> None:
    route = gateway.upstream.serve(says(NATIVE))
    model, caller = serve(gateway, route, "gemini"), gateway.caller()
    options = types.HttpOptions(base_url=f"http://127.0.0.1:{caller.port}/api/v1/gemini", timeout=90_000)
    client = genai.Client(api_key=caller.secret, http_options=options)
    config = types.EmbedContentConfig(task_type="RETRIEVAL_QUERY", output_dimensionality=2)
    contents: Any = TEXTS
    answer = client.models.embed_content(model=model, contents=contents, config=config)
    client.close()
    assert [each.values for each in answer.embeddings or []] == [[0.25, -0.5], [1.0, 0.0]]
    [seen] = route.seen
    assert seen.path.endswith(f"/models/up-{model}:batchEmbedContents")
    assert [each["model"] for each in seen.body["requests"]] == [f"models/up-{model}"] * 2
    assert seen.body["requests"][0]["taskType"] == "RETRIEVAL_QUERY"
    books = caller.settled_books()
    [row] = books.log
    assert (row["endpoint"], row["estimated"], row["output_tokens"]) == ("embeddings", True, 0)
    assert (books.charged, books.held) == (row["input_tokens"] * 1000, 0)
    assert books.charged > 0


def test_a_count_that_google_gives_is_billed(gateway: Gateway) -> None:
    told = {"embedding": {"values": [0.5]}, "usageMetadata": {"promptTokenCount": 7}}
    model, caller = serve(gateway, says(told), "gemini"), gateway.caller()
    reply = post(caller, model, "embedContent", {"content": {"parts": [{"text": "words"}]}})
    assert (reply.status, reply.json) == (200, told)
    books = caller.settled_books()
    assert (books.charged, books.log[0]["estimated"]) == (7 * 1000, False)


def test_a_provider_of_openais_format_serves_them_too(gateway: Gateway) -> None:
    route = gateway.upstream.serve(says(OPENAI))
    model, caller = serve(gateway, route, "openai"), gateway.caller()
    reply = post(caller, model, "batchEmbedContents", batch(model, outputDimensionality=2))
    assert (reply.status, reply.json) == (200, NATIVE)
    [seen] = route.seen
    assert seen.path.endswith("/embeddings")
    assert seen.body == {"model": f"up-{model}", "input": TEXTS, "encoding_format": "float", "dimensions": 2}
    assert caller.settled_books().charged == 12 * 1000
    one = post(caller, model, "embedContent", {"content": {"parts": [{"text": "a"}, {"text": "b"}]}})
    assert one.json == {"embedding": {"values": [0.25, -0.5]}}
    assert route.seen[1].body["input"] == ["ab"]


@pytest.mark.parametrize(
    ("method", "body", "param"),
    [
        ("embedContent", {}, "content"),
        ("embedContent", {"content": "words"}, "content"),
        ("embedContent", {"content": {"parts": []}}, "content.parts"),
        ("embedContent", {"content": {"parts": [{"inlineData": {}}]}}, "content.parts[0]"),
        ("embedContent", {"content": {"parts": [{"text": "x"}]}, "outputDimensionality": 0}, "outputDimensionality"),
        ("batchEmbedContents", {}, "requests"),
        ("batchEmbedContents", {"requests": []}, "requests"),
        ("batchEmbedContents", {"requests": ["x"]}, "requests"),
        ("batchEmbedContents", {"requests": [{"model": "models/other", "content": {}}]}, "requests[0].model"),
        ("batchEmbedContents", {"requests": [{"content": {"parts": [{"text": 1}]}}]}, "requests[0].content.parts[0]"),
    ],
)
def test_what_is_wrong_is_named_and_reserves_nothing(gateway: Gateway, method: str, body: Any, param: str) -> None:
    route = gateway.upstream.serve(says(NATIVE))
    model, caller = serve(gateway, route, "gemini"), gateway.caller()
    reply = post(caller, model, method, body)
    assert (reply.status, reply.json["error"]["param"]) == (400, param)
    assert (reply.json["error"]["status"], route.calls) == ("INVALID_ARGUMENT", 0)
    books = caller.books()
    assert (books.holds, books.transfers) == ([], [])


@pytest.mark.parametrize("adapter", ["gemini", "openai"])
def test_an_answer_without_vectors_costs_nothing(gateway: Gateway, adapter: str) -> None:
    model, caller = serve(gateway, says({"data": []}), adapter), gateway.caller()
    reply = post(caller, model, "embedContent", {"content": {"parts": [{"text": "words"}]}})
    assert (reply.status, reply.json["error"]["type"]) == (502, "upstream_error")
    books = caller.settled_books()
    assert (books.charged, books.held) == (0, 0)


def test_googles_list_names_their_methods(gateway: Gateway) -> None:
    model, caller = serve(gateway, says(NATIVE), "gemini"), gateway.caller()
    told = caller.send("GET", f"/v1/gemini/v1beta/models/{model}").json
    assert told["supportedGenerationMethods"] == ["embedContent", "batchEmbedContents"]
