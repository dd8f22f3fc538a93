"""The vendors' libraries for Python, in the way their own documentation uses them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import anthropic
import openai
from google import genai
from google.genai import types as google

from clients.packages import version_of
from clients.site import Site
from clients.turns import QUESTION, Answer, Client, Kind, Turn, TurnFailed, gathered

CHAT_MODEL: Final = "gpt-5.5"
RESPONSES_MODEL: Final = "gpt-5.3-codex"
MESSAGES_MODEL: Final = "claude-sonnet-4-6"
GEMINI_MODEL: Final = "gemini-3.5-fast"
MOST_TOKENS: Final = 2000
SECONDS: Final = 60.0
TOOL: Final = "get_weather"
_ABOUT: Final = "The weather of a city."
_SCHEMA: Final = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def all_of_them() -> Iterator[Client]:
    """Every library and endpoint."""
    for package, endpoint, path, ask in (
        ("openai", "chat", "/api/v1", _chat),
        ("openai", "responses", "/api/v1", _responses),
        ("anthropic", "messages", "/api", _messages),
        ("google-genai", "gemini", "/api/v1/gemini", _gemini),
    ):
        yield Client(f"{package} (Python)", version_of(package), endpoint, f"base URL `…{path}`", ask)


def tool_question(turn: Turn) -> str:
    """What makes the sandbox call the tool, with words of this turn's own."""
    return f"Call {TOOL} with {json.dumps({'city': turn.proof})}"


def _weather(arguments: Any) -> str:
    return f"Sunny in {arguments['city']}"


def _asked(turn: Turn) -> str:
    return tool_question(turn) if turn.kind is Kind.TOOL else QUESTION


# ── OpenAI ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _openai(site: Site) -> openai.OpenAI:
    return openai.OpenAI(api_key=site.key, base_url=f"{site.url}/api/v1", max_retries=0, timeout=SECONDS)


def _chat(site: Site, turn: Turn) -> Answer:
    messages: list[Any] = [{"role": "user", "content": _asked(turn)}]
    with _openai(site) as client:
        create: Callable[..., Any] = client.chat.completions.create
        if turn.kind is Kind.STREAM:
            chunks = create(model=CHAT_MODEL, messages=messages, stream=True)
            return gathered(chunk.choices[0].delta.content for chunk in chunks)
        if turn.kind is Kind.PLAIN:
            return Answer(create(model=CHAT_MODEL, messages=messages).choices[0].message.content)
        tools = [{"type": "function", "function": {"name": TOOL, "description": _ABOUT, "parameters": _SCHEMA}}]
        message = create(model=CHAT_MODEL, messages=messages, tools=tools).choices[0].message
        [call] = message.tool_calls or _no_call()
        ran = _weather(json.loads(call.function.arguments))
        messages += [message, {"role": "tool", "tool_call_id": call.id, "content": ran}]
        last = create(model=CHAT_MODEL, messages=messages, tools=tools).choices[0].message
        return Answer(last.content or "", ran=ran)


def _responses(site: Site, turn: Turn) -> Answer:
    said: list[Any] = [{"role": "user", "content": _asked(turn)}]
    with _openai(site) as client:
        create: Callable[..., Any] = client.responses.create
        if turn.kind is Kind.STREAM:
            events = create(model=RESPONSES_MODEL, input=said, stream=True)
            return gathered(event.delta for event in events if event.type == "response.output_text.delta")
        if turn.kind is Kind.PLAIN:
            return Answer(create(model=RESPONSES_MODEL, input=said).output_text)
        tools = [{"type": "function", "name": TOOL, "description": _ABOUT, "parameters": _SCHEMA, "strict": False}]
        answer = create(model=RESPONSES_MODEL, input=said, tools=tools)
        [call] = [item for item in answer.output if item.type == "function_call"] or _no_call()
        ran = _weather(json.loads(call.arguments))
        said += [*answer.output, {"type": "function_call_output", "call_id": call.call_id, "output": ran}]
        return Answer(create(model=RESPONSES_MODEL, input=said, tools=tools).output_text, ran=ran)


# ── Anthropic ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _messages(site: Site, turn: Turn) -> Answer:
    said: list[Any] = [{"role": "user", "content": _asked(turn)}]
    asked: dict[str, Any] = {"model": MESSAGES_MODEL, "max_tokens": MOST_TOKENS, "messages": said}
    with anthropic.Anthropic(api_key=site.key, base_url=f"{site.url}/api", max_retries=0, timeout=SECONDS) as client:
        if turn.kind is Kind.STREAM:
            with client.messages.stream(**asked) as stream:
                return gathered(stream.text_stream)
        if turn.kind is Kind.PLAIN:
            return Answer(_text_of(client.messages.create(**asked)))
        asked["tools"] = [{"name": TOOL, "description": _ABOUT, "input_schema": _SCHEMA}]
        message = client.messages.create(**asked)
        [call] = [block for block in message.content if block.type == "tool_use"] or _no_call()
        ran = _weather(call.input)
        result = {"type": "tool_result", "tool_use_id": call.id, "content": ran}
        said += [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
        return Answer(_text_of(client.messages.create(**asked)), ran=ran)


def _text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


# ── Google ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _gemini(site: Site, turn: Turn) -> Answer:
    options = google.HttpOptions(base_url=f"{site.url}/api/v1/gemini", timeout=int(SECONDS * 1000))
    said: list[Any] = [google.Content(role="user", parts=[google.Part(text=_asked(turn))])]
    with genai.Client(api_key=site.key, http_options=options) as client:
        if turn.kind is Kind.STREAM:
            chunks = client.models.generate_content_stream(model=GEMINI_MODEL, contents=said)
            return gathered(chunk.text for chunk in chunks)
        if turn.kind is Kind.PLAIN:
            return Answer(client.models.generate_content(model=GEMINI_MODEL, contents=said).text or "")
        function = google.FunctionDeclaration(name=TOOL, description=_ABOUT, parameters_json_schema=_SCHEMA)
        config = google.GenerateContentConfig(tools=[google.Tool(function_declarations=[function])])
        answer = client.models.generate_content(model=GEMINI_MODEL, contents=said, config=config)
        [call] = answer.function_calls or _no_call()
        ran = _weather(call.args)
        reply = google.Part.from_function_response(name=TOOL, response={"result": ran})
        if reply.function_response is not None:
            reply.function_response.id = call.id
        assert answer.candidates is not None
        said += [answer.candidates[0].content, google.Content(role="user", parts=[reply])]
        last = client.models.generate_content(model=GEMINI_MODEL, contents=said, config=config)
        return Answer(last.text or "", ran=ran)


def _no_call() -> list[Any]:
    raise TurnFailed("the model did not call the tool")
