"""A plain HTTP client that hides nothing: status, headers and bytes as they come, and leaving at any moment."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reply:
    """A whole answer. Header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def events(self) -> list[Any]:
        """The data of a stream's events: decoded, ``[DONE]`` as text."""
        return list(data_of(self.body))


def data_of(stream: bytes) -> Iterator[Any]:
    for line in stream.split(b"\n"):
        if line.startswith(b"data: "):
            data = line[6:]
            yield data.decode() if data == b"[DONE]" else json.loads(data)


def send(
    port: int, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 90.0
) -> Reply:
    """One request on a connection of its own."""
    with opened(port, method, path, body, headers, timeout) as stream:
        return Reply(stream.status, stream.headers, stream.response.read())


class Stream:
    """An answer that is still coming."""

    def __init__(
        self, connection: http.client.HTTPConnection, sock: socket.socket, response: http.client.HTTPResponse
    ) -> None:
        self._socket = sock
        self.connection = connection
        self.response = response
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}

    def line(self) -> bytes:
        """The next line that says something."""
        while True:
            line = self.response.readline()
            if line.strip() or not line:
                return line.rstrip(b"\r\n")

    def rest(self) -> bytes:
        return self.response.read()

    def leave(self) -> None:
        """Hang up at once, with a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.response.close()
        self.connection.close()


@contextmanager
def opened(
    port: int, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 90.0
) -> Iterator[Stream]:
    """One request whose answer is read by hand."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    given = {"content-type": "application/json", **(headers or {})}
    try:
        connection.request(method, path, data, given)
        sock = connection.sock  # the connection forgets it where the answer says that it will be closed
        assert sock is not None
        yield Stream(connection, sock, connection.getresponse())
    finally:
        connection.close()
