"""The page of files, and the browser that may not run what somebody uploaded."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import pytest
from django.core.exceptions import RequestAborted
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from playwright.sync_api import FilePayload, expect

from accounts.models import User
from core.errors import RequestTooLarge
from events.models import AuditEvent
from hypereal_site import web
from hypereal_site.web import WebHandler
from orgs.access import SESSION_KEY
from orgs.models import Membership
from storage import links, objects, shelf
from storage.models import StoredObject
from storage.spool import Spool
from tests import factories
from tests.look.conftest import Visit, browser, person, server, site, visit  # noqa: F401  (fixtures)
from tests.storage import files


@pytest.fixture
def member(db: None) -> Membership:
    workspace = factories.organization()
    developer = factories.member(workspace, "developer")
    return Membership.objects.get(workspace=workspace, user=developer)


@pytest.fixture
def client(member: Membership) -> Client:
    client = Client()
    client.force_login(member.user, backend="allauth.account.auth_backends.AuthenticationBackend")
    session = client.session
    session[SESSION_KEY] = str(member.workspace_id)
    session.save()
    return client


def form(content: bytes = files.PNG, **fields: str) -> dict[str, object]:
    return {"file": SimpleUploadedFile("a.png", content, "text/html"), "form_token": str(uuid4()), **fields}


def test_an_upload_is_kept_once_and_told_of(client: Client, member: Membership) -> None:
    given = form(kind="image")
    answer = client.post("/storage/upload", given, headers={"HX-Request": "true"})
    assert answer.headers["HX-Retarget"] == "#files"
    assert "a.png" in answer.content.decode()
    given["file"] = SimpleUploadedFile("a.png", files.PNG)
    again = client.post("/storage/upload", given, headers={"HX-Request": "true"})
    assert "already uploaded" in again.headers["HX-Trigger-After-Settle"]
    [row] = StoredObject.objects.filter(workspace_id=member.workspace_id)
    assert (row.content_type, row.user_id, row.key_id) == ("image/png", member.user_id, None)
    [event] = AuditEvent.objects.filter(action="file.upload", workspace_id=member.workspace_id)
    assert event.target_id == str(row.pk)


def test_a_large_upload_is_copied_no_second_time(
    client: Client, member: Membership, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """It is spooled as it comes, and what was spooled is what is stored."""
    monkeypatch.setattr(Spool, "fill", None)
    content = files.PNG + os.urandom(3 * 1024 * 1024)
    answer = client.post("/storage/upload", form(content, kind="image"))
    assert answer.status_code == 302
    row = StoredObject.objects.get(workspace_id=member.workspace_id)
    assert (row.size_bytes, row.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (row.filename, row.content_type) == ("a.png", "image/png")
    with objects.open_bytes(row) as file:
        assert file.read() == content
    settings.STORAGE_MOST_FILE_BYTES = len(content) - 1
    refused = client.post("/storage/upload", form(content), headers={"HX-Request": "true"})
    assert "larger than" in refused.content.decode()
    assert StoredObject.objects.filter(workspace_id=member.workspace_id).count() == 1


async def test_a_large_body_waits_on_the_storage_s_disk(settings: Any, tmp_path: Path) -> None:
    """Whole, in whatever pieces it comes, and of one that breaks off or is too large nothing stays."""
    settings.STORAGE_DIR = tmp_path
    pieces = [os.urandom(700_000) for _ in range(6)]

    async def body(*sent: bytes, ends: bool = True) -> IO[bytes]:
        messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in sent]
        messages.append({"type": "http.request"} if ends else {"type": "http.disconnect"})

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        return await WebHandler().read_body(web._bounded(receive, 4_200_000))

    with await body(*pieces) as large:
        assert large.read() == b"".join(pieces)
        assert os.readlink(f"/proc/self/fd/{large.fileno()}").startswith(f"{settings.STORAGE_DIR}/")
    with await body(b"small", b"") as small:
        assert (small.read(), isinstance(small, io.BytesIO)) == (b"small", True)
    for sent, ends, error in ((pieces, False, RequestAborted), ([*pieces, b"x"], True, RequestTooLarge)):
        with pytest.raises(error):
            await body(*sent, ends=ends)
    assert os.listdir(settings.STORAGE_DIR) == []


def test_what_is_wrong_is_said_beside_its_field(client: Client, member: Membership) -> None:
    for given, words in (
        (form(files.HTML, kind="video"), "not of the kind video"),
        (form(b"", kind=""), "empty"),
        ({"form_token": str(uuid4())}, "required"),
    ):
        answer = client.post("/storage/upload", given, headers={"HX-Request": "true"})
        assert answer.headers["HX-Retarget"] == "#upload-form"
        assert words in answer.content.decode()
    assert client.post("/storage/upload", form(files.HTML, kind="image")).status_code == 400
    assert not StoredObject.objects.filter(workspace_id=member.workspace_id).exists()


def test_the_list_by_kind_and_page(client: Client, member: Membership) -> None:
    rows = [objects.store(member.workspace_id, files.PNG, kind="image", filename=f"p{n}.png") for n in range(26)]
    objects.store(member.workspace_id, files.MP3, kind="audio", filename="song.mp3")
    page = client.get("/storage?kind=image").content.decode()
    assert "song.mp3" not in page
    assert "p25.png" in page
    assert "p0.png" not in page
    older = client.get(f"/storage?kind=image&before={rows[1].pk}").content.decode()
    assert "p0.png" in older
    assert "p1.png" not in older


def test_deleting_asks_first_and_is_recorded(client: Client, member: Membership) -> None:
    row = objects.store(member.workspace_id, files.PNG, kind="image", filename="a.png")
    assert "Delete “a.png”?" in client.get(f"/storage/{row.pk}/delete").content.decode()
    assert objects.find(member.workspace_id, row.pk) is not None
    answer = client.post(f"/storage/{row.pk}/delete", headers={"HX-Request": "true"})
    assert answer.headers["HX-Retarget"] == "#files"
    assert objects.find(member.workspace_id, row.pk) is None
    assert AuditEvent.objects.filter(action="file.delete", target_id=str(row.pk)).exists()
    assert client.post(f"/storage/{row.pk}/delete").status_code == 404


@pytest.mark.browser
def test_no_uploaded_page_or_picture_runs_on_our_origin(visit: Visit, person: User, tmp_path: Path) -> None:  # noqa: F811
    """Opened, framed, as a script, as a style sheet: nothing of a stranger's file ever runs here."""
    workspace = person.personal_workspace
    rows = [
        objects.store(workspace.pk, content, kind="file", filename=name)
        for name, content in (("a.html", files.HTML), ("a.svg", files.SVG), ("a.xml", files.XML), ("a.js", files.JS))
    ]
    visitor = visit(person)
    visitor.page.goto(f"{visitor.site}/storage", wait_until="domcontentloaded", timeout=60_000)
    for row in rows:
        path = shelf_path(row)
        with visitor.page.expect_download() as download:  # a link saves it instead of opening it
            visitor.page.evaluate("path => { location.href = path }", path)
        assert Path(download.value.path()).read_bytes() == read(row)
        assert visitor.page.title() != "ran"
        visitor.page.evaluate(
            """async path => {
                for (const [tag, name] of [["iframe", "src"], ["script", "src"], ["object", "data"], ["embed", "src"],
                                           ["img", "src"]]) {
                    const element = document.createElement(tag);
                    element[name] = path;
                    document.body.append(element);
                }
                await new Promise(done => setTimeout(done, 300));
            }""",
            path,
        )
        assert visitor.page.title() != "ran"
        assert visitor.page.evaluate("document.querySelectorAll('img').length") >= 1


