"""The gateway's ASGI handler: Django's, without what a data plane pays for and does not use.

No thread context and no signals per request, no sessions, no templates, a URLconf of a few lines, middleware that is
async or not at all. What a request must prove (method, key, length) is checked before its body is read.
"""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpResponse
from django.urls import Resolver404, URLPattern, get_resolver
from django.utils.module_loading import import_string

from core import clock
from core.body import BodyReader, ClientGone, declared_length
from core.errors import InternalError, InvalidRequest, MethodNotAllowed, NotFound, ProductError
from gateway import endpoints, engine, runtime
from gateway.endpoints import NOWHERE, Endpoint, View
from gateway.failover import CallerLeft
from gateway.request import Answer, GatewayRequest, RawHeaders, StreamAnswer, header_lines
from gateway.runtime import Runtime
from keys import auth
from keys.secret import checksum_ok

logger = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Response = Answer | StreamAnswer | HttpResponse
Route = tuple[View, dict[str, Any], Endpoint]

PREFIXES: Final = ("/api/v1/", "/v1/")
_CLOSE: Final = (b"connection", b"close")
_CHALLENGE: Final = (b"www-authenticate", b"Bearer")
_ALLOW_ORIGIN: Final = (b"access-control-allow-origin", b"*")
_EXPOSE: Final = (b"access-control-expose-headers", b"*")
_NO_CACHE: Final = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
_MOST_ASKED_HEADERS: Final = 2_000


