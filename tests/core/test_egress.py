"""The guarded client: what it refuses to call, and what it bears from those it does call."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.egress import (
    EgressFailed,
    EgressRefused,
    EgressTimedOut,
    EgressTooLarge,
    Limits,
    Purpose,
    fetch,
    read_allowed,
)
from tests.core.resolvers import names
from tests.support import certificates

Script = Callable[[socket.socket, bytes], None]
HERE = {Purpose.WEBHOOK: read_allowed("127.0.0.1, hook.test, localhost")}
LOOPBACK = names(hook_test=["127.0.0.1"], localhost=["127.0.0.1"])


@contextmanager
def server(script: Script) -> Iterator[tuple[int, list[bytes]]]:
    """Answers each connection by a script; yields the port and the requests as they came."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen: list[bytes] = []

    def one(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(60)
            head = b""
            while b"\r\n\r\n" not in head:
                data = connection.recv(65536)
                if not data:
                    return
                head += data
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            head_size = head.index(b"\r\n\r\n") + 4
            while len(head) < head_size + int(length or 0):
                head += connection.recv(65536)
            seen.append(head)
            try:
                script(connection, head)
            except OSError:
                pass  # the client has left

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def says(data: bytes) -> Script:
    return lambda connection, _: connection.sendall(data)


def test_a_call() -> None:
    answer = b"HTTP/1.1 201 Created\r\nContent-Type: text/plain\r\nX-A: 1\r\nx-a: 2\r\ncontent-length: 2\r\n\r\nok"
    with server(says(answer)) as (port, seen):
        response = fetch(
            f"http://hook.test:{port}/path?x=1", Purpose.WEBHOOK, method="POST", headers={"X-B": "c"}, body=b"{}",
            allow=HERE, resolver=LOOPBACK,
        )  # fmt: skip
    assert (response.status, response.body, response.truncated) == (201, b"ok", False)
    assert response.headers["content-type"] == "text/plain" and response.headers["x-a"] == "1, 2"
    line, *lines = seen[0].decode().split("\r\n")
    assert line == "POST /path?x=1 HTTP/1.1"
    assert {
        f"host: hook.test:{port}",
        "x-b: c",
        "content-length: 2",
        "connection: close",
        "accept-encoding: identity",
    } <= set(lines)


def test_chunks_and_bodies_until_close() -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3;x=y\r\ndef\r\n0\r\ntrailer: x\r\n\r\n"
    )
    for answer in (chunked, b"HTTP/1.1 200 OK\r\n\r\nabcdef", b"HTTP/1.0 200 OK\r\n\r\nabcdef"):
        with server(says(answer)) as (port, _):
            response = fetch(f"http://127.0.0.1:{port}/", Purpose.WEBHOOK, allow=HERE)
        assert response.body == b"abcdef"


