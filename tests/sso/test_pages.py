"""``/settings/organization/sso``: the three steps, as an admin takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from events import audit
from events.models import AuditEvent
from orgs import organizations
from orgs.models import Workspace
from sso.models import OrgDomain, SsoConnection, SsoIdentity
from tests import cast, factories
from tests.accounts.front_door import Browser
from tests.fakes.identity_provider import IdentityProvider
from tests.fakes.oidc import CLIENT_ID, CLIENT_SECRET, OidcProvider
from tests.sso import company

pytestmark = pytest.mark.django_db

HOME = "/settings/organization/sso"


@pytest.fixture
def people() -> cast.Cast:
    return cast.assemble()


@pytest.fixture
def admin(people: cast.Cast) -> Client:
    return people.client("admin")


def draft(admin: Client, kind: str = "oidc") -> SsoConnection:
    answer = admin.post(f"{HOME}/new", {"type": kind})
    found = SsoConnection.objects.latest("created_at")
    assert answer["Location"] == f"{HOME}/{found.provider_id}"
    return found


def complete(provider: OidcProvider) -> dict[str, str]:
    return {"issuer": provider.issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "name": "Keycloak"}


def text(answer: Any) -> str:
    return str(answer.content.decode())


def test_the_first_page_invites(admin: Client) -> None:
    assert "Connect your identity provider" in text(admin.get(HOME))
    assert "SAML 2.0" in text(admin.get(HOME))


def test_a_draft_shows_the_address_to_register(admin: Client, provider: OidcProvider) -> None:
    found = draft(admin)
    page = text(admin.get(f"{HOME}/{found.provider_id}"))
    assert f"http://testserver/api/auth/sso/{found.provider_id}" in page
    assert "Draft" in page
    assert "Test sign-in" not in page
    assert admin.get(f"/api/auth/sso/{found.provider_id}/login").status_code == 404


def test_a_form_sent_twice_makes_one_draft(admin: Client) -> None:
    draft(admin)
    draft(admin)
    assert SsoConnection.objects.count() == 1
    draft(admin, "saml")
    assert SsoConnection.objects.count() == 2


def test_openid_connect_in_three_steps(admin: Client, people: cast.Cast, provider: OidcProvider) -> None:
    found = draft(admin)
    answer = admin.post(f"{HOME}/{found.provider_id}", complete(provider), follow=True)
    page = text(answer)
    assert "Connected: the identity provider answers" in page
    assert "Reachable" in page
    assert CLIENT_SECRET not in page
    assert "No domain is proven yet" in page
    company.domain(people.organization)
    assert "No domain is proven yet" not in text(admin.get(f"{HOME}/{found.provider_id}"))
    company.sign_in(Browser(), SsoConnection.objects.get(), provider)
    assert SsoIdentity.objects.get().email == "sana@acme.example"
    assert "1 person has signed in" in text(admin.get(f"{HOME}/{found.provider_id}"))


def test_saml_by_pasted_metadata(admin: Client, settings: Any) -> None:
    settings.SITE_URL = "http://testserver"
    found = draft(admin, "saml")
    page = text(admin.get(f"{HOME}/{found.provider_id}"))
    assert f"http://testserver/api/auth/sso/{found.provider_id}/metadata" in page
    idp = IdentityProvider()
    answer = admin.post(f"{HOME}/{found.provider_id}", {"metadata_xml": idp.metadata()}, follow=True)
    page = text(answer)
    assert idp.entity_id in page
    assert "SHA-256" in page
    found.refresh_from_db()
    assert found.status == "active"
    # What stands is kept where the field stays empty.
    admin.post(f"{HOME}/{found.provider_id}", {"metadata_xml": "", "name": "Entra", "idp_initiated": "on"})
    found.refresh_from_db()
    assert (found.name, found.idp_entity_id, found.idp_initiated) == ("Entra", idp.entity_id, True)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"issuer": ""}, "This field is required"),
        ({"client_secret": ""}, "This field is required"),
        ({"issuer": "ftp://x.example"}, "not an https:// address"),
    ],
    ids=["issuer", "secret", "scheme"],
)
def test_a_wrong_field_is_named(admin: Client, provider: OidcProvider, change: dict[str, str], complaint: str) -> None:
    found = draft(admin)
    answer = admin.post(f"{HOME}/{found.provider_id}", complete(provider) | change)
    assert answer.status_code == 422
    assert complaint in text(answer)
    assert CLIENT_SECRET not in text(answer)
    found.refresh_from_db()
    assert (found.issuer, found.status) == ("", "draft")


@pytest.mark.parametrize("sent", [{"metadata_xml": ""}, {"metadata_xml": "<x/>"}, {"metadata_xml": "x" * 500_001}])
def test_metadata_that_can_not_be_used(admin: Client, sent: dict[str, str]) -> None:
    found = draft(admin, "saml")
    assert admin.post(f"{HOME}/{found.provider_id}", sent).status_code == 422
    found.refresh_from_db()
    assert found.status == "draft"


def test_an_unreachable_provider_is_said_so(admin: Client, provider: OidcProvider) -> None:
    found = draft(admin)
    provider.discovery["issuer"] = "https://other.example"
    page = text(admin.post(f"{HOME}/{found.provider_id}", complete(provider), follow=True))
    assert "names another issuer: https://other.example" in page
    assert "Not reachable" in page
    provider.discovery.clear()
    admin.post(f"{HOME}/{found.provider_id}/check")
    found.refresh_from_db()
    assert (found.last_check_ok, found.status) == (True, "draft"), "a check switches nothing on"
    admin.post(f"{HOME}/{found.provider_id}/state", {"status": "active"})
    found.refresh_from_db()
    assert found.status == "active"


def test_a_secret_is_kept_where_the_field_stays_empty(admin: Client, provider: OidcProvider) -> None:
    found = draft(admin)
    admin.post(f"{HOME}/{found.provider_id}", complete(provider))
    before = SsoConnection.objects.get().client_secret_sealed
    admin.post(f"{HOME}/{found.provider_id}", complete(provider) | {"client_secret": "", "name": "Other"})
    after = SsoConnection.objects.get()
    assert (after.name, bytes(after.client_secret_sealed or b"")) == ("Other", bytes(before or b""))


def test_roles(admin: Client) -> None:
    found = draft(admin)
    path = f"{HOME}/{found.provider_id}/roles"
    form = {"default_role": "developer", "role_claim": "groups", "role_map": "a=b = admin\n\nstaff = viewer"}
    admin.post(path, form)
    found.refresh_from_db()
    assert (found.default_role, found.role_claim) == ("developer", "groups")
    assert found.role_map == {"a=b": "admin", "staff": "viewer"}
    page = text(admin.get(f"{HOME}/{found.provider_id}"))
    assert "a=b = admin" in page
    for wrong in ({"role_map": "x = owner"}, {"role_map": "x"}, {"default_role": "owner"}, {"attribute_map": "a = b"}):
        assert admin.post(path, form | wrong).status_code == 422
    found.refresh_from_db()
    assert found.role_map == {"a=b": "admin", "staff": "viewer"}


def test_forms_of_before_undo_nothing(admin: Client, people: cast.Cast, provider: OidcProvider) -> None:
    found = draft(admin)
    admin.post(f"{HOME}/{found.provider_id}", complete(provider))
    address = f"{HOME}/{found.provider_id}"
    data, roles = (part.split('"')[0] for part in text(admin.get(address)).split('name="seen" value="')[1:])
    changed = {"default_role": "viewer", "role_claim": "groups", "role_map": "ops = admin\r\n\r\ndevs = developer"}
    other = people.client("owner")
    for _click in range(2):  # a second one asks for what is there by now
        page = text(other.post(f"{address}/roles", changed | {"seen": roles}, follow=True))
        assert "Somebody changed this" not in page
    other.post(address, complete(provider) | {"client_secret": "", "name": "Ours", "seen": data})
    for path, sent in (
        (f"{address}/roles", {"default_role": "developer", "seen": roles}),
        (address, complete(provider) | {"name": "Mine", "seen": data}),
    ):
        assert "Somebody changed this" in text(admin.post(path, sent, follow=True))
    found.refresh_from_db()
    assert (found.name, found.default_role, found.role_claim) == ("Ours", "viewer", "groups")
    assert found.role_map == {"ops": "admin", "devs": "developer"}


# ── A test sign-in ───────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def tested(people: cast.Cast, provider: OidcProvider) -> Callable[[], Any]:
    """Press the button as the admin, go through the provider, and come back."""
    found = company.oidc(provider, people.organization, status="disabled")
    browser = Browser()
    browser.cookies = people.client("admin").cookies

    def go() -> Any:
        page = text(browser.post(f"{HOME}/{found.provider_id}/test"))
        address = page.partition('content="0;url=')[2].partition('"')[0].replace("&amp;", "&")
        return browser.get(provider.visit(address))

    return go


def test_a_test_shows_what_would_have_happened(
    tested: Callable[[], Any], people: cast.Cast, provider: OidcProvider
) -> None:
    provider.person["name"] = "Sana <b>Khan"
    answer = tested()
    assert answer.status_code == 200
    page = text(answer)
    assert "nobody could sign in yet" in page
    assert "has not proven that the domain is its own" in page
    company.domain(people.organization)
    page = text(tested())
    assert "The test sign-in worked" in page
    assert "Sana &lt;b&gt;Khan" in page
    assert not User.objects.filter(email="sana@acme.example").exists()
    assert not SsoIdentity.objects.exists()
    assert AuditEvent.objects.filter(action="sso.test").count() == 2


def test_a_test_finds_faults(tested: Callable[[], Any], provider: OidcProvider) -> None:
    provider.token["aud"] = "another"
    answer = tested()
    assert answer.status_code == 403
    assert "<code>audience</code>" in text(answer)


def test_a_test_of_a_switched_off_connection_lets_nobody_else_in(
    tested: Callable[[], Any], provider: OidcProvider
) -> None:
    tested()
    found = SsoConnection.objects.get()
    stranger = Browser()
    answer = stranger.get(f"/api/auth/sso/{found.provider_id}/login")
    assert answer.status_code == 404
    assert not SsoIdentity.objects.exists()


# ── Who may ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_changes_ask_who_one_is(people: cast.Cast) -> None:
    client = people.client("admin")
    session = client.session
    session.pop("account_authentication_methods", None)
    session.save()
    answer = client.post(f"{HOME}/new", {"type": "oidc"})
    assert answer["Location"].startswith("/accounts/reauthenticate/")
    assert not SsoConnection.objects.exists()


def test_a_connection_of_others_is_not_there(admin: Client, provider: OidcProvider) -> None:
    foreign = company.oidc(provider)
    for path in ("", "/roles", "/state", "/check", "/test", "/delete"):
        assert admin.post(f"{HOME}/{foreign.provider_id}{path}").status_code == 404
    foreign.refresh_from_db()
    assert foreign.is_active


def test_deleting_asks_first(admin: Client, people: cast.Cast, provider: OidcProvider) -> None:
    found = company.oidc(provider, people.organization)
    page = admin.get(f"{HOME}/{found.provider_id}/delete")
    assert "Delete the connection?" in text(page)
    admin.post(f"{HOME}/{found.provider_id}/delete")
    assert not SsoConnection.objects.exists()


def test_a_deleted_organization_lets_its_domains_go(people: cast.Cast, provider: OidcProvider) -> None:
    workspace: Workspace = people.organization
    company.oidc(provider, workspace)
    company.domain(workspace)
    owner = people["owner"]
    organizations.delete(workspace, actor=audit.Actor(owner.pk, owner.email), typed_name=workspace.name)
    assert not SsoConnection.objects.exists()
    assert not OrgDomain.objects.exists()
    company.domain(factories.organization("Next"))
