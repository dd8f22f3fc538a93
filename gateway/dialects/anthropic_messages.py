"""Anthropic's messages, as callers speak them: Claude Code, the vendor's SDKs and everybody beside them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from core import money
from core.errors import InvalidRequest, ProductError
from gateway import cache
from gateway.dialects import base, messages_tools
from gateway.dialects.base import Call, Fields, Receipt
from gateway.dialects.openai_chat import MOST_OUTPUT_TOKENS
from upstreams import loose_json
from upstreams.messages_relay import STOP, with_members
from upstreams.messages_usage import NO_REGION, tier_of_region, usage_shape
from upstreams.wire import NOTHING_FORWARDED, Forwarded, Usage

#: The version of the format that a caller without the header speaks.
DEFAULT_VERSION: Final = "2023-06-01"
#: Members that are the gateway's own and never go upstream.
_OWN: Final = ("hypereal", "intent")
_LAST_EVENT: Final = b'"message_delta"'


class AnthropicMessages:
    """The dialect of ``/messages``. ``forwarded``: what of one request's headers and query goes upstream."""

    kind = "messages"
    stream_content_type = b"text/event-stream; charset=utf-8"
    keepalive: bytes | None = b'event: ping\ndata: {"type":"ping"}\n\n'

    def __init__(self, forwarded: Forwarded = NOTHING_FORWARDED) -> None:
        self._forwarded = forwarded

    def parse(self, body: bytes) -> Call:
        """Reads what routing, billing and the cache need; all else passes as it came. Raises InvalidRequest."""
        fields = base.read_object(body)
        call = self.parse_prompt(fields, body)
        call.stream = call.wants_usage = base.flag(fields, "stream")
        call.output_ceiling = _ceiling(fields)
        tier, param = _service_tier(fields)
        call.service_tier, call.service_tier_param = tier, param
        call.server_tools, call.other_models = messages_tools.wanted(fields, body)
        mode, breakpoints = _cache_mode(fields), 0
        if mode == "auto":
            call.fields, breakpoints, own = cache.place(fields)
            mode = "own" if own else mode
        call.receipts = Receipts(mode, breakpoints)
        _drop_own(call.fields)
        return call

    def parse_prompt(self, fields: Fields, body: bytes) -> Call:
        """The part that every use of a prompt has, counting its tokens included. Raises InvalidRequest."""
        model, intent = base.text(fields, "model"), base.text(fields, "intent")
        if not model and not intent:
            raise InvalidRequest("The member model is missing: name the model to call.", param="model")
        messages = fields.get("messages")
        if messages is None or not base.is_filled_list(messages):
            raise InvalidRequest("messages must be a list with at least one message.", param="messages")
        return Call(
            kind=self.kind,
            model=model,
            intent=intent,
            stream=False,
            wants_usage=False,
            output_ceiling=None,
            choices=1,
            service_tier=None,
            fields=fields,
            body=body,
            forwarded=self._forwarded,
        )

    def parse_count(self, body: bytes) -> Call:
        """A request to count tokens: nothing in it is billed, so nothing more is asked of it. Raises InvalidRequest."""
        fields = base.read_object(body)
        call = self.parse_prompt(fields, body)
        _cache_mode(fields)
        _drop_own(fields)
        return call

    def error(self, error: ProductError, request_id: UUID) -> bytes:
        """Anthropic's error object, with whatever the error adds."""
        told = {"type": error.type, "message": error.message}
        told |= {name: value for name, value in (("code", error.code), ("param", error.param)) if value is not None}
        return msgspec.json.encode({"type": "error", "error": {**told, **error.extra}, "request_id": str(request_id)})

    def error_frame(
        self, error: ProductError, request_id: UUID, identity: Mapping[str, Any] = base.NOTHING_SENT
    ) -> bytes:
        """An ``error`` event: the official SDKs raise it with its message, Claude Code tries again."""
        return b"event: error\ndata: " + self.error(error, request_id) + b"\n\n"

    def stop_frames(self, identity: Mapping[str, Any], call: Call, usage: Usage, note: str) -> Sequence[bytes]:
        """What was begun is ended: the open block, then the message, as if it had come to its ``max_tokens``."""
        frames = []
        if not identity.get("started"):
            frames.append(_event("message_start", message=_empty_message(identity, usage)))
        elif identity.get("open_block") is not None:
            frames.append(_event("content_block_stop", index=identity["open_block"]))
        end = {"stop_reason": "max_tokens", "stop_sequence": None}
        frames.append(_event("message_delta", delta=end, usage=usage_shape(usage), hypereal={"stopped": note}))
        return [*frames, STOP]


