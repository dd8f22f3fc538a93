"""Gemini's own format: reads a request into a Prompt, writes a Plan as one answer or as events."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from upstreams import loose_json
from upstreams.gemini_to_chat import get, json_schema
from upstreams.sandbox.plans import Plan, Planner, Prompt, Tool, count_tokens
from upstreams.sandbox.server import Stream, Whole

LONGEST_WAIT_SECONDS = 4.0
_THOUGHT = "The sandbox thinks about nothing."
_SIGNATURE = "c2FuZGJveA=="


class Endpoint:
    """Answers ``POST …/models/{model}:generateContent``. ``speed`` divides all waiting; 0 leaves it out."""

    def __init__(self, planner: Planner, speed: float = 1.0) -> None:
        self._planner = planner
        self._pace = 1 / speed if speed > 0 else 0.0

    async def answer_at(self, path: str, body: bytes) -> Whole | Stream:
        """One answer as JSON; a fault in the request gets Google's 400."""
        request = _read(body)
        if isinstance(request, Whole):
            return request
        prompt = read_prompt(_model(path), request)
        plan = self._planner.plan(prompt)
        wait = plan.first_delay_seconds + plan.gap_seconds * len(plan.pieces)
        await asyncio.sleep(min(wait, LONGEST_WAIT_SECONDS) * self._pace)
        parts = [*_thoughts(plan), *_said(plan)]
        return Whole(_piece(parts, plan, _identity(prompt.model), ended=True))


class Streaming(Endpoint):
    """Answers ``POST …/models/{model}:streamGenerateContent`` with events."""

    async def answer_at(self, path: str, body: bytes) -> Whole | Stream:
        """A stream; a fault in the request gets Google's 400."""
        request = _read(body)
        if isinstance(request, Whole):
            return request
        prompt = read_prompt(_model(path), request)
        return Stream(self._events(prompt.model, self._planner.plan(prompt)))

    async def _events(self, model: str, plan: Plan) -> AsyncGenerator[bytes, None]:
        identity = _identity(model)
        await asyncio.sleep(plan.first_delay_seconds * self._pace)
        if thoughts := list(_thoughts(plan)):
            yield _event(_piece(thoughts, plan, identity))
        if plan.tool is None:
            for piece in plan.pieces:
                await asyncio.sleep(plan.gap_seconds * self._pace)
                yield _event(_piece([{"text": piece}], plan, identity))
            yield _event(_piece([{"text": ""}], plan, identity, ended=True))
            return
        await asyncio.sleep(plan.gap_seconds * len(plan.pieces) * self._pace)  # a call comes in one piece
        yield _event(_piece(list(_said(plan)), plan, identity, ended=True))


class Count:
    """Answers ``POST …/models/{model}:countTokens``."""

    async def answer_at(self, path: str, body: bytes) -> Whole | Stream:
        """The number of tokens that the request would count as."""
        request = _read(body, inner=True)
        if isinstance(request, Whole):
            return request
        tokens = count_tokens(read_prompt(_model(path), request).text)
        return Whole({"totalTokens": tokens, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}]})


def read_prompt(model: str, request: Mapping[str, Any]) -> Prompt:
    """What a request asks for, freed of its format."""
    contents = _list(request.get("contents"))
    config = get(request, "generationConfig")
    tools = tuple(_tools(request.get("tools")))
    calling = get(get(request, "toolConfig"), "functionCallingConfig")
    mode = str(get(calling, "mode") or "AUTO").upper()
    allowed = _list(get(calling, "allowedFunctionNames"))
    texts = [loose_json.encode(request["tools"]).decode("utf-8", "replace")] if tools else []
    texts += [f"system: {text}" for text in _texts(get(request, "systemInstruction"))]
    texts += [f"{content.get('role')}: {text}" for content in contents for text in _texts(content)]
    questions = [" ".join(_spoken(content)) for content in contents if content.get("role") != "model"]
    thinking = get(config, "thinkingConfig")
    ceiling = get(config, "maxOutputTokens")
    last = _parts(contents[-1]) if contents else []
    return Prompt(
        model=model,
        text="\n".join(texts),
        question=next((question for question in reversed(questions) if question.strip()), ""),
        max_tokens=ceiling if isinstance(ceiling, int) and ceiling > 0 else None,
        stop=tuple(stop for stop in _listed(get(config, "stopSequences")) if isinstance(stop, str)),
        tools=tools if mode != "NONE" else (),
        forced_tool=_forced_tool(mode, allowed, tools),
        answers_tool=any(get(part, "functionResponse") is not None for part in last),
        schema=_answer_schema(config),
        thinks=get(thinking, "includeThoughts") is True,
    )


