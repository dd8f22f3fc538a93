"""What an OpenID provider, or somebody between, may try: refused with a clear message and a row in the trail."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
import pytest

from accounts.models import User
from core import clock
from events.models import AuditEvent
from orgs.models import Membership
from sso.models import SsoConnection, SsoFlow, SsoIdentity
from tests import factories
from tests.accounts.front_door import Browser, is_signed_in
from tests.fakes import oidc
from tests.fakes.oidc import CLIENT_ID, CLIENT_SECRET, OidcProvider
from tests.sso import company

pytestmark = pytest.mark.django_db

Change = Callable[[OidcProvider], None]


def refused(answer: Any, reason: str, connection: SsoConnection) -> None:
    """The page says no in words, the trail says why, and nobody came in."""
    assert answer.status_code == 403
    page = answer.content.decode()
    assert "You were not signed in" in page
    assert f"<code>{reason}</code>" in page
    row = AuditEvent.objects.filter(action="sso.refuse").latest("id")
    assert row.details["reason"] == reason
    assert row.workspace_id == connection.workspace_id
    assert not SsoIdentity.objects.exists()
    assert not User.objects.filter(email="sana@acme.example").exists()


def now(seconds: int = 0) -> int:
    return int(clock.now().timestamp()) + seconds


def unsigned(claims: dict[str, Any]) -> str:
    return f"{_b64({'alg': 'none', 'typ': 'JWT'})}.{_b64(claims)}."


def with_shared_secret(claims: dict[str, Any]) -> str:
    return jwt.encode(claims, CLIENT_SECRET, algorithm="HS256", headers={"kid": "first"})


def with_public_key_as_secret(claims: dict[str, Any]) -> str:
    """The classic confusion: an HMAC whose secret is the published key."""
    import hashlib
    import hmac

    from cryptography.hazmat.primitives import serialization

    form = serialization.PublicFormat.SubjectPublicKeyInfo
    secret = oidc.key().public_key().public_bytes(serialization.Encoding.PEM, form)
    head, body = (_b64(part) for part in ({"alg": "HS256", "kid": "first"}, claims))
    signature = hmac.new(secret, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def with_signature_cut(claims: dict[str, Any]) -> str:
    return jwt.encode(claims, oidc.key(), algorithm="RS256", headers={"kid": "first"}).rpartition(".")[0] + "."


def by_another_key(claims: dict[str, Any]) -> str:
    return jwt.encode(claims, oidc.key("thief"), algorithm="RS256", headers={"kid": "first"})


def with_its_own_key(claims: dict[str, Any]) -> str:
    headers = {"kid": "thief", "jwk": oidc.public_jwk(oidc.key("thief"), "thief")}
    return jwt.encode(claims, oidc.key("thief"), algorithm="RS256", headers=headers)


def with_changed_claims(claims: dict[str, Any]) -> str:
    head, _, signature = jwt.encode(claims, oidc.key(), algorithm="RS256", headers={"kid": "first"}).split(".")
    return f"{head}.{_b64(claims | {'sub': 'u-9'})}.{signature}"


def with_odd_kid(claims: dict[str, Any]) -> str:
    return jwt.encode(claims, oidc.key(), algorithm="RS256", headers={"kid": "\x00\ud800"})


def critical(claims: dict[str, Any]) -> str:
    return jwt.encode(claims, oidc.key(), algorithm="RS256", headers={"kid": "first", "crit": ["b64"], "b64": False})


def _b64(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def encoded(make: Callable[[dict[str, Any]], str]) -> Change:
    return lambda provider: setattr(provider, "encode", make)


def token(**claims: Any) -> Change:
    return lambda provider: provider.token.update(claims)


def userinfo(**claims: Any) -> Change:
    return lambda provider: provider.userinfo.update(claims)


def callback(**parameters: str) -> Change:
    return lambda provider: provider.callback.update(parameters)


def instead(path: str, status: int, body: bytes, **headers: str) -> Change:
    return lambda provider: provider.instead.update({path: lambda: (status, headers, body)})


CASES: dict[str, tuple[Change, str]] = {
    "alg none": (encoded(unsigned), "algorithm"),
    "HS256 with the client's secret": (encoded(with_shared_secret), "algorithm"),
    "HS256 with the public key": (encoded(with_public_key_as_secret), "algorithm"),
    "signature cut off": (encoded(with_signature_cut), "signature"),
    "another key under the known name": (encoded(by_another_key), "signature"),
    "unknown kid, key in the header": (encoded(with_its_own_key), "unknown_key"),
    "claims changed after signing": (encoded(with_changed_claims), "signature"),
    "critical extension": (encoded(critical), "malformed"),
    "no token": (encoded(lambda claims: "not a token"), "malformed"),
    "foreign issuer": (token(iss="https://evil.example"), "issuer"),
    "issuer with a slash more": (lambda p: p.token.update(iss=p.issuer + "/"), "issuer"),
    "no issuer": (token(iss=None), "malformed"),
    "foreign audience": (token(aud="another"), "audience"),
    "no audience": (token(aud=None), "malformed"),
    "empty audience": (token(aud=[]), "malformed"),
    "several audiences, no azp": (token(aud=[CLIENT_ID, "another"]), "audience"),
    "foreign azp": (token(azp="another"), "audience"),
    "foreign nonce": (token(nonce="n" * 43), "nonce"),
    "no nonce": (token(nonce=None), "nonce"),
    "nonce of another type": (token(nonce=["x"]), "nonce"),
    "no subject": (token(sub=None), "malformed"),
    "subject is no text": (token(sub=7), "malformed"),
    "empty subject": (lambda p: p.person.update(sub=""), "no_subject"),
    "endless subject": (lambda p: p.person.update(sub="x" * 256), "no_subject"),
    "subject that does not print": (lambda p: p.person.update(sub="u\x00\ud800"), "no_subject"),
    "expired": (token(exp=now(-3600), iat=now(-7200)), "expired"),
    "expired by more than the leeway": (token(exp=now(-90), iat=now(-300)), "expired"),
    "no expiry": (token(exp=None), "malformed"),
    "no time of issue": (token(iat=None), "malformed"),
    "from the future": (token(iat=now(3600), exp=now(7200)), "early"),
    "not before tomorrow": (token(nbf=now(86_400)), "early"),
    "userinfo of somebody else": (userinfo(sub="u-2"), "userinfo"),
    "userinfo without a subject": (userinfo(sub=None), "userinfo"),
    "userinfo breaks": (instead("/userinfo", 500, b""), "unreachable"),
    "userinfo is no object": (instead("/userinfo", 200, b"[]"), "malformed"),
    "userinfo unsigned": (
        instead("/userinfo", 200, unsigned({"sub": "u-1"}).encode(), **{"content-type": "application/jwt"}),
        "algorithm",
    ),
    "address not confirmed": (userinfo(email_verified=False), "email_unverified"),
    "address not confirmed, as text": (userinfo(email_verified="false"), "email_unverified"),
    "ID token says not confirmed": (token(email_verified=False), "email_unverified"),
    "no address": (userinfo(email=None), "no_email"),
    "several addresses": (userinfo(email=["a@acme.example", "b@acme.example"]), "no_email"),
    "two @": (userinfo(email="a@acme.example@evil.example"), "no_email"),
    "a name around": (userinfo(email="Sana <sana@acme.example>"), "no_email"),
    "a line break": (userinfo(email="sana@acme.example\nx@evil.example"), "no_email"),
    "foreign domain": (userinfo(email="boss@victim.example"), "foreign_domain"),
    "sub-domain": (userinfo(email="boss@eu.acme.example"), "foreign_domain"),
    "domain that only ends alike": (userinfo(email="boss@notacme.example"), "foreign_domain"),
    "the callback names another issuer": (callback(iss="https://evil.example"), "issuer"),
    "the provider refuses": (callback(code="", error="access_denied"), "provider_error"),
    "neither code nor error": (callback(code=""), "malformed"),
    "the provider refuses in odd letters": (callback(code="", error="\x00"), "provider_error"),
    "a kid that does not print": (encoded(with_odd_kid), "unknown_key"),
    "an address that does not print": (userinfo(email="sana\x00@acme.example"), "no_email"),
    "an endless code": (callback(code="x" * 5000), "malformed"),
    "an invented code": (callback(code="stolen"), "token_endpoint"),
    "the token endpoint redirects": (
        instead("/token", 302, b"", location="http://169.254.169.254/latest"), "token_endpoint"
    ),
    "the token endpoint floods": (instead("/token", 200, b"x" * 1_100_000), "unreachable"),
    "the token endpoint says nothing": (instead("/token", 200, b"{}"), "malformed"),
    "the token endpoint is no JSON": (instead("/token", 200, b"<html>"), "malformed"),
    "the token endpoint nests": (instead("/token", 200, b"[" * 100_000), "malformed"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused(browser: Browser, connection: SsoConnection, provider: OidcProvider, case: str) -> None:
    change, reason = CASES[case]
    change(provider)
    refused(company.sign_in(browser, connection, provider), reason, connection)
    assert not is_signed_in(browser)


def test_a_provider_s_words_are_in_no_page_and_no_row(
    browser: Browser, connection: SsoConnection, provider: OidcProvider
) -> None:
    provider.instead["/token"] = lambda: (400, {}, b'{"error":"invalid_grant","error_description":"key is s3cret"}')
    answer = company.sign_in(browser, connection, provider)
    refused(answer, "token_endpoint", connection)
    row = AuditEvent.objects.filter(action="sso.refuse").latest("id")
    assert row.details["detail"] == "status 400, error invalid_grant"
    assert "s3cret" not in answer.content.decode()


# ── States ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_state_counts_once(browser: Browser, connection: SsoConnection, provider: OidcProvider) -> None:
    back = provider.visit(company.start(browser, connection))
    assert browser.get(back).status_code == 302
    browser.post("/accounts/logout/")
    again = browser.get(back)
    assert again.status_code == 403
    assert "<code>state_used</code>" in again.content.decode()
    assert not is_signed_in(browser)


def test_a_failed_answer_uses_the_state_up_too(
    browser: Browser, connection: SsoConnection, provider: OidcProvider
) -> None:
    provider.token["aud"] = "another"
    back = provider.visit(company.start(browser, connection))
    refused(browser.get(back), "audience", connection)
    provider.token.clear()
    refused(browser.get(back), "state_used", connection)


def test_an_answer_is_for_the_browser_that_asked(connection: SsoConnection, provider: OidcProvider) -> None:
    # Log-in CSRF: the attacker's own answer, fetched by the victim's browser.
    back = provider.visit(company.start(Browser(), connection))
    victim = Browser()
    refused(victim.get(back), "other_browser", connection)
    company.start(victim, connection)
    back = provider.visit(company.start(Browser(), connection))
    refused(victim.get(back), "other_browser", connection)
    assert not is_signed_in(victim)


def test_an_answer_that_nobody_asked_for(browser: Browser, connection: SsoConnection) -> None:
    path = f"/api/auth/sso/{connection.provider_id}"
    for query in ({"code": "c"}, {"code": "c", "state": ""}, {"code": "c", "state": "s" * 43}):
        refused(browser.get(path, query), "unknown_state", connection)


def test_parameters_stand_once(browser: Browser, connection: SsoConnection, provider: OidcProvider) -> None:
    back = provider.visit(company.start(browser, connection))
    refused(browser.get(f"{back}&code=other"), "malformed", connection)


def test_a_flow_ends_after_ten_minutes(browser: Browser, connection: SsoConnection, provider: OidcProvider) -> None:
    back = provider.visit(company.start(browser, connection))
    SsoFlow.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    refused(browser.get(back), "expired_state", connection)


def test_the_verifier_belongs_to_the_flow(browser: Browser, connection: SsoConnection, provider: OidcProvider) -> None:
    """A stolen code, put into a sign-in of the thief's own, meets another challenge."""
    stolen = dict(parse_qsl(urlsplit(provider.visit(company.start(Browser(), connection))).query))["code"]
    mine = dict(parse_qsl(urlsplit(provider.visit(company.start(browser, connection))).query))
    path = f"/api/auth/sso/{connection.provider_id}"
    answer = browser.get(path, {**mine, "code": stolen})
    refused(answer, "token_endpoint", connection)


