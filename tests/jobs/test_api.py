"""``/v1/jobs`` on the real gateway: list, poll, cancel; others' jobs are not there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from core.errors import InsufficientCredits, Overloaded, ProductError, TimedOut
from gateway import job_views
from jobs.models import Job
from tests.support import http
from tests.support.gateway import Caller, Gateway
from tests.support.jobs import Scripted, declared, submit


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    return gateway.caller(credits=100)


def three_jobs(caller: Caller) -> list[Job]:
    """One for each of two kinds, and one of another model; the oldest first."""
    with declared(Scripted("clips")), declared(Scripted("songs")):
        jobs = [submit(caller, kind="clips"), submit(caller, kind="songs"), submit(caller, kind="clips")]
    Job.objects.filter(pk=jobs[2].pk).update(model="painter-2")
    return jobs


def cancel_all(caller: Caller) -> None:
    for job in Job.objects.filter(workspace_id=caller.workspace.pk):
        assert caller.send("DELETE", f"/v1/jobs/{job.pk}").status == 200


def test_list_filters_and_pages(caller: Caller) -> None:
    jobs = [str(job.pk) for job in three_jobs(caller)]

    def listed(query: str = "") -> list[str]:
        reply = caller.send("GET", f"/v1/jobs{query}")
        assert reply.status == 200, reply.body
        return [job["jobId"] for job in reply.json["jobs"]]

    assert listed() == jobs[::-1]
    assert listed("?kind=clips") == [jobs[2], jobs[0]]
    assert listed("?model=painter-2") == [jobs[2]]
    assert (listed("?status=queued&kind=songs"), listed("?state=failed")) == ([jobs[1]], [])
    assert listed("?kind=%00") == listed("?model=%00") == listed("?kind=%ff") == []
    first = caller.send("GET", "/v1/jobs?limit=2").json
    assert [job["jobId"] for job in first["jobs"]] == [jobs[2], jobs[1]]
    assert listed(f"?limit=2&cursor={first['nextCursor']}") == [jobs[0]]
    assert caller.send("GET", "/v1/jobs?limit=3").json["nextCursor"] is None
    cancel_all(caller)


@pytest.mark.parametrize(
    ("query", "param"),
    [("status=done", "status"), ("limit=0", "limit"), ("limit=x", "limit"), ("cursor=1", "cursor")],
)
def test_what_makes_no_sense_is_named(caller: Caller, query: str, param: str) -> None:
    reply = caller.send("GET", f"/v1/jobs?{query}")
    assert (reply.status, reply.json["error"]["param"]) == (400, param)


def test_poll_and_cancel(caller: Caller) -> None:
    job = three_jobs(caller)[0]
    polled = caller.send("GET", f"/api/v1/jobs/{job.pk}").json
    members = ("jobId", "status", "model", "progress", "data", "costCredits", "error")
    assert {name: polled[name] for name in members} == {
        "jobId": str(job.pk), "status": "queued", "model": "painter-1", "progress": None, "data": [],
        "costCredits": None, "error": None,
    }  # fmt: skip
    assert polled["reservedCredits"] == 10
    answers = [
        caller.send("POST", f"/v1/jobs/{job.pk}/cancel").json,
        caller.send("POST", f"/v1/jobs/{job.pk}/cancel").json,
        caller.send("DELETE", f"/v1/jobs/{job.pk}").json,
    ]
    assert {(answer["status"], answer["costCredits"], answer["error"]["type"]) for answer in answers} == {
        ("cancelled", 0, "cancelled")
    }
    cancel_all(caller)
    books = caller.books()
    assert (books.balance, books.held) == (100_000_000, 0)


def test_another_workspaces_jobs_are_not_there(gateway: Gateway, caller: Caller) -> None:
    job, stranger = three_jobs(caller)[0], gateway.caller(credits=1)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
        foreign = stranger.send(method, f"/v1/jobs/{job.pk}{path}")
        invented = stranger.send(method, f"/v1/jobs/{uuid4()}{path}")
        nonsense = stranger.send(method, f"/v1/jobs/nonsense{path}")
        assert foreign.status == invented.status == nonsense.status == 404
        assert foreign.json == invented.json == nonsense.json
    assert stranger.send("GET", "/v1/jobs").json == {"jobs": [], "nextCursor": None}
    assert Job.objects.get(pk=job.pk).state == "queued"
    cancel_all(caller)


def test_without_a_key_nothing_is_told(gateway: Gateway, caller: Caller) -> None:

    for method, path in (("GET", "/v1/jobs"), ("GET", f"/v1/jobs/{uuid4()}"), ("DELETE", f"/v1/jobs/{uuid4()}")):
        assert http.send(caller.port, method, path, None, {}).status == 401


@pytest.mark.parametrize("refusal", [TimedOut("slow"), Overloaded("away")], ids=["slow", "away"])
async def test_a_submission_of_unknown_outcome_writes_no_row_of_the_log(refusal: ProductError) -> None:
    """The job may stand all the same, and then its end is its one row."""

    async def work(_step: object) -> None:
        raise refusal

    request: Any = SimpleNamespace(runtime=SimpleNamespace(work=work), logged=False)
    with pytest.raises(type(refusal)):
        await job_views.made(request, lambda: Job())
    assert request.logged
    refusal = InsufficientCredits("no")
    request.logged = False
    with pytest.raises(InsufficientCredits):
        await job_views.made(request, lambda: Job())
    assert not request.logged, "a refusal is known: it is logged as one"
