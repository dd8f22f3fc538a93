"""Messages as Anthropic words them: reads a request into a Prompt, writes a Plan as JSON or as events."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

from upstreams import loose_json
from upstreams.sandbox.plans import CACHE_LEAST_TOKENS, Plan, Planner, Prompt, Tool, count_tokens
from upstreams.sandbox.server import Stream, Whole

LONGEST_WAIT_SECONDS = 4.0
_THOUGHT = "The sandbox thinks about nothing."


class Endpoint:
    """Answers ``POST …/messages``. ``speed`` divides all waiting; 0 leaves it out."""

    def __init__(self, planner: Planner, speed: float = 1.0) -> None:
        self._planner = planner
        self._pace = 1 / speed if speed > 0 else 0.0

    async def answer(self, body: bytes) -> Whole | Stream:
        """JSON, or a stream where the request asks for one; a fault in the request gets Anthropic's 400."""
        request = _read(body)
        if isinstance(request, Whole):
            return request
        limit = request.get("max_tokens")
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            return _fault("max_tokens: Field required")
        prompt, marked = read_prompt(request)
        plan = self._planner.plan(prompt)
        usage = _usage(plan, marked)
        if request.get("stream") is True:
            return Stream(self._events(prompt.model, plan, usage))
        wait = plan.first_delay_seconds + plan.gap_seconds * len(plan.pieces)
        await asyncio.sleep(min(wait, LONGEST_WAIT_SECONDS) * self._pace)
        end = {"stop_reason": _stop_reason(plan)}
        return Whole({**_message(prompt.model), **end, "content": _content(plan), "usage": usage})

    async def _events(self, model: str, plan: Plan, usage: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(plan.first_delay_seconds * self._pace)
        opening = {**_message(model), "content": [], "usage": {**usage, "output_tokens": 1}}
        yield _event("message_start", message=opening)
        blocks = _content(plan)
        for index, block in enumerate(blocks):
            yield _event("content_block_start", index=index, content_block=_empty(block))
            if index == 0:
                yield _event("ping")
            for delta in _deltas(block, plan):
                await asyncio.sleep(plan.gap_seconds * self._pace)
                yield _event("content_block_delta", index=index, delta=delta)
            yield _event("content_block_stop", index=index)
        end = {"stop_reason": _stop_reason(plan), "stop_sequence": None}
        yield _event("message_delta", delta=end, usage={"output_tokens": plan.output_tokens})
        yield _event("message_stop")


class Count:
    """Answers ``POST …/messages/count_tokens``."""

    async def answer(self, body: bytes) -> Whole | Stream:
        """The number of tokens that the request would count as."""
        request = _read(body)
        if isinstance(request, Whole):
            return request
        return Whole({"input_tokens": count_tokens(read_prompt(request)[0].text)})


def read_prompt(request: Mapping[str, Any]) -> tuple[Prompt, int]:
    """What a request asks for, freed of its format, and the tokens in front of its last cache breakpoint."""
    messages = request["messages"]
    offered = request.get("tools")
    tools = tuple(_tools(offered))
    texts, marked = [], 0
    for text, has_mark in _parts(request):
        texts.append(text)
        marked = len(texts) if has_mark else marked
    questions = [_question_in(message.get("content")) for message in messages if message.get("role") == "user"]
    stops = request.get("stop_sequences")
    thinking, choice = request.get("thinking"), request.get("tool_choice")
    choice = choice if isinstance(choice, dict) else {}
    last = messages[-1].get("content")
    prompt = Prompt(
        model=request["model"],
        text="\n".join(texts),
        question=questions[-1] if questions else "",
        max_tokens=request.get("max_tokens") or None,
        stop=tuple(stop for stop in stops if isinstance(stop, str)) if isinstance(stops, list) else (),
        tools=tools if choice.get("type") != "none" else (),
        forced_tool=_forced_tool(choice, tools),
        answers_tool=isinstance(last, list) and any(_kind(block) == "tool_result" for block in last),
        schema=_answer_schema(request),
        thinks=isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive"),
    )
    return prompt, count_tokens("\n".join(texts[:marked])) if marked else 0


def _read(body: bytes) -> dict[str, Any] | Whole:
    """The request, or the answer to what is none."""
    try:
        request = loose_json.decode(body)
    except ValueError:
        return _fault("The request body is not valid JSON.")
    if not isinstance(request, dict) or not isinstance(request.get("model"), str) or not request["model"]:
        return _fault("model: Field required")
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
        return _fault("messages: at least one message is required")
    return request


def _parts(request: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """All input in the order in which a cache sees it, and where breakpoints stand."""
    whole = bool(request.get("cache_control"))
    tools = request.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict):
            yield loose_json.encode(_unmarked(tool)).decode(), bool(tool.get("cache_control"))
    yield from _blocks("system", request.get("system"))
    for message in request["messages"]:
        yield from _blocks(str(message.get("role")), message.get("content"))
    yield "", whole


def _blocks(speaker: str, content: Any) -> Iterator[tuple[str, bool]]:
    for block in content if isinstance(content, list) else [{"type": "text", "text": content or ""}]:
        if isinstance(block, dict):
            text = block.get("text")
            said = text if isinstance(text, str) else loose_json.encode(_unmarked(block)).decode("utf-8", "replace")
            yield f"{speaker}: {said}", bool(block.get("cache_control"))


def _unmarked(block: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in block.items() if name != "cache_control"}


def _question_in(content: Any) -> str:
    """What the user said; clients put what they say themselves in blocks before it."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else ()
    texts = [block.get("text") for block in blocks if isinstance(block, dict)]
    return next((text for text in reversed(texts) if isinstance(text, str) and text.strip()), "")


def _kind(block: Any) -> Any:
    return block.get("type") if isinstance(block, dict) else None


def _tools(tools: Any) -> Iterator[Tool]:
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict) and isinstance(tool.get("name"), str):
            schema = tool.get("input_schema")
            yield Tool(tool["name"], schema if isinstance(schema, dict) else {})


def _forced_tool(choice: Mapping[str, Any], tools: tuple[Tool, ...]) -> str | None:
    if choice.get("type") == "any" and tools:
        return tools[0].name
    name = choice.get("name")
    return name if choice.get("type") == "tool" and isinstance(name, str) else None


def _answer_schema(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Where the answer must be JSON of a certain shape."""
    config = request.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else request.get("output_format")
    schema = wanted.get("schema") if isinstance(wanted, dict) and wanted.get("type") == "json_schema" else None
    return schema if isinstance(schema, dict) else None


def _message(model: str) -> dict[str, Any]:
    return {
        "id": f"msg_sandbox{secrets.token_hex(10)}",
        "type": "message",
        "role": "assistant",
        "model": f"sandbox/{model}",
        "stop_reason": None,
        "stop_sequence": None,
    }


def _content(plan: Plan) -> list[dict[str, Any]]:
    text = "".join(plan.pieces)
    blocks: list[dict[str, Any]] = []
    if plan.reasoning_tokens:
        blocks.append({"type": "thinking", "thinking": _THOUGHT, "signature": "sandbox"})
    if plan.tool is None:
        return [*blocks, {"type": "text", "text": text}]
    try:
        arguments = loose_json.decode(text.encode())
    except ValueError:  # cut off by max_tokens
        arguments = {}
    call_id = plan.tool_call_id.replace("call_", "toolu_")
    return [*blocks, {"type": "tool_use", "id": call_id, "name": plan.tool.name, "input": arguments}]


def _empty(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block as it begins in a stream."""
    blank = {"text": "", "thinking": "", "signature": "", "input": {}}
    return {name: blank.get(name, value) for name, value in block.items()}


def _deltas(block: Mapping[str, Any], plan: Plan) -> Iterator[dict[str, Any]]:
    if block["type"] == "thinking":
        yield {"type": "thinking_delta", "thinking": block["thinking"]}
        yield {"type": "signature_delta", "signature": block["signature"]}
        return
    for piece in plan.pieces:
        if block["type"] == "text":
            yield {"type": "text_delta", "text": piece}
        else:
            yield {"type": "input_json_delta", "partial_json": piece}


def _stop_reason(plan: Plan) -> str:
    if plan.truncated:
        return "max_tokens"
    return "end_turn" if plan.tool is None else "tool_use"


def _usage(plan: Plan, marked_tokens: int) -> dict[str, Any]:
    """Only what a breakpoint closes is cached, and only from a certain length on."""
    marked = min(marked_tokens, plan.input_tokens) if marked_tokens >= CACHE_LEAST_TOKENS else 0
    read = min(plan.cached_tokens, marked)
    written = marked - read
    return {
        "input_tokens": plan.input_tokens - marked,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": plan.output_tokens,
        "service_tier": "standard",
    }


def _event(kind: str, **members: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + loose_json.encode({"type": kind, **members}) + b"\n\n"


def _fault(message: str) -> Whole:
    return Whole({"type": "error", "error": {"type": "invalid_request_error", "message": message}}, 400)
