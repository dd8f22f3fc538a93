"""Tokens of provisioning: who makes them, on the page and by API, and what is seen of them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from core import clock
from events import audit
from events.models import AuditEvent
from orgs.models import Workspace
from sso.models import ScimToken, SsoConnection
from sso.scim import tokens
from tests import cast
from tests.fakes import identity_provider as fake
from tests.sso import company, saml_company
from tests.sso.directory import Directory

pytestmark = pytest.mark.django_db

MANAGERS = {"owner", "admin"}


@pytest.fixture
def acme(settings: Any, db: None) -> cast.Cast:
    settings.SITE_URL = "http://testserver"
    return cast.assemble()


@pytest.fixture
def connection(acme: cast.Cast) -> SsoConnection:
    company.domain(acme.organization)
    return saml_company.saml(fake.IdentityProvider(), acme.organization)


def page(connection: SsoConnection) -> str:
    return f"/settings/organization/sso/{connection.provider_id}/provisioning"


def api(connection: SsoConnection) -> str:
    return f"/api/orgs/{connection.workspace_id}/sso/{connection.provider_id}/scim-tokens"


def form(name: str = "Entra") -> dict[str, str]:
    return {"name": name, "form_token": str(uuid4())}


def make(client: Client, connection: SsoConnection) -> str:
    """The secret that the page shows."""
    answer = client.post(page(connection), form())
    assert answer.status_code == 200
    found = re.search(rf"{tokens.PREFIX}\w+", answer.content.decode())
    assert found
    return found[0]


@pytest.mark.parametrize("who", cast.EVERYBODY)
def test_owners_and_admins_make_and_revoke_tokens(who: str, acme: cast.Cast, connection: SsoConnection) -> None:
    kept = tokens.issue(connection, actor=audit.SYSTEM, created_by=None, name="kept").token
    revoke = f"{page(connection)}/{kept.pk}/revoke"
    client = acme.client(who)
    answers = {
        "page": client.get(page(connection)),
        "made": client.post(page(connection), form()),
        "asked": client.get(revoke),
        "list": client.get(api(connection)),
        "api made": client.post(api(connection), {"name": "x"}, content_type="application/json"),
        "api revoked": client.delete(f"{api(connection)}/{kept.pk}"),
    }
    statuses = {name: answer.status_code for name, answer in answers.items()}
    if who in MANAGERS:
        assert statuses == {"page": 200, "made": 200, "asked": 200, "list": 200, "api made": 201, "api revoked": 204}
        assert ScimToken.objects.filter(connection=connection, revoked_at=None).count() == 2
        return
    expected = {"anonymous": {302, 401}, "stranger": {404}}.get(who, {403})
    assert set(statuses.values()) == expected
    assert ScimToken.objects.get() == kept
    assert client.post(revoke).status_code in expected
    kept.refresh_from_db()
    assert kept.revoked_at is None


def test_the_secret_is_shown_once_and_works(acme: cast.Cast, connection: SsoConnection) -> None:
    client = acme.client("owner")
    secret = make(client, connection)
    assert secret not in client.get(page(connection)).content.decode()
    assert secret[:12] in client.get(page(connection)).content.decode()
    directory = Client(headers={"authorization": f"Bearer {secret}"})
    assert directory.get("/scim/v2/Users").status_code == 200
    token = ScimToken.objects.get()
    client.post(f"{page(connection)}/{token.pk}/revoke")
    assert directory.get("/scim/v2/Users").status_code == 401
    rows = AuditEvent.objects.filter(action__startswith="scim_token").order_by("id")
    assert [(row.action, row.actor_label) for row in rows] == [
        ("scim_token.create", acme["owner"].email),
        ("scim_token.revoke", acme["owner"].email),
    ]


def test_a_second_click_makes_no_second_token(acme: cast.Cast, connection: SsoConnection) -> None:
    client, sent = acme.client("admin"), form()
    assert client.post(page(connection), sent).status_code == 200
    assert client.post(page(connection), sent).status_code == 302
    assert ScimToken.objects.count() == 1


def test_there_are_never_many(acme: cast.Cast, connection: SsoConnection) -> None:
    client = acme.client("owner")
    for _number in range(tokens.MOST_TOKENS):
        make(client, connection)
    answer = client.post(page(connection), form())
    assert answer.status_code == 409
    assert "at most 5 tokens" in answer.content.decode()
    assert client.post(api(connection), {"name": "x"}, content_type="application/json").status_code == 409


def test_making_one_needs_a_recent_proof(acme: cast.Cast, connection: SsoConnection) -> None:
    client = acme.client("owner")
    session = client.session
    session.pop("account_authentication_methods", None)
    session.save()
    answer = client.post(page(connection), form())
    assert answer.status_code == 302
    assert answer["Location"].startswith("/accounts/reauthenticate/")
    refused = client.post(api(connection), {"name": "x"}, content_type="application/json")
    assert refused.json()["error"]["code"] == "reauthentication_required"
    assert not ScimToken.objects.exists()


@pytest.mark.parametrize("sent", [{}, {"name": ""}, {"name": "x" * 81}, {"name": "x", "form_token": "no id"}])
def test_a_form_that_is_wrong_comes_back(sent: dict[str, str], acme: cast.Cast, connection: SsoConnection) -> None:
    client = acme.client("owner")
    assert client.post(page(connection), sent).status_code == 422
    assert not ScimToken.objects.exists()


def test_other_connections_tokens_are_not_there(acme: cast.Cast, connection: SsoConnection) -> None:
    other = saml_company.saml(fake.IdentityProvider(), acme.organization)
    token = tokens.issue(other, actor=audit.SYSTEM, created_by=None).token
    client = acme.client("owner")
    for path in (f"{page(connection)}/{token.pk}/revoke", f"{page(connection)}/{uuid4()}/revoke"):
        assert client.post(path).status_code == 404
    assert client.delete(f"{api(connection)}/{token.pk}").status_code == 404
    assert client.delete(f"{api(connection)}/nonsense").status_code == 404


# ── What a token opens ───────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("path", ["Users", "Groups", "ServiceProviderConfig", "Schemas", "nothing/here"])
def test_nothing_opens_without_a_token(path: str, acme: cast.Cast) -> None:
    browser = acme.client("owner")
    for client in (Client(), browser, Client(headers={"authorization": "Bearer scim_wrong"})):
        answer = client.get(f"/scim/v2/{path}")
        assert answer.status_code == 401
        assert answer["WWW-Authenticate"].startswith("Bearer")
        assert answer.json()["status"] == "401"


@pytest.mark.parametrize("how", ["revoked", "expired", "disabled", "suspended"])
def test_a_token_ends(how: str, connection: SsoConnection) -> None:
    directory = Directory(connection)
    assert directory("GET", "Users").status_code == 200
    if how == "revoked":
        tokens.revoke(directory.token, actor=audit.SYSTEM)
        assert AuditEvent.objects.latest("id").action == "scim_token.revoke"
    elif how == "expired":
        ScimToken.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    elif how == "disabled":
        SsoConnection.objects.update(status="disabled")
    else:
        Workspace.objects.filter(pk=connection.workspace_id).update(active=False)
    assert directory("GET", "Users").status_code == 401


def test_the_secret_is_nowhere(connection: SsoConnection) -> None:
    directory = Directory(connection)
    row = ScimToken.objects.get()
    assert directory.secret.startswith(row.prefix)
    stored = " ".join(str(value) for value in vars(row).values()) + str(AuditEvent.objects.values_list("details"))
    assert directory.secret not in stored
    assert directory.secret not in repr(tokens.Issued(row, directory.secret))
    directory("GET", "Users")
    row.refresh_from_db()
    assert row.last_used_at is not None


def test_a_last_slash_does_no_harm(connection: SsoConnection) -> None:
    directory = Directory(connection)
    assert directory("GET", "Users/").status_code == 200
    answer = directory("DELETE", "Schemas/")
    assert (answer.status_code, answer["Allow"]) == (405, "GET")
