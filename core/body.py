"""Reads a request's body from an ASGI server within bounds: its own size, its time, and all bodies in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from core.errors import InvalidRequest, Overloaded, RequestTooLarge

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class ClientGone(Exception):
    """The caller hung up before its body was complete: there is nobody to answer."""


class InFlight:
    """How many body bytes the process holds at this moment, and how many it may hold."""

    __slots__ = ("held_bytes", "most_bytes")

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.held_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Count ``size_bytes`` more. Raises Overloaded where they would be too many."""
        if self.held_bytes + size_bytes > self.most_bytes:
            raise Overloaded("Too many large requests at this moment. Try again shortly.", headers={"Retry-After": "2"})
        self.held_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Count ``size_bytes`` less."""
        self.held_bytes -= size_bytes


def declared_length(headers: Mapping[bytes, bytes], most_bytes: int) -> int | None:
    """Content-Length, None where the body comes in chunks. Raises RequestTooLarge before a byte of it is read."""
    declared = headers.get(b"content-length")
    if declared is None:
        return None
    if not declared.isdigit() or len(declared) > 18:
        raise InvalidRequest("Content-Length is not a number.")
    length = int(declared)
    if length > most_bytes:
        raise too_large(most_bytes)
    return length


def too_large(most_bytes: int) -> RequestTooLarge:
    """The refusal of a body above the limit."""
    return RequestTooLarge(f"The body is larger than {most_bytes} bytes.", extra={"limit_bytes": most_bytes})


class BodyReader:
    """Reads one body and keeps it counted until ``release``; a body without Content-Length is counted as it comes."""

    __slots__ = ("_counted", "_gauge", "_most_bytes")

    def __init__(self, gauge: InFlight, most_bytes: int) -> None:
        self._gauge = gauge
        self._most_bytes = most_bytes
        self._counted = 0

    def take(self, body: bytes, length: int | None) -> bytes:
        """A body that the server has read. Raises RequestTooLarge, Overloaded."""
        self._count(length or 0)
        self._count_up_to(len(body))
        return body

    async def read(self, receive: Receive, length: int | None, *, seconds: float | None) -> bytes:
        """The whole body. Raises RequestTooLarge, Overloaded, InvalidRequest (too slow), ClientGone.

        ``seconds`` None: the server has all of it already, so there is nothing to bound.
        """
        self._count(length or 0)
        if seconds is None:
            return await self._all(receive)
        try:
            async with asyncio.timeout(seconds):
                return await self._all(receive)
        except TimeoutError:
            raise InvalidRequest("The body did not arrive in time.", headers={"Connection": "close"}) from None

    async def _all(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part: bytes = message.get("body", b"")
            parts.append(part)
            size += len(part)
            self._count_up_to(size)
            if not message.get("more_body"):
                return part if len(parts) == 1 else b"".join(parts)

    def release(self) -> None:
        """The body is no longer held."""
        self._gauge.give_back(self._counted)
        self._counted = 0

    def _count_up_to(self, size_bytes: int) -> None:
        if size_bytes > self._most_bytes:
            raise too_large(self._most_bytes)
        if size_bytes > self._counted:
            self._count(size_bytes - self._counted)

    def _count(self, size_bytes: int) -> None:
        self._gauge.take(size_bytes)
        self._counted += size_bytes
