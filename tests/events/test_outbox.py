"""What customers' servers are to be told is written with what happened, and can be stored whatever a provider said."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import transaction

from core import clock
from events import outbox
from events.models import Outbox

pytestmark = pytest.mark.django_db


def test_a_row_stands_with_the_transaction_that_wrote_it() -> None:
    workspace = uuid4()
    with pytest.raises(RuntimeError), transaction.atomic():
        outbox.tell(workspace, "balance.low", {"balance": 1})
        raise RuntimeError
    assert not Outbox.objects.filter(workspace_id=workspace).exists()


def test_a_row_keeps_what_it_was_told() -> None:
    workspace, job = uuid4(), uuid4()
    moment = clock.now()
    outbox.tell(workspace, "job.succeeded", {"id": job, "at": moment, "cost": 1.5}, url="https://customer.example/x")
    row = Outbox.objects.get(workspace_id=workspace)
    assert row.event == "job.succeeded"
    assert row.url == "https://customer.example/x"
    assert row.fanned_out_at is None
    assert row.data["id"] == str(job)
    assert row.data["cost"] == 1.5
    assert row.data["at"].endswith("Z")


def test_a_text_that_the_database_cannot_hold_does_not_undo_the_change() -> None:
    workspace = uuid4()
    outbox.tell(workspace, "job.failed", {"error": {"message": "a\0b \ud800 😀", "all": ["\0"]}})
    row = Outbox.objects.get(workspace_id=workspace)
    assert row.data == {"error": {"message": "a\ufffdb \ufffd 😀", "all": ["\ufffd"]}}


def test_an_unknown_event_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no event"):
        outbox.tell(uuid4(), "job.exploded", {})
