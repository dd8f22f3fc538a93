"""What a run reserves and costs, to the microcredit, however it ends: settled once or given back once (C-GPU-4, 5)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pytest_django import Settings

from core import clock, errors
from events import audit
from events.models import Outbox
from infra import deployments, runs
from infra.models import Deployment
from jobs import lifecycle
from jobs.models import Job
from jobs.stepping import MOST_FAILURES
from storage.models import StoredObject
from tests.fakes.runpod import RunPod
from tests.infra.conftest import ADA, AMPERE, CREDIT, bring_up, deploy, look, run
from tests.support.jobs import drive, facts_of, step
from tests.support.money import Payer
from usage import verify
from usage.models import RequestLog

pytestmark = pytest.mark.django_db

START = 1_000 * CREDIT
#: Of the painter: sixty seconds at most.
HOLD = 60 * ADA


@pytest.fixture(autouse=True)
def _books_agree(db: None) -> Iterator[None]:
    yield
    assert verify.verify().findings == ()


def row_of(job: Job) -> RequestLog:
    return RequestLog.objects.get(request_id=job.pk)


def assert_given_back(payer: Payer, job: Job, state: str = "failed") -> None:
    """Nothing was charged, nothing is held, and the log and the notice say so once."""
    books = payer.books()
    assert (job.state, job.cost_microcredits) == (state, 0)
    assert (books.balance, books.held, books.holds, books.transfers) == (START, 0, ["voided"], [])
    assert row_of(job).charged_microcredits == 0
    assert Outbox.objects.filter(workspace_id=payer.workspace.pk, event=f"job.{state}").count() == 1


def test_a_run_costs_its_milliseconds(payer: Payer, painter: Deployment, runpod: RunPod) -> None:
    job = run(payer)
    assert (job.reserved_microcredits, payer.books().held) == (HOLD, HOLD)
    job = step(job.pk)
    asked = runpod.jobs[runpod.only_job()]["asked"]
    assert asked["input"] == {"prompt": "a cat"}
    assert asked["policy"] == {"executionTimeout": 60_000, "ttl": 3_660_000}
    assert (job.state, job.notes["provider_job_id"]) == ("queued", runpod.only_job())
    runpod.finish(runpod.only_job(), "IN_PROGRESS")
    assert step(job.pk).state == "running"
    runpod.finish(runpod.only_job(), output={"images": ["data:image/png;base64,AAAA"]}, executionTime=18_421)
    job = step(job.pk)
    cost = (18_421 * ADA + 500) // 1000  # rounded once, half up
    assert (job.state, job.cost_microcredits, job.execution_ms) == ("succeeded", cost, 18_421)
    books = payer.books()
    assert (books.balance, books.held, books.holds, books.transfers) == (START - cost, 0, ["posted"], [cost])
    logged = row_of(job)
    assert (logged.endpoint, logged.model, logged.status, logged.units) == (
        "gpu_run", "painter", 200, Decimal("18.421"),
    )  # fmt: skip
    lines: Any = logged.charge_lines
    (line,) = lines
    assert (line["bucket"], line["quantity"], line["price_microcredits"], line["per"]) == (
        "second ADA_48_PRO", 18_421, ADA, 1000,
    )  # fmt: skip
    answer = runs.answer(job)
    assert answer["output"] == {"images": ["data:image/png;base64,AAAA"]}, "a ComfyUI output passes as it is"
    assert (answer["executionMs"], answer["creditsCharged"]) == (18_421, float(Decimal(cost) / CREDIT))


def test_the_dearest_type_is_reserved_and_billed(payer: Payer, runpod: RunPod) -> None:
    bring_up(deploy(payer, gpu_types=["ADA_48_PRO", "AMPERE_80"]))
    job = run(payer)
    assert job.reserved_microcredits == 60 * AMPERE
    step(job.pk)
    runpod.finish(runpod.only_job(), output={}, executionTime=1_000)
    assert drive(job.pk).cost_microcredits == AMPERE


def test_nothing_beyond_the_longest_run_is_billed(payer: Payer, painter: Deployment, runpod: RunPod) -> None:
    job = run(payer, maxSeconds=10)
    assert job.reserved_microcredits == 10 * ADA
    step(job.pk)
    runpod.finish(runpod.only_job(), output={"late": True}, executionTime=99_000)
    job = drive(job.pk)
    assert (job.state, job.cost_microcredits, job.execution_ms) == ("succeeded", 10 * ADA, 99_000)


@pytest.mark.parametrize(
    ("status", "error", "code", "kind"),
    [
        ("FAILED", '{"error_message": "CUDA out of memory", "error_traceback": "x"}', "run_failed", "upstream_error"),
        ("TIMED_OUT", None, "run_timed_out", "timeout_error"),
        ("CANCELLED", None, "run_cancelled", "upstream_error"),
    ],
)  # fmt: skip
def test_failures_come_with_200_and_cost_nothing(
    payer: Payer, painter: Deployment, runpod: RunPod, status: str, error: str | None, code: str, kind: str
) -> None:
    job = run(payer)
    step(job.pk)
    runpod.finish(runpod.only_job(), status, error=error, executionTime=7_000)
    job = drive(job.pk)
    assert_given_back(payer, job)
    assert (job.error_code, job.error_type) == (code, kind)
    if error:
        assert job.error_message == "CUDA out of memory", "the worker's words, without its traceback"


def test_a_result_that_is_gone_costs_nothing(payer: Payer, painter: Deployment, runpod: RunPod) -> None:
    job = run(payer)
    step(job.pk)
    runpod.jobs.clear()
    job = drive(job.pk)
    assert_given_back(payer, job)
    assert job.error_code == "run_lost"


def test_an_engine_that_is_down_at_the_start_is_asked_again_then_given_up(
    payer: Payer, painter: Deployment, runpod: RunPod
) -> None:
    runpod.faults[("POST", "/run")] = 502
    job = run(payer)
    job = drive(job.pk)
    assert_given_back(payer, job)
    assert runpod.times("POST", "/run") == MOST_FAILURES


def test_an_engine_that_is_down_for_a_while_loses_no_run(payer: Payer, painter: Deployment, runpod: RunPod) -> None:
    runpod.faults[("POST", "/run")] = 503
    job = run(payer)
    assert step(job.pk).state == "queued"
    runpod.faults.clear()
    step(job.pk)
    runpod.faults[("GET", "/status")] = 500
    for _ in range(4):
        assert not step(job.pk).is_final
    runpod.faults.clear()
    runpod.finish(runpod.only_job(), output={}, executionTime=2_000)
    assert (drive(job.pk).cost_microcredits, payer.books().balance) == (2 * ADA, START - 2 * ADA)


def test_a_run_waits_for_an_endpoint_that_the_engine_has_lost(
    payer: Payer, painter: Deployment, runpod: RunPod
) -> None:
    runpod.endpoints.clear()
    job = run(payer)
    job = step(job.pk)
    assert (job.state, job.begun, payer.books().held) == ("queued", False, HOLD)
    bring_up(look(painter))
    step(job.pk)
    runpod.finish(runpod.only_job(), output={}, executionTime=1_000)
    assert drive(job.pk).cost_microcredits == ADA


def test_cancelled_before_anybody_began_costs_nothing(payer: Payer, painter: Deployment, runpod: RunPod) -> None:
    job = run(payer)
    lifecycle.cancel(job.pk)
    assert_given_back(payer, Job.objects.get(pk=job.pk), "cancelled")
    assert not runpod.jobs


def test_cancelled_while_it_waits_at_the_engine_costs_nothing(
    payer: Payer, painter: Deployment, runpod: RunPod
) -> None:
    job = run(payer)
    step(job.pk)
    runs.cancel(payer.workspace.pk, str(job.pk))
    assert_given_back(payer, drive(job.pk), "cancelled")
    assert runpod.jobs[runpod.only_job()]["status"] == "CANCELLED"


def test_cancelled_while_it_runs_costs_what_the_engine_bills(payer: Payer, painter: Deployment, runpod: RunPod) -> None:
    job = run(payer)
    step(job.pk)
    runpod.finish(runpod.only_job(), "IN_PROGRESS", executionTime=3_500)
    step(job.pk)
    told = runs.cancel(payer.workspace.pk, str(job.pk))
    assert told["status"] == "cancelled"
    job = Job.objects.get(pk=job.pk)
    assert job.cost_microcredits == (3_500 * ADA + 500) // 1000 == START - payer.books().balance
    assert payer.books().holds == ["posted"]


def test_a_deleted_deployment_takes_its_runs_with_it(payer: Payer, painter: Deployment, runpod: RunPod) -> None:
    job = run(payer)
    step(job.pk)
    deployments.delete(painter, actor=audit.SYSTEM)
    assert not look(painter).engine_cleared, "the engine is asked to stop the run first"
    assert_given_back(payer, drive(job.pk), "cancelled")
    assert look(painter).engine_cleared


def test_asking_looks_at_the_worker_live(payer: Payer, painter: Deployment, runpod: RunPod) -> None:
    job = run(payer)
    told = runs.begin(job.pk)
    assert (told["status"], told["provider_job_id"]) == ("queued", runpod.only_job())
    runpod.finish(runpod.only_job(), "IN_PROGRESS")
    assert runs.look(payer.workspace.pk, str(job.pk))["status"] == "running"
    runpod.finish(runpod.only_job(), output={"ok": 1}, executionTime=1_000)
    told = runs.look(payer.workspace.pk, str(job.pk))
    assert (told["status"], told["output"]) == ("succeeded", {"ok": 1})


def test_a_time_that_the_engine_does_not_tell_is_measured(payer: Payer, painter: Deployment, runpod: RunPod) -> None:
    seen = run(payer)
    step(seen.pk)
    runpod.finish(runpod.only_job(), "IN_PROGRESS")
    step(seen.pk)
    Job.objects.filter(pk=seen.pk).update(started_at=clock.now() - timedelta(seconds=7))
    runpod.finish(runpod.only_job(), output={}, executionTime="soon")
    seen = drive(seen.pk)
    assert seen.execution_ms is not None and 7_000 <= seen.execution_ms <= 60_000
    assert seen.cost_microcredits == (seen.execution_ms * ADA + 500) // 1000
    assert row_of(seen).estimated and row_of(seen).units == Decimal(seen.execution_ms) / 1000

    runpod.jobs.clear()
    short = run(payer)  # never seen to run: it counts from when it was last seen to wait
    step(short.pk)
    waited = (clock.now() - timedelta(seconds=3)).isoformat()
    early = clock.now() - timedelta(seconds=50)
    Job.objects.filter(pk=short.pk).update(notes={**look_at(short).notes, "waiting_at": waited}, asked_at=early)
    runpod.finish(runpod.only_job(), output={})
    short = drive(short.pk)
    assert short.execution_ms is not None and 3_000 <= short.execution_ms < 50_000

    runpod.jobs.clear()
    stopped = run(payer)
    step(stopped.pk)
    runpod.finish(runpod.only_job(), "IN_PROGRESS")
    step(stopped.pk)
    Job.objects.filter(pk=stopped.pk).update(started_at=clock.now() - timedelta(hours=2))
    runs.cancel(payer.workspace.pk, str(stopped.pk))
    stopped = look_at(stopped)
    assert (stopped.state, stopped.cost_microcredits, stopped.execution_ms) == ("cancelled", HOLD, 60_000)
    assert row_of(stopped).estimated, "no longer than it may run"


def look_at(job: Job) -> Job:
    return Job.objects.get(pk=job.pk)


def test_large_outputs_become_files(payer: Payer, painter: Deployment, runpod: RunPod, settings: Settings) -> None:
    settings.GPU_INLINE_OUTPUT_BYTES = 100_000
    picture = b"\x89PNG\r\n\x1a\n" + bytes(200_000)
    job = run(payer)
    step(job.pk)
    data = base64.b64encode(picture).decode()
    images = [{"filename": "a.png", "type": "base64", "data": data}]
    runpod.finish(runpod.only_job(), output={"images": images, "seed": 4}, executionTime=1_000)
    job = drive(job.pk)
    stored = StoredObject.objects.get(job_id=job.pk)
    assert (stored.size_bytes, stored.kind) == (len(picture), "image")
    output = runs.answer(job)["output"]
    assert output["seed"] == 4 and output["images"][0]["filename"] == "a.png"
    assert output["images"][0]["data"].startswith("http") and str(job.result).count("AAAA") == 0


def test_an_output_opens_no_file_but_its_own_and_no_number_breaks_it(
    payer: Payer, painter: Deployment, runpod: RunPod, settings: Settings
) -> None:
    settings.GPU_INLINE_OUTPUT_BYTES = 50_000
    mine = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(60_000)).decode()
    other = run(payer)
    step(other.pk)
    runpod.finish(runpod.only_job(), output={"image": mine}, executionTime=1)
    drive(other.pk)
    secret = StoredObject.objects.get(job_id=other.pk)
    runpod.jobs.clear()
    job = run(payer)
    step(job.pk)
    forged = {"a": {"$object": str(secret.pk)}, "b": {"$object": "no id"}, "c": float("nan"), "d": [float("-inf"), 1]}
    runpod.finish(runpod.only_job(), output={**forged, "image": mine}, executionTime=1)
    job = drive(job.pk)
    assert job.state == "succeeded"
    output = runs.answer(job)["output"]
    assert (output["a"], output["b"], output["c"], output["d"]) == (None, None, None, [None, 1])
    assert output["image"].startswith("http") and str(secret.pk) not in str(output)


def test_a_run_is_refused_where_it_can_not_be_paid_or_reached(payer: Payer, runpod: RunPod) -> None:
    bring_up(deploy(payer, slug="dear", max_seconds=86_400))
    with pytest.raises(errors.InsufficientCredits):
        run(payer, "dear")
    with pytest.raises(errors.Conflict) as early:
        deploy(payer, slug="early")
        run(payer, "early")
    assert early.value.code == "deployment_not_ready"
    with pytest.raises(errors.NotFound):
        run(payer, "nowhere")
    with pytest.raises(errors.InvalidRequest) as wrong:
        runs.submit_run(facts_of(payer), "dear", {"input": "text"}, job_id=payer.key.pk, claim=None)
    assert wrong.value.param == "input"
    assert (payer.books().held, Job.objects.count()) == (0, 0)