@pytest.mark.browser
@pytest.mark.parametrize(("phone", "dark"), [(False, False), (True, True)], ids=["desktop", "phone dark"])
def test_the_page_in_a_browser(
    visit: Visit,  # noqa: F811
    person: User,  # noqa: F811
    phone: bool,
    dark: bool,
) -> None:
    workspace = person.personal_workspace
    objects.store(workspace.pk, files.png(64, 64), kind="image", filename="a-rather-long-name-of-a-picture.png")
    objects.store(workspace.pk, files.WAV, kind="audio", filename="beep.wav", source="result")
    objects.store(workspace.pk, files.PDF, kind="dataset", filename="terms.pdf")
    visitor = visit(person, phone=phone, dark=dark)
    visitor.go("/storage")
    page = visitor.page
    assert page.evaluate("document.querySelector('#files img').naturalWidth") == 64
    visitor.assert_sound()

    page.get_by_role("link", name="Upload file").first.click()
    chosen = page.get_by_label("File", exact=True)
    new: FilePayload = {"name": "new.png", "mimeType": "image/png", "buffer": files.PNG}
    most = page.evaluate("document.querySelector('form[data-upload]').dataset.mostBytes")
    page.evaluate("document.querySelector('form[data-upload]').dataset.mostBytes = '10'")
    chosen.set_input_files(new)
    page.get_by_role("button", name="Upload", exact=True).click()  # nothing is sent
    assert "One file may have 512.0" in chosen.evaluate("field => field.validationMessage").replace("\xa0", " ")
    page.evaluate("most => document.querySelector('form[data-upload]').dataset.mostBytes = most", most)
    chosen.set_input_files(new)
    visitor.assert_sound()
    page.get_by_role("button", name="Upload", exact=True).click()
    page.get_by_text("“new.png” is stored.").wait_for()
    expect(page.locator("#files tbody tr")).to_have_count(4)

    page.get_by_role("button", name="Actions for new.png").click()
    page.get_by_role("link", name="Delete").locator("visible=true").click()
    page.get_by_role("button", name="Delete file").click()
    page.get_by_text("“new.png” is deleted.").wait_for()
    expect(page.locator("#files tbody tr")).to_have_count(3)
    visitor.assert_sound()


def shelf_path(row: StoredObject) -> str:
    return links.path_in(objects.signed_url(row))


def read(row: StoredObject) -> bytes:
    with shelf.backend().open(row.place) as file:
        return bytes(file.read())
