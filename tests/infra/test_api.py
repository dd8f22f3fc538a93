"""Deployments, runs and hosted models as a program with a key meets them, through the real gateway (C-GPU-1 to 4)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection
from pytest_django import Settings

from catalog import live, prices
from catalog.models import Model, Provider
from catalog.pricing import Rates
from events.models import AuditEvent, Outbox
from gateway.runtime import database_dsn
from infra.models import Deployment
from infra.samples import handler
from jobs.models import Job
from orgs.models import Membership
from tests import factories
from tests.fakes import runpod as fake
from tests.infra.conftest import ADA, bring_up, publish_prices
from tests.support.gateway import CREDIT, Caller, Gateway, wait_for
from tests.support.jobs import drive, step

NEW = {
    "slug": "my-comfy-workflow",
    "name": "My Comfy",
    "dockerImage": "runpod/worker-comfyui:dev-cuda12.1.1",
    "gpuTypes": "ADA_48_PRO,AMPERE_80",
}
PICTURE = f"data:image/png;base64,{base64.b64encode(handler.png('a cat', 16, 16)).decode()}"


@pytest.fixture(scope="module")
def engine() -> Iterator[fake.RunPod]:
    """One engine for the module: the gateway that knows it is started once."""
    with fake.running() as server:
        yield server


@pytest.fixture
def caller(gateway: Gateway, engine: fake.RunPod, settings: Settings) -> Iterator[Caller]:
    """Somebody with a key, at a gateway whose engine is the fake one."""
    given = {"GPU_ENGINE": "runpod", "RUNPOD_API_KEY": fake.KEY, "RUNPOD_REST_URL": f"{engine.url}/v1"}
    for name, value in given.items():
        setattr(settings, name, value)
    publish_prices(engine)
    live.forget()
    yield gateway.caller(server=gateway.with_settings(**given))
    engine.faults.clear()
    engine.script.clear()
    live.forget()


def deployed(caller: Caller, **members: Any) -> Deployment:
    """A deployment of the caller's that is ready."""
    made = caller.send("POST", "/v1/deployments", {**NEW, **members})
    assert made.status == 201, made.json
    return bring_up(Deployment.objects.get(pk=made.json["id"]))


def test_a_deployment_from_its_making_to_its_end(caller: Caller, engine: fake.RunPod) -> None:
    made = caller.send("POST", "/api/v1/deployments", {**NEW, "env": {"HF_TOKEN": "hf_secret"}})
    assert made.status == 201
    assert (made.json["slug"], made.json["gpuTypes"], made.json["status"]) == (
        NEW["slug"], "ADA_48_PRO,AMPERE_80", "creating",
    )  # fmt: skip
    assert (made.json["minWorkers"], made.json["maxWorkers"], made.json["envNames"]) == (0, 3, ["HF_TOKEN"])
    row = bring_up(Deployment.objects.get(pk=made.json["id"]))
    listed = caller.send("GET", "/v1/deployments").json["deployments"]
    assert [each["status"] for each in listed] == ["ready"]
    for name in (NEW["slug"], made.json["id"]):
        one = caller.send("GET", f"/v1/deployments/{name}")
        assert (one.status, one.json["id"]) == (200, made.json["id"])
        assert "hf_secret" not in one.body.decode()
    changed = caller.send("PATCH", f"/v1/deployments/{NEW['slug']}", {"maxWorkers": 7, "gpuTypes": ["AMPERE_80"]})
    assert (changed.json["maxWorkers"], changed.json["gpuTypes"], changed.json["status"]) == (7, "AMPERE_80", "scaling")
    row = bring_up(row)
    assert engine.endpoints[row.endpoint_id]["workersMax"] == 7
    gone = caller.send("DELETE", f"/v1/deployments/{row.pk}")
    assert (gone.status, gone.json["deleted"]) == (200, True)
    assert caller.send("GET", f"/v1/deployments/{row.pk}").status == 404
    trail = AuditEvent.objects.filter(workspace_id=caller.workspace.pk, target_type="deployment").order_by("id")
    assert [row.action for row in trail] == ["deployment.create", "deployment.change", "deployment.delete"]
    assert all(row.actor_id == caller.user.pk for row in trail)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"slug": "run"}, "slug"),
        ({"slug": "jobs"}, "slug"),
        ({"slug": "Not A Slug"}, "slug"),
        ({"gpuTypes": "ADA_48_PRO,NO_SUCH"}, "gpuTypes"),
        ({"gpuTypes": []}, "gpuTypes"),
        ({"gpuTypes": 5}, "gpuTypes"),
        ({"dockerImage": "an image"}, "dockerImage"),
        ({"minWorkers": 4, "maxWorkers": 2}, "minWorkers"),
        ({"maxWorkers": True}, "maxWorkers"),
        ({"idleTimeoutSeconds": 0}, "idleTimeoutSeconds"),
        ({"maxSeconds": 10**9}, "maxSeconds"),
        ({"webhookUrl": "http://127.0.0.1:1/"}, "webhookUrl"),
        ({"env": {"PATH": "/evil"}}, "env"),
        ({"env": {"A": 1}}, "env"),
        ({"env": "A=b"}, "env"),
        ({"colour": "red"}, "colour"),
        ({"name": ""}, "name"),
        ({"slug": "01a20628-dd0e-7300-bc2e-e24ec345ff66"}, "slug"),
        ({"slug": "01a20628dd0e7300bc2ee24ec345ff66"}, "slug"),
        ({"env": {"A": "\ud800"}}, "env"),
        ({"\ud800": 1}, "\ufffd"),
    ],
)
def test_what_is_wrong_is_named_and_makes_nothing(caller: Caller, members: dict[str, Any], param: str) -> None:
    refused = caller.send("POST", "/v1/deployments", {**NEW, **members})
    assert (refused.status, refused.json["error"]["param"]) == (400, param)
    assert not Deployment.objects.filter(workspace=caller.workspace).exists()