class GatewayHandler(ASGIHandler):
    """Serves the URLs of ``settings.GATEWAY_URLCONF`` below both prefixes, with and without a trailing slash."""

    def load_middleware(self, is_async: bool = True) -> None:
        """The chain of ``settings.GATEWAY_MIDDLEWARE``: factories of coroutine functions, nothing that hops threads."""
        chain: Callable[[GatewayRequest], Awaitable[Response]] = self._call_view
        for name in reversed(settings.GATEWAY_MIDDLEWARE):
            factory = import_string(name)
            if not getattr(factory, "async_capable", False):
                raise ImproperlyConfigured(f"{name} is not async: it would cost every call a change of threads.")
            chain = factory(chain)
            if not inspect.iscoroutinefunction(chain) and not inspect.iscoroutinefunction(type(chain).__call__):
                raise ImproperlyConfigured(f"{name} did not return a coroutine function.")
        self._chain = chain
        self._resolver = get_resolver(settings.GATEWAY_URLCONF)
        self._fixed = self._fixed_routes()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        request = GatewayRequest(scope, receive, _endpoint_path(scope["path"]))
        declared = NOWHERE
        standing: Runtime | None = None
        try:
            try:
                view, arguments, declared = self._route(request)
                request.id_header = declared.id_header
                answer: Response | None = self._without_a_body(request, declared)
                if answer is None:
                    standing = request.runtime = _standing(scope) or await runtime.ensure()
                    standing.open_requests += 1
                    request.view, request.view_arguments = view, arguments
                    answer = await self._respond(request, declared, receive)
                if isinstance(answer, StreamAnswer):
                    await self._send_stream(request, answer, receive, send)
                    return
                await self._send_whole(request, answer, send)
            except (ClientGone, CallerLeft):
                return
            except ProductError as error:
                await self._send_whole(request, self._refuse(request, declared, error), send)
            except Exception as error:
                await self._send_whole(request, self._refuse(request, declared, _unexpected(request, error)), send)
        finally:
            if request.body_reader is not None:
                request.body_reader.release()
            if standing is not None:
                standing.open_requests -= 1

    # ── before the view ──────────────────────────────────────────────────────────────────────────────────────────────
    def _fixed_routes(self) -> dict[str, Route]:
        """Addresses without parameters, found by one look into a dict."""
        fixed: dict[str, Route] = {}
        for pattern in self._resolver.url_patterns:
            if isinstance(pattern, URLPattern) and "<" not in str(pattern.pattern):
                fixed["/" + str(pattern.pattern)] = (pattern.callback, {}, endpoints.of(pattern.callback))
        return fixed

    def _route(self, request: GatewayRequest) -> Route:
        route = self._fixed.get(request.path)
        if route is None:
            try:
                match = self._resolver.resolve(request.path)
            except Resolver404:
                raise NotFound(endpoints.instead_of(request.path)) from None
            route = (match.func, match.kwargs, endpoints.of(match.func))
        return route

    def _without_a_body(self, request: GatewayRequest, declared: Endpoint) -> Answer | None:
        """OPTIONS needs no key; a method that is not served is refused before anything is looked up."""
        method = request.method
        if method == "OPTIONS":
            return Answer(204, b"", _preflight(request, declared))
        if method not in declared.methods and not (method == "HEAD" and "GET" in declared.methods):
            allowed = ", ".join(_allowed(declared))
            raise MethodNotAllowed(f"{method} is not allowed here.", headers={"Allow": allowed})
        return None

    async def _respond(self, request: GatewayRequest, declared: Endpoint, receive: Receive) -> Response:
        standing = request.runtime
        if standing.draining:
            raise runtime.shutting_down()
        if declared.needs_key and request.method not in declared.keyless_methods:
            await self._authenticate(request, declared)
        if declared.reads_body:
            request.receive = receive
        elif request.method not in ("GET", "HEAD"):
            await self._read_body(request, receive)
        return await self._chain(request)

    async def _authenticate(self, request: GatewayRequest, declared: Endpoint) -> None:
        secret = auth.presented(request.raw_headers, request.query, allow_query=declared.key_in_query)
        directory, secret_hash = request.runtime.directory, auth.hash_of(secret)
        facts = directory.known(secret_hash)
        if facts is None:
            if not checksum_ok(secret):  # an invented key never reaches the database
                raise auth.refusal_of_unknown(secret)
            facts = await directory.find(secret_hash)
        if facts is None:
            raise auth.refusal_of_unknown(secret)
        facts.check_usable(clock.unix())
        request.key = facts
        request.authenticated = True
        if facts.allowed_networks:
            facts.check_address(request.address(settings.TRUSTED_PROXY_COUNT))

    async def _read_body(self, request: GatewayRequest, receive: Receive) -> None:
        """Within its bounds; it counts among those in flight until the answer is out."""
        limits = request.runtime.limits
        if request.raw_headers.get(b"content-encoding", b"identity") != b"identity":
            raise InvalidRequest("Compressed bodies are not accepted.", param="Content-Encoding")
        length = declared_length(request.raw_headers, limits.max_body_bytes)
        reader = request.body_reader = BodyReader(request.runtime.bodies, limits.max_body_bytes)
        body = request.take_body()
        if body is not None:
            request.set_body(reader.take(body, length))
            return
        seconds = None if request.body_is_here() else limits.body_seconds
        request.set_body(await reader.read(receive, length, seconds=seconds))

    async def _call_view(self, request: GatewayRequest) -> Response:
        answer: Response = await request.view(request, **request.view_arguments)
        return answer

    # ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _refuse(self, request: GatewayRequest, declared: Endpoint, error: ProductError) -> Answer:
        """The error in the endpoint's own shape; one log row where it is known whose call it was."""
        if declared is NOWHERE:
            declared = endpoints.nowhere(request.path)
            request.id_header = declared.id_header
        if request.authenticated and declared.kind and not request.logged:
            latency_ms = int((clock.monotonic() - request.started) * 1000)
            engine.record_refusal(request, declared.kind, error, latency_ms)
        headers = header_lines(error.headers)
        if error.status == 401:
            headers.append(_CHALLENGE)
        return Answer(error.status, declared.dialect.error(error, request.id), headers)

    # ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _send_whole(self, request: GatewayRequest, answer: Answer | HttpResponse, send: Send) -> None:
        if isinstance(answer, HttpResponse):
            body, status = answer.content, answer.status_code
            headers = self._headers(request, header_lines(dict(answer.items())), None)
        else:
            body, status = answer.body, answer.status
            content_type = answer.content_type if status != 204 else None
            headers = self._headers(request, answer.headers, content_type, answer.request_id)
        if status != 204:
            headers.append((b"content-length", b"%d" % len(body)))
        if request.send_at_once(status, headers, body):
            return
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _send_stream(self, request: GatewayRequest, answer: StreamAnswer, receive: Receive, send: Send) -> None:
        """Read the pipe to its end. Raises the ProductError of a call that failed before its first byte."""
        watch = request.runtime.loop.create_task(_watch(receive, answer.left))
        try:
            data, ended = await answer.pipe.read()
            if answer.pipe.reader_left():
                return
            headers = self._headers(request, answer.headers(), answer.content_type)
            headers += _NO_CACHE
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": data, "more_body": not ended})
            while not ended:
                data, ended = await answer.pipe.read()
                if answer.pipe.reader_left():
                    return
                await send({"type": "http.response.body", "body": data, "more_body": not ended})
        except ProductError:
            raise
        except BaseException:  # cancelled, or the server could not send: whichever, nobody reads on
            answer.left()
            raise
        finally:
            watch.cancel()

    def _headers(
        self, request: GatewayRequest, own: RawHeaders, content_type: bytes | None, earlier: UUID | None = None
    ) -> RawHeaders:
        request_id = str(earlier or request.id).encode()
        headers: RawHeaders = [*own, (b"x-request-id", request_id)]
        if content_type is not None:
            headers.append((b"content-type", content_type))
        if request.id_header:
            headers.append((request.id_header, request_id))
        if request.allowance is not None:
            headers += request.allowance.headers()
        if b"origin" in request.raw_headers:
            headers += (_ALLOW_ORIGIN, _EXPOSE)
        if request.is_draining():
            headers.append(_CLOSE)
        return headers


