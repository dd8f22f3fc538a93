"""Gemini's own format, as callers speak it: Google's SDKs, Gemini CLI and everybody beside them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from core.errors import InvalidRequest, ProductError
from gateway.dialects import base, gemini_errors
from gateway.dialects.base import Call, Fields
from gateway.dialects.openai_chat import MOST_OUTPUT_TOKENS
from upstreams.gemini_usage import service_tier, usage_shape
from upstreams.wire import Usage

KIND: Final = "gemini"
MOST_CHOICES: Final = 128
#: Members that are the gateway's own or say in the body what Google's paths say.
_OWN: Final = ("hypereal", "intent", "model", "stream")
#: Tools that cost their tokens only.
_FREE_TOOLS: Final = frozenset({"function_declarations", "code_execution", "computer_use"})
#: Tools that are billed under another one's name.
_SAME_AS: Final = {"google_search_retrieval": "google_search"}
_MODELS: Final = "models/"

_tools_decoder = msgspec.json.Decoder(list[dict[str, msgspec.Raw]] | dict[str, msgspec.Raw] | None)


class GeminiNative:
    """The dialect of ``/gemini`` and of Google's method paths for bodies with ``contents``.

    ``model`` and ``stream`` are what the path and the query say; the body of plain ``/gemini`` may say it too.
    """

    kind = KIND
    stream_content_type = b"text/event-stream; charset=utf-8"
    #: Nothing but data may stand in these streams: comments and pings break Google's own clients.
    keepalive: bytes | None = None

    def __init__(self, model: str = "", *, stream: bool = False, says_in_body: bool = False) -> None:
        self._model = model
        self._stream = stream
        self._says_in_body = says_in_body

    def parse(self, body: bytes) -> Call:
        """Reads what routing and billing need; everything else passes as it came. Raises InvalidRequest."""
        return self.call_of(base.read_object(body), body)

    def call_of(self, fields: Fields, body: bytes) -> Call:
        """The call that the members of a body make. Raises InvalidRequest."""
        call = self.parse_prompt(fields, body)
        call.stream = self._stream or (self._says_in_body and base.flag(fields, "stream"))
        call.wants_usage = call.stream
        configs = list(_objects(fields, "generationConfig", "generation_config"))
        call.choices = max([1, *_counts(configs, MOST_CHOICES, "candidateCount", "candidate_count")])
        ceilings = _counts(configs, MOST_OUTPUT_TOKENS, "maxOutputTokens", "max_output_tokens")
        call.output_ceiling = max(ceilings) * call.choices if ceilings else None
        call.service_tier, call.service_tier_param = _service_tier(fields)
        call.server_tools = tuple(_billed_tools(fields))
        _check_cached(fields)
        _drop_own(fields)
        return call

    def parse_prompt(self, fields: Fields, body: bytes) -> Call:
        """Model and prompt. Raises InvalidRequest."""
        model, intent = self._model or base.text(fields, "model"), base.text(fields, "intent")
        if not model and not intent:
            raise InvalidRequest("The member model is missing: name the model to call.", param="model")
        _check_contents(fields, "contents")
        return _call(model.removeprefix(_MODELS), intent, fields, body)

    def parse_count(self, body: bytes) -> Call:
        """A request to count tokens: contents, or the whole request that they would go in. Raises InvalidRequest."""
        fields = base.read_object(body)
        names = ("generateContentRequest", "generate_content_request")
        inner = [name for name in names if bytes(fields.get(name, b"null")) != b"null"]
        for name in set(names) - set(inner):
            fields.pop(name, None)
        for name in inner:
            for members in _objects(fields, name):
                _check_contents(members, f"{name}.contents", "contents")
                _check_cached(members, f"{name}.")
        if not inner:
            _check_contents(fields, "contents")
        _drop_own(fields)
        return _call(self._model.removeprefix(_MODELS), "", fields, body)

    def error(self, error: ProductError, request_id: UUID) -> bytes:
        """Google's error object, with what the gateway's errors say everywhere beside it."""
        return msgspec.json.encode({"error": gemini_errors.members(error)})

    def error_frame(
        self, error: ProductError, request_id: UUID, identity: Mapping[str, Any] = base.NOTHING_SENT
    ) -> bytes:
        """One event with an error object: the official SDKs raise it with its message."""
        return b"data: " + self.error(error, request_id) + b"\n\n"

    def stop_frames(self, identity: Mapping[str, Any], call: Call, usage: Usage, note: str) -> Sequence[bytes]:
        """A last piece in which every candidate has come to its most tokens, with usage and the reason."""
        end = {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "MAX_TOKENS"}
        candidates = [{**end, "index": index, "finishMessage": note} for index in range(call.choices)]
        piece = {"candidates": candidates, "usageMetadata": usage_shape(usage), **identity}
        return [b"data: " + msgspec.json.encode(piece) + b"\n\n"]


DIALECT: Final = GeminiNative(says_in_body=True)


def _call(model: str, intent: str, fields: Fields, body: bytes) -> Call:
    return Call(
        kind=KIND,
        model=model,
        intent=intent,
        stream=False,
        wants_usage=False,
        output_ceiling=None,
        choices=1,
        service_tier=None,
        fields=fields,
        body=body,
    )


def _check_contents(fields: Fields, param: str, name: str = "contents") -> None:
    """At least one content; a single one may stand without its list, as Google's own parser has it."""
    contents = fields.get(name)
    if contents is None or not (base.is_filled_list(contents) or bytes(memoryview(contents)[:1]) == b"{"):
        raise InvalidRequest("contents must be a list with at least one content.", param=param)


