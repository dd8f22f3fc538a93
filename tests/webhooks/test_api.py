"""``/api/webhooks`` as a script uses it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from pytest_django import Settings

from core import clock
from events import outbox
from events.models import AuditEvent
from tests import cast, factories
from tests.webhooks.conftest import endpoint, send_all
from tests.webhooks.receivers import Receiver, status
from webhooks import default_secret, deliveries, fanout, rules, signing
from webhooks.models import Delivery, Endpoint

pytestmark = pytest.mark.django_db

PATH = "/api/webhooks"


@pytest.fixture
def company() -> cast.Cast:
    return cast.assemble()


@pytest.fixture
def owner(company: cast.Cast) -> Client:
    return company.client("owner")


def post(client: Client, path: str, body: object = None, **headers: str) -> Any:
    return client.post(path, {} if body is None else body, content_type="application/json", headers=headers)


def test_the_whole_life_of_a_webhook(owner: Client, company: cast.Cast, hook: Receiver) -> None:
    answer = post(owner, PATH, {"url": hook.url, "events": ["job.failed"], "description": "bot"})
    made = answer.json()
    assert answer.status_code == 201
    assert made["organizationId"] == str(company.organization.pk)
    assert made["secret"].startswith("whsec_")
    path = f"{PATH}/{made['id']}"
    assert "secret" not in owner.get(path).json()
    assert owner.get(PATH).json()["webhooks"] == [owner.get(path).json()]
    changed = owner.patch(path, {"events": ["balance.low", "job.failed"]}, content_type="application/json").json()
    assert changed["events"] == ["job.failed", "balance.low"]
    assert (changed["url"], changed["description"], changed["enabled"]) == (hook.url, "bot", True)
    rotated = post(owner, f"{path}/rotate-secret").json()
    assert rotated["secret"] != made["secret"]
    assert rotated["previousSecretUntil"] is not None
    ended = post(owner, f"{path}/rotate-secret", {"endPrevious": True}).json()
    assert ended["previousSecretUntil"] is None
    test = post(owner, f"{path}/test")
    assert (test.status_code, test.json()["event"]) == (202, "webhook.test")
    send_all()
    assert hook.requests[0].verified(ended["secret"])["type"] == "webhook.test"
    [delivery] = owner.get(f"{path}/deliveries").json()["deliveries"]
    assert (delivery["state"], delivery["attempts"], delivery["lastStatus"]) == ("delivered", 1, 200)
    assert delivery["messageId"] == hook.ids()[0]
    one = owner.get(f"{PATH}/deliveries/{delivery['id']}").json()
    assert one["body"]["type"] == "webhook.test"
    assert one["log"][0]["answer"] == "thanks"
    off = owner.patch(path, {"enabled": False}, content_type="application/json").json()
    assert (off["enabled"], off["disabledReason"]) == (False, "by_hand")
    assert post(owner, f"{path}/test").json()["error"]["code"] == "webhook_disabled"
    assert owner.delete(path).status_code == 204
    assert owner.get(path).status_code == 404
    events = AuditEvent.objects.filter(action__startswith="webhook.").order_by("id")
    assert list(events.values_list("action", flat=True)) == [
        "webhook.create", "webhook.change", "webhook.rotate_secret", "webhook.rotate_secret", "webhook.test",
        "webhook.disable", "webhook.delete",
    ]  # fmt: skip


def test_a_replay_and_the_filters_of_the_log(owner: Client, company: cast.Cast, hook: Receiver) -> None:
    row = endpoint(company.organization, hook.url).endpoint
    outbox.tell(company.organization.pk, "job.failed", {})
    outbox.tell(company.organization.pk, "balance.low", {})
    send_all()
    path = f"{PATH}/{row.pk}/deliveries"
    [found] = owner.get(f"{path}?event=balance.low").json()["deliveries"]
    assert owner.get(f"{path}?state=waiting").json()["deliveries"] == []
    assert owner.get(f"{path}?state=x").json()["error"]["param"] == "state"
    first = owner.get(f"{path}?limit=1").json()
    [second] = owner.get(f"{path}?limit=1&before={first['next']}").json()["deliveries"]
    assert second["id"] != first["deliveries"][0]["id"]
    hook.answer = status(500)
    again = post(owner, f"{PATH}/deliveries/{found['id']}/replay").json()
    assert (again["state"], again["attempts"]) == ("waiting", 1)
    send_all()
    log = owner.get(f"{PATH}/deliveries/{found['id']}").json()["log"]
    assert [each["status"] for each in log] == [500, 200]


def test_messages_to_own_addresses_and_the_workspace_s_secret(
    owner: Client, company: cast.Cast, hook: Receiver
) -> None:
    outbox.tell(company.organization.pk, "job.succeeded", {}, url=hook.url)
    send_all()
    [found] = owner.get(f"{PATH}/deliveries").json()["deliveries"]
    assert (found["url"], found["webhookId"]) == (hook.url, None)
    secret = post(owner, f"{PATH}/secret/reveal").json()["secret"]
    assert hook.requests[0].verified(secret)
    assert post(owner, f"{PATH}/secret/rotate").json()["secret"] != secret
    valid = default_secret.of(company.organization.pk)
    assert valid.previous_until is not None
    assert secret in signing.valid_ones(valid, valid.previous_until - signing.OVERLAP / 2)


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": "http://1.1.1.1/"}, "url"),
        ({"url": "https://1.1.1.1:8443/"}, "url"),
        ({"url": 5}, "url"),
        ({"events": []}, "events"),
        ({"events": ["job.exploded"]}, "events"),
        ({"events": ["webhook.test"]}, "events"),
        ({"description": "x" * 121}, "description"),
        ({"secret": "whsec_mine"}, "secret"),
    ],
    ids=["private", "http", "port", "number", "no-events", "unknown", "test-event", "long", "secret"],
)
def test_a_broken_rule_names_its_field(owner: Client, settings: Settings, wrong: dict[str, object], param: str) -> None:
    settings.EGRESS_ALLOW = []
    answer = post(owner, PATH, {"url": "https://1.1.1.1/", "events": ["job.failed"], **wrong})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert not Endpoint.objects.exists()


def test_an_idempotency_key_makes_one(owner: Client, hook: Receiver) -> None:
    key, body = str(uuid4()), {"url": hook.url, "events": ["job.failed"]}
    first = post(owner, PATH, body, **{"Idempotency-Key": key})
    second = post(owner, PATH, body, **{"Idempotency-Key": key})
    assert first.json() == second.json()
    assert second["Idempotency-Replayed"] == "true"
    assert Endpoint.objects.count() == 1


def test_a_workspace_has_only_so_many(owner: Client, company: cast.Cast, hook: Receiver) -> None:
    for _ in range(rules.MOST_ENDPOINTS):
        endpoint(company.organization, hook.url)
    answer = post(owner, PATH, {"url": hook.url, "events": ["job.failed"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "too_many_webhooks")


def test_the_organization_may_be_named(company: cast.Cast, hook: Receiver) -> None:
    other = factories.organization("Other")
    factories.member(other, "admin", company["viewer"])
    body = {"url": hook.url, "events": ["job.failed"], "organizationId": str(other.pk)}
    viewer = company.client("viewer")
    assert post(viewer, PATH, body).status_code == 201
    assert Endpoint.objects.get().workspace_id == other.pk
    assert viewer.get(PATH).json()["webhooks"] == []
    assert len(viewer.get(f"{PATH}?organizationId={other.pk}").json()["webhooks"]) == 1
    strange = factories.organization("Strange")
    assert post(viewer, PATH, {**body, "organizationId": str(strange.pk)}).status_code == 404


def test_a_delivery_being_sent_is_not_replayed(owner: Client, company: cast.Cast, hook: Receiver) -> None:
    endpoint(company.organization, hook.url)
    outbox.tell(company.organization.pk, "job.failed", {})
    fanout.fan_out(clock.now())
    deliveries.claim(1)
    answer = post(owner, f"{PATH}/deliveries/{Delivery.objects.get().pk}/replay")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "being_sent")
