"""``/api/orgs``: organizations for scripts. Who may do what stands in tests/site/test_permissions.py."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from asgiref.sync import async_to_sync
from django.core.cache import cache
from django.test import Client

from billing.models import Wallet
from events.models import AuditEvent
from orgs.models import Invitation, Membership, Workspace
from orgs.permissions import ROLE_PERMISSIONS, Permission
from tests import cast, factories

pytestmark = pytest.mark.django_db
OWNER, ADMIN, DEVELOPER, BILLING, VIEWER = cast.ROLES
JSON = "application/json"


@pytest.fixture
def company() -> cast.Cast:
    cache.clear()
    return cast.assemble()


def member_id(company: cast.Cast, who: str) -> str:
    return str(Membership.objects.get(workspace=company.organization, user=company[who]).pk)


def elsewhere() -> tuple[Workspace, Client]:
    """Another organization, and its owner's browser."""
    other, client = factories.organization("Elsewhere"), Client()
    client.force_login(factories.member(other, OWNER))
    return other, client


def error_of(answer: Any) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["type"], error["param"]


def test_create_list_and_read() -> None:
    client = Client()
    client.force_login(factories.user())
    made = client.post("/api/orgs", {"name": " Kites  & Co "}, content_type=JSON)
    assert made.status_code == 201
    body = made.json()
    assert (body["name"], body["role"], body["requireSecondFactor"]) == ("Kites & Co", OWNER, False)
    assert body["slug"].startswith("kites-co-")
    assert client.get("/api/orgs").json() == {"organizations": [body]}
    assert client.get(f"/api/orgs/{body['id']}").json() == body
    assert Wallet.objects.filter(pk=body["id"]).exists()
    assert client.get("/api/me").json()["workspace"]["kind"] == "personal"  # the script says itself where it works


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "x" * 121}, {"name": 7}, {"name": "A", "slug": "a"}])
def test_bad_bodies_name_their_field(company: cast.Cast, body: dict[str, Any]) -> None:
    status, kind, param = error_of(company.client(OWNER).post("/api/orgs", body, content_type=JSON))
    assert (status, kind, param) == (400, "invalid_request_error", "slug" if "slug" in body else "name")


def test_the_same_idempotency_key_makes_one(company: cast.Cast) -> None:
    owner = company.client(OWNER)

    def send(name: str, client: Client = owner) -> Any:
        return client.post("/api/orgs", {"name": name}, content_type=JSON, headers={"Idempotency-Key": "k-1"})

    first, second = send("Once"), send("Once")
    assert first.json() == second.json()
    assert Workspace.objects.filter(name="Once").count() == 1
    assert send("Other").status_code == 409
    assert send("Once", company.client(ADMIN)).json()["id"] != first.json()["id"]  # keys are a person's own


def test_a_foreign_and_a_personal_workspace_are_no_organization(company: cast.Cast) -> None:
    owner = company.client(OWNER)
    personal = company[OWNER].personal_workspace.pk
    for name in (personal, factories.organization("Else").pk, "nonsense"):
        assert owner.get(f"/api/orgs/{name}").status_code == 404


def test_members_are_listed_changed_and_taken_out(company: cast.Cast) -> None:
    owner, path = company.client(OWNER), f"/api/orgs/{company.organization.pk}/members"
    listed = {row["email"]: row for row in owner.get(path).json()["members"]}
    assert {row["role"] for row in listed.values()} == set(cast.ROLES)
    one = f"{path}/{member_id(company, VIEWER)}"
    assert owner.patch(one, {"role": DEVELOPER}, content_type=JSON).json()["role"] == DEVELOPER
    assert error_of(owner.patch(one, {"role": "king"}, content_type=JSON)) == (400, "invalid_request_error", "role")
    assert owner.delete(one).status_code == 204
    assert owner.delete(one).status_code == 404
    last = f"{path}/{member_id(company, OWNER)}"
    assert error_of(owner.delete(last))[:2] == (409, "conflict_error")
    assert error_of(owner.patch(last, {"role": VIEWER}, content_type=JSON))[:2] == (409, "conflict_error")


def test_leaving_needs_no_permission(company: cast.Cast) -> None:
    client = company.client(VIEWER)
    path = f"/api/orgs/{company.organization.pk}/members/{member_id(company, VIEWER)}"
    assert client.delete(path).status_code == 204
    assert client.get(f"/api/orgs/{company.organization.pk}").status_code == 404