def test_the_same_idempotency_key_makes_one(caller: Caller) -> None:
    first, again = (caller.send("POST", "/v1/deployments", NEW, idempotency_key="k1") for _ in range(2))
    assert first.status == again.status == 201 and first.json == again.json
    assert again.headers["idempotency-replayed"] == "true"
    other = caller.send("POST", "/v1/deployments", {**NEW, "slug": "other"}, idempotency_key="k1")
    assert (other.status, other.json["error"]["code"]) == (409, "idempotency_key_reused")
    taken = caller.send("POST", "/v1/deployments", NEW)
    assert (taken.status, taken.json["error"]["param"]) == (409, "slug")
    assert Deployment.objects.filter(workspace=caller.workspace).count() == 1


def test_others_see_and_change_nothing(caller: Caller, gateway: Gateway, engine: fake.RunPod) -> None:
    row = deployed(caller)
    job = caller.send("POST", f"/v1/gpu/run/{row.slug}", {"input": {"a": 1}}).json["job_id"]
    stranger = gateway.caller()
    stranger = Caller(stranger.user, stranger.workspace, stranger.key, stranger.secret, caller.port)
    assert stranger.send("GET", "/v1/deployments").json == {"deployments": []}
    for method, path, body in (
        ("GET", f"/v1/deployments/{row.pk}", None),
        ("PATCH", f"/v1/deployments/{row.slug}", {"name": "Mine"}),
        ("DELETE", f"/v1/deployments/{row.pk}", None),
        ("POST", f"/v1/gpu/run/{row.slug}", {"input": {}}),
        ("GET", f"/v1/gpu/jobs/{job}", None),
        ("DELETE", f"/v1/gpu/jobs/{job}", None),
    ):
        assert stranger.send(method, path, body).status == 404, path
    row.refresh_from_db()
    assert (row.name, row.is_deleted) == ("My Comfy", False)
    assert not Job.objects.get(pk=job).is_final


def test_a_key_does_no_more_than_its_maker_may(caller: Caller) -> None:
    Membership.objects.filter(workspace=caller.workspace, user=caller.user).update(role="viewer")
    refused = caller.send("POST", "/v1/deployments", NEW)
    assert (refused.status, refused.json["error"]["type"]) == (403, "permission_error")
    assert caller.send("GET", "/v1/deployments").status == 200


