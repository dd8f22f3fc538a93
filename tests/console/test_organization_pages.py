"""An organization from its first form to its end, over HTTP: made, filled, handed over, left, deleted (C-ORG)."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.core import mail
from django.core.cache import cache
from django.test import Client

from accounts.models import User
from billing.models import Wallet
from core import clock
from events.models import AuditEvent
from keys.models import ApiKey
from orgs import access
from orgs.models import Invitation, Membership, Workspace
from tests import cast, factories
from tests.accounts.front_door import Browser, last_link, sign_in, sign_up

pytestmark = pytest.mark.django_db
OWNER, ADMIN, DEVELOPER, BILLING, VIEWER = cast.ROLES
HOME = "/settings/organization"


@pytest.fixture(autouse=True)
def quiet() -> None:
    cache.clear()
    mail.outbox = []


@pytest.fixture
def company() -> cast.Cast:
    return cast.assemble()


def browser_of(person: User) -> Browser:
    client = Browser()
    sign_in(client, person.email)
    return client


def workspace_of(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/me").json()
    return {**found["workspace"], "role": found["role"]}


def invite(client: Client, email: str, role: str = DEVELOPER) -> Any:
    return client.post(f"{HOME}/invitations", {"email": email, "role": role})


# ── Made ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_from_nothing_to_an_organization_of_two() -> None:
    sana, omar = factories.user("sana@people.example"), factories.user("omar@people.example")
    browser = browser_of(sana)
    assert "Create an organization" in browser.get(HOME).content.decode()
    token = str(uuid.uuid4())
    made = browser.post(f"{HOME}/new", {"name": "Kites & Co", "form_token": token})
    assert (made.status_code, made["Location"]) == (302, f"{HOME}/members")
    here = workspace_of(browser)
    assert (here["kind"], here["name"], here["role"]) == ("organization", "Kites & Co", OWNER)
    assert Wallet.objects.get(pk=here["id"]).balance_microcredits == 0

    assert invite(browser, "Omar@people.example").status_code == 302
    assert mail.outbox[-1].to == ["omar@people.example"]
    assert "Kites & Co" in mail.outbox[-1].subject
    other = browser_of(omar)
    page = other.get(last_link())
    assert page.status_code == 200
    assert not Membership.objects.filter(user=omar, workspace_id=here["id"]).exists()  # looking is not joining
    assert other.post(last_link()).status_code == 302
    assert workspace_of(other) == {**here, "role": DEVELOPER}
    actions = AuditEvent.objects.filter(workspace_id=here["id"]).order_by("id").values_list("action", flat=True)
    assert list(actions) == ["organization.create", "invitation.create", "invitation.accept", "member.add"]
    assert other.get("/manage-api-keys").status_code == 200
    assert other.get("/billing").status_code == 403

    personal = str(omar.personal_workspace.pk)
    assert other.post("/workspace", {"workspace": personal, "next": "/billing"})["Location"] == "/billing"
    assert other.get("/billing").status_code == 200
    assert workspace_of(other)["kind"] == "personal"


def test_one_form_makes_one_organization() -> None:
    browser = browser_of(factories.user())
    form = {"name": "Once", "form_token": str(uuid.uuid4())}
    for _ in range(2):
        assert browser.post(f"{HOME}/new", form).status_code == 302
    assert Workspace.objects.filter(name="Once").count() == 1


@pytest.mark.parametrize("name", ["", "   ", "x" * 121, "a\u0000b"])
def test_a_bad_name_makes_nothing(name: str) -> None:
    browser = browser_of(factories.user())
    assert browser.post(f"{HOME}/new", {"name": name, "form_token": str(uuid.uuid4())}).status_code == 422
    assert not Workspace.objects.filter(kind="organization").exists()


def test_what_is_invited_is_shown_and_the_roles_beside(company: cast.Cast) -> None:
    owner = company.client(OWNER)
    invite(owner, "next@people.example", VIEWER)
    text = owner.get(f"{HOME}/members").content.decode()
    for part in ("next@people.example", company[BILLING].email, "What each role may do", "Manage webhooks"):
        assert part in text
    assert "Send again" not in company.client(DEVELOPER).get(f"{HOME}/members").content.decode()


# ── Invitations ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_somebody_without_an_account_makes_one_on_the_way(company: cast.Cast) -> None:
    owner = Browser()
    sign_in(owner, company[OWNER].email)
    owner.post("/workspace", {"workspace": str(company.organization.pk)})
    invite(owner, "fresh@people.example", BILLING)
    link, browser = last_link(), Browser()
    assert "Make an account" in browser.get(link).content.decode()
    form = browser.post(link)["Location"]
    assert form.startswith("/accounts/signup/?next=")
    mail.outbox.clear()
    answer = sign_up(browser, "fresh@people.example", next=link)
    assert (answer.status_code, answer["Location"]) == (302, link)  # the mail's link has proven the address
    assert EmailAddress.objects.get(email="fresh@people.example").verified
    assert browser.post(link).status_code == 302
    assert workspace_of(browser)["role"] == BILLING


def test_a_link_lets_nobody_else_in(company: cast.Cast) -> None:
    owner = browser_of(company[OWNER])
    owner.post("/workspace", {"workspace": str(company.organization.pk)})
    invite(owner, "right@people.example", ADMIN)
    link = last_link()
    factories.user("right@people.example", verified=False)  # made by somebody who does not own the address
    for wrong in (company["stranger"], User.objects.get(email="right@people.example")):
        client = Browser()
        client.force_login(wrong)
        assert "for another address" in client.get(link).content.decode()
        assert client.post(link).status_code == 403
        assert not Membership.objects.filter(user=wrong, workspace=company.organization).exists()
    assert Invitation.objects.get().accepted_at is None


def test_a_used_link_is_over_and_still_leads_its_owner_in(company: cast.Cast) -> None:
    owner = browser_of(company[OWNER])
    owner.post("/workspace", {"workspace": str(company.organization.pk)})
    invite(owner, "right@people.example")
    person = factories.user("right@people.example")
    link, client = last_link(), browser_of(person)
    assert [client.post(link).status_code for _ in range(2)] == [302, 302]
    assert Browser().get(link).status_code == 404
    assert company.client("stranger").get(link).status_code == 404
    owner.post(f"{HOME}/members/{Membership.objects.get(user=person, role=DEVELOPER).pk}/remove")
    again = browser_of(person)
    assert again.post(link).status_code == 409  # single use: it does not bring back who was removed
    assert not Membership.objects.filter(user=person, workspace=company.organization).exists()


def test_expired_revoked_and_replaced_links_are_over(company: cast.Cast) -> None:
    owner = browser_of(company[OWNER])
    owner.post("/workspace", {"workspace": str(company.organization.pk)})
    invite(owner, "right@people.example")
    first, row = last_link(), Invitation.objects.get()
    person = browser_of(factories.user("right@people.example"))

    Invitation.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    assert person.get(first).status_code == 404
    assert person.post(first).status_code == 404

    assert owner.post(f"{HOME}/invitations/{row.pk}/resend").status_code == 302
    assert len(mail.outbox) == 1  # within the pause: no second mail
    Invitation.objects.update(sent_at=clock.now() - timedelta(hours=1))
    owner.post(f"{HOME}/invitations/{row.pk}/resend")
    assert len(mail.outbox) == 2
    second = last_link()
    assert second != first
    assert person.get(first).status_code == 404
    assert person.get(second).status_code == 200

    assert owner.post(f"{HOME}/invitations/{row.pk}/revoke").status_code == 302
    assert person.post(second).status_code == 404
    assert owner.post(f"{HOME}/invitations/{row.pk}/revoke").status_code == 404
    assert not Membership.objects.filter(user__email="right@people.example", workspace=company.organization).exists()


def test_a_double_click_sends_one_mail(company: cast.Cast) -> None:
    owner = browser_of(company[OWNER])
    owner.post("/workspace", {"workspace": str(company.organization.pk)})
    assert [invite(owner, "once@people.example").status_code for _ in range(2)] == [302, 302]
    assert len(mail.outbox) == 1
    assert Invitation.objects.count() == 1
    assert invite(owner, "once@people.example", ADMIN).status_code == 422  # as something else: not silently


@pytest.mark.parametrize(("email", "role"), [("nonsense", VIEWER), ("a@people.example", "owner"), ("", VIEWER)])
def test_bad_invitations_are_refused(company: cast.Cast, email: str, role: str) -> None:
    assert invite(company.client(OWNER), email, role).status_code == 422
    assert not Invitation.objects.exists()


def test_members_are_not_invited_under_any_of_their_addresses(company: cast.Cast) -> None:
    EmailAddress.objects.create(user=company[VIEWER], email="second@people.example", verified=True)
    for email in (company[VIEWER].email.upper(), "second@people.example"):
        assert invite(company.client(OWNER), email).status_code == 422
    assert not Invitation.objects.exists()


def test_no_token_is_kept(company: cast.Cast) -> None:
    owner = browser_of(company[OWNER])
    owner.post("/workspace", {"workspace": str(company.organization.pk)})
    invite(owner, "right@people.example")
    token = last_link().rpartition("/")[2]
    assert len(token) >= 43
    row = Invitation.objects.get()
    assert token.encode() not in bytes(row.token_hash)
    assert token not in str([list(event.values()) for event in AuditEvent.objects.values()])


# ── Keys of people who go ────────────────────────────────────────────────────────────────────────────────────────────
def key_of(company: cast.Cast, who: str) -> Any:
    return factories.api_key(company.organization, created_by=company[who])


def me_by_key(secret: str) -> int:
    return int(Client().get("/api/me", headers={"x-api-key": secret}).status_code)


def row_of(company: cast.Cast, who: str) -> Membership:
    return Membership.objects.get(workspace=company.organization, user=company[who])


def test_keys_pass_to_whoever_is_chosen(company: cast.Cast) -> None:
    issued, row = key_of(company, DEVELOPER), row_of(company, DEVELOPER)
    page = company.client(ADMIN).get(f"{HOME}/members/{row.pk}/remove").content.decode()
    assert issued.key.prefix in page
    heir = row_of(company, OWNER)
    assert company.client(ADMIN).post(f"{HOME}/members/{row.pk}/remove", {"heir": str(heir.pk)}).status_code == 302
    key = ApiKey.objects.get(pk=issued.key.pk)
    assert (key.created_by, key.enabled) == (company[OWNER], True)
    assert me_by_key(issued.secret) == 200
    assert AuditEvent.objects.get(action="api_key.reassign").details["to"] == company[OWNER].email


def test_keys_that_nobody_takes_are_disabled_and_can_be_taken_over(company: cast.Cast) -> None:
    issued, row = key_of(company, DEVELOPER), row_of(company, DEVELOPER)
    company.client(ADMIN).post(f"{HOME}/members/{row.pk}/remove")
    assert me_by_key(issued.secret) == 401
    key = ApiKey.objects.get(pk=issued.key.pk)
    assert (key.enabled, key.disabled_reason) == (False, "member_left")
    assert "Take over" in company.client(ADMIN).get("/manage-api-keys").content.decode()
    assert "Take over" not in company.client(VIEWER).get("/manage-api-keys").content.decode()
    assert company.client(ADMIN).post(f"/manage-api-keys/{key.pk}/take-over").status_code == 302
    assert me_by_key(issued.secret) == 200
    assert ApiKey.objects.get(pk=key.pk).created_by == company[ADMIN]


def test_enabling_a_key_whose_maker_left_takes_it_over(company: cast.Cast) -> None:
    for way in ("page", "api"):
        issued = key_of(company, DEVELOPER)
        Membership.objects.filter(user=company[DEVELOPER], workspace=company.organization).delete()
        assert me_by_key(issued.secret) == 401
        client, address = company.client(ADMIN), f"/api/api-keys/{issued.key.pk}"
        if way == "page":
            client.post(f"/manage-api-keys/{issued.key.pk}/state", {"enabled": "1"})
        else:
            client.patch(address, {"enabled": True}, content_type="application/json")
        assert me_by_key(issued.secret) == 200


def test_a_key_whose_maker_is_deactivated_says_that_it_is_refused(company: cast.Cast) -> None:
    issued = key_of(company, DEVELOPER)
    assert "its maker left" not in company.client(ADMIN).get("/manage-api-keys").content.decode()
    User.objects.filter(pk=company[DEVELOPER].pk).update(is_active=False)
    assert me_by_key(issued.secret) == 401
    assert "Refused: its maker left" in company.client(ADMIN).get("/manage-api-keys").content.decode()


def test_a_key_disabled_by_hand_stays_so_for_its_heir(company: cast.Cast) -> None:
    issued, row = key_of(company, DEVELOPER), row_of(company, DEVELOPER)
    ApiKey.objects.filter(pk=issued.key.pk).update(enabled=False, disabled_reason="by_hand")
    company.client(ADMIN).post(f"{HOME}/members/{row.pk}/remove")
    company.client(ADMIN).post(f"/manage-api-keys/{issued.key.pk}/take-over")
    key = ApiKey.objects.get(pk=issued.key.pk)
    assert (key.created_by, key.enabled, key.disabled_reason) == (company[ADMIN], False, "by_hand")


def test_keys_of_members_are_not_taken_over(company: cast.Cast) -> None:
    issued = key_of(company, DEVELOPER)
    company.client(ADMIN).post(f"/manage-api-keys/{issued.key.pk}/take-over")
    assert ApiKey.objects.get(pk=issued.key.pk).created_by == company[DEVELOPER]


def test_the_last_owner_cannot_leave(company: cast.Cast) -> None:
    answer = company.client(OWNER).post(f"{HOME}/leave")
    assert answer.status_code == 422
    assert "needs an owner" in answer.content.decode()
    assert company.client(VIEWER).post(f"{HOME}/leave").status_code == 302


# ── The end ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def stale(client: Client) -> Client:
    """The same browser a day later."""
    session = client.session
    session.pop("account_authentication_methods", None)
    session.save()
    return client


def test_deleting_asks_for_the_password_and_the_name(company: cast.Cast) -> None:
    issued = key_of(company, OWNER)
    browser = browser_of(company[OWNER])
    browser.post("/workspace", {"workspace": str(company.organization.pk)})
    assert browser.post(f"{HOME}/delete", {"name": "acme"}).status_code == 422
    answer = stale(browser).post(f"{HOME}/delete", {"name": "Acme"})
    assert answer["Location"].startswith("/accounts/reauthenticate/")
    assert me_by_key(issued.secret) == 200
    answer = browser.post(answer["Location"], {"password": factories.PASSWORD, "next": f"{HOME}/delete"})
    assert answer.status_code == 302  # the form that was kept goes on
    gone = Workspace.objects.get(pk=company.organization.pk)
    assert (gone.active, gone.deleted_at is not None) == (False, True)
    assert me_by_key(issued.secret) == 401
    assert workspace_of(company.client(ADMIN))["kind"] == "personal"
    assert Wallet.objects.filter(pk=gone.pk).exists()
    assert AuditEvent.objects.filter(action="organization.delete", workspace_id=gone.pk).count() == 1


def test_a_deleted_organization_takes_nobody_in(company: cast.Cast) -> None:
    owner = browser_of(company[OWNER])
    owner.post("/workspace", {"workspace": str(company.organization.pk)})
    invite(owner, "right@people.example")
    owner.post(f"{HOME}/delete", {"name": "Acme"})
    person = browser_of(factories.user("right@people.example"))
    assert person.post(last_link()).status_code == 404


def test_handing_over_over_http(company: cast.Cast) -> None:
    client = stale(company.client(OWNER))
    form = {"member": str(row_of(company, VIEWER).pk)}
    assert client.post(f"{HOME}/transfer", form)["Location"].startswith("/accounts/reauthenticate/")
    assert row_of(company, VIEWER).role == VIEWER
    browser = browser_of(company[OWNER])
    browser.post("/workspace", {"workspace": str(company.organization.pk)})
    assert browser.post(f"{HOME}/transfer", form).status_code == 302
    assert (row_of(company, VIEWER).role, row_of(company, OWNER).role) == (OWNER, ADMIN)


# ── A second factor ──────────────────────────────────────────────────────────────────────────────────────────────────
def require_factor(company: cast.Cast) -> None:
    Workspace.objects.filter(pk=company.organization.pk).update(require_second_factor=True)


PAGES = ["/", "/manage-api-keys", "/billing", "/usage", HOME, f"{HOME}/members", f"{HOME}/audit"]


@pytest.mark.parametrize("path", PAGES)
def test_without_a_second_factor_nothing_of_the_organization_is_shown(company: cast.Cast, path: str) -> None:
    require_factor(company)
    client = company.client(OWNER)
    answer = client.get(path)
    assert (answer.status_code, answer["Location"]) == (302, f"{HOME}/second-factor")
    page = client.get(f"{HOME}/second-factor").content.decode()
    assert "/accounts/2fa/totp/activate/" in page
    assert client.get(path, headers={"HX-Request": "true"})["HX-Redirect"] == f"{HOME}/second-factor"


def test_without_a_second_factor_the_api_refuses(company: cast.Cast) -> None:
    require_factor(company)
    issued = key_of(company, DEVELOPER)
    client = company.client(OWNER)
    for path in ("/api/api-keys", "/api/api-usage", f"/api/api-keys/{issued.key.pk}",
                 f"/api/api-keys?organizationId={company.organization.pk}"):  # fmt: skip
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "second_factor_required")
    assert me_by_key(issued.secret) == 200  # keys go on working


def test_the_way_out_stays_open(company: cast.Cast) -> None:
    require_factor(company)
    client = company.client(OWNER)
    personal = str(company[OWNER].personal_workspace.pk)
    for path in ("/settings/account", "/accounts/2fa/", "/settings/account/activity"):
        assert client.get(path).status_code == 200
    client.post("/workspace", {"workspace": personal})
    assert client.get("/manage-api-keys").status_code == 200


@pytest.mark.parametrize(("kind", "opens"), [("totp", True), ("webauthn", True), ("recovery_codes", False)])
def test_what_counts_as_a_second_factor(company: cast.Cast, kind: str, opens: bool) -> None:
    require_factor(company)
    Authenticator.objects.create(user=company[OWNER], type=kind, data={})
    assert company.client(OWNER).get("/manage-api-keys").status_code == (200 if opens else 302)


def test_the_organization_s_own_identity_provider_counts(company: cast.Cast) -> None:
    require_factor(company)
    for workspace, status in ((company.organization, 200), (company[OWNER].personal_workspace, 302)):
        client = company.client(OWNER)
        session = client.session
        session[access.SSO_SESSION_KEY] = str(workspace.pk)
        session.save()
        assert client.get("/manage-api-keys").status_code == status


def test_asking_for_it_asks_for_the_password(company: cast.Cast) -> None:
    form = {"name": "Acme", "require_second_factor": "on"}
    answer = stale(company.client(ADMIN)).post(HOME, form)
    assert answer["Location"].startswith("/accounts/reauthenticate/")
    assert not Workspace.objects.get(pk=company.organization.pk).require_second_factor
    browser = browser_of(company[ADMIN])
    browser.post("/workspace", {"workspace": str(company.organization.pk)})
    assert browser.post(HOME, form).status_code == 302
    assert Workspace.objects.get(pk=company.organization.pk).require_second_factor
    changed = AuditEvent.objects.get(action="organization.change")
    assert changed.details == {"require_second_factor": {"from": False, "to": True}}


def test_a_form_of_before_undoes_nothing(company: cast.Cast) -> None:
    """Two people have the page open: one renames, the other asks for a second factor."""
    browser = browser_of(company[OWNER])
    browser.post("/workspace", {"workspace": str(company.organization.pk)})
    before = Workspace.objects.get(pk=company.organization.pk).name
    seen = browser.get(HOME).content.decode().split('name="seen" value="')[1].split('"')[0]
    for _click in range(2):
        page = browser.post(HOME, {"name": "Renamed", "seen": seen}, follow=True).content.decode()
        assert "Somebody changed this" not in page
    answer = browser.post(HOME, {"name": before, "require_second_factor": "on", "seen": seen}, follow=True)
    assert "Somebody changed this" in answer.content.decode()
    now = Workspace.objects.get(pk=company.organization.pk)
    assert (now.name, now.require_second_factor) == ("Renamed", False)


# ── Old sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_old_session_makes_keys_after_a_password_only(company: cast.Cast) -> None:
    browser = browser_of(company[DEVELOPER])
    form = {"name": "late", "form_token": str(uuid.uuid4())}
    UserSession.objects.update(created_at=clock.now() - timedelta(hours=13))
    assert browser.post("/manage-api-keys/new", {**form, "form_token": str(uuid.uuid4())}).status_code == 200
    stale(browser)
    answer = browser.post("/manage-api-keys/new", form, headers={"HX-Request": "true"})
    assert answer["HX-Redirect"].startswith("/accounts/reauthenticate/")
    answer = browser.post("/api/api-keys", {"name": "late"}, content_type="application/json")
    assert answer.json()["error"]["code"] == "reauthentication_required"
    answer = browser.post("/manage-api-keys/new", form)
    assert answer["Location"].startswith("/accounts/reauthenticate/")
    assert ApiKey.objects.count() == 1
    proof = {"password": factories.PASSWORD, "next": "/manage-api-keys/new"}
    assert "is ready. Copy it now" in browser.post(answer["Location"], proof).content.decode()
    assert ApiKey.objects.count() == 2


def test_a_young_session_is_not_asked(company: cast.Cast) -> None:
    client = stale(company.client(DEVELOPER))
    assert client.post("/api/api-keys", {"name": "now"}, content_type="application/json").status_code == 201


# ── The frame ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_header_knows_all_workspaces(company: cast.Cast) -> None:
    text = company.client(ADMIN).get("/manage-api-keys").content.decode()
    assert re.search(r'name="next" value="/manage-api-keys"', text)
    assert text.count('name="workspace"') == 2
    assert f'href="{HOME}/new"' in text
