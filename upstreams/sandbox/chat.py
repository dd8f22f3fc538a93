"""Chat completions as OpenAI words them: reads a request into a Prompt, writes a Plan as JSON or as events."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from upstreams import loose_json
from upstreams.sandbox.plans import Plan, Planner, Prompt, Tool
from upstreams.sandbox.server import Stream, Whole

MOST_CHOICES = 8
LONGEST_WAIT_SECONDS = 4.0


class Endpoint:
    """Answers ``POST …/chat/completions``. ``speed`` divides all waiting; 0 leaves it out."""

    def __init__(self, planner: Planner, speed: float = 1.0) -> None:
        self._planner = planner
        self._pace = 1 / speed if speed > 0 else 0.0

    async def answer(self, body: bytes) -> Whole | Stream:
        """JSON, or a stream where the request asks for one; a fault in the request gets OpenAI's 400."""
        try:
            request = loose_json.decode(body)
        except ValueError:
            return _fault("We could not parse the JSON body of your request.")
        if not isinstance(request, dict) or not isinstance(request.get("model"), str) or not request["model"]:
            return _fault("you must provide a model parameter", "model")
        messages = request.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
            return _fault("'messages' must be a list of messages with at least one item.", "messages")
        prompt = read_prompt(request)
        choices = min(max(_whole_number(request.get("n")) or 1, 1), MOST_CHOICES)
        plans = [self._planner.plan(prompt, index) for index in range(choices)]
        if request.get("stream") is True:
            options = request.get("stream_options")
            with_usage = isinstance(options, dict) and options.get("include_usage") is True
            return Stream(self._events(prompt.model, plans, with_usage))
        longest = max(plan.first_delay_seconds + plan.gap_seconds * len(plan.pieces) for plan in plans)
        await asyncio.sleep(min(longest, LONGEST_WAIT_SECONDS) * self._pace)
        return Whole(_completion(prompt.model, plans))

    async def _events(self, model: str, plans: list[Plan], with_usage: bool) -> AsyncGenerator[bytes, None]:
        """One choice after the other, each with its own finish chunk."""
        base = _base(model, "chat.completion.chunk")
        silent = {"usage": None} if with_usage else {}
        await asyncio.sleep(plans[0].first_delay_seconds * self._pace)
        for index, plan in enumerate(plans):
            yield _event(
                {**base, "choices": [_delta(index, {"role": "assistant", "content": _opening(plan)})], **silent}
            )
            if plan.tool is not None:
                yield _event({**base, "choices": [_delta(index, {"tool_calls": [_call_opening(plan)]})], **silent})
            for piece in plan.pieces:
                await asyncio.sleep(plan.gap_seconds * self._pace)
                yield _event({**base, "choices": [_delta(index, _piece(plan, piece))], **silent})
            end = {"index": index, "delta": {}, "logprobs": None, "finish_reason": _finish_reason(plan)}
            yield _event({**base, "choices": [end], **silent})
        if with_usage:
            yield _event({**base, "choices": [], "usage": _usage(plans)})
        yield b"data: [DONE]\n\n"


def read_prompt(request: Mapping[str, Any]) -> Prompt:
    """What a chat request asks for, freed of its format."""
    messages = request["messages"]
    tools = tuple(_tools(request.get("tools")))
    parts = [loose_json.encode(request["tools"]).decode()] if tools else []
    parts += [f"{message.get('role')}: {_text_of(message)}" for message in messages]
    questions = [_text_of(message) for message in messages if message.get("role") == "user"]
    stop = request.get("stop")
    return Prompt(
        model=request["model"],
        text="\n".join(parts),
        question=questions[-1] if questions else "",
        max_tokens=_whole_number(request.get("max_completion_tokens")) or _whole_number(request.get("max_tokens")),
        stop=(stop,) if isinstance(stop, str) else tuple(s for s in _list(stop) if isinstance(s, str)),
        tools=tools if request.get("tool_choice") != "none" else (),
        forced_tool=_forced_tool(request.get("tool_choice"), tools),
        answers_tool=messages[-1].get("role") in ("tool", "function"),
        schema=_answer_schema(request.get("response_format")),
        thinks=request.get("reasoning_effort") in ("low", "medium", "high", "xhigh"),
    )


def _text_of(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    texts = [part.get("text") for part in _list(content) if isinstance(part, dict)]
    texts += [str(call.get("function")) for call in _list(message.get("tool_calls")) if isinstance(call, dict)]
    return " ".join(text for text in texts if isinstance(text, str))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _tools(tools: Any) -> list[Tool]:
    found = []
    for tool in _list(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            schema = function.get("parameters")
            found.append(Tool(function["name"], schema if isinstance(schema, dict) else {}))
    return found


def _forced_tool(choice: Any, tools: tuple[Tool, ...]) -> str | None:
    if choice == "required" and tools:
        return tools[0].name
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def _answer_schema(wanted: Any) -> Mapping[str, Any] | None:
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_object":
        return {"type": "object", "properties": {"answer": {"type": "string"}, "sandbox": {"const": True}}}
    schema = wanted.get("json_schema")
    inner = schema.get("schema") if wanted.get("type") == "json_schema" and isinstance(schema, dict) else None
    return inner if isinstance(inner, dict) else None


def _completion(model: str, plans: list[Plan]) -> dict[str, Any]:
    choices = []
    for index, plan in enumerate(plans):
        text = "".join(plan.pieces)
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if plan.tool is not None:
            call = {
                "id": plan.tool_call_id,
                "type": "function",
                "function": {"name": plan.tool.name, "arguments": text},
            }
            message |= {"content": None, "tool_calls": [call]}
        choices.append({"index": index, "message": message, "logprobs": None, "finish_reason": _finish_reason(plan)})
    return {**_base(model, "chat.completion"), "choices": choices, "usage": _usage(plans)}


def _base(model: str, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-sandbox{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": f"sandbox/{model}",
        "service_tier": "default",
        "system_fingerprint": "sandbox",
    }


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _opening(plan: Plan) -> str | None:
    return "" if plan.tool is None else None


def _call_opening(plan: Plan) -> dict[str, Any]:
    assert plan.tool is not None
    function = {"name": plan.tool.name, "arguments": ""}
    return {"index": 0, "id": plan.tool_call_id, "type": "function", "function": function}


def _piece(plan: Plan, piece: str) -> dict[str, Any]:
    if plan.tool is None:
        return {"content": piece}
    return {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def _finish_reason(plan: Plan) -> str:
    if plan.truncated:
        return "length"
    return "stop" if plan.tool is None else "tool_calls"


def _usage(plans: list[Plan]) -> dict[str, Any]:
    """The prompt counts once, every choice counts as output."""
    prompt, output = plans[0].input_tokens, sum(plan.output_tokens for plan in plans)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": plans[0].cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": sum(plan.reasoning_tokens for plan in plans),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + loose_json.encode(value) + b"\n\n"


def _fault(message: str, param: str | None = None) -> Whole:
    return Whole({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}}, 400)


def _whole_number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
