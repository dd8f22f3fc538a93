"""Requests and answers of the gateway face: Django's request, made lazily, and two answers that skip Django's own."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, QueryDict
from django.utils.functional import cached_property

from core import clock, ids
from core.body import BodyReader
from core.client import Address, address_of
from core.ratelimit import Allowance
from gateway.runtime import Runtime
from keys.auth import KeyFacts

RawHeaders = list[tuple[bytes, bytes]]

JSON: Final = b"application/json"


class GatewayRequest(HttpRequest):
    """One call. ``path`` is the endpoint's, without prefix and trailing slash; ``raw_headers`` has lower-case names.

    Django's own members (META, GET, …) are made only when a view asks for them: they cost as much as a lookup of the
    key, and the hot path needs none.
    """

    runtime: Runtime
    key: KeyFacts
    view: Callable[..., Any]
    view_arguments: dict[str, Any]
    #: ASGI's own, for endpoints that read their body themselves.
    receive: Callable[[], Awaitable[Mapping[str, Any]]]
    allowance: Allowance | None = None
    authenticated = False
    body_reader: BodyReader | None = None
    #: A second header for ``id``, by the format of the endpoint.
    id_header = b""
    #: Whether the log already has, or will have, a row for this call.
    logged = False
    #: What is known of the call by now, for the log row of a refusal.
    model = ""
    stream = False
    #: Whether only a quote is asked for: such a call is never admitted.
    quoting = False
    # Django's initialiser, which would fill what is lazy here, sets these on each request.
    resolver_match = None
    content_type = content_params = None
    _body = b""
    _read_started = False

    def __init__(self, scope: Mapping[str, Any], receive: object, path: str) -> None:
        self.scope = scope
        self.id: UUID = ids.uuid7()
        self.started = clock.monotonic()
        self.path = self.path_info = path
        self.method = scope["method"]
        self.raw_headers: dict[bytes, bytes] = dict(scope["headers"])
        # uvicorn's record of the exchange. Another server has none: then a caller who leaves during a call that is
        # answered in one piece goes unmarked, which changes nothing about money.
        self._cycle = getattr(receive, "__self__", None)

    def set_body(self, body: bytes) -> None:
        """The body, read within bounds by the handler."""
        self._body = body

    def is_draining(self) -> bool:
        """Whether the process takes no new calls any more, so that this connection should not be kept."""
        standing = getattr(self, "runtime", None)
        return standing is not None and standing.draining

    def body_is_here(self) -> bool:
        """Whether the server has read all of the body already."""
        return not getattr(self._cycle, "more_body", True)

    def take_body(self) -> bytes | None:
        """The body, where the server has all of it already and hands it out without being waited for."""
        take: Callable[[], bytes | None] | None = getattr(self._cycle, "take_body", None)
        return take() if take is not None else None

    def send_at_once(self, status: int, headers: RawHeaders, body: bytes) -> bool:
        """Answer in one piece, where the server can. False: nothing was sent."""
        send: Callable[..., bool] | None = getattr(self._cycle, "answer", None)
        return send is not None and send(status, headers, body)

    def lasting_task(self) -> asyncio.Task[Any] | None:
        """The running task, where the server lets it go on when the caller leaves."""
        return getattr(self._cycle, "task", None)

    def caller_is_gone(self) -> bool:
        """Whether the server knows that the connection is closed."""
        return bool(getattr(self._cycle, "disconnected", False))

    def drop_connection(self) -> None:
        """Cut off a caller who takes nothing: closing in order would wait for it to read."""
        transport = getattr(self._cycle, "transport", None)
        if transport is not None:
            transport.abort()

    def address(self, trusted_proxies: int) -> Address | None:
        """The caller's address."""
        client = self.scope.get("client")
        # Some proxies write a line of their own behind those that they were sent: all of them are one list.
        lines = [value for name, value in self.scope["headers"] if name == b"x-forwarded-for"]
        forwarded = b",".join(lines).decode("latin-1")
        return address_of(client[0] if client else "", forwarded, trusted_proxies=trusted_proxies)

    @property
    def query(self) -> bytes:
        """The raw query string."""
        query: bytes = self.scope.get("query_string", b"")
        return query

    @cached_property
    def _django(self) -> ASGIRequest:
        return ASGIRequest(self.scope, io.BytesIO(self._body))

    @cached_property
    def META(self) -> dict[str, Any]:  # type: ignore[override]
        meta: dict[str, Any] = self._django.META
        return meta

    @cached_property
    def GET(self) -> QueryDict:  # type: ignore[override]
        return QueryDict(self.query.decode("latin-1"))

    @cached_property
    def COOKIES(self) -> dict[str, str]:  # type: ignore[override]
        return {}


@dataclass(slots=True)
class Answer:
    """A whole answer as bytes."""

    status: int
    body: bytes = field(repr=False)
    headers: RawHeaders = field(default_factory=list)
    content_type: bytes = JSON
    #: The call that it answers, where that is an earlier one.
    request_id: UUID | None = None

    @classmethod
    def of(cls, value: Any, status: int = 200) -> Answer:
        """``value`` as JSON."""
        return cls(status, msgspec.json.encode(value))


class Readable(Protocol):
    """What a stream is read from; see `gateway.pipe.Pipe`."""

    def reader_left(self) -> bool: ...

    async def read(self) -> tuple[bytes, bool]: ...


@dataclass(slots=True)
class StreamAnswer:
    """An answer that is read from a pipe. Its headers are made when the first bytes are there."""

    pipe: Readable
    headers: Callable[[], RawHeaders]
    content_type: bytes
    #: Called when the caller leaves before the end.
    left: Callable[[], None]


def header_lines(headers: Mapping[str, str]) -> RawHeaders:
    """Headers of an error, as ASGI wants them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
