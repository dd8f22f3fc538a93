"""Gemini's own format through the real gateway: both bodies, Google's paths, both directions of conversion (C-GEM)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from catalog.models import Model, Provider, Target
from catalog.pricing import ServiceTier, TokenRates
from tests.fakes import gemini
from tests.fakes import upstream as chat
from tests.fakes.upstream import Behaviour, Conversation, Route
from tests.support import http
from tests.support.gateway import CREDIT, QUICK, RATES, Caller, Gateway, price_of, wait_for
from upstreams import sse

CONTENTS = [{"role": "user", "parts": [{"text": "Say hello"}]}]
TOOL_RATES = replace(RATES, server_tools=(("google_search", 5 * CREDIT), ("url_context", 0)))
TIERED = replace(TOOL_RATES, service_tiers=(ServiceTier("flex", TokenRates(input=500 * CREDIT, output=2000 * CREDIT)),))


def model(gateway: Gateway, *behaviours: Behaviour | Route | str, **columns: Any) -> str:
    """A new model of ``/gemini`` whose chain speaks it itself."""
    return gateway.model(*behaviours, **{"kind": "gemini", "adapter": "gemini", **columns})


def served_by(
    gateway: Gateway,
    behaviour: Behaviour | Route,
    *,
    endpoints: list[str],
    kind: str,
    adapter: str,
    then: tuple[Route, str, str] | None = None,
) -> str:
    """A model of these endpoints whose provider speaks another format; ``then`` is one more with its kind and word."""
    slug = gateway.new_model(behaviour, kind=kind, adapter=adapter, enabled=False)
    if then is not None:
        route, second, word = then
        provider = Provider(slug=f"{slug}-q", name="Second", adapter=word, base_url=route.base_url, kinds=[second])
        provider.set_secret("sk-second")
        provider.save()
        entry = Model.objects.get(slug=slug)
        Target.objects.create(model=entry, provider=provider, upstream_model=f"up-{slug}", position=1)
    Model.objects.filter(slug=slug).update(endpoints=endpoints, enabled=True)
    gateway.until_known(slug)
    return slug


def ask(caller: Caller, name: str, method: str = "generateContent", query: str = "", **fields: Any) -> http.Reply:
    body = {"contents": CONTENTS, **fields}
    return caller.send("POST", f"/v1/gemini/v1beta/models/{name}:{method}{query}", body)


def pieces(reply: http.Reply) -> list[Any]:
    return [json.loads(data) for event in sse.split(reply.body) if (data := sse.data_of(event))]


def told(stream: list[Any]) -> str:
    return "".join(
        part.get("text", "") for piece in stream for part in piece["candidates"][0]["content"].get("parts", ())
    )


# ── native in, native upstream ───────────────────────────────────────────────────────────────────────────────────────
def test_what_goes_upstream_and_what_comes_back(gateway: Gateway) -> None:
    route = gateway.upstream.serve(gemini.answers(counts=gemini.usage(100, 50, cached=20, thoughts=10)))
    slug = model(gateway, route)
    caller = gateway.caller()
    fields: dict[str, Any] = {
        "systemInstruction": {"parts": [{"text": "\u2028 Be brief."}]},
        "generationConfig": {"temperature": 0.5, "maxOutputTokens": 300, "thinkingConfig": {"includeThoughts": True}},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "tools": [{"functionDeclarations": [{"name": "look", "parametersJsonSchema": {"type": "object"}}]}],
        "unheard_of": {"a": None},
    }
    reply = ask(caller, slug, **fields, hypereal={"x": 1}, model="another")
    assert reply.status == 200, reply.body
    assert reply.json["candidates"][0]["finishReason"] == "STOP"
    [seen] = route.seen
    assert seen.path.endswith(f"/v1beta/models/up-{slug}:generateContent")
    assert seen.body == {"contents": CONTENTS, **fields}
    assert seen.headers["x-goog-api-key"] == f"sk-upstream-{slug}"
    assert "authorization" not in seen.headers
    assert caller.secret not in str(seen)
    books = caller.settled_books()
    [row] = books.log
    assert (row["endpoint"], row["model"], row["status"], row["estimated"]) == ("gemini", slug, 200, False)
    assert (row["input_tokens"], row["cached_input_tokens"], row["output_tokens"]) == (100, 20, 50)
    assert books.transfers == [price_of(100, 50, cached=20)]
    assert reply.headers["x-hypereal-credits"] == str(price_of(100, 50, cached=20) / CREDIT)


def test_streams_as_events_and_as_a_list(gateway: Gateway) -> None:
    route = gateway.upstream.serve(gemini.answers())
    slug = model(gateway, route)
    caller = gateway.caller()
    events = ask(caller, slug, "streamGenerateContent", "?alt=sse")
    assert events.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert events.body.startswith(
        gemini.event(gemini.piece(gemini.text("Hello "), counts=pieces(events)[0]["usageMetadata"]))
    )
    assert told(pieces(events)) == "Hello there"
    listed = ask(caller, slug, "streamGenerateContent")
    assert listed.headers["content-type"] == "application/json; charset=utf-8"
    assert listed.json == pieces(events)
    assert all(seen.path.endswith(":streamGenerateContent?alt=sse") for seen in route.seen)
    assert caller.settled_books(2).transfers == [price_of(100, 50)] * 2


@pytest.mark.parametrize("path", ["/v1/gemini", "/api/v1/gemini/"])
def test_the_plain_path_takes_both_bodies(gateway: Gateway, path: str) -> None:
    slug = model(gateway, gemini.answers())
    caller = gateway.caller()
    native = caller.send("POST", path, {"model": f"models/{slug}", "contents": CONTENTS})
    assert told([native.json]) == "Hello there"
    for reply in (
        caller.send("POST", path, {"model": slug, "contents": CONTENTS, "stream": True}),
        caller.send("POST", f"{path}?alt=sse", {"model": slug, "contents": CONTENTS}),
    ):
        assert told(pieces(reply)) == "Hello there"
    messages = [{"role": "user", "content": "Say hello"}]
    openai = caller.send("POST", path, {"model": slug, "messages": messages})
    assert openai.json["choices"][0]["message"]["content"] == "Hello there"
    for reply in (
        caller.send("POST", path, {"model": slug, "messages": messages, "stream": True}),
        caller.send("POST", f"{path}?alt=sse", {"model": slug, "messages": messages}),
    ):
        assert reply.events[-1] == "[DONE]"
        assert (
            "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in reply.events[:-1]) == "Hello there"
        )
        assert reply.events[-2]["usage"]["total_tokens"] == 150
    books = caller.settled_books(6)
    assert books.transfers == [price_of(100, 50)] * 6
    assert {row["endpoint"] for row in books.log} == {"gemini"}


@pytest.mark.parametrize("where", ["x-goog-api-key", "x-api-key", "authorization", "query"])
def test_keys(gateway: Gateway, where: str) -> None:
    slug = model(gateway, gemini.answers())
    caller = gateway.caller()
    path, headers = f"/v1/gemini/v1beta/models/{slug}:generateContent", {}
    if where == "query":
        path += f"?key={caller.secret}"
    else:
        headers[where] = f"Bearer {caller.secret}" if where == "authorization" else caller.secret
    assert http.send(caller.port, "POST", path, {"contents": CONTENTS}, headers).status == 200
    assert caller.secret not in gateway.with_settings().log.read_text()
    models = http.send(
        caller.port, "GET", "/v1/gemini/v1beta/models?pageSize=2", None, {"x-goog-api-key": caller.secret}
    )
    assert len(models.json["models"]) <= 2


def test_models_are_listed_page_by_page(gateway: Gateway) -> None:
    caller = gateway.caller()
    mine = [model(gateway, gemini.answers()) for _ in range(3)]
    names, token = [], ""
    while True:
        page = caller.send("GET", f"/v1/gemini/v1beta/models?pageSize=2&pageToken={token}").json
        assert len(page["models"]) <= 2
        names += [entry["name"] for entry in page["models"]]
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert {f"models/{slug}" for slug in mine} <= set(names)
    assert len(names) == len(set(names))
    one = caller.send("GET", f"/v1/gemini/v1/models/{mine[0]}").json
    assert (one["name"], one["outputTokenLimit"]) == (f"models/{mine[0]}", 4096)
    assert "generateContent" in one["supportedGenerationMethods"]
    assert caller.send("GET", "/v1/gemini/v1beta/models/nobody").error["status"] == "NOT_FOUND"
    assert caller.send("GET", "/v1/gemini/v1beta/models?pageSize=x").error["param"] == "pageSize"
    assert caller.send("GET", "/v1/gemini/v1beta/models?pageToken=x").error["param"] == "pageToken"


def test_tokens_are_counted_for_free(gateway: Gateway) -> None:
    route = gateway.upstream.serve(gemini.answers())
    slug = model(gateway, route)
    caller = gateway.caller(credits=0)
    assert ask(caller, slug, "countTokens").json == {"totalTokens": 42}
    inner = {"model": f"models/{slug}", "contents": CONTENTS}
    reply = caller.send("POST", f"/v1/gemini/v1beta/models/{slug}:countTokens", {"generateContentRequest": inner})
    assert reply.json == {"totalTokens": 42}
    assert route.seen[-1].body["generateContentRequest"]["model"] == f"models/up-{slug}"
    for body in ({}, {"generateContentRequest": None}):
        reply = caller.send("POST", f"/v1/gemini/v1beta/models/{slug}:countTokens", body)
        assert (reply.status, reply.error["param"]) == (400, "contents")
    both: dict[str, Any] = {"contents": CONTENTS, "generateContentRequest": None}
    assert caller.send("POST", f"/v1/gemini/v1beta/models/{slug}:countTokens", both).status == 200
    reply = caller.send("POST", f"/v1/gemini/v1beta/models/{slug}:countTokens", {"generateContentRequest": 5})
    assert (reply.status, reply.error["param"]) == (400, "generateContentRequest")
    # What is refused in a body is refused in one that lies in it.
    calls = route.calls
    for member in ("cachedContent", "cached_content"):
        nested = {"generateContentRequest": {**inner, member: "cachedContents/of-somebody"}}
        reply = caller.send("POST", f"/v1/gemini/v1beta/models/{slug}:countTokens", nested)
        assert (reply.status, reply.error["status"]) == (400, "INVALID_ARGUMENT"), reply.body
        assert reply.error["param"] == f"generateContentRequest.{member}"
    assert (route.calls, caller.books().log) == (calls, [])


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"contents": None}, "contents"),
        ({"contents": []}, "contents"),
        ({"contents": "hello"}, "contents"),
        ({"generationConfig": 5}, "generationConfig"),
        ({"generationConfig": {"candidateCount": 0}}, "generationConfig.candidateCount"),
        ({"generation_config": {"max_output_tokens": "many"}}, "generationConfig.max_output_tokens"),
        ({"tools": [{"googleMaps": {}}]}, "tools[0].googleMaps"),
        ({"tools": [{"functionDeclarations": []}, {"file_search": {}}]}, "tools[1].file_search"),
        ({"tools": {"enterpriseWebSearch": {}}}, "tools[0].enterpriseWebSearch"),
        ({"tools": "all"}, "tools"),
        ({"cachedContent": "cachedContents/1"}, "cachedContent"),
        ({"cached_content": "x"}, "cached_content"),
        ({"serviceTier": "PRIORITY"}, "serviceTier"),
    ],
    ids=str,
)
def test_bad_requests_are_refused_before_anything_happens(gateway: Gateway, change: dict[str, Any], param: str) -> None:
    route = gateway.upstream.serve(gemini.answers())
    slug = model(gateway, route, rates=TOOL_RATES)
    caller = gateway.caller(credits=500)
    reply = ask(caller, slug, **change)
    assert (reply.status, reply.error["code"], reply.error["status"]) == (400, 400, "INVALID_ARGUMENT"), reply.body
    assert (reply.error["type"], reply.error["param"]) == ("invalid_request_error", param)
    assert route.calls == 0
    books = caller.settled_books()
    assert (books.balance, books.holds, books.log[0]["status"]) == (500 * CREDIT, [], 400)


def test_errors_bear_googles_shape(gateway: Gateway) -> None:
    reply = http.send(gateway.port, "POST", "/v1/gemini", {}, {})
    assert (reply.status, reply.error["code"], reply.error["status"]) == (401, 401, "UNAUTHENTICATED")
    assert reply.error["type"] == "authentication_error"
    caller = gateway.caller()
    reply = caller.send("POST", "/v1/gemini", b"{")
    assert (reply.status, reply.error["status"]) == (400, "INVALID_ARGUMENT")
    reply = caller.send("POST", "/v1/gemini", {"model": "x"})
    assert reply.error["param"] == "contents"
    reply = ask(caller, "no-such-model")
    assert (reply.status, reply.error["param"]) == (400, "model")
    assert "available_models" in reply.error
    [detail] = reply.error["details"]
    assert detail["reason"] == "MODEL_NOT_FOUND"
    reply = caller.send("POST", "/v1/gemini/v1beta/models/x:predict", {})
    assert (reply.status, reply.error["code"]) == (405, 405)
    poor = gateway.caller(credits=1)
    reply = ask(poor, model(gateway, gemini.answers()))
    assert (reply.status, reply.error["type"], reply.error["status"]) == (
        402,
        "insufficient_credits",
        "FAILED_PRECONDITION",
    )
    assert reply.error["required_credits"] > reply.error["available_credits"] == 1
    busy = ask(caller, model(gateway, gemini.fails(503, "UNAVAILABLE")))
    assert busy.status == 503
    assert {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{busy.headers['retry-after']}s"} in (
        busy.error["details"]
    )


def test_searches_and_speed_classes_are_priced(gateway: Gateway) -> None:
    grounded: dict[str, Any] = {"groundingMetadata": {"webSearchQueries": ["a", "b", "a"]}}
    tier = gemini.usage(100, 50, serviceTier="flex")
    slug = model(gateway, gemini.answers(counts=tier, **grounded), rates=TIERED)
    caller = gateway.caller()
    tools: list[Any] = [{"google_search": {}}, {"urlContext": {}}, {"codeExecution": {}}]
    assert ask(caller, slug, tools=tools, service_tier="FLEX").status == 200
    assert ask(caller, slug, "streamGenerateContent", "?alt=sse", tools=tools).status == 200
    price = price_of(100, 50) // 2 + 2 * 5 * CREDIT
    assert caller.settled_books(2).transfers == [price, price]


def test_a_blocked_prompt_is_an_answer(gateway: Gateway) -> None:
    blocked = {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 8, "totalTokenCount": 8},
    }

    async def behave(talk: Conversation) -> None:
        if ":stream" in talk.seen.path:
            await talk.start()
            await talk.send(gemini.event(blocked))
            await talk.end()
        else:
            await talk.json(blocked)

    slug = served_by(gateway, behave, endpoints=["gemini", "chat"], kind="gemini", adapter="gemini")
    caller = gateway.caller()
    assert ask(caller, slug).json == blocked
    assert pieces(ask(caller, slug, "streamGenerateContent", "?alt=sse")) == [blocked]
    assert caller.chat(slug).json["choices"][0]["finish_reason"] == "content_filter"
    assert caller.chat(slug, stream=True).events[0]["choices"][0]["delta"]["refusal"]
    assert caller.settled_books(4).transfers == [price_of(8, 0)] * 4


def test_no_keep_alive_in_a_stream_of_google(gateway: Gateway) -> None:
    async def slow(talk: Conversation) -> None:
        await talk.start()
        await talk.send(b": upstream comment\n\n" + gemini.event(gemini.piece(gemini.text("a"))))
        await talk.gone(1.0)
        await talk.send(gemini.event(gemini.piece(gemini.text("b"), finish="STOP", counts=gemini.usage())))
        await talk.end()

    caller = gateway.caller(server=gateway.with_settings(**QUICK))
    reply = ask(caller, model(gateway, slow), "streamGenerateContent", "?alt=sse")
    assert all(line.startswith(b"data: ") for line in reply.body.split(b"\r\n") if line)
    assert told(pieces(reply)) == "ab"


def test_a_cut_stream_ends_in_an_error_and_is_billed_as_far_as_it_came(gateway: Gateway) -> None:
    shown = gemini.piece(gemini.text("sixteen letters!"), counts={"promptTokenCount": 30, "totalTokenCount": 30})
    slug = model(gateway, gemini.streams(shown, cut=True))
    for query in ("?alt=sse", ""):
        caller = gateway.caller()
        reply = ask(caller, slug, "streamGenerateContent", query)
        last = pieces(reply)[-1] if query else reply.json[-1]
        assert (last["error"]["code"], last["error"]["status"]) == (502, "UNAVAILABLE")
        books = caller.settled_books()
        assert (books.log[0]["estimated"], books.transfers) == (True, [price_of(30, 4)])


def test_a_stream_stops_with_the_credits(gateway: Gateway) -> None:
    async def endless(talk: Conversation) -> None:
        await talk.start()
        for _ in range(2000):
            await talk.send(gemini.event(gemini.piece(gemini.text("x" * 40))))

    slug = model(gateway, endless)
    caller = gateway.caller()
    caller.limit(CREDIT)
    reply = ask(caller, slug, "streamGenerateContent", "?alt=sse", generationConfig={"maxOutputTokens": 4000})
    last = pieces(reply)[-1]
    assert last["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert "credits" in last["candidates"][0]["finishMessage"] or "balance" in last["candidates"][0]["finishMessage"]
    assert last["usageMetadata"]["totalTokenCount"] > 0
    assert last["responseId"] == "r1"
    assert 0 < caller.settled_books().charged <= CREDIT


# ── between the formats ──────────────────────────────────────────────────────────────────────────────────────────────
TOOL = {
    "name": "look",
    "description": "Looks",
    "parameters": {"type": "OBJECT", "properties": {"at": {"type": "STRING"}}},
}
CALL = {
    "id": "call_7",
    "type": "function",
    "function": {"name": "look", "arguments": '{"at": "x"}'},
    "extra_content": {"google": {"thought_signature": "c2lnbmVk"}},
}


def test_a_native_call_to_a_target_that_speaks_chat(gateway: Gateway) -> None:
    def completion(talk: Conversation) -> dict[str, Any]:
        answer = chat.completion("Hello there", 100, 50, 20)
        if talk.body.get("tools"):
            answer["choices"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": [CALL]}
            answer["choices"][0]["finish_reason"] = "tool_calls"
        return answer

    async def behave(talk: Conversation) -> None:
        if not talk.body.get("stream"):
            await talk.json(completion(talk))
            return
        assert talk.body["stream_options"] == {"include_usage": True}
        await chat.answers("Hello there", 100, 50, 20)(talk)

    route = gateway.upstream.serve(behave)
    slug = served_by(gateway, route, endpoints=["gemini"], kind="chat", adapter="openai")
    caller = gateway.caller()
    history = [
        *CONTENTS,
        {
            "role": "model",
            "parts": [{"functionCall": {"id": "f1", "name": "look", "args": {"at": "x"}}, "thoughtSignature": "s"}],
        },
        {"role": "user", "parts": [{"functionResponse": {"id": "f1", "name": "look", "response": {"seen": 1}}}]},
    ]
    whole = ask(caller, slug, contents=history, tools=[{"functionDeclarations": [TOOL]}])
    part = whole.json["candidates"][0]["content"]["parts"][0]
    assert part == {
        "functionCall": {"id": "call_7", "name": "look", "args": {"at": "x"}},
        "thoughtSignature": "c2lnbmVk",
    }
    assert whole.json["usageMetadata"]["cachedContentTokenCount"] == 20
    sent = route.seen[0].body
    assert sent["model"] == f"up-{slug}"
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "tool"]
    assert sent["messages"][1]["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "s"}}
    assert sent["messages"][2] == {"role": "tool", "tool_call_id": "f1", "content": '{"seen":1}'}
    assert sent["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {"at": {"type": "string"}}}
    stream = ask(caller, slug, "streamGenerateContent", "?alt=sse")
    assert told(pieces(stream)) == "Hello there "
    last = pieces(stream)[-1]
    assert (last["candidates"][0]["finishReason"], last["usageMetadata"]["totalTokenCount"]) == ("STOP", 150)
    assert caller.settled_books(2).transfers == [price_of(100, 50, cached=20)] * 2
    refused = ask(caller, slug, contents=[{"role": "user", "parts": [{"executableCode": {"code": "x"}}]}])
    assert (refused.status, refused.error["param"]) == (400, "contents[0].parts[0]")


def test_a_chat_call_to_a_target_that_speaks_gemini(gateway: Gateway) -> None:
    counts = gemini.usage(100, 50, cached=20, thoughts=10)
    route = gateway.upstream.serve(
        gemini.answers(
            gemini.text("hm", thought=True), gemini.text("Hello"), gemini.call("look", at="x"), counts=counts
        )
    )
    slug = served_by(gateway, route, endpoints=["chat"], kind="gemini", adapter="gemini")
    caller = gateway.caller()
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look"}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_7", "content": "nothing there"},
    ]
    fields: dict[str, Any] = {"messages": messages, "tools": tools, "max_tokens": 300, "tool_choice": "required"}
    whole = caller.chat(slug, **fields).json
    [choice] = whole["choices"]
    message = choice["message"]
    assert (message["content"], message["reasoning_content"], choice["finish_reason"]) == ("Hello", "hm", "tool_calls")
    [called] = message["tool_calls"]
    assert (called["id"], json.loads(called["function"]["arguments"])) == ("c1", {"at": "x"})
    assert called["extra_content"] == {"google": {"thought_signature": "c2lnbmVk"}}
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] == 10
    sent = route.seen[0].body
    assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert sent["contents"][0]["parts"][1] == {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    assert sent["contents"][1]["parts"][0]["thoughtSignature"] == "c2lnbmVk"
    response = {"id": "call_7", "name": "look", "response": {"output": "nothing there"}}
    assert sent["contents"][2] == {"role": "user", "parts": [{"functionResponse": response}]}
    assert sent["generationConfig"] == {"maxOutputTokens": 300}
    assert sent["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
    for asked in (False, True):
        options = {"stream_options": {"include_usage": True}} if asked else {}
        events = caller.chat(slug, stream=True, **fields, **options).events
        assert events[-1] == "[DONE]"
        assert events[-2]["usage"]["total_tokens"] == 150
        assert (events[-2]["choices"] == []) is asked
        finish = events[-3] if asked else events[-2]
        assert finish["choices"][0]["finish_reason"] == "tool_calls"
        deltas = [event["choices"][0]["delta"] for event in events[:-1] if event["choices"]]
        assert "".join(delta.get("content") or "" for delta in deltas) == "Hello"
        assert any("tool_calls" in delta for delta in deltas)
    assert caller.settled_books(3).transfers == [price_of(100, 50, cached=20)] * 3
    refused = caller.chat(slug, messages=[{"role": "user", "content": [{"type": "hologram"}]}])
    assert (refused.status, refused.error["param"]) == (400, "messages[0].content[0]")


@pytest.mark.parametrize("stream", [False, True])
def test_who_speaks_the_format_is_asked_first_and_the_other_takes_over(gateway: Gateway, stream: bool) -> None:
    other = gateway.upstream.serve(chat.answers("Hello there"))
    own = gateway.upstream.serve(gemini.fails(503, "UNAVAILABLE"))
    slug = served_by(
        gateway, other, endpoints=["gemini", "chat"], kind="chat", adapter="openai", then=(own, "gemini", "gemini")
    )
    caller = gateway.caller()
    reply = ask(caller, slug, "streamGenerateContent" if stream else "generateContent", "?alt=sse" if stream else "")
    assert told(pieces(reply) if stream else [reply.json]).strip() == "Hello there"
    assert (own.calls, other.calls) == (2, 1)
    # What only Google can do is asked of Google alone: its failure is told, not that of the other's format.
    reply = ask(caller, slug, contents=[{"role": "user", "parts": [{"executableCode": {"code": "x"}}]}])
    assert reply.status in (502, 503)
    assert caller.chat(slug).status == 200
    assert other.calls == 2


def test_a_caller_who_leaves_pays_for_what_came(gateway: Gateway) -> None:
    async def slow(talk: Conversation) -> None:
        await talk.start()
        while True:
            await talk.send(gemini.event(gemini.piece(gemini.text("sixteen letters!"))))
            await talk.pause(0.1)

    slug = model(gateway, slow)
    caller = gateway.caller()
    path = f"/v1/gemini/v1beta/models/{slug}:streamGenerateContent"
    with http.opened(caller.port, "POST", path, {"contents": CONTENTS}, caller.headers({})) as stream:
        assert stream.line().startswith(b'[{"candidates"')
        stream.leave()
    books = caller.settled_books()
    [row] = books.log
    assert (row["client_disconnected"], row["estimated"], books.held) == (True, True, 0)
    assert 0 < books.charged < price_of(1000, 400)
    wait_for(lambda: not caller.books().held)


def test_a_count_that_nobody_offers_is_refused(gateway: Gateway) -> None:
    route = gateway.upstream.serve(chat.answers())
    slug = served_by(gateway, route, endpoints=["gemini"], kind="chat", adapter="openai")
    caller = gateway.caller()
    for _ in range(8):  # nothing that would count against the target
        reply = ask(caller, slug, "countTokens")
        assert (reply.status, reply.error["param"]) == (400, "model")
    assert ask(caller, slug).status == 200
    assert route.calls == 1


@pytest.mark.parametrize(("path", "member"), [("/v1/gemini", "contents"), ("/v1/chat/completions", "messages")])
def test_a_body_that_makes_no_sense_is_no_fault_of_the_target(gateway: Gateway, path: str, member: str) -> None:
    native = member == "messages"
    behaviour = gemini.answers() if native else chat.answers()
    kind, adapter = ("gemini", "gemini") if native else ("chat", "openai")
    slug = served_by(gateway, behaviour, endpoints=["gemini", "chat"], kind=kind, adapter=adapter)
    caller = gateway.caller()
    deep = f'{{"model": "{slug}", "{member}": {"[" * 900}1{"]" * 900}}}'.encode()
    for _ in range(7):  # more often than a target may fail before it is left out
        reply = caller.send("POST", path, deep)
        assert reply.status == 400, reply.body
    good = CONTENTS if member == "contents" else [{"role": "user", "content": "hi"}]
    assert caller.send("POST", path, {"model": slug, member: good}).status == 200
