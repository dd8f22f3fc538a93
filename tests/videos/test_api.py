"""``POST /videos/generate`` as callers meet it: the printed examples, keys, repeats, limits, quotes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from uuid import UUID

import pytest

from billing.models import Hold
from catalog import live
from catalog.models import Model
from hypereal_site import processes
from jobs.models import Job
from keys.models import ApiKey
from storage import objects
from storage.models import StoredObject
from tests.fakes.video_apis import Omni, VideoApi, serving
from tests.fakes.video_tasks import Ark
from tests.support import ports
from tests.support.gateway import CREDIT, Caller, Gateway, wait_for, wait_for_the_minute
from tests.support.jobs import step
from tests.videos.models import SECOND, drive, generate, paid, polled, rates_of, serve, submitted

#: The printed examples' bodies.
CURL: Final = {
    "model": "gemini_omni_flash",
    "prompt": "a white cube rotating on a black background, clean product demo",
    "duration": 6,
    "aspect_ratio": "16:9",
    "resolution": "720P",
    "image_urls": ["https://example.com/product-reference.png"],
}
NODE: Final = {
    **CURL,
    "prompt": "a cat walking on the moon, cinematic, no text",
    "image_urls": ["https://example.com/cat-reference.png"],
}


@pytest.fixture
def api() -> Iterator[VideoApi]:
    with serving(Ark()) as api:
        yield api


@pytest.mark.parametrize("example", [CURL, NODE], ids=["curl", "node"])
@pytest.mark.parametrize("prefix", ["/api/v1", "/v1"])
def test_the_references_examples(gateway: Gateway, example: dict[str, Any], prefix: str) -> None:
    with serving(Omni()) as omni:
        model, caller = serve(gateway, omni, unit="clip"), gateway.caller()
        reply = caller.send("POST", f"{prefix}/videos/generate", {**example, "model": model})
        assert reply.status == 202
        assert {"jobId", "pollUrl", "status"} <= set(reply.json)
        assert reply.json["status"] == "queued"
        assert reply.json["pollUrl"] == f"/api/v1/jobs/{reply.json['jobId']}"
        seen = caller.send("GET", reply.json["pollUrl"])
        assert {"jobId", "status", "model", "progress", "data", "costCredits", "error"} <= set(seen.json)
        row = Job.objects.get(pk=reply.json["jobId"])
        assert row.input["images"] == example["image_urls"]
        assert row.reserved_microcredits == 100 * CREDIT
        assert row.deadline_at > row.created_at


def test_the_same_key_gets_the_same_job_and_pays_once(gateway: Gateway, api: VideoApi) -> None:
    model, caller = serve(gateway, api), gateway.caller()
    headers = {"idempotency_key": "video-1"}
    first = generate(caller, model, headers)
    again = generate(caller, model, headers)
    assert (first.status, again.status) == (202, 202)
    assert again.body == first.body
    assert again.headers["idempotency-replayed"] == "true"
    drive(UUID(first.json["jobId"]))
    assert generate(caller, model, headers).body == first.body
    assert generate(caller, model, headers, duration=4).status == 409
    assert Job.objects.filter(workspace=caller.workspace).count() == 1
    assert len(api.submissions) == 1
    # The conflict is a row of its own in the log, and costs nothing.
    wait_for(lambda: len(caller.books().log) == 2)
    assert paid(caller, rows=2) == 50


def test_repeats_at_the_same_moment_make_one_job(gateway: Gateway, api: VideoApi) -> None:
    model, caller = serve(gateway, api), gateway.caller()
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: generate(caller, model, {"idempotency_key": "k"}), range(8)))
    assert {reply.status for reply in replies} <= {202, 409}
    made = {reply.json["jobId"] for reply in replies if reply.status == 202}
    assert len(made) == 1
    assert caller.books().held == 50 * CREDIT
    assert Job.objects.filter(workspace=caller.workspace).count() == 1


def test_without_credits_nothing_is_made(gateway: Gateway, api: VideoApi) -> None:
    model, caller = serve(gateway, api), gateway.caller(credits=49)
    reply = generate(caller, model)
    assert (reply.status, reply.error["type"]) == (402, "insufficient_credits")
    assert not Job.objects.filter(workspace=caller.workspace).exists()
    assert caller.books().held == 0
    assert generate(caller, model, duration=4).status == 202


def test_the_wallet_holds_no_more_than_it_has(gateway: Gateway, api: VideoApi) -> None:
    model, caller = serve(gateway, api), gateway.caller(credits=120)
    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(reply.status for reply in pool.map(lambda _: generate(caller, model), range(6)))
    assert statuses == [202, 202, 402, 402, 402, 402]
    assert caller.books().held == 100 * CREDIT


def test_the_keys_limit_and_models_hold(gateway: Gateway, api: VideoApi) -> None:
    model, caller = serve(gateway, api), gateway.caller(spending_limit_microcredits=60 * CREDIT)
    assert generate(caller, model).status == 202
    reply = generate(caller, model)
    assert (reply.status, reply.error["type"]) == (402, "spending_limit_exceeded")
    other = gateway.caller()
    ApiKey.objects.filter(pk=other.key.pk).update(allowed_models=["another-model"])
    wait_for(lambda: generate(other, model).status == 403)
    assert generate(other, model).error["param"] == "model"
    assert not Job.objects.filter(workspace=other.workspace, created_at__gt=other.key.created_at).count() > 1


def test_the_wrong_door_and_unknown_models_are_named(gateway: Gateway, api: VideoApi) -> None:
    model, caller = serve(gateway, api), gateway.caller()
    reply = generate(caller, "no-such-model")
    assert (reply.status, reply.error["code"]) == (400, "model_not_found")
    reply = caller.chat(model)
    assert (reply.status, reply.error["code"]) == (400, "wrong_endpoint")
    assert "/v1/videos/generate" in reply.error["message"]
    assert caller.send("GET", "/v1/videos/generate").status == 405
    nobody = gateway.new_model(rates=rates_of("second", SECOND), kind="videos", media={})
    gateway.until_known(nobody)
    assert generate(caller, nobody).status in (400, 503)


def test_an_intent_takes_the_cheapest_that_can(gateway: Gateway) -> None:
    with serving(Ark()) as one, serving(Ark()) as two:
        dear, cheap = serve(gateway, one, unit="clip"), serve(gateway, two)
        intent = f"clips-{cheap}"
        Model.objects.filter(slug__in=[dear, cheap]).update(intents=[intent])
        caller = gateway.caller()

        def chosen(**body: Any) -> str:
            asked = {"intent": intent, "prompt": "a fox", **body}
            reply = caller.send("POST", "/v1/videos/generate", asked)
            return str(reply.json.get("model"))

        wait_for(lambda: chosen() == cheap)
        assert chosen(duration=10) in (cheap, dear)
        reply = caller.send("POST", "/v1/videos/generate", {"intent": "no-such-intent", "prompt": "a fox"})
        assert (reply.status, reply.error["param"]) == (400, "intent")


def test_a_quote_says_what_would_be_reserved_and_reserves_nothing(gateway: Gateway, api: VideoApi) -> None:
    model, caller = serve(gateway, api), gateway.caller()
    body = {"model": model, "prompt": "a fox", "duration": 7, "resolution": "1080P"}
    for asked in (body, {"endpoint": "/v1/videos/generate", "body": body}):
        reply = caller.send("POST", "/v1/quote", asked)
        assert reply.status == 200
        expected = {
            "endpoint": "/v1/videos/generate", "model": model, "reservation_credits": 105, "unit": "second",
            "units": 7, "tier": "1080P",
        }  # fmt: skip
        assert {name: reply.json[name] for name in expected} == expected
    assert caller.send("POST", "/v1/quote", {**body, "duration": 99}).error["param"] == "duration"
    assert caller.books().held == 0
    assert not Job.objects.filter(workspace=caller.workspace).exists()


def test_requests_are_counted_against_the_rate_limit(gateway: Gateway, api: VideoApi) -> None:
    server = gateway.with_settings(RATE_LIMIT_PER_MINUTE="4")
    model = serve(gateway, api)
    caller = gateway.caller(server=server)
    wait_for_the_minute()
    statuses = [generate(caller, model).status for _ in range(6)]
    assert 429 in statuses
    assert statuses.count(202) <= 4


def test_of_another_workspace_nothing_is_seen(gateway: Gateway, api: VideoApi) -> None:
    caller, stranger = gateway.caller(), gateway.caller()
    job = submitted(caller, serve(gateway, api))
    assert stranger.send("GET", f"/v1/jobs/{job}").status == 404
    assert stranger.send("DELETE", f"/v1/jobs/{job}").status == 404
    assert drive(job).state == "succeeded"
    assert polled(caller, job)["status"] == "succeeded"


def test_a_deleted_clip_leaves_its_job_and_its_price(gateway: Gateway, api: VideoApi) -> None:
    caller = gateway.caller()
    job = submitted(caller, serve(gateway, api))
    drive(job)
    objects.delete(StoredObject.objects.get(job_id=job))
    seen = polled(caller, job)
    assert (seen["status"], seen["data"], seen["costCredits"]) == ("succeeded", [], 50)


def test_no_secret_is_kept_with_a_job(gateway: Gateway, api: VideoApi) -> None:
    caller = gateway.caller()
    job = submitted(caller, serve(gateway, api))
    row = drive(job)
    kept = json.dumps([row.input, row.notes, row.result, row.attempt_trace])
    assert api.secret not in kept
    assert caller.secret not in kept
    assert Hold.objects.get(pk=job).state == "posted"


def test_a_clip_of_the_sandbox(gateway: Gateway) -> None:
    """Without any provider's key: OpenAI's videos as the sandbox speaks them."""
    port = ports.free_port()
    command = [sys.executable, "-m", "upstreams.sandbox", "--port", str(port), "--speed", "0"]
    process = subprocess.Popen(command)
    try:
        assert processes.wait_until(lambda: processes.answers(port), 120.0, every=0.05)
        slug = gateway.new_model(
            f"http://127.0.0.1:{port}/v1",
            rates=rates_of("second", SECOND),
            kind="videos",
            media={"resolutions": {"720P": "720P", "1080P": "1080P"}, "default_resolution": "720P",
                   "aspect_ratios": ["16:9", "9:16"], "default_aspect_ratio": "9:16",
                   "durations": {"min": 1, "max": 8, "default": 2}},
            options={"auth": "none"},
        )  # fmt: skip
        gateway.until_known(slug)
        caller: Caller = gateway.caller()
        live.forget()
        job = submitted(caller, slug)
        row = drive(job)
        assert (row.state, row.error_message) == ("succeeded", "")
        stored = StoredObject.objects.get(job_id=job)
        assert stored.content_type == "video/mp4"
        assert paid(caller) == 20
        failing = submitted(caller, slug, prompt="a fox [fail]")
        step(failing)
        assert drive(failing).state == "failed"
        assert paid(caller, rows=2) == 20
    finally:
        process.terminate()
        process.wait(60)
