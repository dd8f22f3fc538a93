"""Pictures, whatever a provider's API: what is asked for, what comes back, and the sort of a picture by its bytes.

An adapter here is one coroutine: some providers take several requests for one call (a picture at a time, or a task that
is asked after). It is handed what sends, loads and waits, so it does no I/O of its own.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import codecs
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec

from upstreams.errors import UpstreamRefusal
from upstreams.wire import Headers, Target, UpstreamRequest

T = TypeVar("T")

_IN_THREAD_BYTES: Final = 512 * 1024
#: How much of a picture's base64 is looked at: whole groups of four.
_HEAD_CHARACTERS: Final = 128
#: Sorts of pictures that may come as references, and their file name's end.
EXTENSIONS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif"}
#: What a provider calls a request that it will not draw.
REFUSED_CODE: Final = "content_policy_violation"


@dataclass(frozen=True, slots=True)
class Source:
    """A picture that comes with a prompt: an ``https`` URL, or bytes (of a data URL or of an upload).

    ``member`` is the caller's name for it. ``kind`` is https, data or upload.
    """

    member: str
    kind: str
    url: str = field(default="", repr=False)
    data: bytes = field(default=b"", repr=False)
    content_type: str = ""

    @property
    def size_bytes(self) -> int:
        """What it adds to a request, about."""
        return len(self.data) + len(self.url)

    @property
    def as_url(self) -> str:
        """The URL, or the bytes as a data URL."""
        if self.url:
            return self.url
        return f"data:{self.content_type};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True, slots=True)
class Order:
    """A call that a model's rules have passed. ``members`` go to providers that speak OpenAI's format, as they came.

    ``size`` is WIDTHxHEIGHT; ``aspect_ratio`` and ``resolution`` are set for models that offer them. ``scale`` is the
    resolution's word (1K) wherever the model has more than one, however it was asked for.
    """

    prompt: str = field(repr=False)
    n: int = 1
    size: str = ""
    aspect_ratio: str = ""
    resolution: str = ""
    scale: str = ""
    quality: str = ""
    sources: tuple[Source, ...] = ()
    mask: Source | None = None
    members: Mapping[str, msgspec.Raw] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: where it lies, or itself as base64. ``headers`` are what its address wants to be read with.

    ``content_type`` is what it is, once that was looked at.
    """

    url: str = field(default="", repr=False)
    b64: str = field(default="", repr=False)
    revised_prompt: str = field(default="", repr=False)
    headers: Headers = field(default=(), repr=False)
    content_type: str = ""

    @classmethod
    def of(cls, data: bytes) -> Picture:
        """A picture of these bytes."""
        return cls(b64=base64.b64encode(data).decode())

    @property
    def inline_type(self) -> str:
        """The content type of its base64, told from the beginning; empty for what is not known."""
        return image_type(decoded(self.b64[:_HEAD_CHARACTERS]) or b"") or ""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one call came to. ``facts`` are members of OpenAI's answer about all of it (usage, quality, …)."""

    pictures: tuple[Picture, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


class Answered(NamedTuple):
    """One answer of a provider, whatever its status. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Hands(Protocol):
    """What an adapter acts through. ``secret`` and ``known`` keep refusals clean; see `upstreams.classify`."""

    @property
    def known(self) -> bytes: ...

    @property
    def seconds(self) -> float:
        """How long it may take in all."""
        ...

    async def exchange(self, request: UpstreamRequest) -> Answered:
        """The answer, whatever its status. Raises UpstreamError where none came."""
        ...

    async def send(self, request: UpstreamRequest) -> bytes:
        """The body of an answer with status 200. Raises UpstreamError."""
        ...

    async def load(self, source: Source) -> Source:
        """The source with its bytes and their content type. Raises what the caller is to be told."""
        ...

    async def pause(self, seconds: float) -> None: ...


Draw = Callable[[Hands, Target, Order], Awaitable[Drawn]]


def image_type(data: bytes) -> str | None:
    """The content type of a picture by its first bytes, None for anything else (an SVG is a document, no picture)."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif"
    return None


def decoded(text: str) -> bytes | None:
    """The bytes of standard base64, with or without its padding; None where it is none."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def inline(text: str) -> str:
    """A picture as bare base64, out of what a provider calls one; empty where it is none: no base64, or a text.

    The beginning is looked at: what is a page or an error, in base64 too, is no picture that anybody pays for.
    """
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    if "\n" in text or " " in text:  # as mails and some encoders wrap it
        text = "".join(text.split())
    head = decoded(text[:_HEAD_CHARACTERS])
    return text if head and not _is_text(head) else ""


def _is_text(head: bytes) -> bool:
    """Whether a file that begins so is something to read. A drawing in XML is a picture all the same."""
    if head.lstrip()[:4] == b"<svg" or head.lstrip()[:5] == b"<?xml":
        return False
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the end may be the middle of a character
    except UnicodeDecodeError:
        return False
    return not any(sign < " " and sign not in "\t\n\f\r" for sign in text)


async def heavy(size_bytes: int, work: Callable[..., T], *arguments: Any) -> T:
    """``work`` over that many bytes: in a thread where they are many, so that nobody else's call waits for them."""
    if size_bytes > _IN_THREAD_BYTES:
        return await asyncio.to_thread(work, *arguments)
    return work(*arguments)


def gathered(parts: list[Drawn | BaseException]) -> Drawn:
    """Pictures that were asked for one by one. Raises only where none came: a refusal first, it tells the most."""
    drawn = [part for part in parts if isinstance(part, Drawn)]
    pictures = tuple(picture for part in drawn for picture in part.pictures)
    if pictures:
        return Drawn(pictures, drawn[0].facts if len(parts) == 1 else {})
    errors = [part for part in parts if isinstance(part, BaseException)]
    for error in (*(each for each in errors if isinstance(each, UpstreamRefusal)), *errors):
        raise error
    return Drawn(())


def refusal(message: str) -> UpstreamRefusal:
    """The provider will not draw this, for the content's sake."""
    return UpstreamRefusal(message, status=400, code=REFUSED_CODE)


__all__ = [
    "Answered", "Draw", "Drawn", "Hands", "Order", "Picture", "Source", "decoded", "gathered", "heavy", "image_type",
    "inline", "refusal",
]  # fmt: skip
