"""What is cleared away, and what is spared."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection

from core import clock, ids
from hypereal_site import cron
from orgs.models import Workspace
from storage import objects, shelf, sweeping
from storage.models import StoredObject
from tests import factories
from tests.storage import files

HOUR = timedelta(hours=1)


@pytest.fixture
def workspace(db: None) -> Workspace:
    return factories.organization()


def test_expired_results_go_with_their_bytes(
    workspace: Workspace, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    result = objects.store(workspace.pk, files.MP4, kind="video", filename="v.mp4", source="result")
    upload = objects.store(workspace.pk, files.PNG, kind="image", filename="a.png")
    assert result.expires_at is not None
    assert sweeping.sweep(result.expires_at - HOUR) == 0
    with django_capture_on_commit_callbacks(execute=True):
        assert sweeping.sweep(result.expires_at + HOUR) == 1
    assert not shelf.backend().exists(result.place)
    assert objects.find(workspace.pk, upload.pk) == upload


def test_a_file_that_can_not_be_deleted_holds_up_no_other(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        objects.store(workspace.pk, files.MP4, kind="video", filename="v.mp4", source="result") for _ in range(3)
    ]  # fmt: skip
    really, broken = objects.delete, rows[0]

    def breaks(row: StoredObject) -> bool:
        if row.pk == broken.pk:
            raise RuntimeError("a bug")
        return really(row)

    monkeypatch.setattr(objects, "delete", breaks)
    assert rows[-1].expires_at is not None
    assert sweeping.sweep(rows[-1].expires_at + HOUR) == 2
    assert list(StoredObject.objects.filter(workspace=workspace)) == [broken]


def test_files_of_a_deleted_organization_go_after_a_month(workspace: Workspace) -> None:
    objects.store(workspace.pk, files.PNG, kind="image", filename="a.png")
    workspace.active, workspace.deleted_at = False, clock.now()
    workspace.save()
    assert sweeping.sweep(clock.now() + timedelta(days=29)) == 0
    assert sweeping.sweep(clock.now() + timedelta(days=31)) == 1


def test_a_row_whose_uploader_died_goes_after_a_while(workspace: Workspace) -> None:
    row = objects.store(workspace.pk, files.PNG, kind="image", filename="a.png")
    StoredObject.objects.filter(pk=row.pk).update(stored_at=None)
    assert objects.find(workspace.pk, row.pk) is None
    assert sweeping.sweep(clock.now() + HOUR) == 0
    assert sweeping.sweep(clock.now() + 7 * HOUR) == 1


def test_bytes_without_a_row_go_and_young_ones_stay(workspace: Workspace) -> None:
    identifier = ids.uuid7()
    place = shelf.place_of(identifier)
    shelf.backend().save(place, ContentFile(b"x"))
    kept = objects.store(workspace.pk, files.PNG, kind="image", filename="a.png")
    sweeping.compare(clock.now())
    assert shelf.backend().exists(place)  # its row may be about to be committed
    assert sweeping.compare(clock.now() + 7 * HOUR)[0] >= 1
    assert not shelf.backend().exists(place)
    assert shelf.backend().exists(kept.place)


def test_a_row_without_bytes_is_marked_and_goes_only_after_a_week(workspace: Workspace) -> None:
    row = objects.store(workspace.pk, files.PNG, kind="image", filename="a.png")
    shelf.remove(row.place)
    first = clock.now() + 7 * HOUR
    assert sweeping.compare(first)[1] == 1
    row.refresh_from_db()
    assert row.missing_since == first
    assert sweeping.sweep(first + timedelta(days=6)) == 0

    shelf.backend().save(row.place, ContentFile(files.PNG))  # the disk came back
    sweeping.compare(first + HOUR)
    row.refresh_from_db()
    assert row.missing_since is None

    shelf.remove(row.place)
    sweeping.compare(first + 2 * HOUR)
    assert sweeping.sweep(first + timedelta(days=8)) == 1


def test_the_time_table_has_both() -> None:
    names = [entry.name for entry in cron.entries()]
    assert {"expired files", "files and their rows"} <= set(names)


@pytest.mark.parametrize("point", ["storage.booked", "storage.written"])
def test_a_killed_uploader_leaves_nothing_that_lasts(committed: None, point: str) -> None:
    workspace = factories.organization()
    settings = connection.settings_dict
    url = (
        f"postgres://{settings['USER']}:{settings['PASSWORD']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"
    )
    code = (
        "import django; django.setup(); from storage import objects;"
        f"objects.store('{workspace.pk}', b'x' * 100, kind='file', filename='x')"
    )
    env = {**os.environ, "FAULT_POINT": point, "DATABASE_URL": url}
    died = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=180, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    [row] = StoredObject.objects.filter(workspace=workspace)
    assert objects.find(workspace.pk, row.pk) is None
    sweeping.sweep(clock.now() + 7 * HOUR)
    assert not StoredObject.objects.filter(workspace=workspace).exists()
    assert not shelf.backend().exists(row.place)
