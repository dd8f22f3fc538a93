"""``/v1/storage`` on the real gateway, and the addresses that it gives."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.conf import settings
from django.test import Client

from events.models import AuditEvent
from storage.models import StorageAccount, StoredObject
from tests.storage import files
from tests.storage.conftest import MOST_FILE_BYTES
from tests.support import http as plain
from tests.support.gateway import Caller, Gateway, Server, wait_for

BOUNDARY = "----boundary7"


def form(*parts: tuple[str, bytes] | tuple[str, bytes, str, str]) -> bytes:
    """A multipart body: fields as (name, value), files as (name, content, file name, type)."""
    body = b""
    for name, content, *rest in parts:
        line = f'Content-Disposition: form-data; name="{name}"'
        if rest:
            line += f'; filename="{rest[0]}"\r\nContent-Type: {rest[1]}'
        body += f"--{BOUNDARY}\r\n{line}\r\n\r\n".encode() + content + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def upload(caller: Caller, *parts: Any, **headers: str) -> plain.Reply:
    given = {"content_type": f"multipart/form-data; boundary={BOUNDARY}", **headers}
    return caller.send("POST", "/v1/storage/upload", form(*parts), **given)


def path_of(url: str) -> str:
    return urlsplit(url).path


@pytest.fixture
def caller(gateway: Gateway, site: Server) -> Caller:
    return gateway.caller(server=site)


def test_upload_list_get_download_delete(caller: Caller) -> None:
    reply = upload(caller, ("file", files.PNG, "a b.png", "image/png"), ("kind", b"image"))
    assert reply.status == 201, reply.body
    made = reply.json
    assert {name: made[name] for name in ("kind", "filename", "contentType", "sizeBytes", "sha256", "source")} == {
        "kind": "image",
        "filename": "a b.png",
        "contentType": "image/png",
        "sizeBytes": len(files.PNG),
        "sha256": hashlib.sha256(files.PNG).hexdigest(),
        "source": "upload",
    }
    row = StoredObject.objects.get(pk=made["id"])
    assert (row.workspace_id, row.key_id, row.user_id) == (caller.workspace.pk, caller.key.pk, caller.user.pk)

    listed = caller.send("GET", "/v1/storage?kind=image").json
    assert [item["id"] for item in listed["data"]] == [made["id"]]
    assert listed["usage"]["bytes"] == len(files.PNG)
    assert caller.send("GET", "/v1/storage?kind=video").json["data"] == []

    got = caller.send("GET", f"/api/v1/storage/{made['id']}/").json
    file = plain.send(caller.port, "GET", path_of(got["url"]))
    assert (file.status, file.body, file.headers["content-type"]) == (200, files.PNG, "image/png")

    assert caller.send("DELETE", f"/v1/storage/{made['id']}").json == {"id": made["id"], "deleted": True}
    assert caller.send("GET", f"/v1/storage/{made['id']}").status == 404
    assert caller.send("DELETE", f"/v1/storage/{made['id']}").status == 404
    assert plain.send(caller.port, "GET", path_of(got["url"])).status == 404

    # The audit trail names the key, as it names the person where the page was used; what changed nothing is not in it.
    trail = AuditEvent.objects.filter(workspace_id=caller.workspace.pk, target_type="file").order_by("pk")
    assert [(one.action, one.target_id, one.target_label) for one in trail] == [
        (action, made["id"], "a b.png") for action in ("file.upload", "file.delete")
    ]
    assert {(one.actor_id, one.actor_label) for one in trail} == {(caller.user.pk, f"API key {caller.key.name}")}
    assert all(one.request_id for one in trail)


def test_the_example_of_the_documentation(caller: Caller) -> None:
    """A picture under the kind ``dataset``, named by fields that come before and behind the file."""
    reply = upload(
        caller,
        ("filename", b"training-image.png"),
        ("file", files.PNG, "blob", "application/octet-stream"),
        ("contentType", b"image/png"),
        ("kind", b"dataset"),
    )
    assert (reply.status, reply.json["kind"], reply.json["filename"]) == (201, "dataset", "training-image.png")
    assert len(caller.send("GET", "/v1/storage?kind=dataset").json["data"]) == 1


def test_a_file_above_the_bound_of_other_bodies(caller: Caller) -> None:
    content = os.urandom(1024 * 1024) * 36
    reply = upload(caller, ("file", content, "big.bin", "application/octet-stream"))
    assert (reply.status, reply.json["sizeBytes"]) == (201, len(content))
    file = plain.send(caller.port, "GET", path_of(reply.json["url"]))
    assert hashlib.sha256(file.body).hexdigest() == reply.json["sha256"] == hashlib.sha256(content).hexdigest()
    caller.send("DELETE", f"/v1/storage/{reply.json['id']}")


def test_too_large_a_file_is_refused_before_it_comes_and_while_it_comes(caller: Caller) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", caller.port, timeout=90)
    head = {**caller.headers({}), "content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    connection.putrequest("POST", "/v1/storage/upload")
    for name, value in {**head, "content-length": str(MOST_FILE_BYTES * 2)}.items():
        connection.putheader(name, value)
    connection.endheaders()  # not a byte of the body
    answer = connection.getresponse()
    assert answer.status == 413
    assert b"request_too_large" in answer.read()
    connection.close()

    content = form(("file", b"x" * (MOST_FILE_BYTES + 1), "big.bin", "application/octet-stream"))
    pieces = [content[start : start + 4_000_000] for start in range(0, len(content), 4_000_000)]
    connection = http.client.HTTPConnection("127.0.0.1", caller.port, timeout=90)
    connection.request("POST", "/v1/storage/upload", iter(pieces), head, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 413
    connection.close()
    assert caller.send("GET", "/v1/storage").json["usage"]["objects"] == 0


def test_a_full_shelf_is_refused_by_name(caller: Caller) -> None:
    StorageAccount.objects.create(workspace_id=caller.workspace.pk, most_objects=1)
    assert upload(caller, ("file", b"x", "x", "text/plain")).status == 201
    reply = upload(caller, ("file", b"x", "x", "text/plain"))
    assert (reply.status, reply.error["type"], reply.error["code"]) == (413, "request_too_large", "storage_full")
    assert reply.error["limit_objects"] == 1


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ([("kind", b"image")], "file"),
        ([("file", b"", "", "application/octet-stream")], "file"),
        ([("file", files.HTML, "a.png", "image/png"), ("kind", b"image")], "kind"),
        ([("file", files.PNG, "a.png", "image/png"), ("kind", b"picture")], "kind"),
        ([("file", b"a", "a", ""), ("file", b"b", "b", "")], "file"),
        ([("other", b"a", "a", "")], "other"),
        ([("file", b"a", "a", ""), ("filename", b"n" * 2000)], "filename"),
        ([(f"f{n}", b"") for n in range(20)], None),
    ],
    ids=[
        "no file",
        "none chosen",
        "html as image",
        "unknown kind",
        "two files",
        "another field",
        "long name",
        "many fields",
    ],
)
def test_forms_that_make_no_sense(caller: Caller, parts: list[Any], param: str | None) -> None:
    reply = upload(caller, *parts)
    assert (reply.status, reply.error["type"]) == (400, "invalid_request_error"), reply.body
    assert reply.error.get("param") == param
    assert caller.send("GET", "/v1/storage").json["usage"]["objects"] == 0


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", form(("file", b"x", "x", ""))),
        (f"multipart/form-data; boundary={BOUNDARY}", form(("file", b"x", "x", ""))[:-8]),
        (f"multipart/form-data; boundary={BOUNDARY}", b"nothing of the kind"),
        (f"multipart/form-data; boundary={'b' * 5000}", b""),
        (f"multipart/form-data; boundary={BOUNDARY}", b""),
    ],
    ids=["json", "no boundary", "cut off", "garbage", "long boundary", "empty"],
)
def test_bodies_that_are_no_form(caller: Caller, content_type: str, body: bytes) -> None:
    reply = caller.send("POST", "/v1/storage/upload", body, content_type=content_type)
    assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")


def test_pages_of_a_list(caller: Caller) -> None:
    made = [upload(caller, ("file", b"x", f"{n}.bin", "")).json["id"] for n in range(3)]
    first = caller.send("GET", "/v1/storage?limit=2").json
    second = caller.send("GET", f"/v1/storage?limit=2&cursor={first['nextCursor']}").json
    assert [item["id"] for item in first["data"] + second["data"]] == made[::-1]
    assert second["nextCursor"] is None


@pytest.mark.parametrize(
    ("query", "param"),
    [("kind=x", "kind"), ("limit=0", "limit"), ("limit=201", "limit"), ("limit=x", "limit"), ("cursor=x", "cursor")],
)
def test_queries_that_make_no_sense(caller: Caller, query: str, param: str) -> None:
    reply = caller.send("GET", f"/v1/storage?{query}")
    assert (reply.status, reply.error["param"]) == (400, param)


def test_others_see_nothing_of_it(gateway: Gateway, site: Server, caller: Caller) -> None:
    made = upload(caller, ("file", files.PNG, "a.png", "image/png")).json["id"]
    other = gateway.caller(server=site)
    assert other.send("GET", f"/v1/storage/{made}").status == 404
    assert other.send("DELETE", f"/v1/storage/{made}").status == 404
    assert other.send("GET", "/v1/storage").json["data"] == []
    assert caller.send("GET", f"/v1/storage/{made}").status == 200
    for name in (str(uuid4()), "x", "..%2f..%2fetc"):
        assert caller.send("GET", f"/v1/storage/{name}").status == 404


def test_without_a_key_nothing(site: Server) -> None:
    for method, path in (("POST", "upload"), ("GET", ""), ("GET", str(uuid4())), ("DELETE", str(uuid4()))):
        assert plain.send(site.port, method, f"/v1/storage/{path}").status == 401


def test_an_uploader_who_leaves_leaves_nothing(caller: Caller) -> None:
    body = form(("file", b"x" * 1_000_000, "a.bin", ""))
    with socket.create_connection(("127.0.0.1", caller.port)) as sock:
        lines = [
            "POST /v1/storage/upload HTTP/1.1",
            "host: x",
            f"authorization: Bearer {caller.secret}",
            f"content-type: multipart/form-data; boundary={BOUNDARY}",
            f"content-length: {len(body)}",
        ]
        sock.sendall("\r\n".join([*lines, "", ""]).encode() + body[:500_000])
    # The same key's next upload works, and the first one has come to nothing.
    assert upload(caller, ("file", b"y", "b.bin", "")).status == 201
    wait_for(lambda: StoredObject.objects.filter(workspace_id=caller.workspace.pk).count() == 1)


def test_parts_of_a_file(caller: Caller) -> None:
    content = bytes(range(256)) * 4096
    path = path_of(upload(caller, ("file", content, "a.bin", "")).json["url"])

    def get(asked: str, **headers: str) -> plain.Reply:
        return plain.send(caller.port, "GET", path, None, {"range": asked, **headers})

    for asked, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=100-299", 100, 300),
        ("bytes=1048000-", 1048000, len(content)),
        ("bytes=-10", len(content) - 10, len(content)),
        ("bytes=5-99999999", 5, len(content)),
    ):
        reply = get(asked)
        assert (reply.status, reply.body) == (206, content[start:end]), asked
        assert reply.headers["content-range"] == f"bytes {start}-{end - 1}/{len(content)}"
        assert reply.headers["content-length"] == str(end - start)
    for asked in ("bytes=1048576-", "bytes=-0"):
        reply = get(asked)
        assert (reply.status, reply.headers["content-range"]) == (416, f"bytes */{len(content)}")
    for asked in ("bytes=5-1", "lines=1-2", "bytes=0-1,5-6", "bytes=-", "x"):
        assert (get(asked).status, len(get(asked).body)) == (200, len(content)), asked
    etag = get("bytes=0-0").headers["etag"]
    assert get("bytes=0-0", **{"if-range": etag}).status == 206
    assert get("bytes=0-0", **{"if-range": '"older"'}).status == 200
    assert get("BYTES=0-0").status == 206
    for known in (etag, f'"x", W/{etag}', "*"):
        assert get("", **{"if-none-match": known}).status == 304
    assert get("", **{"if-none-match": '"x"'}).status == 200
    head = plain.send(caller.port, "HEAD", path)
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(content)), b"")


def test_the_policy_of_a_file(caller: Caller) -> None:
    for content, name, word, kind in (
        (files.PNG, "a.png", "inline", "image/png"),
        (files.MP4, "a.mp4", "inline", "video/mp4"),
        (files.MP3, "a.mp3", "inline", "audio/mpeg"),
        (files.HTML, "a.html", "attachment", "application/octet-stream"),
        (files.SVG, "a.svg", "attachment", "application/octet-stream"),
        (files.PDF, "a.pdf", "attachment", "application/pdf"),
    ):
        url = upload(caller, ("file", content, name, "text/html")).json["url"]
        headers = plain.send(caller.port, "GET", path_of(url)).headers
        assert headers["content-disposition"].startswith(f'{word}; filename="{name}"')
        assert headers["content-type"] == kind
        assert headers["content-security-policy"] == "sandbox; default-src 'none'; media-src 'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "cross-origin"
        assert "set-cookie" not in headers


@pytest.mark.parametrize(
    ("path", "most"), [("/storage/upload", MOST_FILE_BYTES), ("/accounts/login/", 0), ("/nowhere", 0)]
)
def test_no_page_reads_more_than_it_may(site: Server, path: str, most: int) -> None:
    """Anybody may send; who it is would be asked only behind the body."""
    most += 8 * 1024 * 1024 if not most else 64 * 1024
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=90)
    connection.putrequest("POST", path)
    connection.putheader("content-length", str(most + 1))
    connection.endheaders()  # not a byte of the body
    answer = connection.getresponse()
    assert (answer.status, b"request_too_large" in answer.read()) == (413, True)
    connection.close()

    with socket.create_connection(("127.0.0.1", site.port), timeout=90) as sock:
        sock.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        piece = b"100000\r\n" + bytes(0x100000) + b"\r\n"
        try:
            for _ in range(most // 0x100000 + 8):
                sock.sendall(piece)
        except OSError:
            pass  # the site answers and hangs up in the middle
        else:
            assert b" 413 " in sock.recv(100)
    assert plain.send(site.port, "GET", "/healthz").status < 500


def test_a_large_file_comes_through_the_page(site: Server, caller: Caller) -> None:
    """The web face reads it onto the storage's disk, and from there it is stored, on a process as it really runs."""
    client = Client()
    client.force_login(caller.user, backend="allauth.account.auth_backends.AuthenticationBackend")
    token, content = "t" * 32, files.PNG + os.urandom(9 * 1024 * 1024)
    body = form(
        ("csrfmiddlewaretoken", token.encode()),
        ("form_token", str(uuid4()).encode()),
        ("kind", b""),
        ("file", content, "big.png", "text/html"),
    )
    cookies = f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"
    headers = {
        "content-type": f"multipart/form-data; boundary={BOUNDARY}",
        "cookie": f"{cookies}; {settings.CSRF_COOKIE_NAME}={token}",
    }
    reply = plain.send(site.port, "POST", "/storage/upload", body, headers)
    assert (reply.status, reply.headers["location"]) == (302, "/storage")
    row = StoredObject.objects.get(workspace_id=caller.workspace.pk)
    assert (row.sha256, row.content_type) == (hashlib.sha256(content).hexdigest(), "image/png")
    got = caller.send("GET", f"/v1/storage/{row.pk}").json
    assert plain.send(caller.port, "GET", path_of(got["url"])).body == content
