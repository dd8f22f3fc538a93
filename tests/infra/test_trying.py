"""A hosted model tried by hand: one job a form, within its person's wallet, its result on the job's page (C-GPU-1)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from catalog import live
from jobs.models import Job
from keys.models import ApiKey
from orgs.models import Membership
from tests import factories
from tests.fakes.runpod import RunPod
from tests.infra.conftest import CREDIT
from tests.infra.test_api import PICTURE, hosted
from tests.support.jobs import drive, step
from tests.support.money import Payer, new_payer

pytestmark = pytest.mark.django_db

PAGE = "/gpu-recommend/sdxl/try"


@pytest.fixture
def visitor(payer: Payer, client: Client) -> Client:
    """The payer, signed in, where there is a hosted model."""
    hosted("sdxl", "request", 50 * CREDIT, inline=True, example={"prompt": "a <tabby> cat"})
    live.forget()
    client.force_login(payer.user)
    return client


def token_of(client: Client) -> str:
    found = re.search(r'name="token" value="([^"]+)"', client.get(PAGE).content.decode())
    assert found is not None
    return found[1]


def send(client: Client, token: str, value: str = '{"prompt": "a cat"}') -> Any:
    return client.post(PAGE, {"input": value, "token": token})


def test_one_form_is_one_job_and_its_page_shows_the_result(visitor: Client, payer: Payer, runpod: RunPod) -> None:
    listed = visitor.get("/gpu-recommend").content.decode()
    assert PAGE in listed
    page = visitor.get(PAGE).content.decode()
    assert "a &lt;tabby&gt; cat" in page and "50 credits a call" in page
    token = token_of(visitor)
    first, again = send(visitor, token), send(visitor, token)
    job = Job.objects.get(workspace=payer.workspace)
    assert (first.status_code, first.url, again.url) == (302, f"/jobs/{job.pk}", f"/jobs/{job.pk}")
    assert (payer.books().held, ApiKey.objects.filter(internal=True).count()) == (50 * CREDIT, 1)
    step(job.pk)
    assert runpod.jobs[runpod.only_job()]["asked"]["input"] == {"prompt": "a cat"}
    runpod.finish(runpod.only_job(), output={"images": [PICTURE]}, executionTime=900)
    assert drive(job.pk).state == "succeeded"
    shown = visitor.get(first.url).content.decode()
    assert "<img" in shown and payer.books().balance == 950 * CREDIT


def test_the_endpoint_follows_the_catalog_and_comes_back_when_it_is_lost(
    visitor: Client, payer: Payer, runpod: RunPod
) -> None:
    def asked() -> str:
        job_id = send(visitor, token_of(visitor)).url.rpartition("/")[2]
        for _ in range(3):
            step(Job.objects.get(pk=job_id).pk)
        (endpoint,) = runpod.endpoints.values()
        return f"{runpod.templates[endpoint['templateId']]['imageName']} {endpoint['executionTimeoutMs']}"

    assert asked() == "acme/sdxl:1 60000"
    hosted("sdxl", "request", 50 * CREDIT, inline=True, image="acme/sdxl:2", max_seconds=30)
    live.forget()
    runpod.faults[("PATCH", "/v1/endpoints")] = 503
    job_id = send(visitor, token_of(visitor)).url.rpartition("/")[2]
    assert not step(Job.objects.get(pk=job_id).pk).begun, "it waits for the engine"
    runpod.faults.clear()
    assert asked() == "acme/sdxl:2 30000"
    told = runpod.times("PATCH", "/v1/")
    assert asked() == "acme/sdxl:2 30000" and runpod.times("PATCH", "/v1/") == told, "told once"
    runpod.endpoints.clear()
    hosted("sdxl", "request", 50 * CREDIT, inline=True, image="acme/sdxl:3")
    live.forget()
    assert asked() == "acme/sdxl:3 60000"
    assert len(runpod.templates) == 1


def test_what_is_no_object_is_refused_beside_its_field(visitor: Client) -> None:
    token = token_of(visitor)
    for value in ("", "{", "[]", '"text"', "1e999", '{"a": NaN}', '{"a": [{"b": -1e999}]}', "\x00"):
        refused = send(visitor, token, value)
        assert refused.status_code == 422 and 'aria-invalid="true"' in refused.content.decode(), value
    assert not Job.objects.exists() and not ApiKey.objects.filter(internal=True).exists()


def test_a_form_is_its_person_s_alone_and_a_wallet_s_end_is_told(visitor: Client, payer: Payer) -> None:
    token = token_of(visitor)
    poor = new_payer(balance=50 * CREDIT - 1)
    other = Client()
    other.force_login(poor.user)
    assert send(other, token).status_code == send(other, "forged").status_code == 422
    refused = send(other, token_of(other))
    assert refused.status_code == 402 and "Not enough credits" in refused.content.decode()
    assert not Job.objects.exists()
    assert other.get("/gpu-recommend/gpt-5.5/try").status_code == 404


def test_strangers_sign_in_first_and_viewers_are_not_asked(visitor: Client) -> None:
    stranger = Client()
    assert PAGE in stranger.get("/gpu-recommend").content.decode()
    assert stranger.get(PAGE).url.startswith("/accounts/login/")  # type: ignore[attr-defined]
    organization = factories.organization()
    viewer = factories.member(organization, "viewer")
    Membership.objects.filter(user=viewer).exclude(workspace=organization).delete()
    theirs = Client()
    theirs.force_login(viewer)
    assert theirs.get(PAGE).status_code == 403
    assert PAGE not in theirs.get("/gpu-recommend").content.decode()
