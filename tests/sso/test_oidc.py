"""Signing in over OpenID Connect, against a provider that keeps to the standard."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest
from allauth.account.models import EmailAddress

from accounts.models import User
from core import clock
from events.models import AuditEvent
from orgs.models import Membership
from sso.models import SsoConnection, SsoFlow, SsoIdentity
from tests import factories
from tests.accounts.front_door import Browser, is_signed_in
from tests.fakes import oidc
from tests.fakes.oidc import OidcProvider
from tests.sso import company

pytestmark = pytest.mark.django_db


def test_the_first_sign_in_makes_person_and_membership(
    browser: Browser, connection: SsoConnection, provider: OidcProvider
) -> None:
    provider.person |= {"name": "Sana Khan", "email": "Sana@ACME.example"}
    answer = company.sign_in(browser, connection, provider)
    assert (answer.status_code, answer["Location"]) == (302, "/")
    person = User.objects.get(email="sana@acme.example")
    assert person.name == "Sana Khan"
    assert not person.has_usable_password()
    assert EmailAddress.objects.get(user=person).verified
    assert Membership.objects.get(workspace=connection.workspace, user=person).role == "viewer"
    me = browser.get("/api/me").json()
    assert me["workspace"]["id"] == str(connection.workspace_id)
    assert me["user"]["email"] == "sana@acme.example"
    actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert actions >= {"user.provision", "sso.link", "member.add", "user.sign_in"}


def test_the_second_sign_in_finds_the_same_person_by_subject_alone(
    connection: SsoConnection, provider: OidcProvider
) -> None:
    company.sign_in(Browser(), connection, provider)
    provider.person["email"] = "sana.khan@acme.example"
    browser = Browser()
    company.sign_in(browser, connection, provider)
    assert is_signed_in(browser)
    assert User.objects.filter(email__endswith="acme.example").count() == 1
    assert SsoIdentity.objects.get().email == "sana.khan@acme.example"


def test_the_request_carries_what_the_standards_want(
    browser: Browser, connection: SsoConnection, provider: OidcProvider
) -> None:
    address = company.start(browser, connection, login_hint="sana@acme.example")
    given = dict(parse_qsl(urlsplit(address).query))
    assert given["redirect_uri"] == f"http://testserver/api/auth/sso/{connection.provider_id}"
    assert given["login_hint"] == "sana@acme.example"
    assert min(len(given[name]) for name in ("state", "nonce", "code_challenge")) == 43
    again = dict(parse_qsl(urlsplit(company.start(browser, connection)).query))
    assert not {given[name] for name in ("state", "nonce", "code_challenge")} & set(again.values())
    flow = SsoFlow.objects.earliest("created_at")
    stored = " ".join(str(value) for value in vars(flow).values())
    assert given["state"] not in stored
    assert given["nonce"] not in stored


def test_the_email_may_come_with_the_id_token_alone(
    browser: Browser, connection: SsoConnection, provider: OidcProvider
) -> None:
    provider.discovery["userinfo_endpoint"] = None
    provider.token["email"] = "sana@acme.example"
    connection = company.oidc(provider, connection.workspace)
    company.sign_in(browser, connection, provider)
    assert is_signed_in(browser)
    assert "GET /userinfo" not in provider.seen


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256"])
def test_algorithms(browser: Browser, provider: OidcProvider, algorithm: str) -> None:
    provider.algorithm = algorithm
    provider.private = oidc.key("curve", "EC") if algorithm == "ES256" else oidc.key()
    connection = company.oidc(provider)
    assert connection.algorithms == [algorithm]
    company.sign_in(browser, connection, provider)
    assert is_signed_in(browser)


def test_a_client_that_only_post_is_offered_to(browser: Browser, provider: OidcProvider) -> None:
    provider.discovery["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    company.sign_in(browser, company.oidc(provider), provider)
    assert is_signed_in(browser)


def test_keys_roll_over(connection: SsoConnection, provider: OidcProvider) -> None:
    company.sign_in(Browser(), connection, provider)
    provider.private, provider.kid = oidc.key("second"), "second"
    browser = Browser()
    company.sign_in(browser, connection, provider)
    assert is_signed_in(browser)
    assert provider.seen.count("GET /jwks") == 2
    company.sign_in(Browser(), connection, provider)
    assert provider.seen.count("GET /jwks") == 2, "the new key is remembered"


def test_a_single_key_needs_no_name(browser: Browser, provider: OidcProvider) -> None:
    provider.kid = None
    company.sign_in(browser, company.oidc(provider), provider)
    assert is_signed_in(browser)


def test_old_keys_are_fetched_anew(browser: Browser, connection: SsoConnection, provider: OidcProvider) -> None:
    SsoConnection.objects.update(jwks_fetched_at=clock.now() - timedelta(days=1))
    company.sign_in(browser, connection, provider)
    assert is_signed_in(browser)
    assert provider.seen.count("GET /jwks") == 2


@pytest.mark.parametrize("ahead_seconds", [-50, 30, 50])
def test_clocks_may_differ_a_little(
    browser: Browser, connection: SsoConnection, provider: OidcProvider, ahead_seconds: int
) -> None:
    now = int(clock.now().timestamp()) + ahead_seconds
    provider.token |= {"iat": now, "exp": now + 5}
    company.sign_in(browser, connection, provider)
    assert is_signed_in(browser)


def test_the_issuer_beside_the_code(browser: Browser, provider: OidcProvider) -> None:
    provider.discovery["authorization_response_iss_parameter_supported"] = True
    provider.callback["iss"] = provider.issuer
    company.sign_in(browser, company.oidc(provider), provider)
    assert is_signed_in(browser)


def test_several_audiences_with_us_as_the_authorized_party(
    browser: Browser, connection: SsoConnection, provider: OidcProvider
) -> None:
    provider.token |= {"aud": [oidc.CLIENT_ID, "another"], "azp": oidc.CLIENT_ID}
    company.sign_in(browser, connection, provider)
    assert is_signed_in(browser)


def test_next_is_kept_here(browser: Browser, connection: SsoConnection, provider: OidcProvider) -> None:
    answer = company.sign_in(browser, connection, provider, next="/usage?days=7")
    assert answer["Location"] == "/usage?days=7"


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x"])
def test_next_leads_nowhere_else(
    browser: Browser, connection: SsoConnection, provider: OidcProvider, target: str
) -> None:
    assert company.sign_in(browser, connection, provider, next=target)["Location"] == "/"


def test_a_sign_in_from_our_form_goes_by_a_page(browser: Browser, connection: SsoConnection) -> None:
    path = f"/api/auth/sso/{connection.provider_id}/login"
    page = browser.get(path, {"from": "form", "next": "/usage", "login_hint": "sana@acme.example"})
    assert page.status_code == 200
    assert 'content="0;url=?next=%2Fusage&amp;login_hint=sana%40acme.example"' in page.content.decode()
    assert not SsoFlow.objects.exists()


def test_the_role_comes_from_the_map_and_follows_it(connection: SsoConnection, provider: OidcProvider) -> None:
    SsoConnection.objects.update(role_claim="groups", role_map={"devs": "developer", "bosses": "admin"})
    for groups, role in ((["staff", "devs"], "developer"), (["devs", "bosses"], "admin"), (["staff"], "viewer")):
        provider.userinfo["groups"] = groups
        company.sign_in(Browser(), connection, provider)
        assert Membership.objects.get(workspace=connection.workspace).role == role
    del provider.userinfo["groups"]
    Membership.objects.filter(workspace=connection.workspace).update(role="billing")
    company.sign_in(Browser(), connection, provider)
    assert Membership.objects.get(workspace=connection.workspace).role == "billing", "no claim, no say"


def test_an_owner_stays_one_whatever_the_claim_says(connection: SsoConnection, provider: OidcProvider) -> None:
    SsoConnection.objects.update(role_claim="groups", role_map={"devs": "developer", "owners": "owner"})
    factories.member(connection.workspace, "owner", factories.user("sana@acme.example"))
    provider.userinfo["groups"] = ["devs"]
    company.sign_in(Browser(), connection, provider)
    assert Membership.objects.get(workspace=connection.workspace).role == "owner"
    provider.person = {"sub": "u-2", "email": "omar@acme.example"}
    provider.userinfo["groups"] = ["owners"]
    company.sign_in(Browser(), connection, provider)
    assert Membership.objects.get(user__email="omar@acme.example", workspace=connection.workspace).role == "viewer"


def test_unknown_disabled_and_wrong_kind_answer_alike(
    browser: Browser, connection: SsoConnection, provider: OidcProvider
) -> None:
    answers = []
    for status, kind in (("disabled", "oidc"), ("draft", "oidc"), ("active", "saml"), ("active", "oidc")):
        SsoConnection.objects.update(status=status, kind=kind)
        pid = "A" * 22 if (status, kind) == ("active", "oidc") else connection.provider_id
        for path, query in (("", {"state": "x", "code": "y"}), ("/finish", {"token": "x"})):
            if kind == "saml" and path == "/finish":
                continue
            answer = browser.get(f"/api/auth/sso/{pid}{path}", query)
            answers.append((answer.status_code, plain(answer)))
    assert len(set(answers)) == 1
    assert answers[0][0] == 404


def plain(answer: object) -> str:
    text = answer.content.decode()  # type: ignore[attr-defined]
    return text.split("<main", 1)[1]