def test_keys_pass_on(company: cast.Cast) -> None:
    issued = factories.api_key(company.organization, created_by=company[DEVELOPER])
    path = f"/api/orgs/{company.organization.pk}/members/{member_id(company, DEVELOPER)}"
    owner = company.client(OWNER)
    unfit = owner.delete(f"{path}?reassignKeysTo={member_id(company, VIEWER)}")
    assert error_of(unfit) == (400, "invalid_request_error", "reassignKeysTo")
    assert owner.delete(f"{path}?reassignKeysTo={member_id(company, ADMIN)}").status_code == 204
    issued.key.refresh_from_db()
    assert (issued.key.created_by, issued.key.enabled) == (company[ADMIN], True)


def test_invitations(company: cast.Cast) -> None:
    admin, path = company.client(ADMIN), f"/api/orgs/{company.organization.pk}/invitations"
    made = admin.post(path, {"email": "New@people.example", "role": BILLING}, content_type=JSON)
    assert made.status_code == 201
    body = made.json()
    assert (body["email"], body["role"], body["expired"]) == ("new@people.example", BILLING, False)
    assert not {"token", "url", "tokenHash"} & set(body)
    assert admin.get(path).json() == {"invitations": [body]}
    again = admin.post(f"{path}/{body['id']}/resend", content_type=JSON)
    assert (again.status_code, again["Retry-After"].isdigit()) == (429, True)
    for bad in ({"email": "nobody", "role": VIEWER}, {"email": "a@b.example", "role": OWNER}):
        status, _kind, param = error_of(admin.post(path, bad, content_type=JSON))
        assert (status, param) == (400, "email" if bad["role"] == VIEWER else "role")
    assert admin.delete(f"{path}/{body['id']}").status_code == 204
    assert Invitation.objects.get().revoked_at is not None


def test_another_organization_s_invitation_is_not_there(company: cast.Cast) -> None:
    other, owner = elsewhere()
    path = f"/api/orgs/{other.pk}/invitations"
    made = owner.post(path, {"email": "a@b.example", "role": VIEWER}, content_type=JSON).json()
    mine = f"/api/orgs/{company.organization.pk}/invitations/{made['id']}"
    assert company.client(OWNER).delete(mine).status_code == 404
    assert company.client(OWNER).delete(f"{path}/{made['id']}").status_code == 404


def test_deleting_asks_for_a_recent_sign_in_and_the_name(company: cast.Cast) -> None:
    client, path = company.client(OWNER), f"/api/orgs/{company.organization.pk}"
    assert error_of(client.delete(path, {"name": "acme"}, content_type=JSON)) == (400, "invalid_request_error", "name")
    session = client.session
    del session["account_authentication_methods"]
    session.save()
    answer = client.delete(path, {"name": "Acme"}, content_type=JSON)
    assert answer.json()["error"]["code"] == "reauthentication_required"
    assert Workspace.objects.get(pk=company.organization.pk).active
    assert company.client(OWNER).delete(path, {"name": "Acme"}, content_type=JSON).status_code == 204
    assert client.get(path).status_code == 404


def test_a_locked_organization_is_locked_by_name_too(company: cast.Cast) -> None:
    Workspace.objects.filter(pk=company.organization.pk).update(require_second_factor=True)
    client, path = company.client(OWNER), f"/api/orgs/{company.organization.pk}"
    for part in ("", "/members", "/invitations", "/audit-log"):
        assert client.get(path + part).json()["error"]["code"] == "second_factor_required"
    free = factories.organization("Free")
    factories.member(free, OWNER, company[OWNER])
    assert client.get(f"/api/orgs/{free.pk}").status_code == 200  # although the one in use is locked
    Authenticator.objects.create(user=company[OWNER], type="totp", data={})
    assert client.get(f"{path}/members").status_code == 200


# ── The trail ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_audit_log_is_paged_by_key(company: cast.Cast) -> None:
    owner, path = company.client(OWNER), f"/api/orgs/{company.organization.pk}"
    for number in range(7):
        owner.patch(path, {"name": f"Name {number}"}, content_type=JSON)
    seen: list[str] = []
    before = ""
    while True:
        page = owner.get(f"{path}/audit-log?limit=3{before}").json()
        seen += [event["details"]["name"]["to"] for event in page["events"]]
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert seen == [f"Name {number}" for number in reversed(range(7))]