# ── Organizations against one another ────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def evil(settings: Any) -> Any:
    made = OidcProvider()
    settings.EGRESS_ALLOW = [*settings.EGRESS_ALLOW, f"identity_provider=127.0.0.1:{made.port}"]
    yield made
    made.stop()


def test_another_organization_s_provider_asserts_my_domain(
    browser: Browser, connection: SsoConnection, provider: OidcProvider, evil: OidcProvider
) -> None:
    victim = factories.member(connection.workspace, "owner", factories.user("boss@acme.example"))
    hostile = company.oidc(evil, factories.organization("Evil"))
    company.domain(hostile.workspace, "evil.example")
    company.domain(hostile.workspace, "acme.example", proven=False)
    evil.person = {"sub": "u-1", "email": "boss@acme.example"}
    refused(company.sign_in(browser, hostile, evil), "foreign_domain", hostile)
    assert not is_signed_in(browser)
    assert not Membership.objects.filter(user=victim, workspace=hostile.workspace).exists()


def test_the_same_issuer_and_subject_elsewhere_is_somebody_else(
    connection: SsoConnection, provider: OidcProvider
) -> None:
    """A hostile organization registers the victim's own provider, with whatever it says about subjects."""
    company.sign_in(Browser(), connection, provider)
    hostile = company.oidc(provider, factories.organization("Evil"))
    company.domain(hostile.workspace, "evil.example")
    provider.person = {"sub": "u-1", "email": "mallory@evil.example"}
    browser = Browser()
    company.sign_in(browser, hostile, provider)
    assert browser.get("/api/me").json()["user"]["email"] == "mallory@evil.example"