def _standing(scope: Mapping[str, Any]) -> Runtime | None:
    """The runtime that the server's lifespan left for all requests; a server without one has it looked up."""
    kept: Runtime | None = scope.get("state", {}).get(runtime.STATE)
    return kept if kept is not None else runtime.running()


def _endpoint_path(path: str) -> str:
    """The part behind the prefix, with one slash in front and none behind."""
    for prefix in PREFIXES:
        if path.startswith(prefix):
            return "/" + path[len(prefix) :].rstrip("/")
    return "/"


def _allowed(declared: Endpoint) -> list[str]:
    methods = set(declared.methods) | {"OPTIONS"}
    if "GET" in methods:
        methods.add("HEAD")
    return sorted(methods)


def _preflight(request: GatewayRequest, declared: Endpoint) -> RawHeaders:
    """Any page may call with a key of its own; cookies are never allowed along."""
    asked = request.raw_headers.get(b"access-control-request-headers", b"")[:_MOST_ASKED_HEADERS]
    headers: RawHeaders = [
        (b"allow", ", ".join(_allowed(declared)).encode()),
        (b"access-control-allow-methods", ", ".join(_allowed(declared)).encode()),
        (b"access-control-max-age", b"600"),
        (b"vary", b"Access-Control-Request-Headers"),
    ]
    if asked:
        headers.append((b"access-control-allow-headers", asked))
    return headers


async def _watch(receive: Receive, left: Callable[[], None]) -> None:
    """Behind the end of the body the server has only one more thing to say: that the caller hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass
    left()


def _unexpected(request: GatewayRequest, error: Exception) -> InternalError:
    """Logged by place, not by value: what was in the values may be somebody's words."""
    logger.error(
        "a gateway request failed unexpectedly: %s",
        type(error).__name__,
        extra={"request_id": str(request.id), "where": "".join(traceback.format_tb(error.__traceback__))},
    )
    return InternalError("Something went wrong on our side.")
