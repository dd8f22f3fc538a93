"""OpenAI's Responses: reads a request into a Prompt, writes a Plan as JSON or as events."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import replace
from typing import Any

from upstreams import loose_json
from upstreams.sandbox.plans import Plan, Planner, Prompt, Tool
from upstreams.sandbox.server import Stream, Whole

LONGEST_WAIT_SECONDS = 4.0
_Object = dict[str, Any]
_RESULTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")
_THINKING = ("low", "medium", "high", "xhigh")


class Endpoint:
    """Answers ``POST …/responses``. ``speed`` divides all waiting; 0 leaves it out."""

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
        if not isinstance(request.get("input"), str | list):
            return _fault("'input' must be a text or a list of items.", "input")
        prompt = read_prompt(request)
        plan = self._planner.plan(prompt)
        base = _base(prompt.model, request)
        if request.get("stream") is True:
            return Stream(self._events(base, plan))
        wait = plan.first_delay_seconds + plan.gap_seconds * len(plan.pieces)
        await asyncio.sleep(min(wait, LONGEST_WAIT_SECONDS) * self._pace)
        return Whole(_finished(base, plan))

    async def _events(self, base: _Object, plan: Plan) -> AsyncGenerator[bytes, None]:
        numbers = iter(range(10**9))
        begun = {**base, "status": "in_progress", "output": [], "usage": None}
        yield _event("response.created", numbers, response=begun)
        yield _event("response.in_progress", numbers, response=begun)
        await asyncio.sleep(plan.first_delay_seconds * self._pace)
        done = _finished(base, plan)
        *thoughts, item = done["output"]
        for index, thought in enumerate(thoughts):
            yield _event("response.output_item.added", numbers, output_index=index, item=thought)
            yield _event("response.output_item.done", numbers, output_index=index, item=thought)
        place = {"output_index": len(thoughts), "item_id": item["id"]}
        yield _event("response.output_item.added", numbers, output_index=len(thoughts), item=_opened(item))
        if plan.tool is None:
            place["content_index"] = 0
            part = item["content"][0]
            yield _event("response.content_part.added", numbers, **place, part={**part, "text": ""})
        what = "output_text" if plan.tool is None else "function_call_arguments"
        more: _Object = {"logprobs": []} if plan.tool is None else {}
        for piece in plan.pieces:
            await asyncio.sleep(plan.gap_seconds * self._pace)
            yield _event(f"response.{what}.delta", numbers, **place, delta=piece, **more)
        if plan.tool is None:
            yield _event("response.output_text.done", numbers, **place, text=part["text"], **more)
            yield _event("response.content_part.done", numbers, **place, part=part)
        else:
            yield _event(
                "response.function_call_arguments.done", numbers, **place,
                name=item["name"], arguments=item["arguments"],
            )  # fmt: skip
        yield _event("response.output_item.done", numbers, output_index=len(thoughts), item=item)
        yield _event(f"response.{done['status']}", numbers, response=done)


def read_prompt(request: Mapping[str, Any]) -> Prompt:
    """What a request asks for, freed of its format."""
    given = request["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    items = [item for item in items if isinstance(item, dict)]
    tools = tuple(_functions(request.get("tools")))
    parts = [loose_json.encode(request["tools"]).decode()] if request.get("tools") else []
    if isinstance(request.get("instructions"), str):
        parts.append(request["instructions"])
    parts += [f"{item.get('role') or item.get('type')}: {_text_of(item)}" for item in items]
    questions = [_text_of(item) for item in items if item.get("role") == "user"]
    reasoning = request.get("reasoning")
    prompt = Prompt(
        model=request["model"],
        text="\n".join(parts),
        question=questions[-1] if questions else "",
        max_tokens=_whole_number(request.get("max_output_tokens")),
        answers_tool=bool(items) and items[-1].get("type") in _RESULTS,
        schema=_answer_schema(request.get("text")),
        thinks=isinstance(reasoning, dict) and reasoning.get("effort") in _THINKING,
    )
    choice = request.get("tool_choice")
    if choice == "none":
        return prompt
    forced = choice.get("name") if isinstance(choice, dict) else None
    if choice == "required" and tools:
        forced = tools[0].name
    return replace(prompt, tools=tools, forced_tool=forced if isinstance(forced, str) else None)


def _functions(tools: Any) -> Iterator[Tool]:
    """The functions that can be called by their name alone; other kinds of tools are let be."""
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict) and tool.get("type") == "function" and isinstance(tool.get("name"), str):
            schema = tool.get("parameters")
            yield Tool(tool["name"], schema if isinstance(schema, dict) else {})


def _text_of(item: Mapping[str, Any]) -> str:
    content = item.get("content", item.get("output", item.get("arguments")))
    if isinstance(content, str):
        return content
    texts = [part.get("text") for part in content or () if isinstance(part, dict)] if isinstance(content, list) else []
    return " ".join(text for text in texts if isinstance(text, str))


def _answer_schema(text: Any) -> Mapping[str, Any] | None:
    wanted = text.get("format") if isinstance(text, dict) else None
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_object":
        return {"type": "object", "properties": {"answer": {"type": "string"}, "sandbox": {"const": True}}}
    schema = wanted.get("schema") if wanted.get("type") == "json_schema" else None
    return schema if isinstance(schema, dict) else None


def _base(model: str, request: Mapping[str, Any]) -> _Object:
    return {
        "id": f"resp_sandbox{secrets.token_hex(16)}",
        "object": "response",
        "created_at": int(time.time()),
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "metadata": request.get("metadata") or {},
        "model": f"sandbox/{model}",
        "parallel_tool_calls": True,
        "previous_response_id": request.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": request.get("text") or {"format": {"type": "text"}},
        "tool_choice": request.get("tool_choice") or "auto",
        "tools": request.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
    }


def _finished(base: _Object, plan: Plan) -> _Object:
    status = "incomplete" if plan.truncated else "completed"
    return {
        **base,
        "status": status,
        "incomplete_details": {"reason": "max_output_tokens"} if plan.truncated else None,
        "output": list(_output(base["id"], plan, status)),
        "usage": _usage(plan),
    }


def _output(response_id: str, plan: Plan, status: str) -> Iterator[_Object]:
    name = response_id.removeprefix("resp_")
    if plan.reasoning_tokens:
        yield {"id": f"rs_{name}", "type": "reasoning", "summary": []}
    text = "".join(plan.pieces)
    if plan.tool is not None:
        call = {"call_id": plan.tool_call_id, "name": plan.tool.name, "arguments": text}
        yield {"id": f"fc_{name}", "type": "function_call", "status": status, **call}
        return
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    yield {"id": f"msg_{name}", "type": "message", "status": status, "role": "assistant", "content": content}


def _opened(item: _Object) -> _Object:
    """An output item as it stands when it begins."""
    empty: _Object = {"content": []} if item["type"] == "message" else {"arguments": ""}
    return {**item, **empty, "status": "in_progress"}


def _usage(plan: Plan) -> _Object:
    return {
        "input_tokens": plan.input_tokens,
        "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": plan.cached_tokens},
        "output_tokens": plan.output_tokens,
        "output_tokens_details": {"reasoning_tokens": plan.reasoning_tokens},
        "total_tokens": plan.input_tokens + plan.output_tokens,
    }


def _event(kind: str, numbers: Iterator[int], **members: Any) -> bytes:
    value = {"type": kind, "sequence_number": next(numbers), **members}
    return f"event: {kind}\n".encode() + b"data: " + loose_json.encode(value) + b"\n\n"


def _fault(message: str, param: str | None = None) -> Whole:
    return Whole({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}}, 400)


def _whole_number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