def test_redirects_are_not_followed() -> None:
    with server(says(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")) as (
        port,
        seen,
    ):
        response = fetch(f"http://127.0.0.1:{port}/", Purpose.WEBHOOK, allow=HERE)
    assert response.status == 302 and len(seen) == 1


def test_head_and_no_content() -> None:
    with server(says(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")) as (port, _):
        assert fetch(f"http://127.0.0.1:{port}/", Purpose.WEBHOOK, method="HEAD", allow=HERE).body == b""
    with server(says(b"HTTP/1.1 204 No Content\r\n\r\n")) as (port, _):
        assert fetch(f"http://127.0.0.1:{port}/", Purpose.WEBHOOK, allow=HERE).status == 204


def test_a_name_is_looked_up_once_and_the_checked_address_is_called() -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    with server(says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")) as (port, _):
        allow = {Purpose.WEBHOOK: read_allowed("127.0.0.1")}
        url = f"http://rebound.test:{port}/"
        response = fetch(url, Purpose.WEBHOOK, allow=allow, resolver=lambda *_: next(answers))
        assert response.body == b"ok"
        with pytest.raises(EgressRefused):
            fetch(url, Purpose.WEBHOOK, allow=allow, resolver=lambda *_: next(answers))


def test_the_next_address_is_tried() -> None:
    with server(says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")) as (port, _):
        allow = {Purpose.WEBHOOK: read_allowed("two.test")}
        response = fetch(
            f"http://two.test:{port}/", Purpose.WEBHOOK, allow=allow, resolver=lambda *_: ["127.0.0.99", "127.0.0.1"]
        )
        assert response.body == b"ok"


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(EgressFailed) as caught:
        fetch(f"http://127.0.0.1:{port}/", Purpose.WEBHOOK, allow=HERE)
    assert caught.value.reason == "connect" and "127" not in str(caught.value)


def test_nothing_is_sent_where_nothing_may_go() -> None:
    with server(says(b"")) as (port, seen):
        for url in (f"http://127.0.0.1:{port}/", f"https://127.0.0.1:{port}/"):
            with pytest.raises(EgressRefused):
                fetch(url, Purpose.WEBHOOK)
    assert seen == []


# ---- bounds


BRIEF = Limits(connect_seconds=1, total_seconds=0.5, body_bytes=1000)
SMALL = Limits(connect_seconds=60, total_seconds=60, body_bytes=1000)
#: Far less than a server here goes on for, and far more than a machine needs to notice that time is up.
AT_ONCE_SECONDS = 20.0


def drip(head: bytes, piece: bytes) -> Script:
    def script(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(head)
        for _number in range(3_000):  # a minute, if nobody leaves
            connection.sendall(piece)
            time.sleep(0.02)

    return script


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nx: ", b"y"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", b"x"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n"),
        (b"HTTP/1.1 100 Continue\r\n", b"\r\n"),
    ],
)
def test_a_byte_at_a_time_meets_the_deadline(head: bytes, piece: bytes) -> None:
    with server(drip(head, piece)) as (port, _):
        started = time.monotonic()
        with pytest.raises((EgressTimedOut, EgressFailed)):
            fetch(f"http://127.0.0.1:{port}/", Purpose.WEBHOOK, allow=HERE, limits=BRIEF)
        assert time.monotonic() - started < AT_ONCE_SECONDS


def _until_left(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def test_silence_meets_the_deadline() -> None:
    with server(lambda connection, _: _until_left(connection)) as (port, _), pytest.raises(EgressTimedOut):
        fetch(f"http://127.0.0.1:{port}/", Purpose.WEBHOOK, allow=HERE, limits=BRIEF)


@pytest.mark.parametrize("head", [b"content-length: 5000\r\n", b""])
def test_bodies_are_bounded(head: bytes) -> None:
    with server(says(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + b"x" * 5000)) as (port, _):
        with pytest.raises(EgressTooLarge):
            fetch(f"http://127.0.0.1:{port}/", Purpose.WEBHOOK, allow=HERE, limits=SMALL)
        cut = Limits(body_bytes=1000, cut_body=True)
        response = fetch(f"http://127.0.0.1:{port}/", Purpose.WEBHOOK, allow=HERE, limits=cut)
        assert (response.body, response.truncated) == (b"x" * 1000, True)


@pytest.mark.parametrize("part", [b"x: " + b"y" * 60_000 + b"\r\n", b"a: b\r\n" * 5000])
def test_headers_are_bounded(part: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + part * 20 + b"\r\n"
    with server(says(answer)) as (port, _), pytest.raises((EgressTooLarge, EgressFailed)):
        fetch(f"http://127.0.0.1:{port}/", Purpose.WEBHOOK, allow=HERE)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nxx",
    ],
)
def test_what_is_no_answer(answer: bytes) -> None:
    with server(says(answer)) as (port, _), pytest.raises(EgressFailed):
        fetch(f"http://127.0.0.1:{port}/", Purpose.WEBHOOK, allow=HERE)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET\r\n", {}),
        ("", {}),
        ("GET", {"x": "a\r\ny: b"}),
        ("GET", {"x\r\ny": "a"}),
        ("GET", {"Host": "elsewhere"}),
        ("GET", {"content-length": "5"}),
        ("GET", {"Transfer-Encoding": "chunked"}),
        ("GET", {"x": "\u2026"}),
    ],
)
def test_no_request_can_be_smuggled(method: str, headers: dict[str, str]) -> None:
    with server(says(b"")) as (port, seen), pytest.raises(ValueError, match="valid"):
        fetch(f"http://127.0.0.1:{port}/", Purpose.WEBHOOK, method=method, headers=headers, allow=HERE)
    assert seen == []


# ---- certificates


@contextmanager
def secure_server(pair: certificates.Pair) -> Iterator[tuple[int, list[str | None]]]:
    """Speaks TLS; yields the port and the names that clients asked for."""
    asked: list[str | None] = []
    pair.server.sni_callback = lambda _socket, name, _context: asked.append(name)
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with pair.server.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(65536)
                    secure.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            except OSError:
                pass  # the client did not like the certificate
            finally:
                connection.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def test_tls_asks_for_the_name_and_checks_it(tmp_path: Path) -> None:
    pair = certificates.make(tmp_path, "hook.test")
    with secure_server(pair) as (port, asked):
        url = f"https://hook.test:{port}/"
        response = fetch(url, Purpose.WEBHOOK, allow=HERE, resolver=LOOPBACK, tls=pair.client)
        assert response.body == b"ok" and asked == ["hook.test"]
        with pytest.raises(EgressFailed) as caught:
            fetch(f"https://localhost:{port}/", Purpose.WEBHOOK, allow=HERE, resolver=LOOPBACK, tls=pair.client)
        assert caught.value.reason == "tls"
        with pytest.raises(EgressFailed) as caught:
            fetch(url, Purpose.WEBHOOK, allow=HERE, resolver=LOOPBACK)
        assert caught.value.reason == "tls", "an unknown authority"


def test_a_handshake_that_hangs_meets_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(EgressTimedOut):
            fetch(f"https://127.0.0.1:{port}/", Purpose.WEBHOOK, allow=HERE, limits=BRIEF)
        assert time.monotonic() - started < AT_ONCE_SECONDS
