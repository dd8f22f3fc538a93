"""Between Gemini's own format and chat completions: what goes there and back comes back the same."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import gemini as fake
from upstreams import (
    chat_collect,
    chat_relay,
    gemini_answers,
    gemini_chat,
    gemini_collect,
    gemini_from_chat,
    gemini_relay,
    gemini_to_chat,
    sse,
)
from upstreams.chat_usage import read_usage as read_chat_usage
from upstreams.errors import UnknownHere
from upstreams.gemini_usage import read_usage, usage_shape
from upstreams.wire import Usage

Json = dict[str, Any]
ROUNDS = settings(max_examples=150, deadline=None)

TEXT = st.text(min_size=1, max_size=20)
NAME = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAME, inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(NAME, VALUES, max_size=3)
BASE64 = st.binary(min_size=1, max_size=12).map(lambda data: base64.b64encode(data).decode())
SIGNATURE = BASE64
SCHEMA = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(NAME, st.just({"type": "string"}), max_size=3)}
)


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@st.composite
def function_calls(draw: st.DrawFn, number: int) -> Json:
    call: Json = {"id": f"id{number}", "name": draw(NAME), "args": draw(ARGUMENTS)}
    part: Json = {"functionCall": call}
    if draw(st.booleans()):
        part["thoughtSignature"] = draw(SIGNATURE)
    return part


def result_of(part: Json, response: Json) -> Json:
    call = part["functionCall"]
    return {"functionResponse": {"id": call["id"], "name": call["name"], "response": response}}


MEDIA = st.one_of(
    st.builds(lambda data: {"inlineData": {"mimeType": "image/png", "data": data}}, BASE64),
    st.builds(lambda data: {"inlineData": {"mimeType": "audio/wav", "data": data}}, BASE64),
    st.builds(lambda data: {"inlineData": {"mimeType": "application/pdf", "data": data}}, BASE64),
    st.builds(lambda name: {"fileData": {"fileUri": f"https://x.example/{name}.png", "mimeType": "image/png"}}, NAME),
)
USER_PARTS = st.lists(st.one_of(TEXT.map(lambda text: {"text": text}), MEDIA), min_size=1, max_size=3)


@st.composite
def native_requests(draw: st.DrawFn) -> Json:
    """Requests in the form that Google's clients write them, of what both formats know."""
    contents: list[Json] = []
    number = 0
    for _ in range(draw(st.integers(1, 3))):
        contents.append({"role": "user", "parts": draw(USER_PARTS)})
        if not draw(st.booleans()):
            continue
        parts: list[Json] = []
        if draw(st.booleans()):
            parts.append({"text": draw(TEXT), "thought": True})
        if draw(st.booleans()):
            signed = {"thoughtSignature": draw(SIGNATURE)} if draw(st.booleans()) else {}
            parts.append({"text": draw(TEXT), **signed})
        calls = [draw(function_calls(number + place)) for place in range(draw(st.integers(0, 2)))]
        number += len(calls)
        if not parts and not calls:
            continue
        contents.append({"role": "model", "parts": [*parts, *calls]})
        if calls:
            answers = [result_of(call, draw(ARGUMENTS.filter(bool))) for call in calls]
            contents.append({"role": "user", "parts": answers})
    request: Json = {"contents": contents}
    if draw(st.booleans()):
        request["systemInstruction"] = {"parts": [{"text": draw(TEXT)}]}
    config = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "temperature": st.floats(0, 2),
                "topP": st.floats(0, 1),
                "topK": st.integers(1, 40),
                "candidateCount": st.integers(1, 8),
                "maxOutputTokens": st.integers(1, 9999),
                "seed": st.integers(0, 999),
                "stopSequences": st.lists(TEXT, min_size=1, max_size=3),
                "presencePenalty": st.floats(-2, 2),
                "responseLogprobs": st.booleans(),
                "logprobs": st.integers(1, 5),
                "thinkingConfig": st.sampled_from(list(gemini_from_chat.BUDGETS.values())).map(
                    lambda budget: {"thinkingBudget": budget}
                ),
            },
        )
    )
    if draw(st.booleans()):
        config |= {"responseMimeType": "application/json", "responseJsonSchema": draw(SCHEMA)}
    if config:
        request["generationConfig"] = config
    if draw(st.booleans()):
        declared = {"name": draw(NAME), "description": draw(TEXT), "parametersJsonSchema": draw(SCHEMA)}
        request["tools"] = [{"functionDeclarations": [declared]}]
        mode = draw(st.sampled_from(["AUTO", "ANY", "NONE"]))
        names = {"allowedFunctionNames": [declared["name"]]} if mode == "ANY" and draw(st.booleans()) else {}
        request["toolConfig"] = {"functionCallingConfig": {"mode": mode, **names}}
    if draw(st.booleans()):
        request["safetySettings"] = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": draw(st.just("BLOCK_NONE"))}]
    if draw(st.booleans()):
        request["serviceTier"] = "flex"
    return request


