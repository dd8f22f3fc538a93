"""Answers between Gemini's own format and chat completions: whole ones, and streams piece by piece. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from core import clock
from upstreams import gemini_parts, loose_json
from upstreams.chat_usage import read_usage as read_chat_usage
from upstreams.chat_usage import tier_of, usage_block
from upstreams.chat_usage import usage_shape as chat_usage_shape
from upstreams.gemini_from_chat import arguments, function_call, google_extra, listed, media
from upstreams.gemini_parts import JsonObject
from upstreams.gemini_to_chat import tool_call
from upstreams.gemini_usage import has_counts, read_usage, usage_shape
from upstreams.wire import Usage

#: Reasons for an end that the content gave.
_FILTERED: Final = frozenset({
    "BLOCKLIST", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_SAFETY", "LANGUAGE", "PROHIBITED_CONTENT",
    "RECITATION", "SAFETY", "SPII",
})  # fmt: skip
_TIERS: Final = {"standard": "default"}
_TO_NATIVE: Final = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}


def whole_to_chat(answer: JsonObject) -> JsonObject:
    """A native answer as a ``chat.completion``."""
    choices = []
    for candidate in gemini_parts.candidates_of(answer):
        parts = gemini_parts.parts_of(candidate)
        delta = Delta().of(parts)
        message = {"role": "assistant", "content": delta.pop("content", None), **delta}
        for call in message.get("tool_calls", ()):
            call.pop("index")
        reason = finish_reason(gemini_parts.finish_of(candidate) or "STOP", bool(message.get("tool_calls")))
        choices.append(_choice(candidate, {"message": message}, reason))
    if not choices:
        choices.append({"index": 0, "message": _blocked(answer), "finish_reason": "content_filter"})
    told = {**chat_identity(answer), "object": "chat.completion", "choices": choices}
    block = answer.get("usageMetadata")
    if isinstance(block, dict) and has_counts(block):
        usage = read_usage(block)
        told["usage"] = chat_usage(usage)
        if usage.service_tier:
            told["service_tier"] = _TIERS.get(usage.service_tier, usage.service_tier)
    return told


def whole_to_native(completion: JsonObject) -> JsonObject:
    """A ``chat.completion`` as a native answer."""
    candidates = []
    for choice in _choices(completion):
        message = choice.get("message")
        parts = [*_text_parts(message if isinstance(message, dict) else {}), *map(_call_part, _calls(message))]
        reason = native_finish(choice.get("finish_reason") or "stop")
        candidates.append(_candidate(choice, parts, reason))
    told = {"candidates": candidates, **native_identity(completion)}
    if (block := usage_block(completion)) is not None:
        told["usageMetadata"] = usage_shape(read_chat_usage(block, tier_of(completion)))
    return told


def chat_identity(answer: Mapping[str, Any]) -> JsonObject:
    """``id``, ``created`` (now: the format has no time that all of its answers bear) and ``model``."""
    return {
        "id": f"chatcmpl-{answer.get('responseId') or 'gemini'}",
        "created": int(clock.now().timestamp()),
        "model": str(answer.get("modelVersion") or ""),
    }


def native_identity(chunk: Mapping[str, Any]) -> JsonObject:
    """``modelVersion`` and ``responseId``, as far as known."""
    names = {"model": "modelVersion", "id": "responseId"}
    return {theirs: chunk[ours] for ours, theirs in names.items() if isinstance(chunk.get(ours), str)}


def chat_usage(usage: Usage) -> JsonObject:
    """The usage block, with sound told apart where there was some."""
    block = chat_usage_shape(usage)
    if usage.audio_input_tokens:
        block["prompt_tokens_details"]["audio_tokens"] = usage.audio_input_tokens
    if usage.audio_output_tokens:
        block["completion_tokens_details"]["audio_tokens"] = usage.audio_output_tokens
    return block


def finish_reason(reason: str, called: bool) -> str:
    """OpenAI's word for Google's."""
    if reason == "MAX_TOKENS":
        return "length"
    if reason in _FILTERED:
        return "content_filter"
    return "tool_calls" if called else "stop"


def native_finish(reason: Any) -> str:
    """Google's word for OpenAI's."""
    return _TO_NATIVE.get(str(reason), "STOP")


class Delta:
    """What parts bring to one choice; counts its tool calls over the pieces of a stream."""

    def __init__(self) -> None:
        self.calls = 0

    def of(self, parts: list[JsonObject]) -> JsonObject:
        """The members of a delta, or of a message."""
        told: JsonObject = {}
        for part in parts:
            call, data = part.get("functionCall"), part.get("inlineData")
            signature = part.get("thoughtSignature")
            if isinstance(call, dict) and call.get("name"):
                made = {"index": self.calls, **tool_call(call, signature, f"call_{self.calls}")}
                told.setdefault("tool_calls", []).append(made)
                self.calls += 1
                continue
            if isinstance(part.get("text"), str) and part["text"]:
                name = "reasoning_content" if part.get("thought") else "content"
                told[name] = told.get(name, "") + part["text"]
            elif isinstance(data, dict):
                url = f"data:{data.get('mimeType') or 'image/png'};base64,{data.get('data') or ''}"
                told.setdefault("images", []).append({"type": "image_url", "image_url": {"url": url}})
            elif text := _code(part):
                told["content"] = told.get("content", "") + text
            if signature:
                told["extra_content"] = {"google": {"thought_signature": signature}}
        return told


class ToChat:
    """Native pieces of one stream as chunks of a chat stream, but for usage: that is told at the end."""

    def __init__(self) -> None:
        self.identity: JsonObject = {}
        self._deltas: dict[int, Delta] = {}

    def chunks(self, piece: JsonObject) -> Iterator[JsonObject]:
        """The chunks for one piece."""
        if not self.identity:
            self.identity = chat_identity(piece)
        choices = []
        for candidate in gemini_parts.candidates_of(piece):
            index = gemini_parts.index_of(candidate)
            begins = index not in self._deltas
            delta = self._deltas.setdefault(index, Delta())
            told = delta.of(gemini_parts.parts_of(candidate))
            if begins:
                told = {"role": "assistant", "content": None if "tool_calls" in told else "", **told}
            ended = gemini_parts.finish_of(candidate)
            reason = finish_reason(ended, delta.calls > 0) if ended else None
            if told or reason:
                choices.append(_choice(candidate, {"delta": told}, reason))
        if gemini_parts.block_reason(piece) and not gemini_parts.candidates_of(piece):
            choices.append({"index": 0, "delta": _blocked(piece), "finish_reason": "content_filter"})
        if choices:
            yield {**self.identity, "object": "chat.completion.chunk", "choices": choices}


class ToNative:
    """Chunks of one chat stream as native pieces. A tool call goes out whole: before the next one, or at the end."""

    def __init__(self) -> None:
        self.identity: JsonObject = {}
        self._calls: dict[int, dict[int, JsonObject]] = {}

    def pieces(self, chunk: JsonObject) -> Iterator[JsonObject]:
        """The pieces for one chunk, its usage included."""
        self.identity |= native_identity(chunk)
        candidates = []
        for choice in _choices(chunk):
            index = choice.get("index")
            waiting = self._calls.setdefault(index if isinstance(index, int) else 0, {})
            delta = choice.get("delta")
            delta = delta if isinstance(delta, dict) else {}
            parts = [*_text_parts(delta), *_begun(waiting, _calls(delta))]
            reason = ""
            if choice.get("finish_reason"):
                parts += [_call_part(waiting[place]) for place in sorted(waiting)]
                waiting.clear()
                reason = native_finish(choice["finish_reason"])
            if parts or reason:
                candidates.append(_candidate(choice, parts, reason))
        block = usage_block(chunk)
        if not candidates and block is None:
            return
        piece: JsonObject = {"candidates": candidates} if candidates else {}
        if block is not None:
            piece["usageMetadata"] = usage_shape(read_chat_usage(block, tier_of(chunk)))
        yield {**piece, **self.identity}


def _begun(waiting: dict[int, JsonObject], calls: list[JsonObject]) -> Iterator[JsonObject]:
    """Take pieces of calls in; yields the calls that are whole because another one has begun."""
    for position, piece in enumerate(calls):
        index = piece.get("index")
        index = index if isinstance(index, int) else position
        for other in sorted(waiting):
            if other != index:
                yield _call_part(waiting.pop(other))
        call = waiting.setdefault(index, {"function": {"name": "", "arguments": ""}})
        call |= {name: value for name, value in piece.items() if name not in ("function", "index") and value}
        function = piece.get("function")
        for name, value in function.items() if isinstance(function, dict) else ():
            old = call["function"].get(name)
            call["function"][name] = (
                (old or "") + value if isinstance(value, str) and name == "arguments" else value or old
            )


def _choices(completion: JsonObject) -> list[JsonObject]:
    return [each for each in listed(completion.get("choices")) if isinstance(each, dict)]


def _calls(message: Any) -> list[JsonObject]:
    """The tool calls of a message or of a delta; one in the format's older words is one without an id."""
    if not isinstance(message, dict):
        return []
    if isinstance(message.get("function_call"), dict):
        return [{"function": message["function_call"]}]
    return [call for call in listed(message.get("tool_calls")) if isinstance(call, dict)]


