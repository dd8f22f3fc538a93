"""The same storage over a real S3 server on loopback, spoken to by the real client."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client
from moto.server import ThreadedMotoServer

from core import clock
from orgs.models import Workspace
from storage import objects, shelf, sweeping
from storage.models import StoredObject
from tests import factories
from tests.storage import files

pytestmark = pytest.mark.django_db

BUCKET = "hypereal-files"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, settings: Any) -> Any:
    """The storage as an installation with an S3 bucket has it."""
    import boto3

    settings.S3_BUCKET = BUCKET
    settings.STORAGES = {
        **settings.STORAGES,
        "objects": {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {
                "bucket_name": BUCKET,
                "endpoint_url": server,
                "region_name": "us-east-1",
                "access_key": "tests",
                "secret_key": "tests",
                "addressing_style": "path",
                "signature_version": "s3v4",
                "default_acl": None,
                "querystring_auth": True,
            },
        },
    }
    client = boto3.client(
        "s3", endpoint_url=server, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t"
    )
    client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture
def workspace() -> Workspace:
    return factories.organization()


def test_bytes_lie_in_the_bucket_under_their_type(bucket: Any, workspace: Workspace) -> None:
    row = objects.store(workspace.pk, files.PNG, kind="image", filename="a.png")
    kept = bucket.get_object(Bucket=BUCKET, Key=row.place)
    assert (kept["Body"].read(), kept["ContentType"]) == (files.PNG, "image/png")
    with objects.open_bytes(row) as file:
        assert file.read() == files.PNG


def test_a_large_file_goes_in_parts(bucket: Any, workspace: Workspace) -> None:
    pieces = (os.urandom(1024 * 1024) for _ in range(20))
    row = objects.store(workspace.pk, pieces, kind="file", filename="a.bin")
    kept = bucket.head_object(Bucket=BUCKET, Key=row.place)
    assert kept["ContentLength"] == row.size_bytes == 20 * 1024 * 1024
    assert kept["ETag"].strip('"').endswith("-3")  # 8 MB a part


@pytest.mark.parametrize(
    ("content", "name", "word", "media_type"),
    [
        (files.PNG, "ä.png", "inline", "image/png"),
        (files.HTML, "a.html", "attachment", "application/octet-stream"),
    ],
    ids=["picture", "html"],
)
def test_an_address_leads_to_one_that_the_bucket_serves(
    bucket: Any, workspace: Workspace, content: bytes, name: str, word: str, media_type: str
) -> None:
    row = objects.store(workspace.pk, content, kind="file", filename=name)
    answer = Client().get(urlsplit(objects.signed_url(row, seconds=600)).path)
    assert answer.status_code == 302
    assert answer["Content-Security-Policy"].startswith("sandbox")
    assert int(parse_qs(urlsplit(answer["Location"]).query)["X-Amz-Expires"][0]) <= 900
    head = Client().head(urlsplit(objects.signed_url(row)).path)
    assert (head.status_code, head["Content-Length"], head["Content-Type"]) == (200, str(len(content)), media_type)
    longest = Client().get(urlsplit(objects.signed_url(row)).path)  # what S3 refuses above, ours is rounded up to
    assert int(parse_qs(urlsplit(longest["Location"]).query)["X-Amz-Expires"][0]) == 7 * 86_400
    with urllib.request.urlopen(answer["Location"], timeout=90) as got:
        assert got.read() == content
        assert got.headers["Content-Type"] == media_type
        assert got.headers["Content-Disposition"].startswith(f"{word}; filename=")


def test_deleting_deletes_in_the_bucket(
    bucket: Any, workspace: Workspace, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    row = objects.store(workspace.pk, files.PNG, kind="image", filename="a.png")
    with django_capture_on_commit_callbacks(execute=True):
        objects.delete(row)
    assert not shelf.backend().exists(row.place)


def test_bytes_without_a_row_are_found_there_too(bucket: Any, workspace: Workspace) -> None:
    row = objects.store(workspace.pk, files.PNG, kind="image", filename="a.png")
    kept = objects.store(workspace.pk, files.PNG, kind="image", filename="b.png")
    StoredObject.objects.filter(pk=row.pk).delete()
    orphans, _missing = sweeping.compare(clock.now() + timedelta(days=1))
    assert orphans >= 1
    assert not shelf.backend().exists(row.place)
    assert shelf.backend().exists(kept.place)


def test_without_a_bucket_nothing_of_amazon_is_loaded() -> None:
    """A gateway's memory: the client library alone takes tens of megabytes."""
    code = (
        "import os, sys; os.environ['HYPEREAL_ROLE'] = 'gateway'; import hypereal_site.asgi as a; a.make('gateway');"
        "from storage.shelf import backend; backend();"
        "print([name for name in ('boto3', 'botocore', 'storages.backends.s3') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=180)
    assert done.stdout.strip() == "[]"
