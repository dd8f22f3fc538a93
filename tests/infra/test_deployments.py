"""A deployment's life at its engine: made once whatever breaks, told of, changed, lost, deleted (C-GPU-2)."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client

from core import clock, errors
from events import audit
from events.models import AuditEvent, Outbox
from infra import deployments, reconciling
from infra.engine import Spec
from infra.models import Deployment
from orgs import organizations
from tests import factories
from tests.fakes.runpod import RunPod
from tests.infra.conftest import bring_up, deploy, look
from tests.support.money import Payer

pytestmark = pytest.mark.django_db

State = Deployment.State


def told(payer: Payer) -> list[str]:
    rows = Outbox.objects.filter(workspace_id=payer.workspace.pk, event__startswith="deployment").order_by("id")
    return list(rows.values_list("event", flat=True))


def test_it_is_made_at_the_engine_and_told_of(payer: Payer, runpod: RunPod) -> None:
    row = deploy(payer, gpu_types=["ADA_48_PRO", "AMPERE_80"])
    assert (row.state, runpod.asked) == (State.CREATING, [])
    row = bring_up(row)
    (template,), (endpoint,) = runpod.templates.values(), runpod.endpoints.values()
    assert template["imageName"] == "acme/painter:1"
    assert (template["isServerless"], template["env"]) == (True, {"HF_TOKEN": "hf_of_the_customer"})
    assert endpoint["gpuTypeIds"] == [
        "NVIDIA L40", "NVIDIA L40S", "NVIDIA RTX 6000 Ada Generation", "NVIDIA A100 80GB PCIe", "NVIDIA A100-SXM4-80GB",
    ]  # fmt: skip
    assert (endpoint["workersMin"], endpoint["workersMax"], endpoint["idleTimeout"]) == (0, 3, 5)
    assert (endpoint["executionTimeoutMs"], endpoint["templateId"]) == (60_000, template["id"])
    assert row.health["workers"] == {"idle": 1, "running": 0}
    assert told(payer) == ["deployment.ready"]


def test_its_secrets_lie_sealed_and_in_no_trail(payer: Payer, runpod: RunPod) -> None:
    row = deploy(payer)
    with connection.cursor() as cursor:
        for table in ("infra_deployment", "events_auditevent", "events_outbox"):
            cursor.execute(f"SELECT string_agg(t::text, ' ') FROM {table} t")
            assert "hf_of_the_customer" not in str(cursor.fetchone()[0])
    assert (row.env_names, row.env()) == (["HF_TOKEN"], {"HF_TOKEN": "hf_of_the_customer"})


@pytest.mark.parametrize("part", ["/v1/templates", "/v1/endpoints"])
def test_an_answer_that_got_lost_makes_nothing_twice(payer: Payer, runpod: RunPod, part: str) -> None:
    row = deploy(payer)
    runpod.faults[("POST", part)] = "drop"
    row = bring_up(row)  # the fault stays: what was made is found by its name, and not asked for again
    assert runpod.times("POST", part) == 1
    assert (len(runpod.templates), len(runpod.endpoints), row.failures) == (1, 1, 0)


def test_what_was_changed_before_a_lost_answer_was_found_again_reaches_the_engine(payer: Payer, runpod: RunPod) -> None:
    row = deploy(payer)
    for part in ("/v1/templates", "/v1/endpoints"):
        runpod.faults[("POST", part)] = "drop"
        row = look(row)
        assert len(runpod.templates) == 1
        wanted = {"docker_image": f"acme{part}", "max_workers": row.max_workers + 1, "env": {"PART": part}}
        row = look(deployments.change(row, wanted, actor=audit.SYSTEM))
    row = bring_up(row)
    (template,), (endpoint,) = runpod.templates.values(), runpod.endpoints.values()
    assert (template["imageName"], endpoint["workersMax"]) == ("acme/v1/endpoints", 5)
    assert template["env"] == {"HF_TOKEN": "hf_of_the_customer", "PART": "/v1/endpoints"}


def test_an_engine_that_is_down_is_waited_for_then_given_up_and_healed(payer: Payer, runpod: RunPod) -> None:
    row = deploy(payer)
    runpod.faults[("GET", "/v1/")] = 503
    row = look(row)
    assert (row.state, row.failures, row.run_after > clock.now()) == (State.CREATING, 1, True)
    Deployment.objects.filter(pk=row.pk).update(state_since=clock.now() - timedelta(hours=1))
    row = look(row)
    assert (row.state, row.error_message) == (State.FAILED, "The GPU engine can't be reached at this moment.")
    assert told(payer) == ["deployment.failed"]
    runpod.faults.clear()
    row = bring_up(row)
    assert (row.error_message, told(payer)) == ("", ["deployment.failed", "deployment.ready"])


def test_what_the_engine_refuses_fails_with_its_words_until_it_is_changed(payer: Payer, runpod: RunPod) -> None:
    runpod.refused_images["acme/painter:1"] = "No such image for blue horse staple."
    row = look(deploy(payer, env={"PASSWORD": "blue horse staple", "SHORT": "No"}))
    assert (row.state, row.error_message) == (State.FAILED, "No such image for ….")
    asked = len(runpod.asked)
    assert not reconciling.step(row.pk) and len(runpod.asked) == asked, "a refusal is not asked again and again"
    row = deployments.change(row, {"docker_image": "acme/painter:2"}, actor=audit.SYSTEM)
    assert row.state == State.CREATING
    assert bring_up(row).docker_image == "acme/painter:2"


def test_a_key_that_the_engine_does_not_take_fails_without_blaming_the_customer(
    payer: Payer, runpod: RunPod, settings: object
) -> None:
    settings.RUNPOD_API_KEY = "rpa_of_somebody_else"  # type: ignore[attr-defined]
    row = look(deploy(payer))
    assert row.state == State.FAILED
    assert row.error_message == "The GPU engine does not serve this installation at this moment."


def test_changes_reach_the_engine(painter: Deployment, runpod: RunPod) -> None:
    wanted = {"max_workers": 5, "env": {"HF_TOKEN": None, "SEED": "1"}, "name": "Renamed"}
    row = deployments.change(painter, wanted, actor=audit.SYSTEM)
    assert (row.state, row.env_names) == (State.SCALING, ["SEED"])
    row = bring_up(row)
    assert runpod.endpoints[row.endpoint_id]["workersMax"] == 5
    assert runpod.templates[row.template_id]["env"] == {"SEED": "1"}
    details = AuditEvent.objects.get(action="deployment.change").details
    assert details["env_names"] == ["SEED"] and "HF_TOKEN" not in str(details)


def test_a_form_of_before_undoes_no_change(painter: Deployment, payer: Payer, client: Client) -> None:
    client.force_login(payer.user)
    path = f"/infra/deployments/{painter.pk}/edit"
    form = {
        "name": painter.name, "docker_image": painter.docker_image, "gpu_types": painter.gpu_types, "volume_id": "",
        "min_workers": 0, "max_workers": 3, "idle_timeout_seconds": 5, "max_seconds": painter.max_seconds,
        "webhook_url": painter.webhook_url, "env": "",
    }  # fmt: skip
    form["seen"] = client.get(path).content.decode().split('name="seen" value="')[1].split('"')[0]
    deployments.change(painter, {"max_workers": 1}, actor=audit.SYSTEM)
    answer = client.post(path, form | {"name": "Ours"}, follow=True)
    assert "Somebody changed this" in answer.content.decode()
    row = Deployment.objects.get(pk=painter.pk)
    assert (row.name, row.max_workers) == (painter.name, 1)
    # A second click, and what is there already, are no quarrel.
    answer = client.post(path, form | {"max_workers": 1}, follow=True)
    assert "Somebody changed this" not in answer.content.decode()


def test_a_change_while_the_engine_is_down_is_not_lost(painter: Deployment, runpod: RunPod) -> None:
    row = deployments.change(painter, {"max_workers": 5}, actor=audit.SYSTEM)
    runpod.faults[("PATCH", "/v1/")] = 500
    row = look(row)
    assert (row.state, row.applied_version < row.wanted_version) == (State.SCALING, True)
    runpod.faults.clear()
    assert runpod.endpoints[bring_up(row).endpoint_id]["workersMax"] == 5


def test_an_endpoint_that_the_engine_lost_is_made_again(painter: Deployment, runpod: RunPod) -> None:
    runpod.endpoints.clear()
    runpod.templates.clear()
    row = look(painter)
    assert (row.state, row.endpoint_id) == (State.CREATING, "")
    row = bring_up(row)
    assert list(runpod.endpoints) == [row.endpoint_id]


def test_deleting_clears_the_engine_even_if_it_was_down(painter: Deployment, runpod: RunPod) -> None:
    runpod.faults[("DELETE", "/v1/")] = 502
    deployments.delete(painter, actor=audit.SYSTEM)
    deployments.delete(painter, actor=audit.SYSTEM)
    row = look(painter)
    assert (row.state, row.engine_cleared, row.env_sealed) == (State.DELETED, False, None)
    runpod.faults.clear()
    row = look(row)
    assert (row.engine_cleared, runpod.endpoints, runpod.templates) == (True, {}, {})
    assert AuditEvent.objects.filter(action="deployment.delete").count() == 1
    with pytest.raises(errors.NotFound):
        deployments.find(row.workspace_id, "painter")


def test_what_was_asked_for_and_never_answered_is_cleared_too(payer: Payer, runpod: RunPod) -> None:
    row = deploy(payer)
    runpod.faults[("POST", "/v1/templates")] = "drop"
    row = look(row)
    assert len(runpod.templates) == 1 and not row.template_id
    deployments.delete(row, actor=audit.SYSTEM)
    runpod.faults.clear()
    assert look(row).engine_cleared and not runpod.templates


def test_a_slug_is_taken_once_and_free_again_after_deletion(painter: Deployment, payer: Payer) -> None:
    with pytest.raises(errors.Conflict) as refused:
        deploy(payer)
    assert (refused.value.param, refused.value.code) == ("slug", "slug_taken")
    deployments.delete(painter, actor=audit.SYSTEM)
    assert deploy(payer).pk != painter.pk


def test_one_that_is_broken_holds_up_no_other(
    payer: Payer, runpod: RunPod, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [deploy(payer, slug=f"painter-{name}") for name in "abc"]
    broken, really = rows[0], reconciling.spec_of

    def breaks(row: Deployment, warm_workers: int = 0) -> Spec:
        if row.pk == broken.pk:
            raise RuntimeError("a bug")
        return really(row, warm_workers)

    monkeypatch.setattr(reconciling, "spec_of", breaks)
    assert reconciling.sweep() == 3
    assert str(broken.pk) in {getattr(record, "deployment", "") for record in caplog.records}
    for _ in range(6):
        Deployment.objects.filter(pk__in=[row.pk for row in rows[1:]]).update(run_after=clock.now())
        reconciling.sweep()
    states = dict(Deployment.objects.values_list("pk", "state"))
    assert [states[row.pk] for row in rows] == [State.CREATING, State.READY, State.READY]
    # Its lease ends by itself, and without the bug it is made as the others were.
    monkeypatch.setattr(reconciling, "spec_of", really)
    Deployment.objects.filter(pk=broken.pk).update(lease_until=clock.now())
    assert bring_up(broken).state == State.READY


def test_who_lost_the_lease_writes_nothing(payer: Payer, runpod: RunPod) -> None:
    row = deploy(payer)
    row.lease = uuid4()
    assert not reconciling._write(row, 0, state=State.READY)
    assert Deployment.objects.get(pk=row.pk).state == State.CREATING


def test_a_deleted_organization_leaves_nothing_at_the_engine(runpod: RunPod, engine_set_up: None) -> None:
    workspace = factories.organization()
    owner = factories.member(workspace, "owner")
    payer = Payer(owner, workspace, factories.api_key(workspace, created_by=owner).key)
    payer.give(10**9)
    row = bring_up(deploy(payer))
    actor = audit.Actor(owner.pk, owner.email)
    organizations.delete(workspace, actor=actor, typed_name=workspace.name)
    row = look(row)
    assert (row.state, row.engine_cleared, runpod.endpoints) == (State.DELETED, True, {})