@ROUNDS
@given(native_requests())
def test_a_native_request_survives_the_way_there_and_back(request: Json) -> None:
    chat = gemini_to_chat.request(request)
    assert gemini_from_chat.request(json.loads(json.dumps(chat))) == request


@ROUNDS
@given(native_requests())
def test_a_request_of_another_spelling_means_the_same(request: Json) -> None:
    def snake(value: Any, keep: bool = False) -> Any:
        if isinstance(value, list):
            return [snake(each, keep) for each in value]
        if not isinstance(value, dict):
            return value
        own = {"args", "response", "parametersJsonSchema", "responseJsonSchema"}
        named = {
            "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name): name for name in value
        }
        return {spelled: value[name] if name in own else snake(value[name]) for spelled, name in named.items()}

    assert gemini_to_chat.request(snake(request)) == _but_for_settings(gemini_to_chat.request(request), snake)


def _but_for_settings(chat: Json, snake: Any) -> Json:
    """Safety settings go through as they are spelled."""
    if "extra_body" in chat:
        chat["extra_body"]["google"]["safety_settings"] = snake(chat["extra_body"]["google"]["safety_settings"])
    return chat


@st.composite
def chat_requests(draw: st.DrawFn) -> Json:
    messages: list[Json] = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(TEXT)})
    number = 0
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(TEXT)})
        calls = [_chat_call(draw, number + place) for place in range(draw(st.integers(0, 2)))]
        number += len(calls)
        message: Json = {"role": "assistant", "content": draw(TEXT)}
        if calls:
            message["tool_calls"] = calls
        messages.append(message)
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": draw(TEXT)} for call in calls]
    request: Json = {"messages": messages, **draw(st.fixed_dictionaries({}, optional={
        "temperature": st.floats(0, 2), "top_p": st.floats(0, 1), "n": st.integers(1, 8), "seed": st.integers(0, 9),
        "max_tokens": st.integers(1, 9999), "stop": st.lists(TEXT, min_size=1, max_size=4),
        "reasoning_effort": st.sampled_from(list(gemini_from_chat.BUDGETS)),
    }))}  # fmt: skip
    if draw(st.booleans()):
        function = {"name": draw(NAME), "parameters": draw(SCHEMA)}
        request["tools"] = [{"type": "function", "function": function}]
        forced = {"type": "function", "function": {"name": function["name"]}}
        request["tool_choice"] = draw(st.sampled_from(["auto", "none", "required", forced]))
    if draw(st.booleans()):
        schema = {"name": "answer", "schema": draw(SCHEMA)}
        request["response_format"] = draw(
            st.sampled_from([{"type": "json_object"}, {"type": "json_schema", "json_schema": schema}])
        )
    return request


def _chat_call(draw: st.DrawFn, number: int) -> Json:
    arguments = json.dumps(draw(ARGUMENTS), separators=(",", ":"), ensure_ascii=False)
    call: Json = {"id": f"c{number}", "type": "function", "function": {"name": draw(NAME), "arguments": arguments}}
    if draw(st.booleans()):
        call["extra_content"] = {"google": {"thought_signature": draw(SIGNATURE)}}
    return call


@ROUNDS
@given(chat_requests())
def test_a_chat_request_survives_the_way_there_and_back(request: Json) -> None:
    back = gemini_to_chat.request(json.loads(json.dumps(gemini_from_chat.request(request))))
    for message in back["messages"]:
        if message["role"] == "tool":  # a text that reads as an object is passed on as one
            assert isinstance(message["content"], str)
    tool_texts = [m["content"] for m in request["messages"] if m["role"] == "tool" and m["content"].lstrip()[:1] == "{"]
    if not tool_texts:
        assert back == request


