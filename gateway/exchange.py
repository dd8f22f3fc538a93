"""One attempt at one target: send, read, and tell success from failure. What comes after is the pump's business."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from catalog.entries import TargetEntry
from gateway.adapters import Adapter, Relay, adapter_for
from gateway.dialects.base import Call
from gateway.limits import Limits
from upstreams import classify
from upstreams.client import Pool, Response
from upstreams.errors import BadAnswer, ConnectionLost, TargetUnusable, UpstreamError
from upstreams.wire import Timeouts, UpstreamRequest, Usage

logger = logging.getLogger(__name__)

T = TypeVar("T")

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
_MOST_ERROR_BYTES: Final = 1024 * 1024
_SSE_BEGINNINGS: Final = (b"data:", b"event:", b": ", b":\n", b"id:", b"retry:")


@dataclass(slots=True)
class Opened:
    """A stream that has come to its first content, or to its orderly end."""

    entry: TargetEntry
    response: Response = field(repr=False)
    relay: Relay = field(repr=False)
    #: What may be sent already.
    first: list[bytes] = field(repr=False)
    #: Whether the upstream has nothing more to say.
    ended: bool = False


@dataclass(slots=True)
class Completed:
    """A whole answer."""

    entry: TargetEntry
    body: bytes = field(repr=False)
    usage: Usage
    content_type: str = JSON


class Exchange:
    """Sends one call, in the words that each target understands."""

    __slots__ = ("_call", "_input_estimate", "_limits", "_pool", "sent")

    def __init__(self, pool: Pool, call: Call, limits: Limits, input_estimate: Callable[[], int]) -> None:
        self._pool = pool
        self._call = call
        self._limits = limits
        self._input_estimate = input_estimate
        #: Whether a target was handed the call and has not failed it: then somebody may be working on it.
        self.sent = False

    async def complete(self, entry: TargetEntry, timeouts: Timeouts) -> Completed:
        """The whole answer as JSON, collected where the upstream streams although it was not asked to.

        A caller who takes events gets such a stream as it came.
        """
        adapter = self._adapter(entry)
        with await self._send(entry, adapter, timeouts) as response:
            body = await response.read(self._limits.max_answer_bytes)
            kind = response.headers.get("content-type", "")
        try:
            return await self._read(entry, adapter, body, kind)
        except UpstreamError:
            raise
        except Exception as error:
            raise _unreadable(error) from None

    async def _read(self, entry: TargetEntry, adapter: Adapter, body: bytes, kind: str) -> Completed:
        call, secret = self._call, entry.target.secret
        events = None
        if not _is_whole_json(body, otherwise="event-stream" not in kind):
            events = body
            body = await self._heavy(body, partial(adapter.collect, secret=secret, known=call.body), body)
        estimate = 0 if b'"usage' in body else self._input_estimate()
        usage = adapter.complete(body, input_estimate=estimate, secret=secret, known=call.body)
        if usage.estimated and not estimate:
            usage = adapter.complete(body, input_estimate=self._input_estimate(), secret=secret, known=call.body)
        if events is not None and call.takes_events:
            return Completed(entry, events, usage, EVENTS)
        if adapter.answer is not None:
            body = await self._heavy(body, adapter.answer, body)
        return Completed(entry, body, usage)

    async def open(self, entry: TargetEntry, timeouts: Timeouts) -> Opened:
        """A stream up to its first content: until then another target may still take over."""
        call, adapter, target = self._call, self._adapter(entry), entry.target
        response = await self._send(entry, adapter, timeouts)
        try:
            relay = adapter.relay(
                client_wants_usage=call.wants_usage, choices=call.choices, secret=target.secret, known=call.body
            )
            opened = Opened(entry, response, relay, [])
            chunk = await response.receive()
            if _is_whole_json(chunk, otherwise="json" in response.headers.get("content-type", "")):
                await self._unfold(opened, adapter, chunk)
            else:
                _feed(opened, chunk)
            while not _stands(opened):
                _feed(opened, await response.receive())
        except BaseException as error:
            response.close()
            if isinstance(error, UpstreamError) or not isinstance(error, Exception):
                raise
            raise _unreadable(error) from None
        return opened

    async def _unfold(self, opened: Opened, adapter: Adapter, chunk: bytes) -> None:
        """A target that answers in one piece although a stream was asked for."""
        body = chunk + await opened.response.read(self._limits.max_answer_bytes)
        adapter.complete(body, input_estimate=0, secret=opened.entry.target.secret, known=self._call.body)
        opened.first += opened.relay.feed(adapter.as_stream(body))
        opened.ended = True

    async def _send(self, entry: TargetEntry, adapter: Adapter, timeouts: Timeouts) -> Response:
        call, target = self._call, entry.target
        try:
            build = partial(adapter.build_request, target, call.fields, stream=call.stream)
            request: UpstreamRequest = await self._heavy(call.body, build) if adapter.converts else build()
            request = call.forwarded.onto(request)
            self.sent = True
            response = await self._pool.send(request, timeouts)
        except ValueError:
            self.sent = False
            raise TargetUnusable("the target's settings make no request") from None
        except Exception:
            self.sent = False
            raise
        if response.status != 200:
            self.sent = False
            with response:
                body = await response.read(_MOST_ERROR_BYTES)
            raise classify.refuse(response.status, response.headers, body, secret=target.secret, known=call.body)
        return response

    def _adapter(self, entry: TargetEntry) -> Adapter:
        adapter = adapter_for(self._call.spoken, entry)
        assert adapter is not None  # the chain has none but these
        return adapter

    async def _heavy(self, body: bytes, work: Callable[..., T], *arguments: Any) -> T:
        """Work over the whole of ``body``: in a thread where it is large."""
        if len(body) > self._limits.parse_in_thread_bytes:
            return await asyncio.to_thread(work, *arguments)
        return work(*arguments)


def _unreadable(error: Exception) -> BadAnswer:
    """For an answer so odd that no reader was made for it: another target may have a better one.

    Logged by place, not by value: what was in the values may be somebody's words.
    """
    where = "".join(traceback.format_tb(error.__traceback__))
    logger.error("an upstream's answer could not be read: %s", type(error).__name__, extra={"where": where})
    return BadAnswer("the upstream's answer could not be read")


def _feed(opened: Opened, chunk: bytes) -> None:
    if chunk:
        opened.first += opened.relay.feed(chunk)
    else:
        opened.first += opened.relay.end_of_stream()
        opened.ended = True


def _stands(opened: Opened) -> bool:
    """Whether the stream has begun. Raises what broke it: nothing has gone out yet, so another target may serve.

    An error behind the end of an answer breaks nothing, whether it came in the same packet or later.
    """
    relay = opened.relay
    if relay.error is not None and not (relay.finished and relay.first_content_seen):
        raise relay.error
    if relay.first_content_seen or relay.finished:
        return True
    if opened.ended:
        raise ConnectionLost("the upstream's stream ended before it came to its content")
    return False


def _is_whole_json(beginning: bytes, *, otherwise: bool) -> bool:
    """Whether this begins one JSON value rather than events; ``otherwise``: what its label says.

    The bytes are believed first: some upstreams stream under the name of JSON, or the other way round.
    """
    head = beginning[:64].lstrip()
    return head[:1] in (b"{", b"[") or (otherwise and not head.startswith(_SSE_BEGINNINGS))
