"""Results copied from where a provider keeps them: whole or not at all, and from nowhere inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from core import destinations, egress, outbound
from core.egress import EgressError, EgressFailed, EgressRefused, EgressTooLarge, Purpose
from orgs.models import Workspace
from storage import fetching, objects, shelf
from storage.models import StoredObject
from tests import factories
from tests.core.test_destinations import RESOLVER, TABLE
from tests.storage import files

Seen = list[tuple[str, dict[str, str]]]


@contextmanager
def provider(answers: dict[str, tuple[int, dict[str, str], bytes]]) -> Iterator[tuple[str, Seen]]:
    """A server on loopback with an answer for each path; yields its address and what it was asked."""
    seen: Seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            status, headers, body = answers.get(self.path, (404, {}, b"nothing"))
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture
def workspace(db: None) -> Workspace:
    return factories.organization()


def fetch(workspace: Workspace, url: str, **more: Any) -> StoredObject:
    return objects.fetch_and_store(url, workspace.pk, **{"kind": "video", "filename": "v.mp4", **more})


def reason_of(workspace: Workspace, url: str, **more: Any) -> str:
    with pytest.raises(EgressError) as caught:
        fetch(workspace, url, **more)
    return caught.value.reason


def test_a_result_is_copied(workspace: Workspace) -> None:
    with provider({"/v.mp4": (200, {"content-type": "video/mp4"}, files.MP4)}) as (site, seen):
        row = fetch(workspace, f"{site}/v.mp4", headers={"x-goog-api-key": "secret"}, vouched_for=f"{site}/v1")
    assert (row.content_type, row.source, row.size_bytes) == ("video/mp4", "result", len(files.MP4))
    assert row.expires_at is not None
    with objects.open_bytes(row) as file:
        assert file.read() == files.MP4
    assert seen[0][1]["x-goog-api-key"] == "secret"


def test_the_operator_s_list_and_the_sandbox_are_let_through(workspace: Workspace, settings: Any) -> None:
    with provider({"/v.mp4": (200, {}, files.MP4)}) as (site, _seen):
        assert reason_of(workspace, f"{site}/v.mp4") == "scheme"
        settings.EGRESS_ALLOW = [f"webhook={site.removeprefix('http://')}"]
        assert reason_of(workspace, f"{site}/v.mp4") == "scheme"  # allowed for something else
        settings.EGRESS_ALLOW = [f"result={site.removeprefix('http://')}"]
        assert fetch(workspace, f"{site}/v.mp4").size_bytes == len(files.MP4)
        settings.EGRESS_ALLOW = []
        settings.SANDBOX_BASE_URL = f"{site}/v1"
        assert fetch(workspace, f"{site}/v.mp4").size_bytes == len(files.MP4)


@pytest.mark.parametrize(("url", "reason"), [row for row in TABLE if row[1] != "ok"])
def test_no_link_leads_inside(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, url: str, reason: str) -> None:
    """A provider's link is held against the table of all addresses, whatever an operator vouches for beside it."""
    monkeypatch.setattr(egress.fetch, "__kwdefaults__", {**(egress.fetch.__kwdefaults__ or {}), "resolver": RESOLVER})
    assert reason_of(workspace, url, vouched_for="http://10.99.0.1:8080/v1") == reason
    assert shelf.room(workspace.pk).used_objects == 0


@pytest.mark.parametrize(("url", "reason"), [row for row in TABLE if row[1] not in ("ok", "dns")])
def test_no_redirect_leads_inside(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, url: str, reason: str) -> None:
    monkeypatch.setattr(egress.fetch, "__kwdefaults__", {**(egress.fetch.__kwdefaults__ or {}), "resolver": RESOLVER})
    answer = egress.Response(302, {"location": url}, b"")
    calls: list[str] = []

    def call(target: str, purpose: Purpose, **_more: Any) -> egress.Response:
        calls.append(target)
        if len(calls) == 1:
            return answer
        found = destinations.check_url(target, purpose, resolver=RESOLVER)
        # What is no whole address is read beside the first one, and stays with that host.
        assert (found.host, found.port) == ("example.org", 443)
        raise EgressRefused("harmless", "")

    monkeypatch.setattr(outbound, "call", call)
    with pytest.raises(EgressRefused):
        fetch(workspace, "https://example.org/v.mp4")
    assert len(calls) in (1, 2)


def test_a_redirect_takes_no_key_to_another_host(workspace: Workspace) -> None:
    with provider({"/v.mp4": (200, {}, files.MP4)}) as (store, at_store):
        answers = {"/a": (302, {"location": "/b"}, b""), "/b": (302, {"location": f"{store}/v.mp4"}, b"")}
        with provider(answers) as (site, at_site):
            more = {"headers": {"authorization": "Bearer secret"}, "vouched_for": "http://127.0.0.1:1/"}
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(fetching, "_vouched", lambda _text: egress.read_allowed("127.0.0.1"))
                row = fetch(workspace, f"{site}/a", **more)
    assert row.size_bytes == len(files.MP4)
    assert [headers.get("authorization") for _path, headers in at_site] == ["Bearer secret"] * 2
    assert [headers.get("authorization") for _path, headers in at_store] == [None]


def test_redirects_end(workspace: Workspace) -> None:
    with provider({"/a": (302, {"location": "/a"}, b"")}) as (site, seen):
        assert reason_of(workspace, f"{site}/a", vouched_for=site) == "status_302"
    assert len(seen) == 4


@pytest.mark.parametrize("status", [204, 206, 401, 403, 404, 410, 500])
def test_other_answers_are_no_file(workspace: Workspace, status: int) -> None:
    with provider({"/v.mp4": (status, {}, b"" if status == 204 else b"sorry")}) as (site, _seen):
        assert reason_of(workspace, f"{site}/v.mp4", vouched_for=site) == f"status_{status}"
    assert shelf.room(workspace.pk).used_objects == 0


def test_an_empty_or_broken_off_file_is_none(workspace: Workspace) -> None:
    answers = {"/empty": (200, {}, b""), "/short": (200, {"content-length": "1000"}, files.MP4)}
    with provider(answers) as (site, _seen):
        assert reason_of(workspace, f"{site}/empty", vouched_for=site) == "empty"
        with pytest.raises(EgressFailed):
            fetch(workspace, f"{site}/short", vouched_for=site, seconds=5.0)
    assert shelf.room(workspace.pk).used_objects == 0


@pytest.mark.parametrize("most", [100, 5000])
def test_more_than_was_asked_for_is_not_taken(workspace: Workspace, most: int) -> None:
    with provider({"/v.mp4": (200, {}, files.MP4 + b"\0" * most)}) as (site, _seen), pytest.raises(EgressTooLarge):
        fetch(workspace, f"{site}/v.mp4", vouched_for=site, most_bytes=most)
    assert shelf.room(workspace.pk).used_objects == 0