WORDS = (
    "contents", "parts", "role", "text", "functionCall", "functionResponse", "inlineData", "fileData", "tools", "name",
    "generationConfig", "functionDeclarations", "toolConfig", "messages", "content", "type", "image_url", "url",
    "tool_calls", "function", "arguments", "response_format", "json_schema", "schema", "tool_choice", "allowed_tools",
    "thinkingConfig", "stop", "extra_body", "google", "reasoning_effort", "systemInstruction", "modalities",
)  # fmt: skip
OUTER = (
    "contents", "messages", "tools", "generationConfig", "toolConfig", "tool_choice", "response_format", "stop",
    "systemInstruction", "extra_body", "modalities",
)  # fmt: skip
WILD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=25,
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(OUTER), WILD, max_size=6))
def test_whatever_a_caller_writes_is_converted_or_refused(fields: Json) -> None:
    for convert in (gemini_to_chat.request, gemini_from_chat.request):
        try:
            json.dumps(convert(fields))
        except UnknownHere as refusal:
            assert refusal.param


@pytest.mark.parametrize(
    ("convert", "fields", "param"),
    [
        (gemini_to_chat.request, {"contents": [{"parts": [{"executableCode": {}}]}]}, "contents[0].parts[0]"),
        (gemini_to_chat.request, {"contents": [], "tools": [{"googleSearch": {}}]}, "tools[0].googleSearch"),
        (gemini_from_chat.request, {"messages": [], "tools": [{"type": "web_search"}]}, "tools[0]"),
        (gemini_from_chat.request, {"messages": [], "response_format": {"type": "grammar"}}, "response_format"),
        (gemini_from_chat.request, {"messages": [7]}, "messages[0]"),
        (gemini_from_chat.request, {"messages": [], "web_search_options": {}}, "web_search_options"),
    ],
)
def test_what_has_no_words_there_is_refused_by_name(convert: Any, fields: Json, param: str) -> None:
    with pytest.raises(UnknownHere) as caught:
        convert(fields)
    assert (caught.value.param, caught.value.status) == (param, 400)


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
COUNTS = st.builds(
    lambda prompt, cached, thoughts, said: Usage(
        input_tokens=prompt + cached,
        cached_input_tokens=cached,
        output_tokens=thoughts + said,
        reasoning_tokens=thoughts,
    ),
    *[st.integers(0, 10**6)] * 4,
)


@ROUNDS
@given(COUNTS)
def test_usage_means_the_same_in_both_formats(usage: Usage) -> None:
    assert read_usage(usage_shape(usage)) == usage
    assert read_chat_usage(gemini_answers.chat_usage(usage)) == usage


