"""What a clip reserves and costs, to the microcredit, however its job ends (C-VID-2, C-BILL-2)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db.models import F
from django.test import Client

from jobs.models import Job
from media.video_jobs import Videos
from storage.models import StoredObject
from tests.fakes.video_apis import CLIP, Answer, Omni, OpenAI, Veo, VideoApi, serving
from tests.fakes.video_tasks import VIDEO_APIS, Ark, DashScope, Kling, Vidu, Xai
from tests.support.gateway import CREDIT, Gateway
from tests.support.jobs import step
from tests.videos.models import drive, generate, paid, polled, serve, submitted
from tests.videos.targets import POINT, PROVIDERS


@pytest.fixture
def api(request: pytest.FixtureRequest) -> Iterator[VideoApi]:
    with serving(request.param()) as api:
        yield api


def only(*apis: type[VideoApi]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("api", apis, indirect=True, ids=lambda api: api.__name__)


@only(*VIDEO_APIS)
def test_a_clip_is_made_copied_and_paid_once(gateway: Gateway, api: VideoApi) -> None:
    model, caller = serve(gateway, api), gateway.caller()
    reply = generate(caller, model, duration=5)
    assert reply.status == 202
    job = reply.json["jobId"]
    assert reply.json == {
        "jobId": job, "pollUrl": f"/api/v1/jobs/{job}", "status": "queued", "model": model, "reservedCredits": 50
    }  # fmt: skip
    assert caller.books().held == 50 * CREDIT
    row = drive(Job.objects.get(pk=job).pk)
    assert (row.state, row.error_message) == ("succeeded", "")
    seen = polled(caller, row.pk)
    assert (seen["status"], seen["progress"], seen["costCredits"], seen["error"]) == ("succeeded", 100, 50, None)
    assert paid(caller) == 50
    log = caller.books().log[0]
    assert (log["endpoint"], log["model"], log["status"], int(log["units"])) == ("videos", model, 200, 5)
    assert (log["attempts"], log["provider"].startswith(model)) == (1, True)
    stored = StoredObject.objects.get(job_id=row.pk)
    assert (stored.content_type, stored.size_bytes, stored.workspace_id) == (
        "video/mp4", len(CLIP), caller.workspace.pk
    )  # fmt: skip
    assert len(api.submissions) == 1


@only(DashScope)
def test_the_link_is_signed_anew_and_leads_to_the_clip(gateway: Gateway, api: VideoApi) -> None:
    caller = gateway.caller()
    job = submitted(caller, serve(gateway, api))
    drive(job)
    url = polled(caller, job)["data"][0]["url"]
    assert api.base_url not in url
    reply = Client().get("/" + url.split("/", 3)[3])
    assert (reply.status_code, reply.getvalue(), reply["content-type"]) == (200, CLIP, "video/mp4")


@only(Veo)
def test_a_clip_at_a_flat_price_costs_one_however_long(gateway: Gateway, api: VideoApi) -> None:
    caller = gateway.caller()
    job = submitted(caller, serve(gateway, api, unit="clip"), duration=8, resolution="1080P", image=POINT)
    assert caller.books().held == 120 * CREDIT
    drive(job)
    assert paid(caller) == 120
    assert int(caller.books().log[0]["units"]) == 1


@pytest.mark.parametrize(
    ("told", "seconds"), [(5, 5), (4, 4), (4.6, 5), (4.4, 4), (0.2, 0), (9, 5), (None, 5)], ids=str
)
def test_what_was_delivered_is_paid_and_never_more_than_was_asked(
    gateway: Gateway, told: float | None, seconds: int
) -> None:
    with serving(Xai() if told is not None else Vidu()) as api:
        api.seconds = told
        caller = gateway.caller()
        drive(submitted(caller, serve(gateway, api), duration=5))
        assert paid(caller) == 10 * seconds


@only(*VIDEO_APIS)
def test_a_failure_gives_all_of_it_back(gateway: Gateway, api: VideoApi) -> None:
    api.outcome = "failed"
    caller = gateway.caller()
    row = drive(submitted(caller, serve(gateway, api)))
    assert (row.state, row.error_type) == ("failed", "upstream_error")
    assert api.secret not in row.error_message
    assert polled(caller, row.pk)["data"] == []
    assert paid(caller) == 0
    assert caller.books().log[0]["status"] == 502


@only(*VIDEO_APIS)
def test_what_content_rules_refuse_is_the_callers_to_know_and_costs_nothing(gateway: Gateway, api: VideoApi) -> None:
    api.outcome = "moderated"
    caller = gateway.caller()
    row = drive(submitted(caller, serve(gateway, api)))
    assert row.state == "failed"
    error = polled(caller, row.pk)["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "content_policy_violation")
    assert "http" not in error["message"]
    assert paid(caller) == 0


@only(Ark, OpenAI)
def test_a_task_that_its_provider_forgets_is_refunded(gateway: Gateway, api: VideoApi) -> None:
    api.polls_until_done = 5
    caller = gateway.caller()
    job = submitted(caller, serve(gateway, api))
    step(job)
    step(job)
    api.forget()
    row = drive(job)
    assert (row.state, row.error_code) == ("failed", "job_lost")
    assert paid(caller) == 0


@only(Omni, Ark, Kling)
def test_a_job_whose_time_is_up_is_refunded_and_its_provider_told(gateway: Gateway, api: VideoApi) -> None:
    api.polls_until_done = 1000
    caller = gateway.caller()
    job = submitted(caller, serve(gateway, api))
    step(job)
    Job.objects.filter(pk=job).update(deadline_at=F("created_at") - timedelta(seconds=1))
    row = drive(job)
    assert (row.state, polled(caller, job)["error"]["type"]) == ("expired", "timeout_error")
    assert paid(caller) == 0
    assert api.submissions[0].cancelled is not isinstance(api, Kling)  # which has no way to


@only(Xai)
def test_a_result_that_comes_after_the_time_is_not_paid(gateway: Gateway, api: VideoApi) -> None:
    api.polls_until_done = 3
    caller = gateway.caller()
    job = submitted(caller, serve(gateway, api))
    step(job)
    Job.objects.filter(pk=job).update(deadline_at=F("created_at") - timedelta(seconds=1))
    assert drive(job).state == "expired"
    for _ in range(3):
        step(job)
    assert Job.objects.get(pk=job).state == "expired"
    assert paid(caller) == 0


@only(*VIDEO_APIS)
def test_cancelled_before_anybody_was_asked(gateway: Gateway, api: VideoApi) -> None:
    caller = gateway.caller()
    job = submitted(caller, serve(gateway, api))
    assert caller.send("POST", f"/api/v1/jobs/{job}/cancel").json["status"] == "cancelled"
    assert drive(job).state == "cancelled"
    assert not api.submissions
    assert paid(caller) == 0


@only(Omni, OpenAI, DashScope, Ark, Vidu)
def test_cancelled_under_way_where_the_provider_takes_it(gateway: Gateway, api: VideoApi) -> None:
    api.polls_until_done = 1000
    caller = gateway.caller()
    job = submitted(caller, serve(gateway, api))
    step(job)
    assert caller.send("POST", f"/api/v1/jobs/{job}/cancel").json["cancelRequested"] is True
    row = drive(job)
    assert (row.state, row.cost_microcredits) == ("cancelled", 0)
    assert paid(caller) == 0
    assert caller.books().log[0]["status"] == 499


@only(Kling, Xai, Veo, Ark)
def test_cancelled_under_way_where_the_provider_goes_on_costs_what_it_delivers(gateway: Gateway, api: VideoApi) -> None:
    api.polls_until_done = 3
    caller = gateway.caller()
    job = submitted(caller, serve(gateway, api))
    step(job)
    step(job)
    step(job)
    caller.send("DELETE", f"/api/v1/jobs/{job}")
    row = drive(job)
    assert row.state == "succeeded"
    assert len(polled(caller, job)["data"]) == 1
    assert paid(caller) == 50


@only(Kling, Xai)
def test_cancelled_under_way_and_then_failed_costs_nothing(gateway: Gateway, api: VideoApi) -> None:
    api.polls_until_done, api.outcome = 3, "failed"
    caller = gateway.caller()
    job = submitted(caller, serve(gateway, api))
    step(job)
    caller.send("DELETE", f"/api/v1/jobs/{job}")
    assert drive(job).state == "cancelled"
    assert paid(caller) == 0


@only(Vidu)
def test_a_provider_may_bill_what_was_cancelled(gateway: Gateway, api: VideoApi) -> None:
    task = PROVIDERS["vidu"]["options"]["task"]
    api.polls_until_done = 1000
    caller = gateway.caller()
    job = submitted(caller, serve(gateway, api, task={**task, "cancel": {**task["cancel"], "billed": True}}))
    step(job)
    caller.send("DELETE", f"/api/v1/jobs/{job}")
    assert drive(job).state == "cancelled"
    assert paid(caller) == 50


@only(DashScope)
def test_an_expired_link_is_asked_for_again_and_then_given_up(gateway: Gateway, api: VideoApi) -> None:
    model, caller = serve(gateway, api), gateway.caller()
    api.file_faults.extend([Answer(b"", 503), Answer({"code": "expired"}, 403)])
    job = submitted(caller, model)
    assert drive(job).state == "succeeded"
    assert paid(caller) == 50
    api.file_faults.extend([Answer(b"<html>gone</html>", 200, {"content-type": "text/html"})] * 20)
    row = drive(submitted(caller, model))
    assert (row.state, row.error_code) == ("failed", "result_not_fetched")
    assert paid(caller, rows=2) == 50
    assert not StoredObject.objects.filter(job_id=row.pk).exists()


@only(Ark)
def test_a_step_that_is_made_twice_copies_and_charges_once(gateway: Gateway, api: VideoApi) -> None:
    caller = gateway.caller()
    job = submitted(caller, serve(gateway, api))
    step(job)
    step(job)
    row = Job.objects.get(pk=job)
    first, second = Videos().poll(row), Videos().poll(row)  # its process died behind the copy
    assert first == second
    assert drive(job).state == "succeeded"
    assert StoredObject.objects.filter(job_id=job).count() == 1
    assert len(api.downloads()) == 1
    assert paid(caller) == 50