def test_nobody_without_a_key(caller: Caller) -> None:
    nobody = Caller(caller.user, caller.workspace, caller.key, "", caller.port)
    for method, path in (("GET", "/v1/deployments"), ("POST", "/v1/gpu/run/x"), ("POST", "/v1/gpu/sdxl")):
        assert nobody.send(method, path, {} if method == "POST" else None).status == 401


# ── Runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_run_is_queued_polled_and_paid(caller: Caller, engine: fake.RunPod) -> None:
    deployed(caller, gpuTypes="ADA_48_PRO")
    comfy = {"prompt": "an astronaut", "seed": 42, "workflow_overrides": {"Sampler.steps": 30}}
    queued = caller.send("POST", f"/v1/gpu/run/{NEW['slug']}", {"input": comfy})
    assert (queued.status, queued.json["status"]) == (202, "queued")
    provider_job = queued.json["provider_job_id"]
    assert engine.jobs[provider_job]["asked"]["input"] == comfy
    engine.finish(provider_job, "IN_PROGRESS")
    path = f"/v1/gpu/jobs/{queued.json['job_id']}"
    assert caller.send("GET", path).json["status"] == "running"
    engine.finish(provider_job, output={"images": [PICTURE]}, executionTime=18_420)
    done = caller.send("GET", path)
    assert (done.status, done.json["status"], done.json["output"]) == (200, "succeeded", {"images": [PICTURE]})
    cost = (18_420 * ADA + 500) // 1000
    assert (done.json["executionMs"], done.json["creditsCharged"]) == (18_420, cost / CREDIT)
    books = caller.settled_books()
    assert (books.charged, books.held, books.available) == (cost, 0, 1000 * CREDIT - cost)
    assert caller.send("GET", path).json == done.json, "what was read stays"


def test_a_synchronous_run_waits_for_its_end(caller: Caller, engine: fake.RunPod) -> None:
    deployed(caller)
    engine.script += [{"status": "IN_PROGRESS"}, {"status": "COMPLETED", "output": {"ok": 1}, "executionTime": 900}]
    done = caller.send("POST", f"/v1/gpu/run/{NEW['slug']}", {"input": {}, "sync": True})
    assert (done.status, done.json["status"], done.json["output"]) == (200, "succeeded", {"ok": 1})
    engine.script.append({"status": "FAILED", "error": "no memory", "executionTime": 900})
    failed = caller.send("POST", f"/v1/gpu/run/{NEW['slug']}", {"input": {}, "sync": True})
    assert (failed.json["status"], failed.json["creditsCharged"]) == ("failed", 0)
    assert failed.json["error"]["message"] == "no memory"


def test_the_same_idempotency_key_runs_once(caller: Caller, engine: fake.RunPod) -> None:
    row = deployed(caller)
    first, again = (
        caller.send("POST", f"/v1/gpu/run/{row.slug}", {"input": {}}, idempotency_key="k9") for _ in range(2)
    )
    assert first.json["job_id"] == again.json["job_id"]
    assert Job.objects.filter(workspace=caller.workspace).count() == 1