@st.composite
def native_answers(draw: st.DrawFn) -> Json:
    parts: list[Json] = []
    if draw(st.booleans()):
        parts.append({"text": draw(TEXT), "thought": True})
    if draw(st.booleans()):
        parts.append({"text": draw(TEXT), **({"thoughtSignature": draw(SIGNATURE)} if draw(st.booleans()) else {})})
    if draw(st.booleans()):
        parts.append({"inlineData": {"mimeType": "image/png", "data": draw(BASE64)}})
    parts += [draw(function_calls(number)) for number in range(draw(st.integers(0, 3)))]
    reason = draw(st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY"]))
    answer = fake.piece(*(parts or [{"text": ""}]), finish=reason)
    answer["usageMetadata"] = usage_shape(draw(COUNTS.filter(lambda usage: usage.input_tokens > 0)))
    return answer


@ROUNDS
@given(native_answers())
def test_a_native_answer_survives_the_way_there_and_back(answer: Json) -> None:
    back = gemini_answers.whole_to_native(json.loads(json.dumps(gemini_answers.whole_to_chat(answer))))
    assert back == {**answer, "responseId": f"chatcmpl-{answer['responseId']}"}


def streamed(answer: Json) -> bytes:
    """A piece a part, the last one with the end and the count."""
    [candidate] = answer["candidates"]
    parts = candidate["content"]["parts"]
    out = [fake.event(fake.piece(part)) for part in parts[:-1]]
    return b"".join(
        [*out, fake.event(fake.piece(parts[-1], finish=candidate["finishReason"], counts=answer["usageMetadata"]))]
    )


def through(relay: Any, stream: bytes, size: int) -> bytes:
    out = [piece for at in range(0, len(stream), size) for piece in relay.feed(stream[at : at + size])]
    out += relay.end_of_stream()
    assert relay.finished
    return b"".join([*out, *relay.close()])


@ROUNDS
@given(native_answers(), st.integers(1, 300), st.booleans())
def test_a_stream_says_in_chat_what_the_whole_answer_says(answer: Json, size: int, asked: bool) -> None:
    relay = gemini_chat.NativeAsChat(client_wants_usage=asked)
    stream = through(relay, streamed(answer), size)
    whole = json.loads(chat_collect.collect(stream))
    expected = gemini_answers.whole_to_chat(answer)
    for each in (whole, expected):
        each.pop("created")
        each["choices"][0]["message"]["content"] = each["choices"][0]["message"].get("content") or ""
        for call in each["choices"][0]["message"].get("tool_calls", ()):
            call.pop("index", None)
    assert whole == expected
    assert relay.billable_usage(0) == read_usage(answer["usageMetadata"])
    checked = chat_relay.Relay(client_wants_usage=asked)
    through(checked, stream, 77)
    assert checked.usage is not None
    assert checked.usage.output_tokens == relay.billable_usage(0).output_tokens


@ROUNDS
@given(native_answers(), st.integers(1, 300))
def test_a_chat_stream_says_natively_what_the_whole_answer_says(answer: Json, size: int) -> None:
    completion = json.dumps(gemini_answers.whole_to_chat(answer)).encode()
    relay = gemini_chat.ChatAsNative(client_wants_usage=True)
    stream = through(relay, chat_collect.as_stream(completion), size)
    collected = json.loads(gemini_collect.collect(stream))
    expected = json.loads(gemini_chat.chat_as_native(completion))
    for each in (collected, expected):
        [candidate] = each["candidates"]
        parts = candidate["content"]["parts"]
        candidate["content"]["parts"] = [part for part in parts if part != {"text": ""}]
    assert collected == expected
    native = gemini_relay.Relay()
    assert through(native, stream, 50) == stream
    assert native.usage == relay.billable_usage(0)


def test_pieces_of_calls_go_out_whole() -> None:
    def chunk(delta: Json, finish: str | None = None) -> bytes:
        value = {"id": "x", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        return b"data: " + json.dumps(value).encode() + b"\n\n"

    def call(index: int, arguments: str, **more: Any) -> Json:
        return {
            "tool_calls": [
                {"index": index, "function": {"arguments": arguments, **more}, **({"id": f"c{index}"} if more else {})}
            ]
        }

    stream = b"".join([
        chunk({"role": "assistant"}), chunk(call(0, "", name="a")), chunk(call(0, '{"x"')), chunk(call(0, ":1}")),
        chunk(call(1, "", name="b")), chunk(call(1, "{}")), chunk({}, "tool_calls"), b"data: [DONE]\n\n",
    ])  # fmt: skip
    out = through(gemini_chat.ChatAsNative(client_wants_usage=True), stream, 1000)
    parts = [part for event in sse.split(out) for part in json.loads(event[6:])["candidates"][0]["content"]["parts"]]
    assert parts == [
        {"functionCall": {"id": "c0", "name": "a", "args": {"x": 1}}},
        {"functionCall": {"id": "c1", "name": "b", "args": {}}},
    ]


def test_the_older_words_for_tools_are_understood() -> None:
    spoken = {
        "messages": [
            {"role": "user", "content": "Look"},
            {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": '{"at": 1}'}},
            {"role": "function", "name": "look", "content": "nothing"},
        ],
        "functions": [{"name": "look", "parameters": {"type": "object"}}],
        "function_call": {"name": "look"},
    }
    native = gemini_from_chat.request(spoken)
    assert native["contents"][1]["parts"] == [{"functionCall": {"name": "look", "args": {"at": 1}}}]
    response = {"name": "look", "response": {"output": "nothing"}}
    assert native["contents"][2] == {"role": "user", "parts": [{"functionResponse": response}]}
    assert native["tools"][0]["functionDeclarations"][0]["name"] == "look"
    assert native["toolConfig"]["functionCallingConfig"] == {"mode": "ANY", "allowedFunctionNames": ["look"]}
