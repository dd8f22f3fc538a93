"""The pages of webhooks in a real browser: sound in every window, and a webhook's life from the form to the log."""

from __future__ import annotations

import os
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from playwright.sync_api import expect

from accounts.models import User
from core import clock
from events import audit, outbox
from orgs import access
from orgs.models import Workspace
from orgs.permissions import Role
from tests import factories
from tests.look.conftest import Visit, Visitor, browser, person, server, site, visit  # noqa: F401  (fixtures)
from tests.webhooks.conftest import endpoint, send_all
from tests.webhooks.receivers import Receiver, status
from webhooks import deliveries, endpoints
from webhooks.models import Delivery, Endpoint

pytestmark = pytest.mark.browser

WINDOWS = pytest.mark.parametrize(
    "window", [{}, {"dark": True}, {"phone": True}, {"phone": True, "dark": True}],
    ids=["light", "dark", "phone", "phone-dark"],
)  # fmt: skip
PATH = "/settings/webhooks"
#: A machine that is busy takes its time.
PATIENT_MS = 60_000


@pytest.fixture
def company(person: User) -> Workspace:  # noqa: F811
    """An organization of the person's."""
    workspace = factories.organization("Kites & Daughters")
    factories.member(workspace, Role.OWNER, person)
    return workspace


@pytest.fixture
def busy(company: Workspace, hook: Receiver) -> Endpoint:
    """A webhook with a log: a success, a failure that waits; beside it one that was given up."""
    row = endpoint(company, hook.url).endpoint
    endpoints.change(row, actor=audit.SYSTEM, fields={"description": "The bot in our chat"})
    outbox.tell(company.pk, "balance.low", {"balanceCredits": 41.5, "belowCredits": 50})
    outbox.tell(company.pk, "job.succeeded", {"jobId": "0198c0de", "costCredits": 12})
    send_all()
    hook.answer = status(500, b'{"error": "the database is away, and this is a long line about why it is so"}')
    outbox.tell(company.pk, "job.failed", {"jobId": "0198c0df"}, url=f"{hook.url}&long={'x' * 120}")
    send_all()
    gone = endpoint(company, f"{hook.url}&gone=1").endpoint
    deliveries.disable(gone, Endpoint.DisabledReason.FAILING, clock.now())
    endpoints.rotate(row, actor=audit.SYSTEM)
    return Endpoint.objects.get(pk=row.pk)


def opened(visit: Visit, who: User, workspace: Workspace, path: str, **window: bool) -> Visitor:  # noqa: F811
    """Signed in and at work in the organization, on the page."""
    visitor = visit(who, **window)
    visitor.page.set_default_timeout(PATIENT_MS)
    name = django_settings.SESSION_COOKIE_NAME
    [key] = [cookie["value"] for cookie in visitor.page.context.cookies() if cookie["name"] == name]
    session = import_module(django_settings.SESSION_ENGINE).SessionStore(key)
    session[access.SESSION_KEY] = str(workspace.pk)
    session.save()
    visitor.go(path)
    return visitor


@WINDOWS
def test_the_pages_are_sound(
    visit: Visit,  # noqa: F811
    person: User,  # noqa: F811
    company: Workspace,
    busy: Endpoint,
    window: dict[str, bool],
) -> None:
    waiting = Delivery.objects.filter(endpoint=busy, state=Delivery.State.WAITING).get()
    Delivery.objects.update(run_after=clock.now() + timedelta(hours=1))
    off = Endpoint.objects.get(workspace=company, enabled=False)
    visitor = opened(visit, person, company, PATH, **window)
    for name, path in {
        "list": PATH,
        "one": f"{PATH}/{busy.pk}",
        "disabled": f"{PATH}/{off.pk}",
        "delivery": f"{PATH}/deliveries/{waiting.pk}",
        "own": f"{PATH}/deliveries",
        "new": f"{PATH}/new",
        "rotate": f"{PATH}/{busy.pk}/rotate",
        "secret": f"{PATH}/secret",
    }.items():
        visitor.go(path)
        if folder := os.environ.get("SCREENSHOTS"):
            shot = Path(folder, f"webhooks-{name}-{'-'.join(window) or 'light'}.png")
            visitor.page.screenshot(path=shot, full_page=True)
        visitor.assert_sound()


def test_an_empty_list_says_what_webhooks_are_for(visit: Visit, person: User, company: Workspace) -> None:  # noqa: F811
    visitor = opened(visit, person, company, PATH)
    expect(visitor.page.get_by_text("No webhooks yet")).to_be_visible(timeout=PATIENT_MS)
    visitor.page.get_by_role("tab", name="Node").click()
    expect(visitor.page.get_by_text("npm install standardwebhooks express")).to_be_visible(timeout=PATIENT_MS)
    visitor.assert_sound()


def test_from_the_form_to_a_test_in_the_log_and_back_off_again(
    visit: Visit,  # noqa: F811
    person: User,  # noqa: F811
    company: Workspace,
    hook: Receiver,
) -> None:
    visitor = opened(visit, person, company, PATH)
    page = visitor.page
    page.get_by_role("link", name="Add webhook", exact=True).click()
    page.get_by_label("URL").fill("http://127.0.0.2/")
    page.get_by_label("A job failed").check()
    page.get_by_role("button", name="Add webhook").click()
    expect(page.get_by_text("Only https:// addresses can be called.")).to_be_visible(timeout=PATIENT_MS)
    expect(page.get_by_label("A job failed")).to_be_checked(timeout=PATIENT_MS)
    page.get_by_label("URL").fill(hook.url)
    page.get_by_role("button", name="Add webhook").dblclick()
    secret = page.locator("#webhook-secret").inner_text()
    assert secret.startswith("whsec_")
    assert Endpoint.objects.filter(workspace=company).count() == 1
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_text("A test is on its way.")).to_be_visible(timeout=PATIENT_MS)
    log = page.locator("#log")
    expect(log.get_by_text("Waiting", exact=True).last).to_be_visible(timeout=PATIENT_MS)
    send_all()
    expect(log.locator("tbody").get_by_text("Delivered")).to_be_visible(
        timeout=PATIENT_MS
    )  # the page looked again by itself
    assert hook.requests[0].verified(secret)["type"] == "webhook.test"
    log.get_by_role("link", name="webhook.test").click()
    expect(page.get_by_text("thanks")).to_be_visible(timeout=PATIENT_MS)
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_text("It is sent again, under the same id.")).to_be_visible(timeout=PATIENT_MS)
    send_all()
    assert len(set(hook.ids())) == 1
    assert len(hook.ids()) == 2
    assert visitor.said == [line for line in visitor.said if "422" in line]  # the browser's own word on the wrong form