class Receipts:
    """What a call cost, in the places that this format has for it. ``mode``: auto, own or off; see `cache.place`."""

    def __init__(self, mode: str, breakpoints: int) -> None:
        self._mode = mode
        self._breakpoints = breakpoints

    def in_answer(self, body: bytes, receipt: Receipt) -> bytes:
        """The message with a member ``hypereal``; official SDKs keep members that they do not know."""
        return loose_json.with_members(body, {"hypereal": self._told(receipt)})

    def in_stream(self, end: Sequence[bytes], receipt: Receipt) -> Sequence[bytes]:
        """The same member in the last ``message_delta``."""
        frames = list(end)
        for index in range(len(frames) - 1, -1, -1):
            if _LAST_EVENT in frames[index]:
                frames[index] = with_members(frames[index], {"hypereal": self._told(receipt, frames[index])})
                break
        return frames

    def headers(self, usage: Usage, saved_microcredits: int | None) -> list[tuple[bytes, bytes]]:
        """What the cache had a part in."""
        written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
        headers = [
            (b"x-hypereal-cache", self._mode.encode()),
            (b"x-hypereal-cache-read-tokens", b"%d" % usage.cached_input_tokens),
            (b"x-hypereal-cache-write-tokens", b"%d" % written),
        ]
        if saved_microcredits is not None:
            headers.append((b"x-hypereal-cache-saved-credits", str(money.credits(saved_microcredits)).encode()))
        return headers

    def _told(self, receipt: Receipt, event: bytes = b"") -> dict[str, Any]:
        usage = receipt.usage
        told: dict[str, Any] = {
            "request_id": str(receipt.request_id),
            "model": receipt.model,
            "provider": receipt.provider,
            "target": receipt.target,
            "attempts": receipt.attempts,
            "credits": money.credits_json(receipt.charged_microcredits),
            "cache": {
                "mode": self._mode,
                "breakpoints": self._breakpoints,
                "read_tokens": usage.cached_input_tokens,
                "write_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
                "saved_credits": money.credits_json(receipt.saved_microcredits),
            },
        }
        if receipt.sandbox:
            told["sandbox"] = True
        if usage.estimated:
            told["estimated"] = True
        return {**_stopped(event), **told}


DIALECT: Final = AnthropicMessages()


def dialect_for(headers: Sequence[tuple[bytes, bytes]], query: bytes) -> AnthropicMessages:
    """The dialect of one request. Its version and its betas go upstream word for word."""
    version = DEFAULT_VERSION
    betas = []
    for name, value in headers:
        if name == b"anthropic-version":
            version = value.decode("latin-1")
        elif name == b"anthropic-beta":
            betas.append(value.decode("latin-1"))
    kept = [("anthropic-version", version), *((("anthropic-beta", ",".join(betas)),) if betas else ())]
    return AnthropicMessages(Forwarded(tuple(kept), "beta=true" if b"beta=true" in query.split(b"&") else ""))


def _drop_own(fields: Fields) -> None:
    for name in _OWN:
        fields.pop(name, None)


def _cache_mode(fields: Fields) -> str:
    """``auto`` or ``off``, by the member ``hypereal``."""
    own = base.member(fields, "hypereal")
    if own is None:
        return "auto"
    if not isinstance(own, dict):
        raise InvalidRequest("hypereal must be an object.", param="hypereal")
    wanted = own.get("cache")
    if wanted is None or wanted is True or wanted == "auto":
        return "auto"
    if wanted is False:
        return "off"
    raise InvalidRequest('hypereal.cache must be true, false or "auto".', param="hypereal.cache")


def _ceiling(fields: Fields) -> int:
    """``max_tokens``, which the format wants; 0 only fills the cache. A fallback may name a larger one of its own."""
    value = base.member(fields, "max_tokens")
    if value is None:
        raise InvalidRequest("The member max_tokens is missing: name the most tokens to answer.", param="max_tokens")
    ceilings: list[int] = [value, *messages_tools.fallback_ceilings(fields)]
    for ceiling in ceilings:
        if isinstance(ceiling, bool) or not isinstance(ceiling, int) or not 0 <= ceiling <= MOST_OUTPUT_TOKENS:
            raise InvalidRequest(f"max_tokens must be a whole number up to {MOST_OUTPUT_TOKENS}.", param="max_tokens")
    return max(ceilings)


def _service_tier(fields: Fields) -> tuple[str | None, str]:
    """What asks for other rates than the ordinary ones, by its name in a price, and the member that does."""
    speed, region = base.text(fields, "speed"), base.text(fields, "inference_geo")
    hasty, bound = speed not in ("", "standard"), region not in NO_REGION
    if hasty and bound:
        raise InvalidRequest("inference_geo is not offered together with speed.", param="inference_geo")
    if hasty:
        return speed, "speed"
    if bound:
        return tier_of_region(region), "inference_geo"
    return base.text(fields, "service_tier") or None, "service_tier"


def _stopped(event: bytes) -> dict[str, Any]:
    """What an event of our own says already: why the stream was ended."""
    if b'"stopped"' not in event:
        return {}
    own = loose_json.decode(event.partition(b"data: ")[2]).get("hypereal")
    return {"stopped": own["stopped"]} if isinstance(own, dict) and "stopped" in own else {}


def _empty_message(identity: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
    return {
        "id": identity.get("id", "msg_0"),
        "type": "message",
        "role": "assistant",
        "model": identity.get("model", ""),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**usage_shape(usage), "output_tokens": 0},
    }


def _event(kind: str, **members: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode({"type": kind, **members}) + b"\n\n"
