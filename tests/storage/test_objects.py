"""What is kept, under which name and type, and within which limits."""

from __future__ import annotations

import hashlib
import io
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from core import clock, ids
from core.errors import InvalidRequest, ProductError, RequestTooLarge
from orgs.models import Workspace
from storage import objects, shelf
from storage.models import Kind, Source, StorageAccount, StoredObject
from tests import factories
from tests.storage import files


@pytest.fixture
def workspace(db: None) -> Workspace:
    return factories.organization()


@pytest.mark.parametrize(
    "content",
    [files.PNG, io.BytesIO(files.PNG), [files.PNG[:5], b"", files.PNG[5:]]],
    ids=["bytes", "file", "pieces"],
)
def test_what_is_stored_comes_back(workspace: Workspace, content: objects.Content) -> None:
    row = objects.store(workspace.pk, content, kind="image", filename="a.png")
    with objects.open_bytes(row) as file:
        assert file.read() == files.PNG
    assert (row.size_bytes, row.sha256) == (len(files.PNG), hashlib.sha256(files.PNG).hexdigest())
    assert (row.content_type, row.kind, row.source, row.expires_at) == ("image/png", "image", "upload", None)
    assert objects.find(workspace.pk, row.pk) == row


def test_files_are_readable_by_their_owner_only(workspace: Workspace) -> None:
    row = objects.store(workspace.pk, files.PNG, kind="image", filename="a.png")
    path = Path(shelf.backend().path(row.place))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_others_find_nothing(workspace: Workspace) -> None:
    row = objects.store(workspace.pk, files.PNG, kind="image", filename="a.png")
    assert objects.find(factories.organization().pk, row.pk) is None


def test_results_end_and_uploads_stay(workspace: Workspace, settings: Any) -> None:
    settings.STORAGE_RESULT_DAYS = 3
    job = ids.uuid7()
    row = objects.store(workspace.pk, files.MP4, kind="video", filename="v.mp4", source="result", job_id=job)
    assert row.expires_at == row.created_at + timedelta(days=3)
    assert row.job_id == job
    settings.STORAGE_RESULT_DAYS = 0
    row = objects.store(workspace.pk, files.MP4, kind="video", filename="v.mp4", source=Source.RESULT)
    assert row.expires_at is None


def test_what_has_expired_is_not_found(workspace: Workspace) -> None:
    row = objects.store(workspace.pk, files.PNG, kind="image", filename="a.png", source="result")
    StoredObject.objects.filter(pk=row.pk).update(
        created_at=clock.now() - timedelta(days=9), expires_at=clock.now() - timedelta(seconds=1)
    )
    assert objects.find(workspace.pk, row.pk) is None


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_an_upload_must_be_what_it_is_said_to_be(workspace: Workspace, kind: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        objects.store(workspace.pk, files.PNG, kind=kind, filename="a.png")
    assert caught.value.param == "kind"
    assert not StoredObject.objects.filter(workspace=workspace).exists()


def test_an_unknown_kind_is_refused(workspace: Workspace) -> None:
    with pytest.raises(InvalidRequest) as caught:
        objects.store(workspace.pk, files.PNG, kind="picture", filename="a.png")
    assert caught.value.param == "kind"


def test_a_result_is_kept_whatever_it_is(workspace: Workspace) -> None:
    row = objects.store(workspace.pk, files.HTML, kind="video", filename="v.mp4", source="result")
    assert row.content_type == "application/octet-stream"


def test_without_a_kind_the_bytes_say_it(workspace: Workspace) -> None:
    kinds = [objects.store(workspace.pk, c, kind="", filename="x").kind for c in (files.PNG, files.MP3, files.HTML)]
    assert kinds == [Kind.IMAGE, Kind.AUDIO, Kind.FILE]


def test_the_largest_file(workspace: Workspace, settings: Any) -> None:
    settings.STORAGE_MOST_FILE_BYTES = 1000
    objects.store(workspace.pk, b"x" * 1000, kind="file", filename="x")
    with pytest.raises(RequestTooLarge) as caught:
        objects.store(workspace.pk, b"x" * 1001, kind="file", filename="x")
    assert (caught.value.param, caught.value.extra) == ("file", {"limit_bytes": 1000})


def test_a_full_shelf(workspace: Workspace, settings: Any) -> None:
    settings.STORAGE_MOST_BYTES = 1500
    objects.store(workspace.pk, b"x" * 1000, kind="file", filename="x")
    with pytest.raises(RequestTooLarge) as caught:
        objects.store(workspace.pk, b"x" * 501, kind="file", filename="x")
    assert caught.value.code == "storage_full"
    assert caught.value.extra == {"limit_bytes": 1500, "used_bytes": 1000}
    objects.store(workspace.pk, b"x" * 501, kind="file", filename="x", source="result")  # it has been paid for
    assert shelf.room(workspace.pk).used_bytes == 1501


def test_too_many_files_and_a_limit_of_its_own(workspace: Workspace, settings: Any) -> None:
    settings.STORAGE_MOST_OBJECTS = 1
    objects.store(workspace.pk, b"x", kind="file", filename="x")
    with pytest.raises(RequestTooLarge) as caught:
        objects.store(workspace.pk, b"x", kind="file", filename="x")
    assert caught.value.code == "storage_full"
    StorageAccount.objects.filter(pk=workspace.pk).update(most_objects=2)
    objects.store(workspace.pk, b"x", kind="file", filename="x")


def test_bytes_that_can_not_be_written_leave_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(shelf.backend()), "_save", full)
    with pytest.raises(OSError, match="No space left"):
        objects.store(workspace.pk, files.PNG, kind="image", filename="a.png")
    assert shelf.room(workspace.pk).used_objects == 0


def test_deleting_takes_the_row_and_then_the_bytes(
    workspace: Workspace, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    row = objects.store(workspace.pk, files.PNG, kind="image", filename="a.png")
    with django_capture_on_commit_callbacks() as callbacks:
        assert objects.delete(row)
    assert shelf.backend().exists(row.place)  # not before the commit
    assert objects.find(workspace.pk, row.pk) is None
    for callback in callbacks:
        callback()
    assert not shelf.backend().exists(row.place)
    with django_capture_on_commit_callbacks(execute=True):
        assert not objects.delete(row)


def test_two_at_once_do_not_share_the_last_place(committed: None, settings: Any) -> None:
    settings.STORAGE_MOST_OBJECTS = 3
    workspace = factories.organization()
    start = threading.Barrier(8)

    def one(_number: int) -> str:
        start.wait(30)
        try:
            objects.store(workspace.pk, b"x" * 10, kind="file", filename="x")
            return "stored"
        except ProductError as error:
            return error.code or ""
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(one, range(8)))
    assert outcomes == ["storage_full"] * 5 + ["stored"] * 3
    assert shelf.room(workspace.pk).used_objects == 3