def test_an_answer_moved_to_another_connection(
    browser: Browser, connection: SsoConnection, provider: OidcProvider, evil: OidcProvider
) -> None:
    hostile = company.oidc(evil, factories.organization("Evil"))
    back = provider.visit(company.start(browser, connection))
    moved = back.replace(connection.provider_id, hostile.provider_id)
    refused(browser.get(moved), "unknown_state", hostile)
    assert "POST /token" not in evil.seen, "the code never reached the wrong provider"
    assert browser.get(back).status_code == 302, "the honest sign-in still goes on"


def test_a_mixed_up_provider_is_told_by_its_issuer(
    browser: Browser, connection: SsoConnection, provider: OidcProvider, evil: OidcProvider
) -> None:
    hostile = company.oidc(evil, factories.organization("Evil"))
    given = dict(parse_qsl(urlsplit(company.start(browser, hostile)).query))
    back = {"code": "honest-code", "state": given["state"], "iss": provider.issuer}
    answer = browser.get(f"/api/auth/sso/{hostile.provider_id}?{urlencode(back)}")
    refused(answer, "issuer", hostile)
    assert "POST /token" not in evil.seen


def test_an_announced_issuer_must_come(browser: Browser, provider: OidcProvider) -> None:
    provider.discovery["authorization_response_iss_parameter_supported"] = True
    connection = company.oidc(provider)
    refused(company.sign_in(browser, connection, provider), "issuer", connection)


