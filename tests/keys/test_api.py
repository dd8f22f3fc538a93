"""``/api/api-keys`` over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from events.models import AuditEvent
from keys import lookup, secret
from keys.models import ApiKey
from tests import cast, factories

pytestmark = pytest.mark.django_db

URL = "/api/api-keys"


@pytest.fixture
def company() -> cast.Cast:
    return cast.assemble()


@pytest.fixture
def client(company: cast.Cast) -> Client:
    return company.client("developer")


def create(client: Client, **body: Any) -> Any:
    return client.post(URL, {"name": "prod", **body}, content_type="application/json")


def test_it_works(client: Client, company: cast.Cast) -> None:
    answer = create(client, spendingLimit=2500.5, autoDisable=True, expiresAt="2040-01-01T00:00:00Z")
    assert answer.status_code == 201
    body = answer.json()
    assert secret.checksum_ok(body["key"])
    assert lookup.by_secret(body["key"], address=None).pk == ApiKey.objects.get().pk
    assert body["prefix"] == f"{body['key'][:7]}…{body['key'][-4:]}"
    assert {name: body[name] for name in ("name", "spendingLimit", "autoDisable", "expiresAt")} == {
        "name": "prod",
        "spendingLimit": 2500.5,
        "autoDisable": True,
        "expiresAt": "2040-01-01T00:00:00Z",
    }
    assert body["organizationId"] == str(company.organization.pk)
    assert body["enabled"] is True
    assert body["disabledReason"] is body["lastUsedAt"] is None


def test_the_secret_comes_once(client: Client) -> None:
    made = create(client).json()
    listed = client.get(URL).json()["keys"][0]
    one = client.get(f"{URL}/{made['id']}").json()
    assert listed == one == {name: value for name, value in made.items() if name != "key"}


def test_whole_limits_stay_whole(client: Client) -> None:
    assert '"spendingLimit": 500,' in create(client, spendingLimit=500).content.decode()
    assert create(client).json()["spendingLimit"] is None


def test_a_change_touches_only_what_is_named(client: Client) -> None:
    made = create(client, spendingLimit=10, autoDisable=True).json()
    answer = client.patch(f"{URL}/{made['id']}", {"name": "renamed"}, content_type="application/json")
    assert answer.status_code == 200
    assert answer.json() == {**{k: v for k, v in made.items() if k != "key"}, "name": "renamed"}


def test_null_takes_a_limit_away(client: Client) -> None:
    made = create(client, spendingLimit=10, expiresAt="2040-01-01T00:00:00Z").json()
    change = {"spendingLimit": None, "expiresAt": None, "enabled": False}
    body = client.patch(f"{URL}/{made['id']}", change, content_type="application/json").json()
    assert (body["spendingLimit"], body["expiresAt"]) == (None, None)
    assert (body["enabled"], body["disabledReason"]) == (False, "by_hand")


def test_deleting(client: Client) -> None:
    made = create(client).json()
    answer = client.delete(f"{URL}/{made['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.get(URL).json() == {"keys": []}
    assert client.delete(f"{URL}/{made['id']}").status_code == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"name": 7}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"spendingLimit": 0}, "spendingLimit"),
        ({"spendingLimit": -5}, "spendingLimit"),
        ({"spendingLimit": "lots"}, "spendingLimit"),
        ({"spendingLimit": True}, "spendingLimit"),
        ({"spendingLimit": 0.0000001}, "spendingLimit"),
        ({"spendingLimit": 1e40}, "spendingLimit"),
        ({"autoDisable": "perhaps"}, "autoDisable"),
        ({"expiresAt": "tomorrow"}, "expiresAt"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
        ({"allowedModels": ["no-such-model"]}, "allowedModels"),
        ({"allowedModels": "all"}, "allowedModels"),
        ({"allowedNetworks": ["10.0.0"]}, "allowedNetworks"),
        ({"organizationId": "mine"}, "organizationId"),
        ({"spendinglimit": 5}, "spendinglimit"),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_made(client: Client, body: dict[str, Any], param: str) -> None:
    answer = create(client, **body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["message"]
    assert "Value error" not in error["message"]
    assert not ApiKey.objects.exists()
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b'{"name": NaN}', b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_refused(client: Client, body: bytes) -> None:
    answer = client.post(URL, body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"


def test_an_empty_body_lacks_everything(client: Client) -> None:
    answer = client.post(URL, b"", content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] is None


def test_a_bad_choice_of_workspace_is_named(client: Client) -> None:
    error = client.get(f"{URL}?organizationId=mine").json()["error"]
    assert (error["param"], error["message"]) == ("organizationId", "This is no id.")


def test_several_faults_are_told_at_once(client: Client) -> None:
    error = create(client, name="", spendingLimit=-1).json()["error"]
    assert [fault["param"] for fault in error["errors"]] == ["name", "spendingLimit"]
    assert error["message"] == error["errors"][0]["message"]


def test_a_person_chooses_the_workspace(client: Client, company: cast.Cast) -> None:
    person = company["developer"]
    elsewhere = factories.organization("Other")
    mine = factories.member(elsewhere, "admin", person)
    body = create(client, organizationId=str(elsewhere.pk)).json()
    assert body["organizationId"] == str(elsewhere.pk)
    assert client.get(URL).json() == {"keys": []}
    assert [key["id"] for key in client.get(f"{URL}?organizationId={elsewhere.pk}").json()["keys"]] == [body["id"]]
    assert client.delete(f"{URL}/{body['id']}").status_code == 204
    assert mine == person


def test_a_foreign_workspace_is_not_there(client: Client) -> None:
    foreign = factories.organization("Foreign")
    for organization_id in (foreign.pk, uuid4()):
        assert create(client, organizationId=str(organization_id)).status_code == 404
        assert client.get(f"{URL}?organizationId={organization_id}").status_code == 404
    assert not ApiKey.objects.exists()


def test_a_personal_key_names_no_organization() -> None:
    client = Client()
    client.force_login(factories.user())
    assert create(client).json()["organizationId"] is None


def test_a_role_in_one_workspace_opens_no_other(company: cast.Cast) -> None:
    """The key's own workspace decides, not the one in use, where the same person may do more."""
    viewer = company["viewer"]
    issued = factories.api_key(company.organization)
    client = Client()
    client.force_login(viewer)  # works in the personal workspace, as its owner
    assert client.get(f"{URL}/{issued.key.pk}").status_code == 200
    for answer in (
        client.delete(f"{URL}/{issued.key.pk}"),
        client.patch(f"{URL}/{issued.key.pk}", {"enabled": False}, content_type="application/json"),
        create(client, organizationId=str(company.organization.pk)),
    ):
        assert answer.status_code == 403
        assert answer.json()["error"]["type"] == "permission_error"
    issued.key.refresh_from_db()
    assert (issued.key.enabled, issued.key.deleted_at) == (True, None)
    assert ApiKey.objects.count() == 1
