"""What a provider that speaks Gemini's own format says, for `tests.fakes.upstream`."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.upstream import Behaviour, Conversation

IDENTITY = {"modelVersion": "fake", "responseId": "r1"}


def usage(prompt: int = 100, output: int = 50, cached: int = 0, thoughts: int = 0, **more: Any) -> dict[str, Any]:
    """A usage block; ``output`` has the thoughts in it."""
    counts = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": output - thoughts,
        "totalTokenCount": prompt + output,
        "cachedContentTokenCount": cached,
        "thoughtsTokenCount": thoughts,
    }
    return {**{name: count for name, count in counts.items() if count}, **more}


def piece(*parts: dict[str, Any], finish: str = "", counts: Any = None, **members: Any) -> dict[str, Any]:
    """One piece of an answer, or a whole one."""
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0, **members}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], **({"usageMetadata": counts} if counts else {}), **IDENTITY}


def text(words: str, **members: Any) -> dict[str, Any]:
    return {"text": words, **members}


def call(name: str, call_id: str = "c1", signature: str = "c2lnbmVk", **arguments: Any) -> dict[str, Any]:
    return {"functionCall": {"id": call_id, "name": name, "args": arguments}, "thoughtSignature": signature}


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\r\n\r\n"


def error(status: int, word: str, said: str = "it failed", **details: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"code": status, "message": said, "status": word}
    return {"error": {**told, **({"details": [details]} if details else {})}}


def answers(*parts: dict[str, Any], counts: Any = None, finish: str = "STOP", **members: Any) -> Behaviour:
    """A well-behaved provider: whole answers, streams of a piece a part, and counts of tokens."""
    said = list(parts) or [text("Hello "), text("there")]
    counts = counts or usage()

    async def behave(talk: Conversation) -> None:
        if ":countTokens" in talk.seen.path:
            await talk.json({"totalTokens": 42})
        elif ":streamGenerateContent" in talk.seen.path:
            await talk.start()
            running = {**counts, "totalTokenCount": counts["promptTokenCount"]}
            running.pop("candidatesTokenCount", None)
            running.pop("thoughtsTokenCount", None)
            for part in said[:-1]:
                await talk.send(event(piece(part, counts=running)))
            await talk.send(event(piece(said[-1], finish=finish, counts=counts, **members)))
            await talk.end()
        else:
            await talk.json(piece(*said, finish=finish, counts=counts, **members))

    return behave


def fails(status: int, word: str, said: str = "it failed", **headers: str) -> Behaviour:
    """A provider that only answers with this error."""

    async def behave(talk: Conversation) -> None:
        await talk.json(error(status, word, said), status, headers)

    return behave


def streams(*pieces: Any, cut: bool = False, kind: str = "text/event-stream") -> Behaviour:
    """A provider that sends these events and hangs up, in order or not."""

    async def behave(talk: Conversation) -> None:
        await talk.start(kind)
        for each in pieces:
            await talk.send(each if isinstance(each, bytes) else event(each))
        if cut:
            await talk.taken()
            talk.cut()
        else:
            await talk.end()

    return behave