def test_an_entry_says_who_what_and_from_where(company: cast.Cast) -> None:
    owner, path = company.client(OWNER), f"/api/orgs/{company.organization.pk}"
    made = owner.patch(path, {"name": "Renamed"}, content_type=JSON, REMOTE_ADDR="192.0.2.44")
    event = owner.get(f"{path}/audit-log").json()["events"][0]
    assert event["actor"] == {"id": str(company[OWNER].pk), "label": company[OWNER].email}
    assert event["target"] == {"type": "organization", "id": str(company.organization.pk), "label": "Renamed"}
    assert (event["action"], event["address"]) == ("organization.change", "192.0.2.44")
    assert event["requestId"] == made["x-request-id"]
    assert owner.get(f"{path}/audit-log?q={event['requestId']}").json()["events"] == [event]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("action=organization", 1),
        ("action=organization.change", 1),
        ("action=organ", 0),
        ("q=Renam", 1),
        ("q=invited@", 1),
        ("actor=nobody", 0),
        ("from=2020-01-01&to=2020-01-02", 0),
        ("from=2020-01-01", 2),
        ("q=%25", 0),
    ],
)
def test_searching(company: cast.Cast, query: str, found: int) -> None:
    owner, path = company.client(OWNER), f"/api/orgs/{company.organization.pk}"
    owner.patch(path, {"name": "Renamed"}, content_type=JSON)
    owner.post(f"{path}/invitations", {"email": "invited@people.example", "role": VIEWER}, content_type=JSON)
    assert len(owner.get(f"{path}/audit-log?{query}").json()["events"]) == found


@pytest.mark.parametrize(
    ("query", "param"),
    [("from=yesterday", "from"), ("to=9999-12-31", "to"), ("limit=0", "limit"), ("limit=201", "limit"),
     ("q=" + "x" * 121, "q"), ("before=nonsense", "before")],
)  # fmt: skip
def test_bad_questions_name_their_member(company: cast.Cast, query: str, param: str) -> None:
    path = f"/api/orgs/{company.organization.pk}/audit-log?{query}"
    assert error_of(company.client(OWNER).get(path)) == (400, "invalid_request_error", param)


async def collect(answer: Any) -> str:
    return b"".join([part async for part in answer]).decode()


def test_the_csv_holds_all_and_runs_no_formula(company: cast.Cast) -> None:
    owner, path = company.client(OWNER), f"/api/orgs/{company.organization.pk}"
    owner.patch(path, {"name": "=cmd|' /C calc'!A0"}, content_type=JSON)
    for address in (f"{path}/audit-log/export", "/settings/organization/audit.csv"):
        answer = owner.get(address)
        assert answer["Content-Type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(async_to_sync(collect)(answer))))
        assert len(rows) == AuditEvent.objects.filter(workspace_id=company.organization.pk).count() == 1
        assert rows[0]["target"].startswith("'=")
        assert rows[0]["actor"] == company[OWNER].email


def test_the_trail_of_others_is_not_in_it(company: cast.Cast) -> None:
    other, owner = elsewhere()
    assert owner.patch(f"/api/orgs/{other.pk}", {"name": "Else"}, content_type=JSON).status_code == 200
    assert company.client(OWNER).get(f"/api/orgs/{company.organization.pk}/audit-log").json()["events"] == []


# ── Description ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_roles_are_those_of_the_code() -> None:
    body = Client().get("/api/orgs/roles").json()
    table = {row["permission"]: set(row["roles"]) for row in body["permissions"]}
    assert set(table) == {permission.value for permission in Permission}
    for role, held in ROLE_PERMISSIONS.items():
        assert {name for name, roles in table.items() if role in roles} == {permission.value for permission in held}


def test_the_description_names_it_all() -> None:
    document = Client().get("/api/openapi.json").json()
    one = "/api/orgs/{org_id}"
    paths = {"/api/orgs", one, f"{one}/members", f"{one}/invitations", f"{one}/audit-log", f"{one}/transfer"}
    assert paths <= set(document["paths"])
    assert set(document["components"]["schemas"]["OrganizationOut"]["required"]) >= {"id", "slug", "role"}
