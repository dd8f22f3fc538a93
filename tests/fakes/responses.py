"""What a provider that speaks Responses says, for `tests.fakes.upstream`."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.upstream import Behaviour, Conversation

ID = "resp_0123456789abcdef"


def response(text: str = "Hello there", prompt: int = 100, output: int = 50, **members: Any) -> dict[str, Any]:
    """A whole response with one message."""
    usage = {
        "input_tokens": prompt,
        "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + output,
    }
    return {
        "id": ID,
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": "fake",
        "output": [message(text)],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "service_tier": "default",
        "usage": usage,
        **members,
    }


def message(text: str) -> dict[str, Any]:
    """An output item with words."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [part]}


def call(name: str, arguments: str) -> dict[str, Any]:
    """An output item that calls a function."""
    named = {"call_id": "call_1", "name": name, "arguments": arguments}
    return {"id": "fc_1", "type": "function_call", "status": "completed", **named}


def event(kind: str, **members: Any) -> bytes:
    """One event."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def delta(text: str, number: int = 3) -> bytes:
    """One event with words."""
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "sequence_number": number, "logprobs": []}
    return event("response.output_text.delta", **place, delta=text)


def beginning(**members: Any) -> bytes:
    """What comes before the first content."""
    begun = {**response(), "status": "in_progress", "output": [], "usage": None, **members}
    return event("response.created", sequence_number=0, response=begun) + event(
        "response.in_progress", sequence_number=1, response=begun
    )


def failed(code: str, message: str = "it failed", **members: Any) -> bytes:
    """The event that ends a stream badly."""
    error = {"code": code, "message": message}
    return event("response.failed", sequence_number=9, response={**response(), "status": "failed", "error": error,
                                                                 "usage": None, **members})  # fmt: skip


def stream_of(whole: dict[str, Any]) -> list[bytes]:
    """The events of a whole response."""
    events, number = [beginning()], 2
    for index, item in enumerate(whole["output"]):
        place = {"output_index": index}
        opened = {**item, "status": "in_progress", **({"content": []} if "content" in item else {"arguments": ""})}
        events.append(event("response.output_item.added", sequence_number=number, item=opened, **place))
        number += 1
        place |= {"item_id": item["id"]}
        if item["type"] == "message":
            place["content_index"] = 0
            part = item["content"][0]
            events.append(event("response.content_part.added", sequence_number=number, part={**part, "text": ""},
                                **place))  # fmt: skip
            for word in part["text"].split(" "):
                number += 1
                events.append(event("response.output_text.delta", sequence_number=number, delta=f"{word} ", logprobs=[],
                                    **place))  # fmt: skip
        elif item["type"] == "function_call":
            events.append(event("response.function_call_arguments.delta", sequence_number=number,
                                delta=item["arguments"], **place))  # fmt: skip
        number += 1
        events.append(event("response.output_item.done", sequence_number=number, output_index=index, item=item))
        number += 1
    kind = "response.incomplete" if whole["status"] == "incomplete" else "response.completed"
    return [*events, event(kind, sequence_number=number, response=whole)]


def answers(
    text: str = "Hello there", prompt: int = 100, output: int = 50, output_items: Any = None, **members: Any
) -> Behaviour:
    """A well-behaved provider, whose answer is a text or ``output_items``."""
    items = {} if output_items is None else {"output": output_items}

    async def behave(talk: Conversation) -> None:
        whole = response(text, prompt, output, **members) | items
        if not talk.body.get("stream"):
            await talk.json(whole)
            return
        await talk.start()
        for each in stream_of(whole):
            await talk.send(each)
        await talk.end()

    return behave


def sends(*events: bytes, then_cut: bool = False, pause: float = 0.05) -> Behaviour:
    """A provider whose stream is these events, whatever was asked."""

    async def behave(talk: Conversation) -> None:
        await talk.start()
        for each in events:
            await talk.send(each)
            await talk.gone(pause)
        if then_cut:
            await talk.taken()
            talk.cut()
        else:
            await talk.end()

    return behave