def _read(body: bytes, *, inner: bool = False) -> dict[str, Any] | Whole:
    """The request, or the answer to what is none. ``inner``: it may stand inside a request to count."""
    try:
        request = loose_json.decode(body)
    except ValueError:
        return _fault("Invalid JSON payload received.")
    if inner and isinstance(request, dict):
        request = get(request, "generateContentRequest") or request
    if not isinstance(request, dict) or not _list(request.get("contents")):
        return _fault("* GenerateContentRequest.contents: contents is not specified")
    return request


def _model(path: str) -> str:
    return unquote(path.rpartition("models/")[2].rpartition(":")[0])


def _list(value: Any) -> list[Any]:
    """Google's parser takes a single value for a list of one."""
    return [value] if isinstance(value, dict) else [each for each in _listed(value) if isinstance(each, dict | str)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _parts(content: Any) -> list[dict[str, Any]]:
    return [part for part in _list(content.get("parts")) if isinstance(part, dict)] if isinstance(content, dict) else []


def _texts(content: Any) -> Iterator[str]:
    """All that counts as input: texts as they are, other parts as they stand."""
    for part in _parts(content):
        text = part.get("text")
        yield text if isinstance(text, str) else loose_json.encode(part).decode("utf-8", "replace")


def _spoken(content: Any) -> Iterator[str]:
    for part in _parts(content):
        if isinstance(part.get("text"), str):
            yield part["text"]


def _tools(tools: Any) -> Iterator[Tool]:
    for tool in _list(tools):
        for declared in _list(get(tool, "functionDeclarations")):
            if isinstance(declared, dict) and isinstance(declared.get("name"), str):
                schema = get(declared, "parametersJsonSchema") or json_schema(declared.get("parameters"))
                yield Tool(declared["name"], schema if isinstance(schema, dict) else {})


def _forced_tool(mode: str, allowed: list[Any], tools: tuple[Tool, ...]) -> str | None:
    if mode != "ANY" or not tools:
        return None
    return next((name for name in allowed if isinstance(name, str)), tools[0].name)


def _answer_schema(config: Any) -> Mapping[str, Any] | None:
    """Where the answer must be JSON of a certain shape."""
    if get(config, "responseMimeType") != "application/json":
        return None
    schema = get(config, "responseJsonSchema") or json_schema(get(config, "responseSchema"))
    return schema if isinstance(schema, dict) else {"type": "object", "properties": {"sandbox": {"const": True}}}


def _thoughts(plan: Plan) -> Iterator[dict[str, Any]]:
    if plan.reasoning_tokens:
        yield {"text": _THOUGHT, "thought": True}


def _said(plan: Plan) -> Iterator[dict[str, Any]]:
    text = "".join(plan.pieces)
    if plan.tool is None:
        yield {"text": text}
        return
    try:
        arguments = loose_json.decode(text.encode())
    except ValueError:  # cut off by maxOutputTokens
        arguments = {}
    call_id = plan.tool_call_id.removeprefix("call_")[:8]
    yield {
        "functionCall": {"id": call_id, "name": plan.tool.name, "args": arguments},
        "thoughtSignature": _SIGNATURE,
    }


def _piece(parts: list[dict[str, Any]], plan: Plan, identity: dict[str, Any], *, ended: bool = False) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    usage = {"promptTokenCount": plan.input_tokens, "totalTokenCount": plan.input_tokens}
    if ended:
        candidate["finishReason"] = "MAX_TOKENS" if plan.truncated else "STOP"
        usage["candidatesTokenCount"] = plan.output_tokens - plan.reasoning_tokens
        usage["totalTokenCount"] += plan.output_tokens
        if plan.reasoning_tokens:
            usage["thoughtsTokenCount"] = plan.reasoning_tokens
        if plan.cached_tokens:
            usage["cachedContentTokenCount"] = plan.cached_tokens
    return {"candidates": [candidate], "usageMetadata": usage, **identity}


def _identity(model: str) -> dict[str, Any]:
    return {"modelVersion": f"sandbox/{model}", "responseId": f"sandbox{secrets.token_hex(10)}"}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + loose_json.encode(value) + b"\n\n"


def _fault(message: str) -> Whole:
    return Whole({"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}, 400)
