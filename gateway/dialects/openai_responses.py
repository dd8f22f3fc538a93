"""OpenAI's Responses, as callers speak them: Codex and the SDKs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from core.errors import InvalidRequest, PaymentRequired, ProductError, RateLimited
from gateway.dialects import base, openai_chat
from gateway.dialects.base import Call, Fields
from upstreams.responses_usage import usage_shape
from upstreams.wire import Usage

#: The format of a compaction, by the word under which the adapters know it.
COMPACT: Final = "responses.compact"
#: Members that are the gateway's own and never go upstream.
_OWN: Final = ("hypereal", "intent")
#: What a call can go on from in place of an input of its own.
_SOURCES: Final = ("input", "prompt", "previous_response_id")
#: Tools that the provider runs and bills by use, by the item that stands for one use of them. Others pass unseen.
_BILLED_TOOLS: Final = {
    "web_search": "web_search_call",
    "file_search": "file_search_call",
    "code_interpreter": "code_interpreter_call",
    "image_generation": "image_generation_call",
    "x_search": "x_search_call",
    "live_search": "x_search_call",
    "document_search": "document_search_call",
    "collections_search": "document_search_call",
}
#: Codes of a failed response by which clients decide: these stop Codex at once, ``server_error`` is tried again.
_KNOWN_CODES: Final = frozenset({"context_length_exceeded", "cyber_policy", "invalid_prompt", "usage_not_included"})


class _Tool(msgspec.Struct):
    """What of a tool tells whether it is billed by use; a namespace holds tools of its own."""

    type: Any = None
    tools: Any = None
    environment: Any = None


_tools_decoder = msgspec.json.Decoder(list[_Tool])


class OpenAIResponses:
    """The dialect of ``/responses``. ``takes_events``: see `gateway.dialects.base.Call`."""

    kind = "responses"
    stream_content_type = b"text/event-stream; charset=utf-8"
    keepalive: bytes | None = b": keep-alive\n\n"

    def __init__(self, *, takes_events: bool = False) -> None:
        self._takes_events = takes_events

    def parse(self, body: bytes) -> Call:
        """Reads what routing and billing need; everything else passes as it came. Raises InvalidRequest."""
        fields = base.read_object(body)
        model, intent = base.text(fields, "model"), base.text(fields, "intent")
        if not model and not intent:
            raise InvalidRequest("The member model is missing: name the model to call.", param="model")
        _check_input(fields)
        if base.flag(fields, "background"):
            message = "Background responses are not offered: call with stream and read to the end."
            raise InvalidRequest(message, param="background", code="background_not_offered")
        if bytes(fields.get("conversation", b"null")) != b"null":
            message = "Conversations are not offered: go on from a response with previous_response_id."
            raise InvalidRequest(message, param="conversation", code="conversation_not_offered")
        stream = self._asks_stream(fields)
        call = Call(
            kind=self.kind,
            model=model,
            intent=intent,
            stream=stream,
            wants_usage=stream,
            output_ceiling=base.count(fields, "max_output_tokens", openai_chat.MOST_OUTPUT_TOKENS),
            choices=1,
            service_tier=base.text(fields, "service_tier") or None,
            fields=fields,
            body=body,
            server_tools=tuple(_billed_tools(fields)),
            takes_events=self._takes_events,
            kept=bytes(fields.get("store", b"")) != b"false",
            previous_response_id=base.text(fields, "previous_response_id"),
        )
        for name in _OWN:
            fields.pop(name, None)
        return call

    def parse_count(self, body: bytes) -> Call:
        """A prompt whose tokens shall be counted. Raises InvalidRequest."""
        call = self.parse(body)
        call.fields.pop("stream", None)
        return call

    def _asks_stream(self, fields: Fields) -> bool:
        return base.flag(fields, "stream")

    def error(self, error: ProductError, request_id: UUID) -> bytes:
        """OpenAI's error object, with whatever the error adds."""
        return openai_chat.DIALECT.error(error, request_id)

    def error_frame(
        self, error: ProductError, request_id: UUID, identity: Mapping[str, Any] = base.NOTHING_SENT
    ) -> bytes:
        """A ``response.failed`` event: Codex takes any other error for a cut, and pays for the whole turn again."""
        told = {"code": failure_code(error), "message": error.message, "type": error.type}
        return _event("response.failed", identity, request_id, {"status": "failed", "error": told})

    def stop_frames(self, identity: Mapping[str, Any], call: Call, usage: Usage, note: str) -> Sequence[bytes]:
        """A ``response.incomplete`` event with what was delivered as its usage, and the reason."""
        members = {
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "usage": usage_shape(usage),
            "hypereal": {"stopped": note},
        }
        return [_event("response.incomplete", identity, UUID(int=0), members)]


