"""Jobs while processes are killed and Redis is emptied or gone: each ends once, and its money moves once.

Real cron, worker and gateway processes on a database of their own; the provider is `tests.fakes.task_provider`.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest
import pytest_django
from django.db.models.functions import Now

from jobs.models import Job
from tests.support.gateway import Caller, wait_for
from tests.support.job_yard import PATIENCE, Yard, died, open_jobs, yard
from tests.support.jobs import declared, submit
from tests.support.paintings.kind import PRICE, Paintings
from usage import verify
from usage.models import RequestLog

#: Each test starts several processes, one behind the other.
pytestmark = pytest.mark.timeout(1_500)

RESERVED = 10_000_000
BALANCE = 1_000_000_000
#: Every place between two steps of a job's life, in their order.
POINTS = ("job.claimed", "job.asked", "job.waiting", "job.settled", "job.ended")


@pytest.fixture(scope="module")
def _yard(
    test_database: None, django_db_blocker: pytest_django.DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Yard]:
    with django_db_blocker.unblock(), declared(Paintings()), yard(tmp_path_factory.mktemp("yard")) as made:
        yield made
        report = verify.verify()
    assert report.clean, report.findings


@pytest.fixture
def here(_yard: Yard, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[Yard]:
    with django_db_blocker.unblock():
        yield _yard
        _yard.stop_all()


def paint(caller: Caller, plan: str) -> Job:
    """A job whose wake-up goes nowhere: only the sweep can find it."""
    return submit(caller, kind="paintings", reserved=RESERVED, input={"plan": plan})


def all_ended(caller: Caller, seconds: float = PATIENCE) -> None:
    wait_for(lambda: open_jobs(caller) == 0, seconds)


def assert_settled_once(caller: Caller, yard: Yard, *, succeeded: int, others: int = 0) -> None:
    """Each job has one log row, each success one charge; nothing is held any more and the books agree."""
    books = caller.books()
    jobs = Job.objects.filter(workspace_id=caller.workspace.pk)
    assert jobs.filter(state="succeeded").count() == succeeded
    assert (books.transfers, books.held) == ([PRICE] * succeeded, 0)
    assert (books.balance, len(books.log)) == (BALANCE - PRICE * succeeded, succeeded + others)
    assert verify.verify().findings == ()
    begun = {str(key) for key in jobs.filter(state="succeeded").values_list("pk", flat=True)}
    assert begun <= set(yard.provider.by_key), "one task a job at the provider"


def test_a_job_survives_cron_being_killed_at_every_step_of_it(here: Yard) -> None:
    """One job; at each place of its way the process that makes its step is killed. At "settled" the end is undone."""
    caller = here.caller()
    job = paint(caller, "ok")
    for point in POINTS:
        died(here.start("cron", dies_at=point))
    all_ended(caller)  # the last one died behind its commit
    assert_settled_once(caller, here, succeeded=1)
    assert Job.objects.get(pk=job.pk).steps >= len(POINTS) - 1


def test_jobs_survive_workers_being_killed_at_every_step(here: Yard) -> None:
    """A worker whose hand is killed loses the wake-up too: what it leaves is found by the sweep.

    Its scheduler's lock stays behind as well, so a job that is to die at its end is one that ends in its first step.
    """
    web = here.start("web")
    caller = here.caller(web)
    queue = here.queue()
    for number, point in enumerate(POINTS, start=1):
        worker = here.start("worker", dies_at=point)
        plan = "quick" if point in ("job.settled", "job.ended") else "ok"
        assert caller.send("POST", "/v1/paintings", {"plan": plan}).status == 202
        wait_for(lambda number=number: queue.zcard("rq:failed:media") == number, PATIENCE)  # type: ignore[misc]
        worker.kill()
    queue.close()
    here.start("cron")
    all_ended(caller)
    assert_settled_once(caller, here, succeeded=len(POINTS))


# ── The process that submits and cancels ─────────────────────────────────────────────────────────────────────────────
def test_a_submission_that_dies_before_its_commit_leaves_nothing(here: Yard) -> None:
    web = here.start("web", dies_at="job.submitting")
    caller = here.caller(web)
    with pytest.raises((OSError, http.client.HTTPException)):
        caller.send("POST", "/v1/paintings", {"plan": "ok"}, idempotency_key="one")
    died(web)
    assert not Job.objects.filter(workspace_id=caller.workspace.pk).exists()
    assert (caller.books().held, caller.books().holds) == (0, [])


def test_a_submission_that_dies_behind_its_commit_is_answered_again_not_made_again(here: Yard) -> None:
    dying = here.start("web", dies_at="job.submitted")
    caller = here.caller(dying)
    with pytest.raises((OSError, http.client.HTTPException)):
        caller.send("POST", "/v1/paintings", {"plan": "quick"}, idempotency_key="one")
    died(dying)
    made = Job.objects.get(workspace_id=caller.workspace.pk)
    web = here.start("web")
    again = Caller(caller.user, caller.workspace, caller.key, caller.secret, here.ports[web.pid])
    reply = again.send("POST", "/v1/paintings", {"plan": "quick"}, idempotency_key="one")
    assert (reply.status, reply.json["jobId"], reply.headers["idempotency-replayed"]) == (202, str(made.pk), "true")
    assert reply.json["pollUrl"] == f"/api/v1/jobs/{made.pk}"
    here.start("cron")
    all_ended(again)
    late = again.send("POST", "/v1/paintings", {"plan": "quick"}, idempotency_key="one")
    assert late.json["jobId"] == str(made.pk), "also when it has long ended"
    poll = again.send("GET", reply.json["pollUrl"])
    assert (poll.json["status"], poll.json["costCredits"], len(poll.json["data"])) == ("succeeded", 5, 1)
    assert_settled_once(caller, here, succeeded=1)


def test_a_cancel_that_dies_before_its_commit_changes_nothing_and_may_be_asked_again(here: Yard) -> None:
    dying = here.start("web", dies_at="job.settled")
    caller = here.caller(dying)
    job = paint(caller, "ok")
    with pytest.raises((OSError, http.client.HTTPException)):
        caller.send("POST", f"/v1/jobs/{job.pk}/cancel")
    died(dying)
    assert Job.objects.get(pk=job.pk).state == "queued"
    web = here.start("web")
    again = Caller(caller.user, caller.workspace, caller.key, caller.secret, here.ports[web.pid])
    answers = [again.send("DELETE", f"/v1/jobs/{job.pk}").json for _ in range(2)]
    assert [(answer["status"], answer["costCredits"]) for answer in answers] == [("cancelled", 0)] * 2
    assert_settled_once(caller, here, succeeded=0, others=1)


# ── Redis ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_jobs_end_when_redis_is_emptied_and_when_it_is_gone(here: Yard) -> None:
    web = here.start("web")
    caller = here.caller(web)
    queue = here.queue()
    queue.flushall()
    for _ in range(5):
        assert caller.send("POST", "/v1/paintings", {"plan": "ok"}).status == 202
    assert queue.llen("rq:queue:media") == 5
    queue.flushall()  # emptied in mid-queue: nobody will ever be woken for these
    queue.close()
    cron = here.start("cron")
    all_ended(caller)
    here.redis.stop()
    try:
        replies = [caller.send("POST", "/v1/paintings", {"plan": "ok"}) for _ in range(5)]
        assert [reply.status for reply in replies] == [202] * 5, "stopped at the commit"
        all_ended(caller)
    finally:
        here.redis.start()
    assert cron.poll() is None
    assert_settled_once(caller, here, succeeded=10)


def test_woken_workers_make_jobs_without_any_sweep(here: Yard) -> None:
    web = here.start("web")
    caller = here.caller(web)
    here.start("worker")
    for plan in ("ok", "quick", "fails", "refuses"):
        caller.send("POST", "/v1/paintings", {"plan": plan})
    all_ended(caller)
    assert_settled_once(caller, here, succeeded=2, others=2)


# ── Odd providers ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_providers_that_hang_up_forget_never_end_or_answer_too_late(here: Yard) -> None:
    caller = here.caller()
    plans = {"cut": "succeeded", "forgets": "failed", "never": "expired", "late": "expired", "flaky": "succeeded"}
    made = {plan: paint(caller, plan) for plan in plans}
    here.start("cron")
    endless = [made["never"].pk, made["late"].pk]
    wait_for(lambda: Job.objects.filter(pk__in=endless, begun=True).count() == 2, PATIENCE)
    Job.objects.filter(pk__in=endless).update(deadline_at=Now(), run_after=Now())
    all_ended(caller)
    ended = {plan: Job.objects.get(pk=job.pk) for plan, job in made.items()}
    assert {plan: job.state for plan, job in ended.items()} == plans
    tasks = here.provider.by_key
    assert tasks[str(made["never"].pk)].stopped and tasks[str(made["late"].pk)].stopped, "told to stop at the time-out"
    assert here.provider.begun[str(made["cut"].pk)] >= 2, "asked again, and known by its key there"
    assert RequestLog.objects.get(request_id=made["late"].pk).charged_microcredits == 0
    assert_settled_once(caller, here, succeeded=2, others=3)