def _objects(fields: Fields, *names: str) -> Iterator[Fields]:
    """Members that hold an object, under either spelling. Raises InvalidRequest for anything else but null."""
    for name in names:
        raw = fields.get(name)
        if raw is None or bytes(raw) == b"null":
            continue
        try:
            yield base.read_object(bytes(raw))
        except InvalidRequest:
            raise InvalidRequest(f"{name} must be an object.", param=name) from None


def _counts(configs: Iterable[Fields], most: int, *names: str) -> list[int]:
    """Whole numbers that a configuration names, as numbers or as texts of digits, as Google's parser takes them."""
    found = []
    for config in configs:
        for name in names:
            value = base.member(config, name)
            if isinstance(value, str) and value.isascii() and value.isdigit():
                value = int(value[:12])
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                message = f"{name} must be a whole number from 1 to {most}."
                raise InvalidRequest(message, param=f"generationConfig.{name}")
            found.append(value)
    return found


def _service_tier(fields: Fields) -> tuple[str | None, str]:
    for name in ("serviceTier", "service_tier"):
        if (tier := service_tier(base.text(fields, name))) is not None:
            return tier, name
    return None, "serviceTier"


def _billed_tools(fields: Fields) -> Iterator[tuple[str, str]]:
    """Tools that the provider runs, by the name of their price: what is not known to be free has to have one."""
    raw = fields.get("tools")
    if raw is None:
        return
    try:
        tools = _tools_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("tools must be a list of objects.", param="tools") from None
    for place, tool in enumerate([tools] if isinstance(tools, dict) else tools or ()):
        for member, value in tool.items():
            name = _snake(member)
            if name not in _FREE_TOOLS and bytes(value) != b"null":
                yield _SAME_AS.get(name, name), f"tools[{place}].{member}"


def _snake(name: str) -> str:
    """Google's parser takes members in either spelling."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _check_cached(fields: Fields, where: str = "") -> None:
    for name in ("cachedContent", "cached_content"):
        if base.text(fields, name, 1000):
            message = "Stored cached contents are not offered: repeated prompts are cached by themselves."
            raise InvalidRequest(message, param=f"{where}{name}", code="cached_content_not_offered")


def _drop_own(fields: Fields) -> None:
    for name in _OWN:
        fields.pop(name, None)