@pytest.mark.parametrize("sync", [False, True], ids=["handed over", "looked at"])
def test_a_run_that_a_step_fails_of_stands(caller: Caller, engine: fake.RunPod, sync: bool) -> None:
    """Its credits are reserved, so its caller is told of it, whatever becomes of the database in that moment."""
    row = deployed(caller, gpuTypes="ADA_48_PRO")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        ours = cursor.fetchone()[0]

    def cut() -> None:
        """The end of every connection that a step may be on; its lease ends by itself."""
        engine.faults.clear()
        with psycopg.connect(database_dsn(), autocommit=True) as control:
            control.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'hypereal' AND pid <> %s",
                [ours],
            )
            control.execute("UPDATE jobs_job SET lease_until = now() WHERE workspace_id = %s", [caller.workspace.pk])

    engine.faults[("GET", "/status") if sync else ("POST", "/run")] = cut
    engine.script.append({"status": "COMPLETED", "output": {"ok": 1}, "executionTime": 900})
    told = caller.send("POST", f"/v1/gpu/run/{row.slug}", {"input": {}, "sync": sync})
    assert not engine.faults
    if sync:
        assert (told.status, told.json["status"]) == (200, "succeeded")
    else:
        assert (told.status, told.json["status"], told.json["provider_job_id"]) == (202, "queued", None)
        assert drive(Job.objects.get(pk=told.json["job_id"]).pk).state == "succeeded"
    books = caller.settled_books()
    assert (books.charged, books.held) == ((900 * ADA + 500) // 1000, 0)


def test_a_run_is_cancelled(caller: Caller, engine: fake.RunPod) -> None:
    row = deployed(caller)
    job = caller.send("POST", f"/v1/gpu/run/{row.slug}", {"input": {}}).json["job_id"]
    told = caller.send("POST", f"/v1/gpu/jobs/{job}/cancel")
    assert (told.status, told.json["status"], told.json["creditsCharged"]) == (200, "cancelled", 0)
    assert caller.settled_books().held == 0


def test_a_run_notifies_its_webhook(caller: Caller, engine: fake.RunPod) -> None:
    row = deployed(caller)
    Deployment.objects.filter(pk=row.pk).update(webhook_url="https://hooks.example/x")
    job = caller.send("POST", f"/v1/gpu/run/{row.slug}", {"input": {}})
    engine.finish(job.json["provider_job_id"], output={}, executionTime=5)
    drive(Job.objects.get(pk=job.json["job_id"]).pk)
    notice = Outbox.objects.get(workspace_id=caller.workspace.pk, event="job.succeeded")
    assert (notice.url, notice.data["jobId"], notice.data["deployment"]) == (
        "https://hooks.example/x", job.json["job_id"], row.slug,
    )  # fmt: skip


def test_the_retired_routes_name_the_new_one(caller: Caller) -> None:
    for path in ("/v1/comfy", "/v1/comfy/workflows/7", "/api/v1/comfy/run"):
        for method in ("GET", "POST"):
            gone = caller.send(method, path, {} if method == "POST" else None)
            assert gone.status == 410 and "/v1/gpu/run/{slug}" in gone.json["error"]["message"]


def test_odd_requests_are_refused_in_words_and_reserve_nothing(caller: Caller) -> None:
    deployed(caller)
    run, deep = f"/v1/gpu/run/{NEW['slug']}", "[" * 400 + "]" * 400
    for body in ('{"input": {"a": [{"b": NaN}]}}', '{"input": {"a": -1e999}}', f'{{"input": {{"a": {deep}}}}}'):
        refused = caller.send("POST", run, body.encode())
        assert (refused.status, refused.json["error"]["param"]) == (400, "input"), body[:40]
    for method, path in (
        ("POST", "/v1/gpu/run/a%00b"),
        *((m, "/v1/deployments/a%00b") for m in ("GET", "PATCH", "DELETE")),
    ):
        refused = caller.send(method, path, {"input": {}} if method == "POST" else {} if method == "PATCH" else None)
        assert (refused.status, refused.json["error"]["code"]) == (404, "deployment_not_found"), (method, path)
    assert caller.books().held == 0
    own = caller.send("POST", run, {"input": {}, "hypereal": {"cache": False}})
    assert own.status == 202, "a member of ours passes on every path, and goes no further"


# ── Hosted models ────────────────────────────────────────────────────────────────────────────────────────────────────
def hosted(slug: str, unit: str, price: int, **rules: Any) -> None:
    """A hosted model in the catalog."""
    vendor = Provider.objects.get(slug="runpod")
    gpu = {"max_seconds": 60, "image": f"acme/{slug}:1", "gpu_types": ["ADA_48_PRO"], **rules}
    model, _made = Model.objects.update_or_create(
        slug=slug, defaults={"name": slug, "vendor": vendor, "endpoints": ["gpu"], "media": {"gpu": gpu}}
    )
    rates = Rates(unit=unit, unit_prices=(("default", price),))
    prices.publish(model, rates, list_rates=rates, factor_basis_points=10_000)


def posted(caller: Caller, slug: str, body: Any) -> Any:
    """Asked until the gateway's catalog knows the model: its pages' snapshot is some seconds old at most."""
    reply: list[Any] = []

    def known() -> bool:
        reply[:] = [caller.send("POST", f"/v1/gpu/{slug}", body)]
        return reply[0].status != 404

    wait_for(known, 20)
    return reply[0]


def test_a_short_model_answers_inline_at_its_price(caller: Caller, engine: fake.RunPod) -> None:
    hosted("sdxl", "request", 50 * CREDIT, inline=True)
    engine.script.append({"status": "COMPLETED", "output": {"images": [PICTURE]}, "executionTime": 4_210})
    done = posted(caller, "sdxl", {"input": {"prompt": "a tabby cat astronaut"}})
    assert (done.status, done.json["status"], done.json["costCredits"], done.json["durationMs"]) == (
        200, "succeeded", 50, 4_210,
    )  # fmt: skip
    (url,) = done.json["outputs"]
    assert url.startswith("http") and url.endswith(".png")
    assert caller.settled_books().charged == 50 * CREDIT


def test_a_long_model_queues_and_costs_its_seconds(caller: Caller, engine: fake.RunPod) -> None:
    hosted("wan-video", "second", 2 * CREDIT)
    queued = posted(caller, "wan-video", {"input": {"prompt": "drone over Tokyo", "seconds": 5}})
    assert (queued.status, queued.json["status"]) == (202, "queued")
    assert queued.json["pollUrl"] == f"/v1/gpu/jobs/{queued.json['id']}"
    row = Job.objects.get(pk=queued.json["id"])
    assert row.reserved_microcredits == caller.books().held == 120 * CREDIT
    engine.finish(row.notes["provider_job_id"], output={"video": PICTURE}, executionTime=15_600)
    done = caller.send("GET", queued.json["pollUrl"]).json
    assert (done["status"], done["costCredits"], done["durationMs"], len(done["outputs"])) == (
        "succeeded", 31.2, 15_600, 1,
    )  # fmt: skip
    assert caller.settled_books().held == 0


@pytest.mark.parametrize(
    ("ends", "state", "credits"),
    [
        ({"status": "COMPLETED", "output": {"video": PICTURE}, "executionTime": 99_000}, "succeeded", 120),
        ({"status": "TIMED_OUT", "executionTime": 60_000}, "failed", 0),
        ({"status": "FAILED", "error": "no memory", "executionTime": 3_000}, "failed", 0),
    ],
    ids=["cut at maxSeconds", "timed out", "failed"],
)
def test_a_long_model_never_costs_more_than_its_most_seconds(
    caller: Caller, engine: fake.RunPod, ends: dict[str, Any], state: str, credits: int
) -> None:
    hosted("wan-video", "second", 2 * CREDIT)
    queued = posted(caller, "wan-video", {"input": {"prompt": "x"}})
    row = step(Job.objects.get(pk=queued.json["id"]).pk)
    engine.jobs[row.notes["provider_job_id"]].update(ends)
    done = caller.send("GET", queued.json["pollUrl"]).json
    assert (done["status"], done["costCredits"]) == (state, credits)
    books = caller.settled_books()
    assert (books.charged, books.held) == (credits * CREDIT, 0)


def test_a_hosted_model_that_is_not_there_names_those_that_are(caller: Caller) -> None:
    refused = caller.send("POST", "/v1/gpu/nowhere", {"input": {}})
    assert (refused.status, refused.json["error"]["code"]) == (404, "model_not_found")
    assert isinstance(refused.json["error"]["available_models"], list)


def test_an_organization_s_deployment_is_not_a_member_s_own(caller: Caller, gateway: Gateway) -> None:
    organization = factories.organization()
    factories.member(organization, "developer", caller.user)
    Deployment.objects.create(
        workspace=organization, slug="theirs", name="Theirs", docker_image="a/b", gpu_types=["AMPERE_80"],
        max_seconds=60, engine="runpod",
    )  # fmt: skip
    assert caller.send("GET", "/v1/deployments/theirs").status == 404
