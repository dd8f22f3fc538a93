"""One job's life, step by step: its states, its waits, and what its end leaves in the books."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db.models import F
from django.db.models.functions import Now
from pytest_django import Settings

from catalog.pricing import Line
from core import clock, errors, ids
from events.models import Outbox
from jobs import forgetting, leases, lifecycle, moves, stepping
from jobs.kinds import Done, Elsewhere, Failed, Stop, Stopped, Waiting
from jobs.models import Job
from tests.support.jobs import BALANCE, CREDIT, Scripted, declared, drive, step, submit
from tests.support.money import Payer
from upstreams.errors import AccountRefused, ServerFailed, UpstreamRateLimited, UpstreamRefusal
from usage import verify
from usage.models import RequestLog

pytestmark = pytest.mark.django_db

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


def test_a_failure_gives_everything_back_and_says_why(payer: Payer, kind: Scripted) -> None:
    kind.polls.append(Failed(error_type="invalid_request_error", code="content_policy", message="Not this prompt."))
    job = drive(submit(payer).pk)
    assert (job.state, job.error_type, job.error_code, job.cost_microcredits) == (
        "failed", "invalid_request_error", "content_policy", 0,
    )  # fmt: skip
    books = payer.books()
    assert (books.balance, books.held, books.holds, books.transfers) == (BALANCE, 0, ["voided"], [])
    row = row_of(job)
    assert (row.status, row.error_type, row.charged_microcredits) == (400, "invalid_request_error", 0)
    assert events_of(payer) == ["job.failed"]


def test_a_failure_that_was_billed_is_charged_what_the_kind_says(payer: Payer, kind: Scripted) -> None:
    line = Line("second", 2, CREDIT, 1)
    kind.polls.append(
        Failed(error_type="upstream_error", message="It broke.", charge_microcredits=2 * CREDIT, charge_lines=(line,))
    )
    job = drive(submit(payer).pk)
    assert (job.state, job.cost_microcredits) == ("failed", 2 * CREDIT)
    assert (payer.books().balance, payer.books().held) == (98 * CREDIT, 0)
    assert row_of(job).charge_lines == [
        {"bucket": "second", "quantity": 2, "price_microcredits": CREDIT, "per": 1, "model": ""}
    ]


def test_a_free_success_is_posted_with_nothing(payer: Payer, kind: Scripted) -> None:
    kind.starts.append(Done(result={}, charge_microcredits=0))
    job = drive(submit(payer).pk)
    assert (job.state, payer.books().balance, payer.books().holds) == ("succeeded", BALANCE, ["posted"])


def test_errors_that_pass_are_tried_again_after_growing_waits(payer: Payer, kind: Scripted) -> None:
    kind.starts += [ServerFailed("down", status=503), UpstreamRateLimited("slow", status=429, retry_after=40.0), DONE]
    job = step(submit(payer).pk)
    assert (job.state, job.failures, job.attempts, job.lease) == ("queued", 1, 1, None)
    assert job.asked_at is not None
    waits = [(job.run_after - job.asked_at).total_seconds()]
    before = Job.objects.filter(pk=job.pk).values_list(Now(), flat=True)[0]
    job = step(job.pk)
    waits.append((job.run_after - before).total_seconds())
    assert waits[0] < 5 and 40 <= waits[1] < 60
    assert not stepping.step(job.pk), "it is not due yet"
    job = step(job.pk)
    assert (job.state, job.attempts) == ("succeeded", 3)
    assert [attempt["error"] for attempt in row_of(job).attempt_trace or [] if "error" in attempt] == [
        "server_error", "rate_limit",
    ]  # fmt: skip


def test_nobody_is_asked_for_ever_to_begin(payer: Payer, kind: Scripted) -> None:
    kind.starts += [ServerFailed("down", status=503)] * 20
    job = drive(submit(payer).pk, most=30)
    assert (job.state, job.error_type, job.attempts) == ("failed", "upstream_error", stepping.MOST_FAILURES)
    assert (payer.books().balance, payer.books().held) == (BALANCE, 0)


def test_what_a_provider_has_begun_is_asked_after_until_its_time_is_up(payer: Payer, kind: Scripted) -> None:
    kind.polls += [ServerFailed("down", status=503)] * 15
    kind.polls.append(DONE)
    job = submit(payer)
    for _ in range(15):
        job = step(job.pk)
    assert job.state == "running"
    job = drive(job.pk)
    assert (job.state, job.cost_microcredits) == ("succeeded", 7 * CREDIT)


def test_a_provider_that_forgot_the_job_fails_it(payer: Payer, kind: Scripted) -> None:
    kind.polls.append(UpstreamRefusal("There is no such task.", status=404))
    job = drive(submit(payer).pk)
    assert (job.state, job.error_message, payer.books().balance) == ("failed", "There is no such task.", BALANCE)


def test_an_account_that_is_refused_is_no_fault_of_the_caller(payer: Payer, kind: Scripted) -> None:
    kind.starts.append(AccountRefused("the upstream refused our account", status=401))
    job = drive(submit(payer).pk)
    assert (job.state, job.error_type, job.attempts) == ("failed", "upstream_error", 1)
    assert "account" not in job.error_message


def test_a_mistake_of_ours_is_tried_again_then_given_up_and_paid_back(payer: Payer, kind: Scripted) -> None:
    kind.polls += [ZeroDivisionError("secret words")] * 20
    job = drive(submit(payer).pk, most=30)
    assert (job.state, job.error_type, job.error_message) == (
        "failed", "api_error", "Something went wrong on our side.",
    )  # fmt: skip
    assert kind.asked.count("stop") == 1, "its provider may still be at it"
    assert payer.books().balance == BALANCE


def test_a_refusal_of_our_own_ends_it_as_it_says(payer: Payer, kind: Scripted) -> None:
    kind.polls.append(errors.RequestTooLarge("The result is too large to keep.", code="result_too_large"))
    job = drive(submit(payer).pk)
    assert (job.state, job.error_type, job.error_code) == ("failed", "request_too_large", "result_too_large")
    assert row_of(job).status == 413


def test_the_next_provider_begins_anew(payer: Payer, kind: Scripted) -> None:
    kind.starts += [Elsewhere(seconds=0, notes={"target": 1}, error="account"), Waiting(seconds=1, notes={"task": 2})]
    kind.polls += [Elsewhere(seconds=0, notes={"target": 2}), DONE]
    job = submit(payer)
    assert step(job.pk).begun is False
    assert step(job.pk).begun is True
    job = step(job.pk)
    assert (job.begun, job.state, job.notes) == (False, "running", {"target": 2, "task": 2})
    job = drive(job.pk)
    assert kind.asked == ["start", "start", "poll", "start", "poll"]
    assert (job.state, job.attempts) == ("succeeded", 3)
    assert [each.get("error", "") for each in job.attempt_trace] == ["account", "", ""]


def test_a_job_that_only_waits_in_a_providers_queue_is_not_running(payer: Payer, kind: Scripted) -> None:
    kind.starts.append(Waiting(seconds=1, started=False))
    job = step(submit(payer).pk)
    assert (job.state, job.begun, job.started_at) == ("queued", True, None)
    assert step(job.pk).state == "running"


def test_progress_never_goes_back_nor_out_of_bounds(payer: Payer, kind: Scripted) -> None:
    kind.polls += [Waiting(seconds=1, progress=50), Waiting(seconds=1, progress=20), Waiting(seconds=1, progress=900)]
    job = step(submit(payer).pk)
    assert [step(job.pk).progress for _ in range(3)] == [50, 50, 100]


# ── Time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def time_is_up(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(deadline_at=Now() - timedelta(seconds=1))


def test_what_is_not_ready_in_time_is_paid_back_and_its_provider_stopped(payer: Payer, kind: Scripted) -> None:
    job = step(submit(payer).pk)
    time_is_up(job)
    job = step(job.pk)
    assert (job.state, job.error_type, job.error_code, job.stop_due) == ("expired", "timeout_error", "expired", True)
    assert (payer.books().balance, payer.books().held) == (BALANCE, 0)
    job = drive(job.pk)
    assert (kind.asked, job.stop_due) == (["start", "poll", "stop"], False)
    assert (row_of(job).status, events_of(payer)) == (504, ["job.expired"])


def test_what_was_ready_just_in_time_is_delivered_and_paid(payer: Payer, kind: Scripted) -> None:
    """The provider has finished, or given up, since it was looked at last: it is asked once more before the end."""
    failed = Failed(error_type="upstream_error", message="It broke.")
    kind.polls += [DONE, failed, ServerFailed("down", status=503), Elsewhere(seconds=0)]
    ends = []
    for _ in range(4):
        job = step(submit(payer).pk)
        time_is_up(job)
        ends.append(step(job.pk))
    assert [job.state for job in ends] == ["succeeded", "failed", "expired", "expired"]
    assert [job.stop_due for job in ends] == [False, False, True, True]
    assert ends[0].cost_microcredits == DONE.charge_microcredits
    assert payer.books().held == 0
    assert payer.books().balance == BALANCE - DONE.charge_microcredits


def test_a_last_look_that_never_comes_back_ends_too(payer: Payer, kind: Scripted) -> None:
    kind.polls.append(DONE)
    job = step(submit(payer).pk)
    Job.objects.filter(pk=job.pk).update(deadline_at=Now() - stepping.LAST_LOOKS - timedelta(seconds=1))
    assert (step(job.pk).state, kind.asked) == ("expired", ["start"])


def test_nobody_is_asked_to_stop_what_was_never_begun(payer: Payer, kind: Scripted) -> None:
    job = submit(payer)
    time_is_up(job)
    job = drive(job.pk)
    assert (job.state, job.stop_due, kind.asked, payer.books().balance) == ("expired", False, [], BALANCE)


def test_a_result_that_comes_after_the_end_changes_no_money(
    payer: Payer, kind: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    kind.stops.append(DONE)
    job = step(submit(payer).pk)
    time_is_up(job)
    job = drive(job.pk)
    assert (job.state, job.cost_microcredits, payer.books().balance) == ("expired", 0, BALANCE)
    assert "came after its end" in caplog.text


def test_a_provider_that_can_not_be_stopped_is_given_up(payer: Payer, kind: Scripted) -> None:
    kind.stops += [ServerFailed("down", status=503)] * 30
    job = step(submit(payer).pk)
    time_is_up(job)
    job = drive(job.pk, most=30)
    assert (job.stop_due, kind.asked.count("stop")) == (False, stepping.MOST_STOPS)


def test_waits_end_at_the_deadline(payer: Payer, kind: Scripted) -> None:
    kind.starts.append(Waiting(seconds=3_000))
    job = step(submit(payer, deadline_seconds=60).pk)
    assert job.run_after == job.deadline_at


# ── Cancelling ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_what_nobody_began_is_cancelled_at_once(payer: Payer, kind: Scripted) -> None:
    job = lifecycle.cancel(submit(payer).pk)
    assert (job.state, job.cost_microcredits, payer.books().balance, payer.books().held) == (
        "cancelled", 0, BALANCE, 0,
    )  # fmt: skip
    assert (lifecycle.cancel(job.pk).state, events_of(payer)) == ("cancelled", ["job.cancelled"])
    assert (stepping.step(job.pk), kind.asked) == (False, [])
    assert row_of(job).status == 499


@pytest.mark.parametrize(
    ("answer", "state", "cost"),
    [
        (Stopped(), "cancelled", 0),
        (Stopped(charge_microcredits=3 * CREDIT, units=Decimal(3)), "cancelled", 3 * CREDIT),
        (DONE, "succeeded", 7 * CREDIT),
        (Failed(error_type="upstream_error", message="It broke."), "cancelled", 0),
    ],
    ids=["stopped", "stopped-and-billed", "was-ready", "had-failed"],
)
def test_a_running_job_is_cancelled_by_its_provider(
    payer: Payer, kind: Scripted, answer: Stop, state: str, cost: int
) -> None:
    kind.stops += [Waiting(seconds=1), answer]
    job = step(submit(payer).pk)
    asked = lifecycle.cancel(job.pk)
    assert (asked.state, asked.cancel_asked_at is not None, payer.books().held) == ("running", True, 10 * CREDIT)
    assert lifecycle.cancel(job.pk).cancel_asked_at == asked.cancel_asked_at
    job = drive(job.pk)
    assert (job.state, job.cost_microcredits, kind.asked) == (state, cost, ["start", "stop", "stop"])
    assert (payer.books().balance, payer.books().held) == (BALANCE - cost, 0)


def test_a_provider_that_does_not_answer_a_cancel_costs_nobody_anything(payer: Payer, kind: Scripted) -> None:
    kind.stops += [ServerFailed("down", status=503)] * 30
    job = step(submit(payer).pk)
    lifecycle.cancel(job.pk)
    job = drive(job.pk, most=30)
    assert (job.state, kind.asked.count("stop"), payer.books().balance) == ("cancelled", stepping.MOST_STOPS, BALANCE)


def test_a_cancel_in_the_middle_of_a_step_is_heeded_right_behind_it(payer: Payer, kind: Scripted) -> None:
    job = submit(payer)
    claimed = leases.claim(job.pk)
    assert claimed is not None
    assert lifecycle.cancel(job.pk).state == "queued", "somebody may just be asked to begin"
    assert lifecycle.go_on(claimed, Waiting(seconds=600), None)
    assert stepping.step(job.pk), "due at once, not in ten minutes"
    assert (Job.objects.get(pk=job.pk).state, kind.asked) == ("cancelled", ["stop"])


# ── Leases ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_lease_keeps_others_out_until_it_ends(payer: Payer, kind: Scripted) -> None:
    job = submit(payer)
    first = leases.claim(job.pk)
    assert first is not None and leases.claim(job.pk) is None
    Job.objects.filter(pk=job.pk).update(lease_until=Now() - timedelta(seconds=1))
    second = leases.claim(job.pk)
    assert second is not None and second.lease != first.lease
    assert not lifecycle.end(first, lifecycle.End(state=Job.State.SUCCEEDED, charge_microcredits=CREDIT)), "too late"
    assert lifecycle.end(second, lifecycle.End(state=Job.State.SUCCEEDED, charge_microcredits=2 * CREDIT))
    assert payer.books().transfers == [2 * CREDIT]


def test_what_a_step_brings_after_the_end_is_ignored(payer: Payer, kind: Scripted) -> None:
    job = submit(payer)
    slow = leases.claim(job.pk)
    assert slow is not None
    Job.objects.filter(pk=job.pk).update(lease_until=Now() - timedelta(seconds=1))
    time_is_up(job)
    drive(job.pk)
    assert not lifecycle.end(slow, lifecycle.End(state=Job.State.SUCCEEDED, charge_microcredits=CREDIT))
    assert (Job.objects.get(pk=job.pk).state, payer.books().balance) == ("expired", BALANCE)


def test_only_due_and_unleased_jobs_are_found(payer: Payer, kind: Scripted) -> None:
    waiting, taken, due = (submit(payer).pk for _ in range(3))
    Job.objects.filter(pk=waiting).update(run_after=Now() + timedelta(hours=1))
    leases.claim(taken)
    found = leases.due(overdue_seconds=0, most=1_000)
    assert due in found and waiting not in found and taken not in found


# ── The table ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("old", Job.State.values)
@pytest.mark.parametrize("new", Job.State.values)
def test_only_these_moves_are_possible(old: str, new: str) -> None:
    final = {"succeeded", "failed", "cancelled", "expired"}
    possible = (old == "queued" and new in final | {"running"}) or (old == "running" and new in final)
    if possible:
        moves.check(old, new)
    else:
        with pytest.raises(moves.ImpossibleMove):
            moves.check(old, new)


def test_a_kind_that_is_gone_runs_into_its_deadline(payer: Payer) -> None:
    with declared(Scripted("passing")):
        job = submit(payer, kind="passing")
    job = step(job.pk)
    assert job.state == "queued"
    time_is_up(job)
    assert (drive(job.pk).state, payer.books().balance) == ("expired", BALANCE)


def test_texts_that_a_database_can_not_hold_do_not_keep_a_job_open(payer: Payer, kind: Scripted) -> None:
    kind.polls.append(Failed(error_type="upstream_error", message="nul \0 and half \ud83d", code="x" * 300))
    job = drive(submit(payer).pk)
    assert (job.state, "\0" in job.error_message, len(job.error_code)) == ("failed", False, 100)


def test_one_id_makes_one_job(payer: Payer, kind: Scripted) -> None:
    job_id = ids.uuid7()
    assert submit(payer, job_id=job_id).pk == submit(payer, job_id=job_id).pk
    assert (Job.objects.filter(pk=job_id).count(), payer.books().held) == (1, 10 * CREDIT)


def test_what_can_not_be_paid_makes_no_job(payer: Payer, kind: Scripted) -> None:
    with pytest.raises(errors.InsufficientCredits):
        submit(payer, reserved=BALANCE + 1)
    assert (Job.objects.filter(workspace_id=payer.workspace.pk).count(), payer.books().held) == (0, 0)


def test_what_was_asked_for_is_forgotten_a_day_after_the_end(payer: Payer, kind: Scripted) -> None:
    kind.starts.append(DONE)
    ended, still = drive(submit(payer).pk), submit(payer)
    assert ended.finished_at is not None
    day = timedelta(days=1)
    assert forgetting.sweep(ended.finished_at + day - timedelta(seconds=1)) == 0
    forgetting.sweep(ended.finished_at + day + timedelta(seconds=1))
    assert (Job.objects.get(pk=ended.pk).input, Job.objects.get(pk=still.pk).input) == ({}, {"prompt": "a cat"})


def test_old_jobs_go_with_what_came_of_them_and_their_money_stays(
    payer: Payer, kind: Scripted, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "_BATCH", 2)
    kind.starts += [DONE, DONE, DONE, Waiting(seconds=60)]
    ended = [drive(submit(payer).pk) for _ in range(3)]
    still, told = submit(payer), step(submit(payer).pk)
    Job.objects.filter(pk=told.pk).update(deadline_at=F("created_at"))
    assert step(told.pk).stop_due, "its provider is still to be told"
    every = {*ended, still, told}
    month, books = timedelta(days=30), payer.books()

    def left(days: int, now: datetime) -> set[Job]:
        settings.JOB_KEPT_DAYS = days
        forgetting.sweep_old(now)
        return set(Job.objects.filter(workspace_id=payer.workspace.pk))

    late = clock.now() + month + timedelta(seconds=1)
    assert left(30, ended[0].created_at + month - timedelta(seconds=1)) == every
    assert left(0, late) == every
    assert left(30, late) == {still, told}
    assert payer.books() == books
