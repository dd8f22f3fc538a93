"""Several senders on one database, and senders that are killed: every message arrives, under one id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import connection

from core import clock, faults
from events import outbox
from hypereal_site import processes
from orgs.models import Workspace
from tests import factories
from tests.support.gateway import ROOT, wait_for
from tests.webhooks.conftest import endpoint
from tests.webhooks.receivers import Receiver, hang
from webhooks import fanout
from webhooks.models import Attempt, Delivery
from webhooks.sending import Sender

pytestmark = pytest.mark.usefixtures("committed")

_SENDER = (
    "import django, threading; django.setup(); from webhooks import sending; sending.run_forever(threading.Event())"
)


@pytest.fixture
def workspace(committed: None) -> Workspace:
    return factories.organization()


def of(workspace: Workspace, **columns: object) -> int:
    """How many deliveries of the workspace are so."""
    return Delivery.objects.filter(workspace_id=workspace.pk, **columns).count()


@contextmanager
def sending(
    folder: Path, command: Sequence[str] = ("-c", _SENDER), **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing but send (or another ``command``), on the database of this test."""
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    env = {**os.environ, "DATABASE_URL": url, "EGRESS_ALLOW": "webhook=127.0.0.1", "WEBHOOK_POLL_SECONDS": "0.1"}
    process = processes.spawn([sys.executable, *command], log=folder / "sender.log", directory=ROOT, env=env | settings)
    try:
        yield process
    finally:
        processes.stop([process], ((signal.SIGTERM, 10.0),))


def test_two_senders_at_once_send_everything_once(workspace: Workspace, hook: Receiver) -> None:
    endpoint(workspace, hook.url)
    for _ in range(40):
        outbox.tell(workspace.pk, "balance.low", {})
    failures: list[BaseException] = []

    def send() -> None:
        sender = Sender(4)
        try:
            while of(workspace, state=Delivery.State.DELIVERED) < 40:
                sender.round()
                sender.collect(0.05)
            sender.finish(60)
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    assert Counter(Counter(hook.ids()).values()) == {1: 40}
    assert of(workspace, state=Delivery.State.DELIVERED) == 40


def test_many_at_the_outbox_make_each_delivery_once(workspace: Workspace, hook: Receiver) -> None:
    endpoint(workspace, hook.url)
    for _ in range(50):
        outbox.tell(workspace.pk, "balance.low", {})

    def make() -> None:
        while fanout.fan_out(clock.now()):
            pass
        connection.close()

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert of(workspace) == 50
    Delivery.objects.filter(workspace_id=workspace.pk).update(state=Delivery.State.CANCELLED)


def test_a_sender_killed_between_sending_and_recording_is_sent_for_again(
    workspace: Workspace, hook: Receiver, tmp_path: Path
) -> None:
    made = endpoint(workspace, hook.url)
    outbox.tell(workspace.pk, "job.succeeded", {"jobId": "1"})
    with sending(tmp_path, **{faults.VARIABLE: "webhook.sent"}) as process:
        assert process.wait(60) != 0
    assert len(hook.ids()) == 1
    row = Delivery.objects.get(workspace_id=workspace.pk)
    assert (row.state, Attempt.objects.filter(delivery=row).count()) == (Delivery.State.WAITING, 0)
    assert row.lease_until is not None
    with sending(tmp_path) as process:
        wait_for(lambda: process.poll() is None)
        Delivery.objects.filter(pk=row.pk).update(lease_until=clock.now() - timedelta(seconds=1))
        wait_for(lambda: of(workspace, state=Delivery.State.DELIVERED) == 1, 60)
    assert hook.ids() == [hook.ids()[0]] * 2
    assert hook.requests[0].body == hook.requests[1].body
    for request in hook.requests:
        assert request.verified(made.secret)["data"] == {"jobId": "1"}


def test_a_sender_killed_while_a_receiver_hangs_loses_nothing(
    workspace: Workspace, hook: Receiver, tmp_path: Path
) -> None:
    released = threading.Event()
    answer, hook.answer = hook.answer, hang(released)
    endpoint(workspace, hook.url)
    outbox.tell(workspace.pk, "job.succeeded", {})
    with sending(tmp_path) as process:
        wait_for(lambda: len(hook.requests) == 1, 60)
        process.kill()
        process.wait(60)
    released.set()
    hook.answer = answer
    Delivery.objects.filter(workspace_id=workspace.pk).update(lease_until=clock.now() - timedelta(seconds=1))
    with sending(tmp_path):
        wait_for(lambda: of(workspace, state=Delivery.State.DELIVERED) == 1, 60)
    assert len(set(hook.ids())) == 1


def test_the_process_of_the_time_table_sends_and_ends_when_it_is_told_to(
    workspace: Workspace, hook: Receiver, tmp_path: Path
) -> None:
    released = threading.Event()
    endpoint(workspace, hook.url)
    outbox.tell(workspace.pk, "job.succeeded", {})
    with sending(tmp_path, ("manage.py", "run_cron")) as process:
        wait_for(lambda: of(workspace, state=Delivery.State.DELIVERED) == 1, 60)
        hook.answer = hang(released)
        outbox.tell(workspace.pk, "job.succeeded", {})
        wait_for(lambda: len(hook.requests) == 2, 60)
        process.terminate()
        released.set()
        assert process.wait(90) == 0
    attempts = Attempt.objects.filter(delivery__workspace_id=workspace.pk)
    assert attempts.count() == 2  # what was on the wire was waited for and written down
