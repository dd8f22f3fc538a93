"""One job's life, step by step: its states, its waits, and what its end leaves in the books."""

from __future__ import annotations

from decimal import Decimal

import pytest

from events.models import Outbox
from jobs import stepping
from jobs.kinds import Done, Waiting
from jobs.models import Job
from tests.support.jobs import CREDIT, Scripted, step, submit
from tests.support.money import Payer
from usage import verify
from usage.models import RequestLog

pytestmark = pytest.mark.django_db

BALANCE = 100 * CREDIT
DONE = Done(result={"data": [{"url": "https://x.example/1.mp4"}]}, charge_microcredits=7 * CREDIT, units=Decimal(7))


@pytest.fixture(autouse=True)
def _books_agree(db: None) -> object:
    yield
    assert verify.verify().findings == ()


def row_of(job: Job) -> RequestLog:
    return RequestLog.objects.get(request_id=job.pk)


def events_of(payer: Payer) -> list[str]:
    return list(Outbox.objects.filter(workspace_id=payer.workspace.pk).order_by("id").values_list("event", flat=True))


def test_a_job_is_reserved_made_and_charged_what_it_cost(payer: Payer, kind: Scripted) -> None:
    kind.starts.append(Waiting(seconds=5, notes={"task": "t-1"}))
    kind.polls += [Waiting(seconds=5, progress=40), DONE]
    job = submit(payer, webhook_url="https://hooks.example/x")
    assert (job.state, payer.books().held, payer.books().holds) == ("queued", 10 * CREDIT, ["pending"])

    job = step(job.pk)
    assert (job.state, job.begun, job.notes, job.attempts, job.lease) == ("running", True, {"task": "t-1"}, 1, None)
    job = step(job.pk)
    assert (job.state, job.progress, payer.books().held) == ("running", 40, 10 * CREDIT)
    job = step(job.pk)
    assert (job.state, job.progress, job.cost_microcredits, job.units) == ("succeeded", 100, 7 * CREDIT, Decimal(7))

    books = payer.books()
    assert (books.balance, books.held, books.holds, books.transfers) == (93 * CREDIT, 0, ["posted"], [7 * CREDIT])
    row = row_of(job)
    assert (row.endpoint, row.model, row.status, row.provider, row.target) == (
        "scripted", "painter-1", 200, "acme", "acme//painter-1",
    )  # fmt: skip
    assert (row.attempts, row.units, row.charged_microcredits) == (1, Decimal(7), 7 * CREDIT)
    told = Outbox.objects.get(workspace_id=payer.workspace.pk)
    assert (told.event, told.url) == ("job.succeeded", "https://hooks.example/x")
    assert (told.data["jobId"], told.data["status"], told.data["costCredits"]) == (str(job.pk), "succeeded", 7)
    assert told.data["data"] == [{"url": "https://x.example/1.mp4"}]
    assert not stepping.step(job.pk), "an ended job has no further step"
