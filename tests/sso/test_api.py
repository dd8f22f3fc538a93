"""``/api/orgs/{id}/sso`` and ``…/domains``."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client

from core import secrets
from events.models import AuditEvent
from orgs.models import Workspace
from sso import proofs
from sso.models import OrgDomain, SsoConnection, SsoIdentity
from tests import cast, factories
from tests.accounts.front_door import Browser, is_signed_in
from tests.fakes.identity_provider import IdentityProvider
from tests.fakes.oidc import CLIENT_ID, CLIENT_SECRET, OidcProvider
from tests.sso import company

pytestmark = pytest.mark.django_db

JSON = "application/json"


@pytest.fixture
def people() -> cast.Cast:
    return cast.assemble()


@pytest.fixture
def admin(people: cast.Cast) -> Client:
    return people.client("admin")


@pytest.fixture
def org(people: cast.Cast) -> Workspace:
    return people.organization


def base(org: Workspace) -> str:
    return f"/api/orgs/{org.pk}"


def complete(provider: OidcProvider, **more: Any) -> dict[str, Any]:
    return {"issuer": provider.issuer, "clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET, **more}


def test_a_draft_shows_what_to_register(admin: Client, org: Workspace, provider: OidcProvider) -> None:
    answer = admin.post(f"{base(org)}/sso", {"type": "oidc"}, content_type=JSON)
    assert answer.status_code == 201
    made = answer.json()
    pid = made["providerId"]
    assert len(pid) == 22
    assert pid.isalnum()
    here = f"http://testserver/api/auth/sso/{pid}"
    assert made["acsUrl"] == made["redirectUri"] == here
    assert made["metadataUrl"] == f"{here}/metadata"
    assert made["loginUrl"] == f"{here}/login"
    assert (made["status"], made["reachable"], made["domain"]) == ("draft", None, None)


def test_a_draft_is_completed(admin: Client, org: Workspace, provider: OidcProvider) -> None:
    pid = admin.post(f"{base(org)}/sso", {"type": "oidc"}, content_type=JSON).json()["providerId"]
    answer = admin.patch(f"{base(org)}/sso/{pid}", complete(provider, domain="Acme.example"), content_type=JSON)
    assert answer.status_code == 200
    made = answer.json()
    assert (made["status"], made["reachable"]) == ("active", True)
    assert (made["domain"], made["domainVerified"]) == ("acme.example", False)
    assert made["dns"] == {
        "type": "TXT",
        "host": "_hypereal-challenge.acme.example",
        "value": proofs.expected(OrgDomain.objects.get().token),
    }
    assert CLIENT_SECRET not in answer.content.decode()
    sealed = bytes(SsoConnection.objects.get().client_secret_sealed or b"")
    assert CLIENT_SECRET.encode() not in sealed
    assert secrets.decrypt(sealed) == CLIENT_SECRET
    actions = list(AuditEvent.objects.order_by("id").values_list("action", flat=True))
    assert actions == ["sso.create", "domain.add", "sso.change"]
    assert CLIENT_SECRET not in str(list(AuditEvent.objects.values()))


def test_all_at_once_and_then_somebody_signs_in(admin: Client, org: Workspace, provider: OidcProvider) -> None:
    sent = {"type": "oidc", "domain": "acme.example", **complete(provider)}
    made = admin.post(f"{base(org)}/sso", sent, content_type=JSON).json()
    assert made["status"] == "active"
    OrgDomain.objects.update(verified_at="2026-01-01T00:00:00Z")
    company.sign_in(Browser(), SsoConnection.objects.get(), provider)
    assert SsoIdentity.objects.exists()


def test_saml_metadata_complete_a_connection(admin: Client, org: Workspace, settings: Any) -> None:
    settings.SITE_URL = "http://testserver"
    idp = IdentityProvider()
    sent = {"type": "saml", "metadataXml": idp.metadata(), "domain": "acme.example"}
    answer = admin.post(f"{base(org)}/sso", sent, content_type=JSON)
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert (made["status"], made["reachable"], made["idpEntityId"]) == ("active", True, idp.entity_id)
    assert admin.get(f"/api/auth/sso/{made['providerId']}/metadata").status_code == 200


def test_an_unreachable_issuer_is_saved_inactive(admin: Client, org: Workspace, provider: OidcProvider) -> None:
    provider.stop()
    answer = admin.post(f"{base(org)}/sso", {"type": "oidc", **complete(provider)}, content_type=JSON)
    assert answer.status_code == 201
    made = answer.json()
    assert (made["status"], made["reachable"]) == ("draft", False)
    assert "could not be reached" in made["checkError"]
    enabled = admin.patch(f"{base(org)}/sso/{made['providerId']}", {"status": "active"}, content_type=JSON)
    assert enabled.status_code == 409
    assert enabled.json()["error"]["code"] == "incomplete"


def test_a_check_finds_it_again(admin: Client, org: Workspace, provider: OidcProvider) -> None:
    provider.discovery["issuer"] = "https://other.example"
    made = admin.post(f"{base(org)}/sso", {"type": "oidc", **complete(provider)}, content_type=JSON).json()
    assert made["reachable"] is False
    assert "https://other.example" in made["checkError"]
    provider.discovery.clear()
    answer = admin.post(f"{base(org)}/sso/{made['providerId']}/check").json()
    assert (answer["reachable"], answer["checkError"]) == (True, "")


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"type": "ldap"}, "type"),
        ({}, "type"),
        ({"type": "oidc", "issuer": "nonsense"}, "issuer"),
        ({"type": "oidc", "issuer": "https://idp.example/?a=b"}, "issuer"),
        ({"type": "oidc", "metadataXml": "<x/>"}, "metadataXml"),
        ({"type": "saml", "issuer": "https://idp.example"}, "issuer"),
        ({"type": "saml", "metadataXml": "<x/>"}, "metadataXml"),
        ({"type": "oidc", "domain": "gmail.com"}, "domain"),
        ({"type": "oidc", "domain": "mail.gmail.com"}, "domain"),
        ({"type": "oidc", "domain": "not a domain"}, "domain"),
        ({"type": "oidc", "domain": "10.0.0.1"}, "domain"),
        ({"type": "oidc", "defaultRole": "owner"}, "defaultRole"),
        ({"type": "oidc", "defaultRole": "king"}, "defaultRole"),
        ({"type": "oidc", "roleMap": {"bosses": "owner"}}, "roleMap"),
        ({"type": "oidc", "roleMap": {str(at): "viewer" for at in range(101)}}, "roleMap"),
        ({"type": "oidc", "attributeMap": {"role": "x"}}, "attributeMap"),
        ({"type": "oidc", "name": "two\nlines"}, "name"),
        ({"type": "oidc", "status": "draft"}, "status"),
        ({"type": "oidc", "clientSecrett": "x"}, "clientSecrett"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_bad_fields_are_named_and_nothing_is_saved(
    admin: Client, org: Workspace, sent: dict[str, Any], param: str
) -> None:
    answer = admin.post(f"{base(org)}/sso", sent, content_type=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert not SsoConnection.objects.exists()
    assert not AuditEvent.objects.exists()


ODD = ("\x00", "\ud800", "\u202e", "x" * 5_000, "'; --", "../..", "{{7*7}}", "\r\nx: y", "é" * 300)


@pytest.mark.parametrize("kind", ["oidc", "saml"])
def test_odd_values_are_refused_and_break_nothing(admin: Client, org: Workspace, kind: str, settings: Any) -> None:
    settings.EGRESS_ALLOW = []
    pid = admin.post(f"{base(org)}/sso", {"type": kind}, content_type=JSON).json()["providerId"]
    fields = [
        "name",
        "domain",
        "clientId",
        "clientSecret",
        "metadataXml",
        "entityId",
        "defaultRole",
        "roleClaim",
        "status",
    ]
    for value in ODD:
        for field in fields:
            sent = json.dumps({field: value})  # a client would refuse to encode some of these
            answer = admin.patch(f"{base(org)}/sso/{pid}", sent, content_type=JSON)
            assert answer.status_code in (200, 400), (field, value, answer.content)
        for field in ("roleMap", "attributeMap"):
            answer = admin.patch(f"{base(org)}/sso/{pid}", json.dumps({field: {value: value}}), content_type=JSON)
            assert answer.status_code in (200, 400), (field, value, answer.content)
        for path in (f"sso/{quote(value, errors='replace')}", f"domains/{quote(value, errors='replace')}/verify"):
            assert admin.post(f"{base(org)}/{path}").status_code in (404, 405)
        issuer = json.dumps({"issuer": f"https://127.0.0.1/{value}", "metadataUrl": ""})
        assert admin.patch(f"{base(org)}/sso/{pid}", issuer, content_type=JSON).status_code in (200, 400)
    assert admin.get(f"{base(org)}/sso").status_code == 200


def test_a_required_provider_needs_a_way_back(
    people: cast.Cast, admin: Client, org: Workspace, provider: OidcProvider
) -> None:
    from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret

    made = company.oidc(provider, org)
    path = f"{base(org)}/sso/{made.provider_id}"

    def enforce() -> Any:
        answer = admin.patch(path, {"enforced": True}, content_type=JSON)
        return answer.json().get("error", {}).get("code") or answer.json()["enforced"]

    assert enforce() == "not_enforceable"
    company.domain(org)
    assert enforce() == "no_way_back"
    TOTP.activate(people["owner"], generate_totp_secret())
    theirs, others = Browser(), Browser()
    for browser, email in ((theirs, "sana@acme.example"), (others, "sana@people.example")):
        browser.force_login(factories.user(email))
        assert is_signed_in(browser)
    assert enforce() is True
    assert not is_signed_in(theirs), "whoever came in by a way that is closed now is signed out"
    assert is_signed_in(others)
    assert admin.get("/api/me").status_code == 200


def test_switching_off_stops_sign_ins_at_once(admin: Client, org: Workspace, provider: OidcProvider) -> None:
    made = company.oidc(provider, org)
    company.domain(org)
    browser = Browser()
    back = provider.visit(company.start(browser, made))
    admin.patch(f"{base(org)}/sso/{made.provider_id}", {"status": "disabled"}, content_type=JSON)
    assert browser.get(back).status_code == 404
    assert browser.get(f"/api/auth/sso/{made.provider_id}/login").status_code == 404
    assert not SsoIdentity.objects.exists()


def test_deleting_leaves_people_and_their_memberships(
    admin: Client, org: Workspace, connection: SsoConnection, provider: OidcProvider, people: cast.Cast
) -> None:
    made = company.oidc(provider, org)
    assert admin.delete(f"{base(org)}/sso/{made.provider_id}").status_code == 204
    assert not SsoConnection.objects.filter(pk=made.pk).exists()
    assert AuditEvent.objects.filter(action="sso.delete", workspace_id=org.pk).exists()
    foreign = admin.delete(f"{base(org)}/sso/{connection.provider_id}")
    assert foreign.status_code == 404
    assert SsoConnection.objects.filter(pk=connection.pk).exists()


def test_changes_ask_who_one_is(people: cast.Cast, org: Workspace) -> None:
    client = people.client("admin")
    session = client.session
    session.pop("account_authentication_methods", None)
    session.save()
    answer = client.post(f"{base(org)}/sso", {"type": "oidc"}, content_type=JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "reauthentication_required")
    assert not SsoConnection.objects.exists()


def test_domains(admin: Client, org: Workspace) -> None:
    made = admin.post(f"{base(org)}/domains", {"domain": "BÜCHER.example."}, content_type=JSON)
    assert made.status_code == 201
    assert made.json()["domain"] == "xn--bcher-kva.example"
    assert made.json()["fileUrl"].startswith("https://xn--bcher-kva.example/.well-known/")
    again = admin.post(f"{base(org)}/domains", {"domain": "bücher.example"}, content_type=JSON)
    assert again.json()["id"] == made.json()["id"]
    assert len(admin.get(f"{base(org)}/domains").json()["domains"]) == 1
    path = f"{base(org)}/domains/{made.json()['id']}"
    assert admin.delete(path).status_code == 204
    assert admin.delete(path).status_code == 404


def test_another_organization_s_domain_looks_free_and_can_not_be_proven(admin: Client, org: Workspace) -> None:
    company.domain(factories.organization("Other"))
    made = admin.post(f"{base(org)}/domains", {"domain": "acme.example"}, content_type=JSON)
    assert made.status_code == 201
    assert made.json()["verified"] is False
    answer = admin.post(f"{base(org)}/domains/{made.json()['id']}/verify")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "domain_held")
