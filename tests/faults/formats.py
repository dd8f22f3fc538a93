"""The formats that callers speak, each with what a provider says in it: well, badly, and half."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from catalog.pricing import Rates
from tests.fakes import gemini
from tests.fakes import messages as anthropic
from tests.fakes import responses as openai_responses
from tests.fakes import upstream as chat
from tests.fakes.upstream import Behaviour
from tests.gateway import messages as messages_calls
from tests.support.gateway import CREDIT, RATES
from tests.support.http import Reply

#: Every well-behaved provider here counts so many tokens.
INPUT, OUTPUT = 30, 12
#: What an error says that no caller may read.
PRIVATE = "see https://internal.example with sk-live-0123456789"
_EMBEDDING_RATES = Rates(tokens=replace(RATES.tokens, output=0))
_VECTORS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "model": "fake",
    "usage": {"prompt_tokens": INPUT, "total_tokens": INPUT},
}


@dataclass(frozen=True)
class Format:
    """One endpoint. ``half``: the events of a stream that has come to its content, and no further."""

    kind: str
    path: str
    asked: dict[str, Any]
    well: Behaviour
    #: An error body, and the same as an event of a stream; both take the provider's word for the kind of error.
    error: Callable[[str], dict[str, Any]]
    error_event: Callable[[str], bytes] = lambda kind: b""
    half: tuple[bytes, ...] = ()
    keepalive: bytes = b""
    adapter: str = "openai"
    rates: Rates = RATES

    @property
    def streams(self) -> bool:
        return bool(self.half)

    @property
    def charge(self) -> int:
        """Microcredits of an answer of a well-behaved provider."""
        return self.price_of(INPUT, OUTPUT)

    def price_of(self, fresh: int, output: int) -> int:
        """Microcredits at this format's rates."""
        tokens = self.rates.tokens
        return (fresh * (tokens.input or 0) + output * (tokens.output or 0)) // CREDIT

    def told(self, reply: Reply) -> dict[str, Any]:
        """The error of an error answer, once its shape has proved to be the format's."""
        assert reply.headers["content-type"] == "application/json"
        answer = reply.json
        if self.kind == "messages":
            assert (answer["type"], answer["request_id"]) == ("error", reply.headers["request-id"])
        else:
            assert set(answer) == {"error"}
            assert {"type", "message", "code", "param"} <= set(answer["error"])
        return dict(answer["error"])

    def told_inside(self, reply: Reply) -> str:
        """The type of the error that ends a stream, once its shape has proved to be what clients understand."""
        last = json.loads(reply.body.rpartition(b"data: ")[2])
        if self.kind in ("chat", "gemini"):
            assert b"[DONE]" not in reply.body
            return str(last["error"]["type"])
        if self.kind == "messages":
            assert last["type"] == "error"
            assert reply.body.split(b"\n\n")[-2].startswith(b"event: error\n")
            return str(last["error"]["type"])
        assert last["type"] == "response.failed"
        assert last["response"]["error"]["code"] == "server_error"
        return str(last["response"]["error"]["type"])


def _openai_error(kind: str) -> dict[str, Any]:
    return {"error": {"message": PRIVATE, "type": kind, "param": None, "code": kind}}


def _anthropic_error(kind: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": PRIVATE}}


def _google_error(kind: str) -> dict[str, Any]:
    """Without a code, which would tell more than the row of the table means to."""
    return {"error": {"message": PRIVATE, "status": kind.upper()}}


async def _embeds(talk: chat.Conversation) -> None:
    await talk.json(_VECTORS)


CHAT = Format(
    kind="chat",
    path="/v1/chat/completions",
    asked={"messages": [{"role": "user", "content": "Say hello"}]},
    well=chat.answers("Hello there", INPUT, OUTPUT),
    error=_openai_error,
    error_event=lambda kind: chat.event(error={"message": PRIVATE, "type": kind}, choices=[]),
    half=(chat.event("sixteen letters!"),),
    keepalive=b": keep-alive\n\n",
)
MESSAGES = Format(
    kind="messages",
    path="/v1/messages",
    asked={"messages": [{"role": "user", "content": "Say hello"}], "max_tokens": 1000},
    well=anthropic.answers(counts=anthropic.usage(INPUT, OUTPUT)),
    error=_anthropic_error,
    error_event=lambda kind: anthropic.event("error", error={"type": kind, "message": PRIVATE}),
    half=(anthropic.start(anthropic.usage(INPUT, 0)), anthropic.opened(), anthropic.words("sixteen letters!")),
    keepalive=anthropic.PING.replace(b'"type": "ping"', b'"type":"ping"'),
    adapter="anthropic",
    rates=messages_calls.RATES,
)
RESPONSES = Format(
    kind="responses",
    path="/v1/responses",
    asked={"input": "Say hello"},
    well=openai_responses.answers("Hello there", INPUT, OUTPUT),
    error=_openai_error,
    error_event=lambda kind: openai_responses.failed(kind, PRIVATE),
    half=(openai_responses.beginning(), openai_responses.delta("sixteen letters!", 7)),
    keepalive=b": keep-alive\n\n",
)
EMBEDDINGS = Format(
    kind="embeddings",
    path="/v1/embeddings",
    asked={"input": "Some words"},
    well=_embeds,
    error=_openai_error,
    rates=_EMBEDDING_RATES,
)
GEMINI = Format(
    kind="gemini",
    path="/v1/gemini",
    asked={"contents": [{"role": "user", "parts": [{"text": "Say hello"}]}]},
    well=gemini.answers(counts=gemini.usage(INPUT, OUTPUT)),
    error=_google_error,
    error_event=lambda kind: gemini.event(_google_error(kind)),
    half=(gemini.event(gemini.piece(gemini.text("sixteen letters!"))),),
    adapter="gemini",
)
FORMATS = (CHAT, MESSAGES, RESPONSES, EMBEDDINGS, GEMINI)
