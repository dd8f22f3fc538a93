"""The pages of jobs as a browser and as htmx ask for them."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from django.test import Client

from events.models import AuditEvent
from jobs.kinds import Done, Failed, Waiting
from jobs.models import Job
from orgs.permissions import Role
from tests import cast, factories
from tests.support.jobs import BALANCE, CREDIT, Scripted, drive, step, submit
from tests.support.money import Payer
from upstreams.errors import ServerFailed

pytestmark = pytest.mark.django_db

BACKEND = "allauth.account.auth_backends.AuthenticationBackend"
RESULT = {"data": [{"url": "http://127.0.0.1:8000/files/x/cat.mp4", "contentType": "video/mp4"}]}
DONE = Done(result=RESULT, charge_microcredits=7 * CREDIT, units=Decimal(7))


@pytest.fixture
def client(payer: Payer) -> Client:
    client = Client()
    client.force_login(payer.user, backend=BACKEND)
    return client


def shown(client: Client, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status, answer.content
    return answer.content.decode()


def test_without_jobs_the_page_says_what_will_be_there(client: Client) -> None:
    page = shown(client, "/jobs")
    assert "No jobs yet" in page and "jobs-state" not in page


def test_open_rows_ask_for_themselves_again_and_ended_ones_do_not(client: Client, payer: Payer, kind: Scripted) -> None:
    kind.polls += [Waiting(seconds=5, progress=40), DONE]
    job = submit(payer)
    step(job.pk)
    step(job.pk)
    page = shown(client, "/jobs")
    assert f'hx-get="/jobs/{job.pk}/row"' in page
    assert 'value="40"' in page and "reserved" in page
    drive(job.pk)
    row = shown(client, f"/jobs/{job.pk}/row")
    assert "hx-get" not in row and "Succeeded" in row and row.lstrip().startswith("<tr")
    assert '<video class="size-12 rounded-field object-cover" src="/files/x/cat.mp4"' in row


def test_the_page_of_a_job_shows_its_money_its_attempts_and_its_result(
    client: Client, payer: Payer, kind: Scripted
) -> None:
    kind.starts += [ServerFailed("down", status=503), Waiting(seconds=1)]
    kind.polls.append(DONE)
    job = submit(payer)
    step(job.pk)
    page = shown(client, f"/jobs/{job.pk}")
    assert 'hx-trigger="every 2s"' in page and "provider error" in page and "Cancel this job?" in page
    drive(job.pk)
    page = shown(client, f"/jobs/{job.pk}")
    assert "hx-trigger" not in re.sub(r"<nav.*?</nav>", "", page, flags=re.DOTALL).split('id="job"', 1)[1][:300]
    assert 'src="/files/x/cat.mp4"' in page and "Cancel this job?" not in page
    amounts = re.findall(r"<dt[^>]*>(Reserved|Charged|Given back)</dt><dd[^>]*>\s*(?:<bdi[^>]*>)?([\d.,]+)", page)
    assert dict(amounts) == {"Reserved": "10.00", "Charged": "7.00", "Given back": "3.00"}
    again = client.get(f"/jobs/{job.pk}", headers={"HX-Request": "true"})
    assert "Succeeded" in again["HX-Trigger-After-Settle"]


def test_a_failure_says_what_went_wrong_and_that_all_came_back(client: Client, payer: Payer, kind: Scripted) -> None:
    kind.starts.append(Failed(error_type="invalid_request_error", code="content_policy", message="<b>Not</b> this."))
    job = drive(submit(payer).pk)
    page = shown(client, f"/jobs/{job.pk}")
    assert "&lt;b&gt;Not&lt;/b&gt; this." in page and "content_policy" in page
    assert "all given back" in shown(client, "/jobs")


def test_filters_keep_to_what_is_there(client: Client, payer: Payer, kind: Scripted) -> None:
    job = submit(payer)
    assert str(job.pk) in shown(client, "/jobs?state=queued&kind=scripted&model=painter-1")
    assert "No job matches" in shown(client, "/jobs?state=failed")
    assert "status must be one of" in shown(client, "/jobs?state=nonsense", status=400)


def test_pages_of_twenty(client: Client, payer: Payer, kind: Scripted) -> None:
    jobs = [submit(payer, reserved=1).pk for _ in range(21)]
    page = shown(client, "/jobs")
    assert str(jobs[0]) not in page and str(jobs[20]) in page
    older = re.search(r'rel="next" href="([^"]+)"', page)
    assert older is not None
    assert str(jobs[0]) in shown(client, older[1].replace("&amp;", "&"))


def test_cancelling_asks_first_and_is_written_down_once(client: Client, payer: Payer, kind: Scripted) -> None:
    job = submit(payer)
    assert "Cancel this job?" in shown(client, f"/jobs/{job.pk}/cancel")
    assert Job.objects.get(pk=job.pk).state == "queued"
    for _ in range(2):
        answer = client.post(f"/jobs/{job.pk}/cancel", follow=True)
        assert answer.redirect_chain == [(f"/jobs/{job.pk}", 302)]
    assert "The job is cancelled." in answer.content.decode()
    assert (Job.objects.get(pk=job.pk).state, payer.books().balance, payer.books().held) == ("cancelled", BALANCE, 0)
    event = AuditEvent.objects.get(action="job.cancel", workspace_id=payer.workspace.pk)
    assert (event.target_id, event.actor_id) == (str(job.pk), payer.user.pk)


def test_viewers_see_no_way_to_cancel(db: None) -> None:
    company = cast.assemble()
    key = factories.api_key(company.organization, created_by=company[Role.OWNER]).key
    job = factories.running_job(company.organization, key)
    for role, may in ((Role.VIEWER, False), (Role.BILLING, False), (Role.DEVELOPER, True)):
        page = company.client(role).get(f"/jobs/{job.pk}").content.decode()
        assert (f"/jobs/{job.pk}/cancel" in page) is may
