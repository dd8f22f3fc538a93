"""The pages: what a form makes, what it refuses, what is shown to whom, and what is shown only once."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.test import Client
from pytest_django import Settings

from accounts import reauth
from events import audit, outbox
from events.models import AuditEvent
from tests import cast
from tests.webhooks.conftest import MovedClock, endpoint, send_all
from tests.webhooks.receivers import Receiver, status
from webhooks import default_secret, endpoints, signing
from webhooks.models import Delivery, Endpoint

pytestmark = pytest.mark.django_db

PATH = "/settings/webhooks"


@pytest.fixture
def company() -> cast.Cast:
    return cast.assemble()


@pytest.fixture
def owner(company: cast.Cast) -> Client:
    return company.client("owner")


def form(url: str, **fields: object) -> dict[str, object]:
    return {"url": url, "events": ["job.failed", "balance.low"], "form_token": str(uuid4()), **fields}


def text(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return str(answer.content.decode())


# ── Making ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_new_webhook_shows_its_secret_once(owner: Client, hook: Receiver) -> None:
    answer = owner.post(f"{PATH}/new", form(hook.url, description="  our   bot "))
    row = Endpoint.objects.get()
    secret = signing.current(row)
    assert answer.status_code == 200
    assert secret in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    assert (row.url, row.description, row.events) == (hook.url, "our bot", ["job.failed", "balance.low"])
    for path in (PATH, f"{PATH}/{row.pk}", f"{PATH}/{row.pk}/edit", f"{PATH}/{row.pk}/rotate"):
        assert secret not in text(owner, path)
    assert secret not in str(list(AuditEvent.objects.values_list("details", flat=True)))


def test_the_same_form_makes_one(owner: Client, hook: Receiver) -> None:
    same = form(hook.url)
    owner.post(f"{PATH}/new", same)
    assert owner.post(f"{PATH}/new", same).status_code == 302
    assert Endpoint.objects.count() == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"url": "http://1.1.1.1/"}, "Only https"),
        ({"url": "https://10.0.0.1/"}, "not on the public internet"),
        ({"url": "https://169.254.169.254/"}, "not on the public internet"),
        ({"url": "https://a:b@1.1.1.1/"}, "user name or password"),
        ({"url": ""}, "required"),
        ({"events": []}, "Choose at least one event"),
        ({"events": ["webhook.test"]}, "not one of the available choices"),
        ({"description": "x" * 200}, "120"),
    ],
    ids=["http", "private", "metadata", "userinfo", "empty", "no-events", "unknown-event", "long"],
)
def test_what_is_wrong_is_said_and_nothing_is_made(
    owner: Client, settings: Settings, wrong: dict[str, object], words: str
) -> None:
    settings.EGRESS_ALLOW = []
    answer = owner.post(f"{PATH}/new", {**form("https://1.1.1.1/"), **wrong})
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not Endpoint.objects.exists()


def test_an_old_session_proves_itself_before_data_goes_anywhere_new(
    owner: Client, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reauth, "is_old", lambda request: True)
    answer = owner.post(f"{PATH}/new", form(hook.url))
    assert answer.status_code == 302
    assert answer["Location"].startswith("/accounts/reauthenticate/")
    assert not Endpoint.objects.exists()


# ── Changing ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_change_is_kept_and_recorded(owner: Client, company: cast.Cast, hook: Receiver) -> None:
    row = endpoint(company.organization, hook.url).endpoint
    path = f"{PATH}/{row.pk}/edit"
    assert 'value="job.failed" checked' in text(owner, path)
    assert owner.post(path, form(hook.url, events=["topup.completed"])).status_code == 302
    row.refresh_from_db()
    assert row.events == ["topup.completed"]
    [event] = AuditEvent.objects.filter(action="webhook.change")
    assert event.details["events"]["to"] == ["topup.completed"]


def test_disabling_asks_cancels_what_waits_and_enabling_begins_anew(
    owner: Client, company: cast.Cast, hook: Receiver
) -> None:
    row = endpoint(company.organization, hook.url).endpoint
    hook.answer = status(500)
    outbox.tell(company.organization.pk, "balance.low", {})
    send_all()
    assert "cancelled" in text(owner, f"{PATH}/{row.pk}/state")
    owner.post(f"{PATH}/{row.pk}/state", {"enabled": "0"})
    assert Delivery.objects.get().state == Delivery.State.CANCELLED
    page = text(owner, f"{PATH}/{row.pk}")
    assert "A member disabled this webhook." in page
    assert "Enable it again" in page
    owner.post(f"{PATH}/{row.pk}/state", {"enabled": "1"})
    row.refresh_from_db()
    assert (row.enabled, row.failing_since) == (True, None)


def test_a_form_to_replace_the_secret_counts_once(owner: Client, company: cast.Cast, hook: Receiver) -> None:
    made = endpoint(company.organization, hook.url)
    path = f"{PATH}/{made.endpoint.pk}/rotate"
    seen = signing.version(made.endpoint)
    answer = owner.post(path, {"seen": seen})
    row = Endpoint.objects.get()
    assert signing.current(row) in answer.content.decode()
    assert owner.post(path, {"seen": seen}).status_code == 302
    row.refresh_from_db()
    from_now = row.previous_until
    assert from_now is not None
    assert made.secret in signing.valid_ones(row, from_now - signing.OVERLAP / 2)


def test_a_known_secret_ends_at_once(owner: Client, company: cast.Cast, hook: Receiver) -> None:
    made = endpoint(company.organization, hook.url)
    owner.post(f"{PATH}/{made.endpoint.pk}/rotate", {"seen": "first", "end_previous": "on"})
    row = Endpoint.objects.get()
    assert row.previous_until is not None
    assert made.secret not in signing.valid_ones(row, row.previous_until - signing.OVERLAP)


def test_deleting_takes_the_log_with_it(owner: Client, company: cast.Cast, hook: Receiver) -> None:
    row = endpoint(company.organization, hook.url).endpoint
    outbox.tell(company.organization.pk, "balance.low", {})
    send_all()
    assert owner.post(f"{PATH}/{row.pk}/delete").status_code == 302
    assert not Endpoint.objects.exists()
    assert not Delivery.objects.exists()


# ── The workspace's secret ───────────────────────────────────────────────────────────────────────────────────────────
def test_the_workspace_s_secret_is_shown_when_asked_for_and_replaced(owner: Client, company: cast.Cast) -> None:
    row = default_secret.of(company.organization.pk)
    secret = signing.current(row)
    assert secret not in text(owner, f"{PATH}/secret")
    assert secret in owner.post(f"{PATH}/secret").content.decode()
    answer = owner.post(f"{PATH}/secret", {"seen": "first"}).content.decode()
    row.refresh_from_db()
    assert signing.current(row) != secret
    assert signing.current(row) in answer
    assert "already replaced" in owner.post(f"{PATH}/secret", {"seen": "first"}).content.decode()


# ── The log ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_log_is_filtered_and_a_delivery_shows_everything(
    owner: Client, company: cast.Cast, hook: Receiver, moved: MovedClock
) -> None:
    row = endpoint(company.organization, hook.url).endpoint
    outbox.tell(company.organization.pk, "balance.low", {"balanceCredits": 17})
    send_all()
    hook.answer = status(500, b"<script>alert(1)</script>")
    outbox.tell(company.organization.pk, "job.failed", {"jobId": "j"})
    send_all()
    waiting = Delivery.objects.get(state=Delivery.State.WAITING)
    page = text(owner, f"{PATH}/{row.pk}?state=delivered")
    assert str(waiting.pk) not in page
    page = text(owner, f"{PATH}/{row.pk}?event=job.failed")
    assert str(waiting.pk) in page
    assert "There is no such state" in text(owner, f"{PATH}/{row.pk}?state=nonsense")
    page = text(owner, f"{PATH}/deliveries/{waiting.pk}")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert signing.message_id(waiting.message_id) in page
    assert "&quot;jobId&quot;: &quot;j&quot;" in page


def test_many_deliveries_are_paged(owner: Client, company: cast.Cast, hook: Receiver) -> None:
    row = endpoint(company.organization, hook.url).endpoint
    for _ in range(35):
        outbox.tell(company.organization.pk, "balance.low", {})
    send_all()
    first = text(owner, f"{PATH}/{row.pk}")
    assert first.count("/settings/webhooks/deliveries/") == 30
    oldest = Delivery.objects.order_by("-id")[29].pk
    assert f"before={oldest}" in first
    assert text(owner, f"{PATH}/{row.pk}?before={oldest}").count("/settings/webhooks/deliveries/") == 5


def test_replaying_sends_it_again_unless_the_webhook_is_disabled(
    owner: Client, company: cast.Cast, hook: Receiver
) -> None:
    row = endpoint(company.organization, hook.url).endpoint
    outbox.tell(company.organization.pk, "balance.low", {})
    send_all()
    path = f"{PATH}/deliveries/{Delivery.objects.get().pk}/replay"
    owner.post(path)
    assert send_all() == 1
    endpoints.change(row, actor=audit.SYSTEM, enabled=False, fields={})
    answer = owner.post(path, follow=True)
    assert "The endpoint is disabled" in answer.content.decode()
    assert send_all() == 0
    assert len(set(hook.ids())) == 1


def test_a_role_that_may_not_see_the_balance_does_not_see_it_here(company: cast.Cast, hook: Receiver) -> None:
    endpoint(company.organization, hook.url)
    outbox.tell(company.organization.pk, "balance.low", {"balanceCredits": 4_711})
    send_all()
    path = f"{PATH}/deliveries/{Delivery.objects.get().pk}"
    assert "4711" in text(company.client("viewer"), path)
    assert "4711" not in text(company.client("developer"), path)
    api = company.client("developer").get(path.replace("/settings/", "/api/"))
    assert api.json()["body"] is None


def test_who_only_reads_finds_no_buttons(company: cast.Cast, hook: Receiver) -> None:
    row = endpoint(company.organization, hook.url).endpoint
    viewer = company.client("viewer")
    assert "Add webhook" not in text(viewer, PATH)
    assert "Send a test" not in text(viewer, f"{PATH}/{row.pk}")


def test_what_did_not_arrive_is_sent_again_in_one_go(owner: Client, company: cast.Cast, hook: Receiver) -> None:
    row = endpoint(company.organization, hook.url).endpoint
    outbox.tell(company.organization.pk, "balance.low", {})
    send_all()
    hook.answer = status(410)
    for _ in range(5):
        outbox.tell(company.organization.pk, "job.failed", {})
    send_all()
    path = f"{PATH}/{row.pk}"
    assert "Send all of them again" not in text(owner, path)
    assert "The endpoint is disabled" in owner.post(f"{path}/recover", follow=True).content.decode()
    owner.post(f"{path}/state", {"enabled": "1"})
    page = text(owner, path)
    assert "5 messages did not arrive" in page
    hook.answer = status(200)
    assert "5 messages are sent again" in owner.post(f"{path}/recover", follow=True).content.decode()
    assert send_all() == 5
    assert set(Delivery.objects.values_list("state", flat=True)) == {Delivery.State.DELIVERED}
    assert len(set(hook.ids())) == 6
    assert AuditEvent.objects.get(action="webhook.recover").details == {"count": 5}
