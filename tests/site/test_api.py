"""The management API as a whole: one form for every error, closed by default, described, deaf to other sites."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from ninja.constants import NOT_SET

from hypereal_site.api import api
from keys.models import ApiKey
from orgs import access
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def person() -> Any:
    return factories.user("sana@people.example", name="Sana Khan")


@pytest.fixture
def client(person: Any) -> Client:
    client = Client()
    client.force_login(person)
    return client


def error_of(answer: Any) -> dict[str, Any]:
    assert answer["Content-Type"] == "application/json"
    error: dict[str, Any] = answer.json()["error"]
    assert {"type", "message", "code", "param"} <= set(error)
    assert error["message"]
    assert answer["x-request-id"]
    return error


# ── Who am I ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_me_by_session(client: Client, person: Any) -> None:
    acme = factories.organization("Acme")
    factories.member(acme, "viewer", person)
    personal = person.personal_workspace
    own = {"id": str(personal.pk), "kind": "personal", "name": "Sana Khan", "slug": personal.slug}
    assert client.get("/api/me").json() == {
        "user": {"id": str(person.pk), "email": "sana@people.example", "name": "Sana Khan"},
        "workspace": own,
        "role": "owner",
        "memberships": [
            {**own, "role": "owner"},
            {"id": str(acme.pk), "kind": "organization", "name": "Acme", "slug": acme.slug, "role": "viewer"},
        ],
        "key": None,
    }


@pytest.mark.parametrize("header", ["Authorization", "x-api-key", "x-goog-api-key"])
def test_me_by_key(person: Any, header: str) -> None:
    issued = factories.api_key(person.personal_workspace, created_by=person)
    value = f"Bearer {issued.secret}" if header == "Authorization" else issued.secret
    body = Client().get("/api/me", headers={header: value}).json()
    assert body["key"] == {"id": str(issued.key.pk), "name": "prod", "prefix": issued.key.prefix}
    assert body["workspace"]["id"] == str(person.personal_workspace.pk)
    assert (body["user"], body["memberships"]) == (None, [])


def test_a_key_counts_more_than_the_session_beside_it(client: Client) -> None:
    other = factories.user()
    issued = factories.api_key(other.personal_workspace, created_by=other)
    body = client.get("/api/me", headers={"x-api-key": issued.secret}).json()
    assert body["workspace"]["id"] == str(other.personal_workspace.pk)
    assert client.get("/api/me", headers={"x-api-key": issued.secret[:-1]}).status_code == 401


def test_me_from_a_foreign_network() -> None:
    person = factories.user()
    issued = factories.api_key(person.personal_workspace, created_by=person, allowed_networks=["10.0.0.0/8"])
    assert Client().get("/api/me", headers={"x-api-key": issued.secret}).status_code == 403


# ── Errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_anonymous_callers_get_401_and_no_redirect() -> None:
    for answer in (Client().get("/api/me"), Client().get("/api/api-keys"), Client().post("/api/api-keys")):
        assert answer.status_code == 401
        assert error_of(answer)["type"] == "authentication_error"


@pytest.mark.parametrize("header", ["Authorization", "x-api-key", "x-goog-api-key"])
def test_a_key_opens_no_management_path(client: Client, person: Any, header: str) -> None:
    issued = factories.api_key(person.personal_workspace, created_by=person)
    headers = {header: f"Bearer {issued.secret}" if header == "Authorization" else issued.secret}
    for browser in (Client(), client):  # beside a session neither
        answer = browser.get("/api/api-keys", headers=headers)
        assert answer.status_code == 401
        assert error_of(answer)["code"] == "session_required"


def test_unknown_paths(client: Client) -> None:
    for path in ("/api/nothing", "/api/api-keys/x/y", "/api/"):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert error_of(answer)["type"] == "not_found_error"


def test_wrong_methods(client: Client) -> None:
    answer = client.put("/api/me")
    assert answer.status_code == 405
    assert error_of(answer)["code"] == "method_not_allowed"
    assert answer["Allow"] == "GET"


def test_options_and_head(client: Client) -> None:
    answer = client.options("/api/api-keys")
    assert (answer.status_code, answer.content) == (204, b"")
    assert {word.strip() for word in answer["Allow"].split(",")} == {"GET", "POST", "OPTIONS"}
    answer = client.head("/api/me")
    assert (answer.status_code, answer.content) == (200, b"")
    assert Client().head("/api/me").status_code == 401


def test_writes_carry_the_csrf_token(person: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(person)
    body = {"name": "prod"}
    answer = client.post("/api/api-keys", body, content_type="application/json")
    assert answer.status_code == 403
    assert error_of(answer)["code"] == "csrf_failed"
    assert not ApiKey.objects.exists()
    client.get("/manage-api-keys")
    token = client.cookies["csrftoken"].value
    headers = {"X-CSRFToken": token}
    assert client.post("/api/api-keys", body, content_type="application/json", headers=headers).status_code == 201
    for method in (client.patch, client.delete):
        answer = method(f"/api/api-keys/{ApiKey.objects.get().pk}", content_type="application/json")
        assert error_of(answer)["code"] == "csrf_failed"


def test_other_sites_are_not_answered(client: Client) -> None:
    answer = client.get("/api/me", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


def test_a_crash_is_json_and_tells_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(user: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(access, "memberships", crash)
    client.raise_request_exception = False
    answer = client.get("/api/me")
    assert answer.status_code == 500
    assert error_of(answer)["type"] == "api_error"
    assert "secret detail" not in answer.content.decode()


def test_a_slash_more_or_less_never_redirects(client: Client) -> None:
    answer = client.post("/api/api-keys/", {"name": "prod"}, content_type="application/json")
    assert answer.status_code == 201
    assert client.get("/api/me/").status_code == 200
    assert client.get("/manage-api-keys/").status_code == 200
    assert Client().get("/accounts/login").status_code == 200


# ── Description, and the door being shut ─────────────────────────────────────────────────────────────────────────────
def test_every_endpoint_says_who_may_come_in() -> None:
    for _, router in api._routers:
        for path, view in router.path_operations.items():
            for operation in view.operations:
                assert operation.auth_param is not NOT_SET, f"{path} does not say who may use it"
    assert api.auth == [access.undeclared]


def test_the_description_is_public_and_complete() -> None:
    answer = Client().get("/api/openapi.json")
    assert answer.status_code == 200
    document = answer.json()
    assert {"/api/me", "/api/api-keys", "/api/api-keys/{key_id}", "/api/api-usage"} <= set(document["paths"])
    made = document["components"]["schemas"]["NewKey"]
    assert made["required"] == ["name"]
    assert set(made["properties"]) >= {"name", "spendingLimit", "autoDisable", "expiresAt", "organizationId"}
