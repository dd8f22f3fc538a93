"""The guarded way out for URLs that users give us: webhooks, identity providers, reference images.

The connection goes to an address that was checked, so that a name can't be bound anew in between. No redirects, no
proxies, a bound on every size, and one deadline over everything: a time-out for each read alone would let a server
drip a byte at a time for ever.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

import certifi

from core.destinations import (
    NOTHING,
    Allowed,
    AllowList,
    Destination,
    EgressError,
    EgressFailed,
    EgressRefused,
    EgressTimedOut,
    EgressTooLarge,
    Purpose,
    Resolver,
    check_url,
    read_allowed,
    resolve,
)

__all__ = [
    "NOTHING", "AllowList", "Allowed", "Destination", "EgressError", "EgressFailed", "EgressRefused", "EgressTimedOut",
    "EgressTooLarge", "Limits", "Purpose", "Resolver", "Response", "check_url", "fetch", "read_allowed", "resolve",
]  # fmt: skip

HEADER_LIMIT_BYTES: Final = 64 * 1024

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OWN_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding"})


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one call. ``cut_body`` keeps the first ``body_bytes`` instead of failing when more comes."""

    connect_seconds: float = 5.0
    total_seconds: float = 8.0
    body_bytes: int = 1_000_000
    cut_body: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """Header names are in lower case. Redirects come back as they are: nobody follows them."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool = False


def fetch(
    url: str,
    purpose: Purpose,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    limits: Limits = Limits(),
    allow: AllowList = NOTHING,
    resolver: Resolver = resolve,
    tls: ssl.SSLContext | None = None,
    sink: Callable[[bytes], object] | None = None,
) -> Response:
    """One guarded call; whatever status comes is returned. With a ``sink`` the body goes there piece by piece.

    Raises EgressError, and ValueError for a method or header that can't be sent.
    """
    deadline = time.monotonic() + limits.total_seconds
    destination = check_url(url, purpose, allow=allow, resolver=resolver, seconds=limits.connect_seconds)
    message = _message(destination, method, headers or {}, body)
    channel = _connect(destination, deadline, limits.connect_seconds, tls)
    try:
        channel.send(message)
        return _receive(channel, method, limits, sink)
    except TimeoutError:
        raise EgressTimedOut from None
    except (OSError, http.client.HTTPException) as error:
        raise EgressFailed("protocol", "The server broke off or does not speak HTTP.") from error
    finally:
        channel.close()


class _Channel(io.RawIOBase):
    """A connected socket whose every operation ends at one deadline. ``budget`` is how many more bytes it may read."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        self.budget = HEADER_LIMIT_BYTES

    def _arm(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)

    def send(self, message: bytes) -> None:
        self._arm()
        self._sock.sendall(message)  # its time-out covers the whole message, not each part

    def secure(self, context: ssl.SSLContext, host: str) -> None:
        self._arm()
        self._sock = context.wrap_socket(self._sock, server_hostname=host)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._arm()
        count = self._sock.recv_into(buffer)
        self.budget -= count
        if self.budget < 0:
            raise EgressTooLarge
        return count

    def makefile(self, _mode: str) -> io.BufferedReader:
        """For http.client, which reads its answers from a socket's file."""
        return io.BufferedReader(self)

    def close(self) -> None:
        self._sock.close()
        super().close()


def _connect(destination: Destination, deadline: float, seconds: float, tls: ssl.SSLContext | None) -> _Channel:
    """A connection to the first checked address that takes one, with TLS for the name that was asked for."""
    last: OSError | None = None
    for address in destination.addresses:
        left = min(seconds, deadline - time.monotonic())
        if left <= 0:
            raise EgressTimedOut
        sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
        try:
            sock.settimeout(left)
            sock.connect((str(address), destination.port))
            channel = _Channel(sock, deadline)
            if destination.scheme == "https":
                channel.secure(tls or _tls(), destination.host)
            return channel
        except ssl.SSLError as error:
            sock.close()
            raise EgressFailed("tls", "The server's certificate is not valid for this address.") from error
        except OSError as error:
            sock.close()
            last = error
    if isinstance(last, TimeoutError):
        raise EgressTimedOut from last
    raise EgressFailed("connect", "The server could not be reached.") from last


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _message(destination: Destination, method: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """The request as bytes. Raises ValueError for what could smuggle a line in."""
    if not _TOKEN.fullmatch(method):
        raise ValueError("the method is not valid")
    own = {"host": destination.authority, "connection": "close", "accept-encoding": "identity"}
    if body or method not in ("GET", "HEAD"):
        own["content-length"] = str(len(body))
    lines = [f"{method} {destination.target} HTTP/1.1"]
    for name, value in (*own.items(), *_given(headers)):
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _given(headers: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    given = {name.lower(): value for name, value in headers.items()}
    given.setdefault("user-agent", "Hypereal")
    for name, value in given.items():
        if not _TOKEN.fullmatch(name) or name in _OWN_HEADERS or re.search(r"[^\t\x20-\x7e\x80-\xff]", value):
            raise ValueError(f"header {name!r} is not valid here")
        yield name, value


def _receive(channel: _Channel, method: str, limits: Limits, sink: Callable[[bytes], object] | None = None) -> Response:
    answer = http.client.HTTPResponse(cast(socket.socket, channel), method=method)
    answer.begin()
    headers: dict[str, str] = {}
    for name, value in answer.getheaders():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    if headers.get("content-encoding", "identity").lower() not in ("identity", ""):
        raise EgressFailed("encoding", "The server compressed its answer although it was asked not to.")
    channel.budget = 2 * limits.body_bytes + HEADER_LIMIT_BYTES  # room for the framing of small chunks
    pieces: list[bytes] = []
    take, size = sink or pieces.append, 0
    while piece := answer.read1(65536):
        take(piece)
        size += len(piece)
        if size > limits.body_bytes:
            if not limits.cut_body:
                raise EgressTooLarge
            return Response(answer.status, headers, b"".join(pieces)[: limits.body_bytes], truncated=True)
    if answer.length:
        raise EgressFailed("protocol", "The server broke off in the middle of its answer.")
    return Response(answer.status, headers, b"".join(pieces))
