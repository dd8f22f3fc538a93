"""Who is asked until one has taken the work on, and never twice without need (C-ROUTE-1)."""

from __future__ import annotations

import pytest

from catalog import live
from catalog.models import Provider
from jobs.models import Job
from media import video_circuit
from tests.fakes.video_apis import Answer, OpenAI, serving
from tests.fakes.video_tasks import Ark, DashScope, Kling, Xai
from tests.support.gateway import Gateway, wait_for
from tests.support.jobs import step
from tests.videos.models import drive, paid, polled, serve, submitted

FAULTS: dict[str, tuple[Answer, int]] = {
    "500": (Answer({"error": {"message": "broken"}}, 500), 2),
    "503": (Answer(b"busy", 503), 2),
    "429": (Answer({"error": {"message": "slow down"}}, 429, {"retry-after": "0"}), 2),
    "html": (Answer(b"<html>proxy</html>", 502, {"content-type": "text/html"}), 2),
    # Nobody knows what came of these, and there is no way to ask: one more task there could be a second one.
    "cut": (Answer(cut=True), 1),
    # No second try helps.
    "401": (Answer({"error": {"message": "invalid key", "code": "invalid_api_key"}}, 401), 1),
}


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_the_next_target_takes_over_and_one_retry_is_made_before(gateway: Gateway, fault: str) -> None:
    answer, tries = FAULTS[fault]
    with serving(Xai()) as first, serving(Ark()) as second:
        first.submit_faults.extend([answer] * 10)
        model, caller = serve(gateway, first, second), gateway.caller()
        row = drive(submitted(caller, model))
        assert row.state == "succeeded"
        assert sum(asked.method == "POST" for asked in first.asked) == tries
        assert len(second.submissions) == 1
        assert row.attempts == tries + 1
        assert row.provider == f"{model}-p1"
        assert ["error" in step for step in row.attempt_trace] == [True] * tries + [False]
        assert paid(caller) == 50
        log = caller.books().log[0]
        assert (log["attempts"], log["provider"]) == (tries + 1, f"{model}-p1")


def test_a_failure_that_passes_needs_no_other_target(gateway: Gateway) -> None:
    with serving(Xai()) as first, serving(Ark()) as second:
        first.submit_faults.append(Answer(b"busy", 503))
        row = drive(submitted(gateway.caller(), serve(gateway, first, second)))
        assert (row.state, row.attempts) == ("succeeded", 2)
        assert not second.asked


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(Answer(b"busy", 503), "upstream_error"), (Answer({}, 429), "overloaded_error")],
    ids=["failed", "rate-limited"],
)
def test_where_nobody_takes_it_on_all_of_it_comes_back(gateway: Gateway, answer: Answer, kind: str) -> None:
    with serving(Xai()) as first, serving(Ark()) as second:
        for api in (first, second):
            api.submit_faults.extend([answer] * 10)
        caller = gateway.caller()
        row = drive(submitted(caller, serve(gateway, first, second)))
        assert (row.state, row.error_type, row.attempts) == ("failed", kind, 4)
        assert "http" not in row.error_message
        assert paid(caller) == 0


def test_a_refusal_is_the_callers_and_asks_nobody_else(gateway: Gateway) -> None:
    with serving(Ark()) as first, serving(Xai()) as second:
        refusal = {"error": {"code": "InvalidParameter", "message": f"bad ratio at {first.base_url}", "type": "x"}}
        first.submit_faults.append(Answer(refusal, 400))
        caller = gateway.caller()
        row = drive(submitted(caller, serve(gateway, first, second)))
        assert (row.state, row.error_type) == ("failed", "invalid_request_error")
        assert "bad ratio" in row.error_message
        assert first.base_url not in row.error_message
        assert not second.asked
        assert paid(caller) == 0


def test_who_has_taken_it_on_keeps_it(gateway: Gateway) -> None:
    with serving(Ark()) as first, serving(Xai()) as second:
        first.look_faults.extend([Answer(b"busy", 503), Answer(cut=True), Answer({}, 429), Answer(b"<html>")])
        row = drive(submitted(gateway.caller(), serve(gateway, first, second)))
        assert row.state == "succeeded"
        assert len(first.submissions) == 1
        assert not second.asked