# ── People ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def reason_of(answer: Any) -> str:
    assert answer.status_code == 403, answer
    return str(AuditEvent.objects.filter(action="sso.refuse").latest("id").details["reason"])


def test_a_deactivated_person_stays_out(browser: Browser, connection: SsoConnection, provider: OidcProvider) -> None:
    company.sign_in(browser, connection, provider)
    User.objects.filter(email="sana@acme.example").update(is_active=False)
    assert not is_signed_in(browser), "the session ends"
    assert reason_of(company.sign_in(browser, connection, provider)) == "deactivated"
    assert not is_signed_in(browser)


def test_an_address_given_to_somebody_new(connection: SsoConnection, provider: OidcProvider) -> None:
    company.sign_in(Browser(), connection, provider)
    provider.person = {"sub": "u-2", "email": "sana@acme.example"}
    browser = Browser()
    assert reason_of(company.sign_in(browser, connection, provider)) == "address_reused"
    assert not is_signed_in(browser)


def test_a_removed_member_does_not_walk_back_in(
    browser: Browser, connection: SsoConnection, provider: OidcProvider
) -> None:
    company.sign_in(browser, connection, provider)
    Membership.objects.filter(workspace=connection.workspace).delete()
    assert reason_of(company.sign_in(Browser(), connection, provider)) == "removed"
    assert not Membership.objects.filter(workspace=connection.workspace).exists()


def test_an_existing_account_is_linked_told_and_signed_out_elsewhere(
    connection: SsoConnection, provider: OidcProvider, mailoutbox: list[Any]
) -> None:
    person = factories.user("sana@acme.example")
    elsewhere = Browser()
    elsewhere.post("/accounts/login/", {"login": person.email, "password": factories.PASSWORD, "by": "password"})
    elsewhere.get("/usage")
    browser = Browser()
    company.sign_in(browser, connection, provider)
    assert is_signed_in(browser)
    assert not is_signed_in(elsewhere)
    assert User.objects.count() == 1
    assert "Acme now signs you in to Hypereal" in [mail.subject for mail in mailoutbox]


def test_an_operator_s_account_takes_its_own_word(connection: SsoConnection, provider: OidcProvider) -> None:
    operator = factories.user("sana@acme.example", is_staff=True)
    assert reason_of(company.sign_in(Browser(), connection, provider)) == "unlinked_account"
    browser = Browser()
    browser.force_login(operator)
    assert company.sign_in(browser, connection, provider).status_code == 302
    assert SsoIdentity.objects.get().user == operator


def test_an_account_that_somebody_else_prepared_is_taken_from_them(
    browser: Browser, connection: SsoConnection, provider: OidcProvider
) -> None:
    """Signed up with the victim's address and a password of the attacker's, never confirmed."""
    person = factories.user("sana@acme.example", verified=False)
    company.sign_in(browser, connection, provider)
    assert is_signed_in(browser)
    person.refresh_from_db()
    assert not person.has_usable_password()


def test_an_unconfirmed_address_of_a_used_account_opens_nothing(
    browser: Browser, connection: SsoConnection, provider: OidcProvider
) -> None:
    User.objects.filter(pk=factories.user("sana@acme.example", verified=False).pk).update(last_login=clock.now())
    assert reason_of(company.sign_in(browser, connection, provider)) == "unlinked_account"


def test_the_second_factor_is_still_asked_for(
    browser: Browser, connection: SsoConnection, provider: OidcProvider
) -> None:
    from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret

    TOTP.activate(factories.user("sana@acme.example"), generate_totp_secret())
    answer = company.sign_in(browser, connection, provider)
    assert answer["Location"] == "/accounts/2fa/authenticate/"
    assert not is_signed_in(browser)