def _call_part(call: JsonObject) -> JsonObject:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    return function_call({**call, "function": function}, arguments(function.get("arguments")))


def _text_parts(message: JsonObject) -> Iterator[JsonObject]:
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought:
        yield {"text": thought, "thought": True}
    content = message.get("content") or message.get("refusal")
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    signature = google_extra(message).get("thought_signature")
    if isinstance(content, str) and (content or signature):
        yield {"text": content, **({"thoughtSignature": signature} if signature else {})}
    elif signature:
        yield {"text": "", "thoughtSignature": signature}
    for image in listed(message.get("images")):
        link = image.get("image_url") if isinstance(image, dict) else None
        if isinstance(link, dict) and isinstance(link.get("url"), str):
            yield media(link["url"])


def _candidate(choice: JsonObject, parts: list[JsonObject], reason: str) -> JsonObject:
    index = choice.get("index")
    return {
        "content": {"parts": parts or [{"text": ""}], "role": "model"},
        **({"finishReason": reason} if reason else {}),
        "index": index if isinstance(index, int) else 0,
    }


def _choice(candidate: JsonObject, said: JsonObject, reason: str | None) -> JsonObject:
    """Google's own word stays beside, as some who stand between have it."""
    choice: JsonObject = {"index": gemini_parts.index_of(candidate), **said, "logprobs": None, "finish_reason": reason}
    if reason is not None and (native := gemini_parts.finish_of(candidate)):
        choice["native_finish_reason"] = native
    return choice


def _blocked(answer: JsonObject) -> JsonObject:
    refusal = f"The prompt was blocked: {gemini_parts.block_reason(answer) or 'no reason was given'}."
    return {"role": "assistant", "content": None, "refusal": refusal}


def _code(part: JsonObject) -> str:
    """Code that the provider ran, and what came of it, as text."""
    code, result = part.get("executableCode"), part.get("codeExecutionResult")
    if isinstance(code, dict) and isinstance(code.get("code"), str):
        return f"\n```{str(code.get('language') or '').lower()}\n{code['code']}\n```\n"
    if isinstance(result, dict) and isinstance(result.get("output"), str):
        return f"\n```\n{result['output']}\n```\n"
    return ""


def decoded(data: bytes) -> JsonObject:
    """An object that was checked before; an empty one for anything else."""
    try:
        value = loose_json.decode(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
