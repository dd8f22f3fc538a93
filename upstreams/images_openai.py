"""The adapter for OpenAI's images, and for every provider that speaks them.

As documented: ``POST /images/generations`` is JSON; with pictures to start from it is ``POST /images/edits``, a form
with files. Some providers take everything as JSON at the first address, and some draw one picture a call: that is the
target's option ``images``. The gpt-image models answer base64 only and know no ``response_format``.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

import msgspec

from upstreams import classify, loose_json, openai
from upstreams.errors import BadAnswer, UpstreamError
from upstreams.images import EXTENSIONS, Drawn, Hands, Order, Picture, Source, gathered, heavy, inline, refusal
from upstreams.redact import clean
from upstreams.wire import Target, UpstreamRequest

#: What of an answer is about all pictures.
_FACTS: Final = ("background", "output_format", "quality", "size", "usage")
_HUGE_PIXELS: Final = 2048 * 2048
_ONLY_BASE64: Final = re.compile(r"(?:^|/)(?:chat)?gpt-image")
_MODERATION_CODES: Final = frozenset({
    "moderation_blocked", "content_policy_violation", "content_filter", "sensitive_content_detected",
    "inputtextsensitivecontentdetected", "inputimagesensitivecontentdetected", "outputimagesensitivecontentdetected",
})  # fmt: skip


async def draw(hands: Hands, target: Target, order: Order) -> Drawn:
    """The pictures of one order. Raises UpstreamError."""
    if order.n > 1 and (target.options.images == "json-singly" or _is_huge(order)):
        calls = [_once(hands, target, replace(order, n=1)) for _ in range(order.n)]
        return gathered(await asyncio.gather(*calls, return_exceptions=True))
    return await _once(hands, target, order)


async def _once(hands: Hands, target: Target, order: Order) -> Drawn:
    if target.options.images == "forms" and order.sources:
        sources = await asyncio.gather(*(hands.load(source) for source in order.sources))
        mask = await hands.load(order.mask) if order.mask is not None else None
        return await _read(hands, target, edit_request(target, order, sources, mask))
    size_bytes = sum(source.size_bytes for source in order.sources)
    return await _read(hands, target, await heavy(size_bytes, generation_request, target, order))


def _is_huge(order: Order) -> bool:
    """Whether several such pictures in one answer may be more than an answer may be: tens of megabytes each."""
    width, _, height = order.size.partition("x")
    return bool(height) and int(width) * int(height) >= _HUGE_PIXELS


async def _read(hands: Hands, target: Target, request: UpstreamRequest) -> Drawn:
    body = await hands.send(request)
    return await heavy(len(body), read, body, target.secret, hands.known)


def generation_request(target: Target, order: Order) -> UpstreamRequest:
    """The request for pictures, with references as URLs. Raises ValueError when the target's base URL is none."""
    fields = dict(order.members)
    fields |= {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in _settled(order).items()}
    if order.sources:
        urls = [source.as_url for source in order.sources]
        fields["image"] = msgspec.Raw(msgspec.json.encode(urls[0] if len(urls) == 1 else urls))
    for name in _unknown_to(target):
        fields.pop(name, None)
    return openai.request_to(target, "/images/generations", fields, stream=False)


def edit_request(target: Target, order: Order, sources: Iterable[Source], mask: Source | None) -> UpstreamRequest:
    """The form that begins with pictures. Raises ValueError when the target's base URL is none."""
    members = {name: _text(raw) for name, raw in order.members.items()}
    members |= {name: str(value) for name, value in _settled(order).items()}
    members["model"] = target.upstream_model
    for name in _unknown_to(target):
        members.pop(name, None)
    pictures = list(sources)
    name = "image" if len(pictures) == 1 else "image[]"
    files = [(name, picture) for picture in pictures]
    if mask is not None:
        files.append(("mask", mask))
    request = openai.request_to(target, "/images/edits", {}, stream=False)
    boundary = secrets.token_hex(16)
    headers = [(name, value) for name, value in request.headers if name != "content-type"]
    return msgspec.structs.replace(
        request,
        headers=(("content-type", f"multipart/form-data; boundary={boundary}"), *headers),
        body=_form(boundary, members, files),
    )


def read(body: bytes, secret: str = "", known: bytes = b"") -> Drawn:
    """The pictures of an answer, however many came. Raises UpstreamError for an error in spite of its 200."""
    try:
        answer = loose_json.decode(body)
    except ValueError:
        raise classify.not_json(body, "") from None
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list):
        raise _failure(classify.error_in(body), secret, known)
    pictures = tuple(picture for item in data if (picture := _picture(item)) is not None)
    if not pictures:
        errors = [item["error"] for item in data if isinstance(item, dict) and item.get("error")]
        raise _failure(errors[0] if errors else classify.error_in(body), secret, known)
    facts = {name: answer[name] for name in _FACTS if answer.get(name) is not None}
    return Drawn(pictures, facts)


def _picture(item: Any) -> Picture | None:
    if not isinstance(item, dict):
        return None
    url, b64, revised = (item.get(name) or "" for name in ("url", "b64_json", "revised_prompt"))
    if not isinstance(url, str) or not isinstance(b64, str):
        return None
    if not url.startswith(("https://", "http://")):
        url, b64 = "", b64 or (url if url[:5].lower() == "data:" else "")
    b64 = inline(b64)
    if not (url or b64):
        return None
    return Picture(url, b64, revised if isinstance(revised, str) else "")


def _failure(error: Any, secret: str, known: bytes) -> UpstreamError:
    """What an answer without a picture means. A refusal for the content's sake is the caller's own."""
    if error is None:
        return BadAnswer("the upstream's answer holds no picture", status=200)
    if isinstance(error, dict) and str(error.get("code", "")).lower() in _MODERATION_CODES:
        return refusal(clean(str(error.get("message") or "The request was refused."), secret=secret, known=known))
    return classify.refuse_inside(error, secret=secret, known=known)


def _settled(order: Order) -> dict[str, Any]:
    """The members that the model's rules have settled; what the model does not offer stays out."""
    settled = {"prompt": order.prompt, "n": order.n, "size": order.size}
    settled |= {"aspect_ratio": order.aspect_ratio, "resolution": order.resolution, "quality": order.quality}
    return {name: value for name, value in settled.items() if value}


def _unknown_to(target: Target) -> tuple[str, ...]:
    return ("response_format", "style") if _ONLY_BASE64.search(target.upstream_model) else ()


def _text(raw: msgspec.Raw) -> str:
    """A member as a form bears it: a text bare, anything else as its JSON."""
    value = loose_json.decode(bytes(raw))
    return value if isinstance(value, str) else bytes(raw).decode("utf-8", "replace")


def _form(boundary: str, members: dict[str, str], files: list[tuple[str, Source]]) -> bytes:
    parts = [
        f'--{boundary}\r\ncontent-disposition: form-data; name="{_quoted(name)}"\r\n\r\n{value}\r\n'.encode()
        for name, value in members.items()
    ]
    for number, (name, source) in enumerate(files):
        filename = f"{name.removesuffix('[]')}-{number}.{EXTENSIONS[source.content_type]}"
        head = (
            f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"; filename="{filename}"\r\n'
            f"content-type: {source.content_type}\r\n\r\n"
        )
        parts += [head.encode(), source.data, b"\r\n"]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()])


def _quoted(name: str) -> str:
    """A member's name inside a header, as browsers write it."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
