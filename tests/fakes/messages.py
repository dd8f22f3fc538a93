"""What a provider that speaks Anthropic's messages says, for `tests.fakes.upstream`."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.upstream import Behaviour, Conversation

ID = "msg_0123456789abcdef"


def usage(fresh: int = 100, output: int = 50, read: int = 0, written: int = 0, for_an_hour: int = 0) -> dict[str, Any]:
    """A usage block; the counts of input add up, ``for_an_hour`` is a part of ``written``."""
    return {
        "input_tokens": fresh,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written - for_an_hour,
            "ephemeral_1h_input_tokens": for_an_hour,
        },
        "output_tokens": output,
        "service_tier": "standard",
    }


def message(
    *content: dict[str, Any], counts: dict[str, Any] | None = None, stop: str = "end_turn", **members: Any
) -> dict[str, Any]:
    """A whole message."""
    return {
        "id": ID,
        "type": "message",
        "role": "assistant",
        "model": "fake",
        "content": list(content) or [text("Hello there")],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": counts or usage(),
        **members,
    }


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def thinking(words: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": words, "signature": "c2lnbmVk"}


def tool_use(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": name, "input": arguments}


def event(kind: str, **members: Any) -> bytes:
    """One event."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def start(counts: dict[str, Any]) -> bytes:
    opening = {**message(counts={**counts, "output_tokens": 1}, stop=""), "content": [], "stop_reason": None}
    return event("message_start", message=opening)


def opened(index: int = 0, **block: Any) -> bytes:
    return event("content_block_start", index=index, content_block=block or {"type": "text", "text": ""})


def words(piece: str, index: int = 0) -> bytes:
    return event("content_block_delta", index=index, delta={"type": "text_delta", "text": piece})


def closed(index: int = 0) -> bytes:
    return event("content_block_stop", index=index)


def end(counts: dict[str, Any], stop: str = "end_turn") -> bytes:
    return event("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage=counts)


PING = event("ping")
STOP = event("message_stop")


def events(answer: dict[str, Any]) -> list[bytes]:
    """A whole message as the provider would stream it, a delta a word."""
    sent = [start(answer["usage"]), PING]
    for index, block in enumerate(answer["content"]):
        if block["type"] == "text":
            sent.append(opened(index, type="text", text=""))
            sent += [words(f"{word} ", index) for word in block["text"].split(" ")]
        elif block["type"] == "thinking":
            sent.append(opened(index, type="thinking", thinking="", signature=""))
            for delta in (
                {"type": "thinking_delta", "thinking": block["thinking"]},
                {"type": "signature_delta", "signature": block["signature"]},
            ):
                sent.append(event("content_block_delta", index=index, delta=delta))
        else:
            pieces = json.dumps(block["input"])
            sent.append(opened(index, **{**block, "input": {}}))
            for piece in (pieces[:5], pieces[5:]):
                delta = {"type": "input_json_delta", "partial_json": piece}
                sent.append(event("content_block_delta", index=index, delta=delta))
        sent.append(closed(index))
    return [*sent, end({"output_tokens": answer["usage"]["output_tokens"]}, answer["stop_reason"]), STOP]


def answers(*content: dict[str, Any], **members: Any) -> Behaviour:
    """A well-behaved provider: whole answers, streams, and counts of tokens."""
    answer = message(*content, **members)

    async def behave(talk: Conversation) -> None:
        if "/count_tokens" in talk.seen.path:
            await talk.json({"input_tokens": 42})
        elif talk.body.get("stream"):
            await talk.start()
            for piece in events(answer):
                await talk.send(piece)
            await talk.end()
        else:
            await talk.json(answer)

    return behave


def fails(status: int, kind: str = "api_error", said: str = "it failed", **headers: str) -> Behaviour:
    """A provider that only answers with this error."""

    async def behave(talk: Conversation) -> None:
        await talk.json({"type": "error", "error": {"type": kind, "message": said}}, status, headers)

    return behave


def streams(*pieces: bytes, cut: bool = False) -> Behaviour:
    """A provider that sends these events and hangs up, in order or not."""

    async def behave(talk: Conversation) -> None:
        await talk.start()
        for piece in pieces:
            await talk.send(piece)
        if cut:
            await talk.taken()
            talk.cut()
        else:
            await talk.end()

    return behave