def test_a_lost_answer_makes_no_second_task_where_the_provider_keeps_our_id(gateway: Gateway) -> None:
    with serving(Kling()) as api:
        api.submit_faults.append(Answer(cut=True))
        caller = gateway.caller()
        row = drive(submitted(caller, serve(gateway, api)))
        assert row.state == "succeeded"
        assert len(api.submissions) == 1
        assert api.submissions[0].body["external_task_id"] == str(row.pk)
        assert paid(caller) == 50


def test_a_task_that_was_slow_to_be_found_is_no_refusal(gateway: Gateway) -> None:
    with serving(Kling()) as api:
        api.submit_faults.append(Answer(cut=True))
        api.look_faults.append(Answer({"code": 1203, "message": "The requested resource does not exist"}, 404))
        caller = gateway.caller()
        row = drive(submitted(caller, serve(gateway, api)))
        assert (row.state, row.error_message) == ("succeeded", "")
        assert len(api.submissions) == 1
        assert sum(asked.method == "POST" for asked in api.asked) == 2  # the second one was refused: its id is used
        assert paid(caller) == 50


def test_a_model_that_a_provider_does_not_have_is_not_the_callers_fault(gateway: Gateway) -> None:
    with serving(OpenAI()) as api:
        error = {"message": "The model 'sora-2' does not exist", "code": "model_not_found", "type": "x"}
        api.submit_faults.extend([Answer({"error": error}, 404)] * 3)
        caller = gateway.caller()
        row = drive(submitted(caller, serve(gateway, api)))
        assert (row.state, row.error_type) == ("failed", "upstream_error")
        assert "sora" not in row.error_message
        assert paid(caller) == 0


def test_a_worker_that_died_behind_the_submission_makes_no_second_task(gateway: Gateway) -> None:
    with serving(Kling()) as api:
        caller = gateway.caller()
        job = submitted(caller, serve(gateway, api))
        row = step(job)
        assert row.begun
        # As the row was before, but for what a claim leaves behind.
        Job.objects.filter(pk=job).update(begun=False, state="queued", started_at=None, notes={})
        assert drive(job).state == "succeeded"
        assert len(api.submissions) == 1
        assert paid(caller) == 50


def test_a_provider_that_is_switched_off_meanwhile_is_waited_for(gateway: Gateway) -> None:
    with serving(DashScope()) as api:
        caller = gateway.caller()
        model = serve(gateway, api)
        job = submitted(caller, model)
        step(job)
        Provider.objects.filter(slug=f"{model}-p0").update(enabled=False)
        live.forget()
        assert step(job).state in ("queued", "running")
        Provider.objects.filter(slug=f"{model}-p0").update(enabled=True)
        live.forget()
        assert drive(job).state == "succeeded"
        assert paid(caller) == 50


def test_progress_never_goes_back(gateway: Gateway) -> None:
    with serving(OpenAI()) as api:
        api.polls_until_done = 4
        caller = gateway.caller()
        job = submitted(caller, serve(gateway, api))
        seen = [polled(caller, job)["progress"]]
        for _ in range(5):
            step(job)
            seen.append(polled(caller, job)["progress"])
        assert seen[0] is None
        assert [each for each in seen if each is not None] == sorted(each for each in seen if each is not None)


def test_a_target_that_keeps_failing_is_left_out_and_comes_back(gateway: Gateway) -> None:
    with serving(Xai()) as first, serving(Ark()) as second:
        first.submit_faults.extend([Answer(b"busy", 503)] * video_circuit.MOST_FAILURES)
        model, caller = serve(gateway, first, second), gateway.caller()
        for _ in range(3):  # two tries, two tries, and the one that takes it out
            assert drive(submitted(caller, model)).state == "succeeded"
        asked = len(first.asked)
        row = drive(submitted(caller, model))
        assert (row.attempts, row.provider) == (1, f"{model}-p1")
        assert len(first.asked) == asked
        label = f"{model}-p0//grok-imagine-video"
        assert video_circuit.is_open(label)
        video_circuit.failed(label, open_seconds=1)
        wait_for(lambda: not video_circuit.is_open(label))
        assert drive(submitted(caller, model)).provider == f"{model}-p0"
        assert paid(caller, rows=5) == 250


def test_a_target_that_is_left_out_is_asked_where_nobody_else_can(gateway: Gateway) -> None:
    with serving(Xai()) as api:
        model = serve(gateway, api)
        for _ in range(5):
            video_circuit.failed(f"{model}-p0//grok-imagine-video")
        assert drive(submitted(gateway.caller(), model)).state == "succeeded"