class Compaction(OpenAIResponses):
    """The dialect of ``/responses/compact``: a long conversation comes back as a short one, in one piece."""

    def parse(self, body: bytes) -> Call:
        """As a response, but for the method. Raises InvalidRequest."""
        call = super().parse(body)
        call.wire, call.kept = COMPACT, False
        return call

    def _asks_stream(self, fields: Fields) -> bool:
        if base.flag(fields, "stream"):
            raise InvalidRequest("A compaction is not streamed.", param="stream")
        return False


DIALECT: Final = OpenAIResponses()
COMPACTION: Final = Compaction()
#: For callers who can read a stream where they asked for none.
TAKES_EVENTS: Final = OpenAIResponses(takes_events=True)


def names_only_json(accept: bytes) -> bool:
    """Whether an ``Accept`` header allows JSON and nothing else; without a header everything is allowed."""
    ranges = [part.split(b";")[0].strip().lower() for part in accept.split(b",")]
    named = [name for name in ranges if name]
    return bool(named) and all(name == b"application/json" or name.endswith(b"+json") for name in named)


def failure_code(error: ProductError) -> str:
    """The ``error.code`` of a failed response: whether a client should try again hangs on it."""
    if isinstance(error, PaymentRequired):
        return "insufficient_quota"
    if isinstance(error, RateLimited):
        return "rate_limit_exceeded"
    if error.status < 500:
        return error.code if error.code in _KNOWN_CODES else "invalid_prompt"
    return "server_error"


def _check_input(fields: Fields) -> None:
    given = fields.get("input")
    if given is not None and bytes(memoryview(given)[:1]) not in (b'"', b"[", b"n"):
        raise InvalidRequest("input must be a text or a list of items.", param="input")
    if all(bytes(fields.get(name, b"null")) == b"null" for name in _SOURCES):
        raise InvalidRequest("The member input is missing: say what to answer.", param="input")


def _billed_tools(fields: Fields) -> Iterator[tuple[str, str]]:
    raw = fields.get("tools")
    if raw is None or bytes(memoryview(raw)[:4]) == b"null":
        return
    try:
        tools = _tools_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("tools must be a list of objects.", param="tools") from None
    for place, tool in enumerate(tools):
        inner = tool.tools if isinstance(tool.tools, list) else ()
        members: Iterable[Any] = ({"type": tool.type, "environment": tool.environment}, *inner)
        for member in members:
            name = _billed_as(member) if isinstance(member, dict) else None
            if name is not None:
                yield name, f"tools[{place}]"


def _billed_as(tool: Mapping[str, Any]) -> str | None:
    """The item that a tool is billed by. Its type may bear a date or the word preview behind its name."""
    kind = tool.get("type")
    if not isinstance(kind, str):
        return None
    if kind == "shell":
        environment = tool.get("environment")
        where = environment.get("type") if isinstance(environment, dict) else None
        return "shell_call" if isinstance(where, str) and where.startswith("container") else None
    return next((name for word, name in _BILLED_TOOLS.items() if kind == word or kind.startswith(f"{word}_")), None)


def _event(kind: str, identity: Mapping[str, Any], request_id: UUID, members: Mapping[str, Any]) -> bytes:
    """The last event of a stream, with the upstream's own response object as far as it has come."""
    begun = identity.get("response") or _unbegun(request_id)
    response = {"error": None, "incomplete_details": None, "usage": None, **begun, **members}
    value = {"type": kind, "sequence_number": identity.get("sequence_number", 0), "response": response}
    return f"event: {kind}\n".encode() + b"data: " + msgspec.json.encode(value) + b"\n\n"


def _unbegun(request_id: UUID) -> dict[str, Any]:
    """A response that no upstream has begun. The id is the call's; its first 48 bits are the time in milliseconds."""
    return {
        "id": f"resp_{request_id.hex}",
        "object": "response",
        "created_at": (request_id.int >> 80) // 1000,
        "model": "",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
