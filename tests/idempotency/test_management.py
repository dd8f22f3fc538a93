"""``Idempotency-Key`` on the management API: the stored answer again, and nothing done twice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from core import clock
from events.models import AuditEvent
from idempotency.management import KEPT_FOR
from idempotency.models import StoredAnswer
from keys.models import ApiKey
from orgs.models import Membership
from tests import cast

URL = "/api/api-keys"
JSON: dict[str, Any] = {"content_type": "application/json"}


@pytest.fixture
def company(db: None) -> cast.Cast:
    return cast.assemble()


@pytest.fixture
def client(company: cast.Cast) -> Client:
    return company.client("developer")


def create(client: Client, key: str | None = "k1", **body: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(URL, {"name": "prod", **body}, headers=headers, **JSON)


def keys_and_audits() -> tuple[int, int]:
    return ApiKey.objects.count(), AuditEvent.objects.filter(action="api_key.create").count()


def test_it_works(client: Client) -> None:
    first, again = create(client), create(client)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["key"] == again.json()["key"]
    assert first.content == again.content
    assert again["Content-Type"] == first["Content-Type"]
    assert "Idempotency-Replayed" not in first
    assert (again["Idempotency-Replayed"], again["Cache-Control"]) == ("true", "no-store")
    assert keys_and_audits() == (1, 1)


def test_without_the_header_nothing_is_kept(client: Client) -> None:
    create(client, None)
    create(client, None)
    assert keys_and_audits() == (2, 2)
    assert not StoredAnswer.objects.exists()


def test_another_request_under_the_same_key_is_a_conflict(client: Client) -> None:
    made = create(client).json()
    headers = {"Idempotency-Key": "k1"}
    others = [
        create(client, name="other"),
        client.patch(f"{URL}/{made['id']}", {"name": "prod"}, headers=headers, **JSON),
        client.delete(f"{URL}/{made['id']}", headers=headers),
    ]
    assert [answer.status_code for answer in others] == [409, 409, 409]
    assert others[0].json()["error"]["param"] == "Idempotency-Key"
    assert others[0].json()["error"]["type"] == "conflict_error"
    assert keys_and_audits() == (1, 1)


def test_changes_and_deletions_are_answered_again_too(client: Client) -> None:
    made = create(client, None).json()
    change = [
        client.patch(f"{URL}/{made['id']}", {"name": "new"}, headers={"Idempotency-Key": "p"}, **JSON) for _ in range(2)
    ]
    assert change[0].json() == change[1].json()
    gone = [client.delete(f"{URL}/{made['id']}", headers={"Idempotency-Key": "d"}) for _ in range(2)]
    assert [(answer.status_code, answer.content) for answer in gone] == [(204, b""), (204, b"")]
    assert client.delete(f"{URL}/{made['id']}").status_code == 404


def test_everybody_has_keys_of_their_own(company: cast.Cast) -> None:
    mine, theirs = create(company.client("developer")).json(), create(company.client("owner")).json()
    assert mine["id"] != theirs["id"]


def test_an_error_keeps_nothing(client: Client) -> None:
    assert create(client, spendingLimit=-1).status_code == 400
    assert not StoredAnswer.objects.exists()
    assert create(client).status_code == 201


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a\x01b"])
def test_bad_keys_are_refused(client: Client, key: str) -> None:
    answer = create(client, key)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")
    assert keys_and_audits() == (0, 0)


def test_a_lost_role_takes_the_answer_along(company: cast.Cast, client: Client) -> None:
    create(client)
    Membership.objects.filter(user=company["developer"], workspace=company.organization).update(role="viewer")
    again = create(client)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "roles_changed")
    assert "ck_" not in again.content.decode()


def test_strangers_and_readers_get_what_they_always_get(company: cast.Cast) -> None:
    assert create(company.client("anonymous")).status_code == 401
    assert create(company.client("billing")).status_code == 403
    assert create(company.client("developer", enforce_csrf_checks=True)).status_code == 403
    assert company.client("developer").get(URL, headers={"Idempotency-Key": "k1"}).status_code == 200
    assert not StoredAnswer.objects.exists()


def test_an_api_key_is_still_refused(client: Client) -> None:
    made = create(client).json()
    again = client.post(
        URL, {"name": "prod"}, headers={"Idempotency-Key": "k1", "Authorization": f"Bearer {made['key']}"}, **JSON
    )
    assert again.status_code == 401


def test_the_answer_is_sealed_and_forgotten_after_a_day(client: Client) -> None:
    made = create(client).json()
    row = StoredAnswer.objects.get()
    assert made["key"].encode() not in bytes(row.sealed_body or b"")
    assert row.expires_at - row.created_at == KEPT_FOR
    StoredAnswer.objects.update(expires_at=clock.now())
    assert create(client).json()["id"] != made["id"]
    assert StoredAnswer.objects.count() == 1


def test_a_crash_on_the_way_leaves_nothing_behind(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.raise_request_exception = False
    with monkeypatch.context() as patched:
        patched.setattr("idempotency.replay.seal", lambda body: 1 / 0)
        assert create(client).status_code == 500
    assert (keys_and_audits(), StoredAnswer.objects.count()) == ((0, 0), 0)
    assert create(client).status_code == 201


def test_two_at_once_are_one(committed: None) -> None:
    company = cast.assemble()
    barrier = threading.Barrier(4)

    def one(_: int) -> tuple[int, str]:
        try:
            client = company.client("developer")
            barrier.wait(timeout=60)
            answer = create(client)
            return answer.status_code, answer.json()["id"]
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(one, range(4)))
    assert len(set(answers)) == 1
    assert answers[0][0] == 201
    assert ApiKey.objects.filter(workspace=company.organization).count() == 1
