"""Static files on the web face: what WhiteNoise answers, and nothing that Django would have to warn of."""

from __future__ import annotations

import asyncio
import gzip
import warnings
from pathlib import Path
from typing import Any

import pytest
from django.test import RequestFactory
from pytest_django import Settings
from whitenoise.middleware import WhiteNoiseMiddleware

from hypereal_site.static_files import StaticFilesMiddleware
from hypereal_site.web import WebHandler

TEXT = b"body { color: red }\n" * 200
PATH = "/static/css/site.css"


@pytest.fixture
def folder(tmp_path: Path, settings: Settings) -> Path:
    """The collected files of an installation: one, and the same compressed."""
    place = tmp_path / "css"
    place.mkdir()
    (place / "site.css").write_bytes(TEXT)
    (place / "site.css.gz").write_bytes(gzip.compress(TEXT))
    settings.STATIC_ROOT, settings.WHITENOISE_USE_FINDERS = tmp_path, False
    return tmp_path


def test_every_answer_is_whitenoises_own(folder: Path) -> None:
    def elsewhere(request: Any) -> Any:
        raise AssertionError("the file was not found")

    ours, theirs = StaticFilesMiddleware(elsewhere), WhiteNoiseMiddleware(elsewhere)
    etag = ours(RequestFactory().get(PATH))["etag"]
    seen = []
    for method, headers in (
        ("GET", {}),
        ("HEAD", {}),
        ("POST", {}),
        ("GET", {"accept-encoding": "gzip, br"}),
        ("GET", {"range": "bytes=5-24"}),
        ("GET", {"range": "bytes=-10", "accept-encoding": "gzip"}),
        ("GET", {"range": "bytes=999999-"}),
        ("GET", {"if-none-match": etag}),
        ("GET", {"if-modified-since": "Fri, 01 Jan 2100 00:00:00 GMT"}),
    ):
        request = RequestFactory().generic(method, PATH, headers=headers)
        mine, other = ours(request), theirs(request)
        expected = b"".join(other.streaming_content) if other.streaming else other.content
        assert (mine.status_code, dict(mine.items()), mine.content) == (
            other.status_code, dict(other.items()), expected,
        ), (method, headers)  # fmt: skip
        other.close()
        assert not mine.streaming
        seen.append(mine.status_code)
    assert seen == [200, 200, 405, 200, 206, 206, 416, 304, 304]


def test_the_web_face_sends_a_file_without_a_warning(folder: Path) -> None:
    sent: list[Any] = []

    async def ask() -> None:
        messages = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "GET", "path": PATH, "raw_path": PATH.encode(), "query_string": b"",
            "headers": [(b"host", b"testserver"), (b"accept-encoding", b"gzip")], "scheme": "http",
            "http_version": "1.1", "server": ("testserver", 80), "client": ("127.0.0.1", 1),
        }  # fmt: skip
        await WebHandler()(scope, receive, send)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(ask())
    headers = dict(sent[0]["headers"])
    assert (sent[0]["status"], headers[b"Content-Encoding"]) == (200, b"gzip")
    assert b"max-age=60" in headers[b"Cache-Control"]
    assert gzip.decompress(b"".join(message["body"] for message in sent[1:])) == TEXT
