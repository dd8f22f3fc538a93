"""Provisioning: what a directory may do with one connection's token, and what becomes of the people in it."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.models import User
from core import clock
from events import audit
from events.models import AuditEvent
from orgs import members
from orgs.members import Source
from orgs.models import Membership
from sso.models import ScimGroup, ScimUser, SsoConnection
from tests import factories
from tests.accounts.front_door import Browser, is_signed_in
from tests.fakes import identity_provider as fake
from tests.sso import company, saml_company
from tests.sso.directory import ROBIN, SCHEMA, Directory

pytestmark = pytest.mark.django_db


@pytest.fixture
def connection(settings: Any, db: None) -> SsoConnection:
    settings.SITE_URL = "http://testserver"
    made = saml_company.saml(fake.IdentityProvider())
    factories.member(made.workspace, "owner")
    return made


@pytest.fixture
def directory(connection: SsoConnection) -> Directory:
    return Directory(connection)


def role(connection: SsoConnection, email: str = "robin@acme.example") -> str | None:
    found = Membership.objects.filter(workspace=connection.workspace, user__email=email)
    return found.values_list("role", flat=True).first()


def actions(connection: SsoConnection) -> list[str]:
    rows = AuditEvent.objects.filter(workspace_id=connection.workspace_id).order_by("id")
    return list(rows.values_list("action", flat=True))


# ── People come ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_new_person_gets_account_and_membership(directory: Directory, connection: SsoConnection) -> None:
    answer = directory("POST", "Users", ROBIN)
    assert answer.status_code == 201
    assert answer["Content-Type"] == "application/scim+json"
    made = answer.json()
    assert answer["Location"] == made["meta"]["location"] == f"http://testserver/scim/v2/Users/{made['id']}"
    assert (made["userName"], made["externalId"], made["active"]) == ("robin@acme.example", "e-1", True)
    person = User.objects.get(email="robin@acme.example")
    assert person.name == "Robin Example"
    assert not person.has_usable_password()
    assert role(connection) == "viewer"
    assert {"scim_token.create", "user.provision", "scim_user.create", "member.add"} <= set(actions(connection))
    row = AuditEvent.objects.get(action="scim_user.create")
    assert row.actor_label == "SCIM: Entra"


def test_the_provisioned_person_signs_in(directory: Directory, connection: SsoConnection) -> None:
    directory.create()
    browser = Browser()
    saml_company.sign_in(browser, connection, fake.IdentityProvider())
    assert is_signed_in(browser)
    assert User.objects.filter(email="robin@acme.example").count() == 1


@pytest.mark.parametrize("email", ["robin@other.example", "robin@sub.acme.example", "robin"])
def test_addresses_elsewhere_are_kept_and_open_nothing(
    email: str, directory: Directory, connection: SsoConnection
) -> None:
    person = factories.user("robin@other.example")
    made = directory.create(userName=email, emails=[])
    assert ScimUser.objects.get(pk=made["id"]).user is None
    assert not Membership.objects.filter(workspace=connection.workspace, user=person).exists()
    assert Membership.objects.filter(workspace=connection.workspace).count() == 1


def test_an_unproven_domain_opens_nothing_until_it_is_proven(connection: SsoConnection) -> None:
    organization = factories.organization("Globex")
    factories.member(organization, "owner")
    domain = company.domain(organization, "globex.example", proven=False)
    directory = Directory(saml_company.saml(fake.IdentityProvider(), organization))
    made = directory.create(userName="kim@globex.example", emails=[])
    assert not User.objects.filter(email="kim@globex.example").exists()
    domain.verified_at = clock.now()
    domain.save()
    directory.patch(f"Users/{made['id']}", {"op": "replace", "path": "displayName", "value": "Kim"})
    assert Membership.objects.filter(workspace=organization, user__email="kim@globex.example").exists()


def test_an_account_that_a_stranger_made_with_the_address_is_not_theirs(
    directory: Directory, connection: SsoConnection
) -> None:
    squatter = factories.user("robin@acme.example", verified=False)
    directory.create()
    squatter.refresh_from_db()
    assert not squatter.has_usable_password()
    assert role(connection) == "viewer"


def test_operators_are_left_alone(directory: Directory, connection: SsoConnection) -> None:
    factories.user("robin@acme.example", is_staff=True)
    made = directory.create()
    assert ScimUser.objects.get(pk=made["id"]).user is None
    assert role(connection) is None


def test_an_inactive_person_is_kept_without_access(directory: Directory, connection: SsoConnection) -> None:
    directory.create(active=False)
    assert role(connection) is None


# ── People go ────────────────────────────────────────────────────────────────────────────────────────────────────────
DEACTIVATIONS: dict[str, Any] = {
    "patch": {"op": "replace", "path": "active", "value": False},
    "without a path": {"op": "replace", "value": {"active": False}},
    "as Entra writes": {"op": "Replace", "path": "active", "value": "False"},
}


@pytest.mark.parametrize("form", DEACTIVATIONS, ids=list(DEACTIVATIONS))
def test_deactivation_ends_access_at_once(form: str, directory: Directory, connection: SsoConnection) -> None:
    made = directory.create()
    browser = Browser()
    saml_company.sign_in(browser, connection, fake.IdentityProvider())
    assert is_signed_in(browser)
    answer = directory.patch(f"Users/{made['id']}", DEACTIVATIONS[form])
    assert answer.status_code == 200
    assert answer.json()["active"] is False
    assert not is_signed_in(browser)
    assert role(connection) is None
    again = saml_company.sign_in(Browser(), connection, fake.IdentityProvider())
    assert again.status_code == 403
    assert "scim_user.deactivate" in actions(connection)


def test_deactivation_takes_the_person_s_keys(directory: Directory, connection: SsoConnection) -> None:
    connection.default_role = "developer"
    connection.save()
    made = directory.create()
    person = User.objects.get(email="robin@acme.example")
    key = factories.api_key(connection.workspace, created_by=person).key
    directory.patch(f"Users/{made['id']}", DEACTIVATIONS["patch"])
    key.refresh_from_db()
    assert not key.enabled


def test_replacing_and_deleting_end_access_too(directory: Directory, connection: SsoConnection) -> None:
    made = directory.create()
    assert directory("PUT", f"Users/{made['id']}", {**ROBIN, "active": False}).json()["active"] is False
    assert role(connection) is None
    assert directory("PUT", f"Users/{made['id']}", {**ROBIN, "active": True}).json()["active"] is True
    assert role(connection) == "viewer"
    answer = directory("DELETE", f"Users/{made['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert role(connection) is None
    assert directory("GET", f"Users/{made['id']}").status_code == 404
    assert User.objects.filter(email="robin@acme.example").exists()
    expected = ["scim_user.deactivate", "scim_user.activate", "scim_user.delete"]
    assert [action for action in actions(connection) if action in expected] == expected


def test_taking_the_attribute_away_changes_no_access(directory: Directory, connection: SsoConnection) -> None:
    made = directory.create(active=False)
    directory.patch(f"Users/{made['id']}", {"op": "remove", "path": "active"})
    assert role(connection) is None
    assert not ScimUser.objects.get(pk=made["id"]).active


def test_whoever_an_admin_removed_does_not_come_back_with_a_new_name(
    directory: Directory, connection: SsoConnection
) -> None:
    made = directory.create()
    members.remove_member(
        connection.workspace, User.objects.get(email="robin@acme.example"), audit.SYSTEM, Source.OPERATOR
    )
    directory.patch(f"Users/{made['id']}", {"op": "replace", "path": "displayName", "value": "Rob"})
    assert role(connection) is None


def test_the_last_owner_stays(directory: Directory, connection: SsoConnection) -> None:
    made = directory.create()
    Membership.objects.filter(workspace=connection.workspace, role="owner").delete()
    Membership.objects.filter(user__email="robin@acme.example", workspace=connection.workspace).update(role="owner")
    answer = directory.patch(f"Users/{made['id']}", DEACTIVATIONS["patch"])
    assert answer.status_code == 409
    assert "last owner" in answer.json()["detail"]
    assert role(connection) == "owner"
    assert ScimUser.objects.get(pk=made["id"]).active


# ── Groups and roles ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_groups_give_roles_by_the_map_alone(directory: Directory, connection: SsoConnection) -> None:
    connection.role_map = {"Engineers": "developer", "Chiefs": "owner"}
    connection.save()
    robin = directory.create()
    directory.group("Chiefs", robin)
    directory.group("Admins", robin)
    assert role(connection) == "viewer"
    engineers = directory.group("Engineers", robin)
    assert role(connection) == "developer"
    found = directory("GET", f"Users/{robin['id']}").json()
    assert sorted(group["display"] for group in found["groups"]) == ["Admins", "Chiefs", "Engineers"]
    remove = {"op": "remove", "path": f'members[value eq "{robin["id"]}"]'}
    assert directory.patch(f"Groups/{engineers['id']}", remove).status_code == 200
    assert role(connection) == "viewer"
    directory.patch(f"Groups/{engineers['id']}", {"op": "add", "path": "members", "value": [{"value": robin["id"]}]})
    assert role(connection) == "developer"
    assert directory("DELETE", f"Groups/{engineers['id']}").status_code == 204
    assert role(connection) == "viewer"


def test_without_a_map_groups_change_no_role(directory: Directory, connection: SsoConnection) -> None:
    robin = directory.create()
    person = User.objects.get(email="robin@acme.example")
    members.change_role(connection.workspace, person, "admin", audit.SYSTEM, Source.OPERATOR)
    directory.group("Engineers", robin)
    assert role(connection) == "admin"


def test_owners_keep_their_role(directory: Directory, connection: SsoConnection) -> None:
    connection.role_map = {"Engineers": "developer"}
    connection.save()
    robin = directory.create()
    person = User.objects.get(email="robin@acme.example")
    members.change_role(connection.workspace, person, "owner", audit.SYSTEM, Source.OPERATOR)
    directory.group("Engineers", robin)
    assert role(connection) == "owner"


def test_members_are_of_this_directory(directory: Directory, connection: SsoConnection) -> None:
    other = Directory(saml_company.saml(fake.IdentityProvider(), connection.workspace))
    foreign = other.create(userName="kim@acme.example", externalId="", emails=[])
    for value in (foreign["id"], "nobody", ""):
        body = {"schemas": [f"{SCHEMA}:Group"], "displayName": "G", "members": [{"value": value}]}
        answer = directory("POST", "Groups", body)
        assert answer.status_code == 400
    assert not ScimGroup.objects.exists()


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────
FILTERS = {
    'userName eq "ROBIN@acme.example"': 1,
    'externalId eq "e-1"': 1,
    'externalId eq "E-1"': 0,
    'emails[type eq "work"].value eq "robin@acme.example"': 1,
    'userName sw "r" and active eq true': 1,
    'userName eq "nobody"': 0,
    'id eq "nothing"': 0,
    'not (userName pr)': 0,
}  # fmt: skip


@pytest.mark.parametrize("text", FILTERS, ids=list(FILTERS))
def test_lists_are_filtered(text: str, directory: Directory) -> None:
    directory.create()
    directory.create(userName="kim@acme.example", externalId="e-2", emails=[])
    found = directory("GET", "Users", filter=text).json()
    assert found["totalResults"] == len(found["Resources"]) == FILTERS[text]


@pytest.mark.parametrize("text", ["userName eq", 'nickels eq "5"', "((", 'userName xx "a"'])
def test_a_filter_that_is_none_is_refused(text: str, directory: Directory) -> None:
    answer = directory("GET", "Users", filter=text)
    assert answer.status_code == 400
    assert answer.json()["scimType"] == "invalidFilter"


def test_lists_come_in_pages(directory: Directory) -> None:
    for number in range(5):
        directory.create(userName=f"p{number}@acme.example", externalId=f"e{number}", emails=[])
    first = directory("GET", "Users", startIndex="1", count="2").json()
    assert (first["totalResults"], first["itemsPerPage"], first["startIndex"]) == (5, 2, 1)
    last = directory("GET", "Users", startIndex="5", count="2", sortBy="userName", sortOrder="descending").json()
    assert [user["userName"] for user in last["Resources"]] == ["p0@acme.example"]
    assert directory("GET", "Users", count="0").json()["Resources"] == []
    names = directory("GET", "Users", attributes="userName", count="1").json()["Resources"][0]
    assert set(names) == {"schemas", "id", "userName"}


def test_one_directory_sees_nothing_of_another(directory: Directory, connection: SsoConnection) -> None:
    mine = directory.create()
    organization = factories.organization("Globex")
    company.domain(organization, "globex.example")
    other = Directory(saml_company.saml(fake.IdentityProvider(), organization))
    assert other("GET", "Users").json()["totalResults"] == 0
    for method, body in (("GET", None), ("PUT", ROBIN), ("DELETE", None)):
        assert other(method, f"Users/{mine['id']}", body).status_code == 404
    assert other.patch(f"Users/{mine['id']}", DEACTIVATIONS["patch"]).status_code == 404
    assert role(connection) == "viewer"


def test_a_name_is_there_once(directory: Directory) -> None:
    directory.create()
    for changes in ({"userName": "ROBIN@acme.example", "externalId": "x"}, {"userName": "kim@acme.example"}):
        answer = directory("POST", "Users", {**ROBIN, **changes})
        assert (answer.status_code, answer.json()["scimType"]) == (409, "uniqueness")


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"nonsense", b"[" * 100_000, b'{"schemas": []}', b'{"userName": 5, "active": []}'],
    ids=["nothing", "a list", "half", "words", "depth", "no name", "wrong types"],
)
def test_other_bodies_are_refused(body: bytes, directory: Directory) -> None:
    answer = directory.client.generic("POST", "/scim/v2/Users", body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]
    assert not ScimUser.objects.exists()
