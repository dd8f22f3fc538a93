"""Signing in over SAML: the way there and back, and every hostile answer refused with a message and an audit row."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import Client
from lxml import etree

from accounts.models import User
from core import secrets
from events.models import AuditEvent
from orgs.models import Membership
from sso import addresses
from sso.models import SsoConnection, SsoConsumed, SsoIdentity
from sso.saml import metadata, sides
from tests import factories
from tests.accounts.front_door import Browser, is_signed_in
from tests.fakes import identity_provider as fake
from tests.fakes.identity_provider import Says, Transform
from tests.sso import attacks, company, saml_company

pytestmark = pytest.mark.django_db

ROBIN = "robin@acme.example"
BOSS = "boss@acme.example"


@pytest.fixture(autouse=True)
def here(settings: Any) -> None:
    settings.SITE_URL = "http://testserver"


@pytest.fixture
def idp() -> fake.IdentityProvider:
    return fake.IdentityProvider()


@pytest.fixture
def saml(idp: fake.IdentityProvider, db: None) -> SsoConnection:
    """Acme's active connection; acme.example is proven."""
    return saml_company.saml(idp)


def refusals(connection: SsoConnection) -> list[str]:
    rows = AuditEvent.objects.filter(action="sso.refuse", workspace_id=connection.workspace_id).order_by("id")
    return [row.details["reason"] for row in rows]


def is_refused(answer: Any, connection: SsoConnection, *reasons: str) -> None:
    """A page that says why, one row in the trail, and nobody new."""
    assert answer.status_code == 403, answer.content.decode()[:300]
    assert "You were not signed in" in answer.content.decode()
    assert "Location" not in answer
    found = refusals(connection)
    assert len(found) == 1
    assert found[0] in reasons, found
    assert not SsoIdentity.objects.exists()
    assert not User.objects.filter(email__in=[ROBIN, BOSS]).exists()


# ── Honest people ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_first_sign_in_makes_person_and_membership(
    browser: Browser, saml: SsoConnection, idp: fake.IdentityProvider
) -> None:
    answer = saml_company.sign_in(browser, saml, idp)
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert is_signed_in(browser)
    person = User.objects.get(email=ROBIN)
    assert person.name == "Robin Example"
    assert not person.has_usable_password()
    assert Membership.objects.get(workspace=saml.workspace, user=person).role == "viewer"
    assert refusals(saml) == []


def test_the_second_sign_in_finds_the_same_person(saml: SsoConnection, idp: fake.IdentityProvider) -> None:
    lasting = {"name_id": "7f3a", "name_id_format": fake.PERSISTENT}
    for _time in range(2):
        browser = Browser()
        saml_company.sign_in(browser, saml, idp, change=lambda said: said.but(**lasting))
        assert is_signed_in(browser)
    assert SsoIdentity.objects.get().subject == "7f3a"


def test_groups_become_roles_by_the_map_alone(
    browser: Browser, saml: SsoConnection, idp: fake.IdentityProvider
) -> None:
    saml.role_claim, saml.role_map = "groups", {"engineers": "developer", "bosses": "owner"}
    saml.save()
    groups = {"mail": [ROBIN], "groups": ["engineers", "bosses"]}
    saml_company.sign_in(browser, saml, idp, change=lambda said: said.but(attributes=groups))
    assert Membership.objects.get(user__email=ROBIN, workspace=saml.workspace).role == "developer"


def test_an_encrypted_answer_is_opened(browser: Browser, saml: SsoConnection, idp: fake.IdentityProvider) -> None:
    request_id, state = saml_company.start(browser, saml)
    said = saml_company.says(idp, saml, request_id, ROBIN)
    answer = saml_company.post(saml, idp.respond_encrypted(said, saml.sp_certificate.encode()), state)
    browser.get(answer["Location"])
    assert is_signed_in(browser)


def test_a_certificate_rolls_over(saml: SsoConnection) -> None:
    old, new = fake.IdentityProvider(), fake.IdentityProvider(keys=fake.pair("new"))
    assert saml_company.sign_in(Browser(), saml, new).status_code == 403
    both = fake.IdentityProvider(older=[new.keys])
    sides.take(saml, metadata.read(both.metadata().encode()))
    saml.save()
    for provider in (old, new):
        browser = Browser()
        saml_company.sign_in(browser, saml, provider)
        assert is_signed_in(browser)


def test_where_the_person_wanted_to_go(browser: Browser, saml: SsoConnection, idp: fake.IdentityProvider) -> None:
    request_id, state = saml_company.start(browser, saml, next="/usage?days=7")
    answer = saml_company.post(saml, idp.respond(saml_company.says(idp, saml, request_id, ROBIN)), state)
    assert browser.get(answer["Location"])["Location"] == "/usage?days=7"


def test_a_draft_has_metadata_with_a_key_of_its_own(browser: Browser) -> None:
    organization = factories.organization()
    made = [SsoConnection.objects.create(workspace=organization, kind="saml") for _number in range(2)]
    documents = [browser.get(f"/api/auth/sso/{connection.provider_id}/metadata").content for connection in made]
    for connection, document in zip(made, documents, strict=True):
        connection.refresh_from_db()
        assert connection.sp_certificate.splitlines()[1].encode() in document
        assert addresses.endpoint(connection).encode() in document
        assert secrets.decrypt(bytes(connection.sp_private_key_sealed or b"")).startswith("-----BEGIN PRIVATE KEY")
        assert b"PRIVATE" not in document
    assert made[0].sp_certificate != made[1].sp_certificate
    assert browser.get(f"/api/auth/sso/{made[0].provider_id}/metadata").content == documents[0]


# ── Hostile answers: what they hold ──────────────────────────────────────────────────────────────────────────────────
Forge = Callable[[fake.IdentityProvider, Says], str]


def _stripped(idp: fake.IdentityProvider, said: Says) -> str:
    tree = idp.tree(said)
    for signature in tree.findall(".//ds:Signature", fake.NAMES):
        signature.getparent().remove(signature)
    return fake.encoded(tree)


def _wrapped(whole: bool, attack: attacks.Attack) -> Forge:
    def forge(idp: fake.IdentityProvider, said: Says) -> str:
        return fake.encoded(attack(idp.tree(said, sign_assertion=not whole, sign_response=whole), BOSS))

    return forge


def _changed(**changes: Any) -> Forge:
    return lambda idp, said: idp.respond(said.but(**changes))


def _rewritten(change: Callable[[bytes], bytes]) -> Forge:
    return lambda idp, said: fake.encoded(change(etree.tostring(idp.tree(said))))


WRAPPED = ("signature_form", "assertions", "signature", "malformed")
HOSTILE: dict[str, tuple[Forge, tuple[str, ...]]] = {
    "unsigned": (lambda idp, said: idp.respond(said, sign_assertion=False), ("unsigned",)),
    "stripped": (_stripped, ("unsigned",)),
    "foreign key": (
        lambda idp, said: fake.IdentityProvider(keys=fake.pair("foreign")).respond(said),
        ("signature",),
    ),
    "SHA-1": (lambda idp, said: idp.respond(said, method=Transform.TransformRsaSha1), ("algorithm",)),
    "extra transform": (
        lambda idp, said: idp.respond(said, xpath="not(ancestor-or-self::*[local-name()='NameID'])"),
        ("signature_form",),
    ),
    "comment in the NameID": (_rewritten(lambda xml: xml.replace(b">robin@", b">robin<!-- -->@")), ("malformed",)),
    "external entity": (
        _rewritten(lambda xml: b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + xml),
        ("malformed",),
    ),
    "entity bomb": (
        _rewritten(lambda xml: b'<!DOCTYPE r [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>' + xml),
        ("malformed",),
    ),
    "wrong audience": (_changed(audiences=["https://other.example"]), ("audience",)),
    "no audience": (_changed(audiences=[]), ("audience",)),
    "wrong recipient": (_changed(recipient="https://other.example"), ("confirmation",)),
    "no recipient": (_changed(recipient=None), ("confirmation",)),
    "wrong destination": (_changed(destination="https://other.example"), ("destination",)),
    "no destination": (_changed(destination=None), ("destination",)),
    "wrong issuer": (_changed(issuer="https://evil.example"), ("issuer",)),
    "no issuer": (_changed(issuer=None), ("issuer", "malformed")),
    "wrong request": (_changed(in_response_to="_other", confirmed_request="_other"), ("in_response_to",)),
    "wrong confirmed request": (_changed(confirmed_request="_other"), ("in_response_to", "confirmation")),
    "no confirmed request": (_changed(confirmed_request=None), ("in_response_to",)),
    "no request": (_changed(in_response_to=None, confirmed_request=None), ("unsolicited",)),
    "expired": (_changed(not_on_or_after=timedelta(hours=-1)), ("expired",)),
    "two addresses": (_changed(attributes={"mail": [ROBIN, BOSS]}), ("email",)),
    **{name: (_wrapped(whole, attack), WRAPPED) for name, whole, attack in attacks.WRAPPINGS},
}


@pytest.mark.parametrize("name", HOSTILE, ids=list(HOSTILE))
def test_a_hostile_answer_is_refused(
    name: str, browser: Browser, saml: SsoConnection, idp: fake.IdentityProvider
) -> None:
    forge, reasons = HOSTILE[name]
    request_id, state = saml_company.start(browser, saml)
    answer = saml_company.post(saml, forge(idp, saml_company.says(idp, saml, request_id, ROBIN)), state)
    is_refused(answer, saml, *reasons)
    assert not is_signed_in(browser)


# ── Hostile answers: where and when they come ────────────────────────────────────────────────────────────────────────
def test_an_answer_counts_once(browser: Browser, saml: SsoConnection, idp: fake.IdentityProvider) -> None:
    request_id, state = saml_company.start(browser, saml)
    message = idp.respond(saml_company.says(idp, saml, request_id, ROBIN))
    first = saml_company.post(saml, message, state)
    assert saml_company.post(saml, message, state).status_code == 403
    assert refusals(saml) == ["state_used"]
    browser.get(first["Location"])
    assert is_signed_in(browser)
    assert browser.get(first["Location"]).status_code == 403


def test_an_assertion_counts_once_whatever_carries_it(saml: SsoConnection, idp: fake.IdentityProvider) -> None:
    """A provider that answers anything is of no use to whoever holds an old assertion."""
    saml.idp_initiated = True
    saml.save()
    message = idp.respond(saml_company.says(idp, saml, "", ROBIN))
    assert saml_company.post(saml, message).status_code == 303
    assert saml_company.post(saml, message).status_code == 403
    assert refusals(saml) == ["replayed"]
    assert SsoConsumed.objects.filter(connection=saml).count() == 1


def test_only_the_browser_that_asked_may_finish(
    browser: Browser, saml: SsoConnection, idp: fake.IdentityProvider
) -> None:
    """Or an attacker could sign a victim in as the attacker."""
    request_id, state = saml_company.start(browser, saml)
    parked = saml_company.post(saml, idp.respond(saml_company.says(idp, saml, request_id, ROBIN)), state)
    victim = Browser()
    is_refused(victim.get(parked["Location"]), saml, "other_browser")
    assert not is_signed_in(victim)


def test_an_answer_to_another_sign_in_is_refused(saml: SsoConnection, idp: fake.IdentityProvider) -> None:
    mine, theirs = Browser(), Browser()
    request_id, _state = saml_company.start(theirs, saml)
    _request_id, state = saml_company.start(mine, saml)
    answer = saml_company.post(saml, idp.respond(saml_company.says(idp, saml, request_id, ROBIN)), state)
    is_refused(answer, saml, "in_response_to")


def test_an_answer_for_another_connection_is_refused(
    browser: Browser, saml: SsoConnection, idp: fake.IdentityProvider
) -> None:
    """One provider, two connections: an assertion made for one opens nothing at the other."""
    other = saml_company.saml(idp, saml.workspace)
    request_id, state = saml_company.start(browser, saml)
    message = idp.respond(saml_company.says(idp, saml, request_id, ROBIN))
    is_refused(saml_company.post(other, message, state), other, "unknown_state")
    request_id, state = saml_company.start(browser, other)
    said = saml_company.says(idp, saml, request_id, ROBIN)
    assert saml_company.post(other, idp.respond(said), state).status_code == 403
    assert refusals(saml) == ["unknown_state", "destination"]


def test_another_organization_s_provider_speaks_for_its_own_domains_only(browser: Browser, saml: SsoConnection) -> None:
    """Its answer is signed well, and its organization is real: the domain is not its own."""
    evil = fake.IdentityProvider(entity_id="https://idp.evil.example", keys=fake.pair("evil"))
    theirs = factories.organization("Evil")
    company.domain(theirs, "evil.example")
    company.domain(theirs, "acme.example", proven=False)
    connection = saml_company.saml(evil, theirs)
    is_refused(saml_company.sign_in(browser, connection, evil, ROBIN), connection, "foreign_domain")


def test_a_connection_under_the_victim_s_entity_id_opens_nothing(
    saml: SsoConnection, idp: fake.IdentityProvider
) -> None:
    victim = Browser()
    saml_company.sign_in(victim, saml, idp)
    person = User.objects.get(email=ROBIN)
    evil = fake.IdentityProvider(entity_id=idp.entity_id, keys=fake.pair("evil"))
    theirs = factories.organization("Evil")
    company.domain(theirs, "evil.example")
    connection = saml_company.saml(evil, theirs)
    browser = Browser()
    same_subject = {"attributes": {"mail": ["me@evil.example"]}, "name_id": ROBIN}
    saml_company.sign_in(browser, connection, evil, change=lambda said: said.but(**same_subject))
    assert is_signed_in(browser)
    assert browser.get("/api/me").json()["user"]["email"] == "me@evil.example"
    assert list(SsoIdentity.objects.filter(user=person).values_list("connection", flat=True)) == [saml.pk]
    # The other way round: the evil key under the shared name is no key of the victim's connection.
    request_id, state = saml_company.start(browser, saml)
    answer = saml_company.post(saml, evil.respond(saml_company.says(evil, saml, request_id, ROBIN)), state)
    assert answer.status_code == 403
    assert refusals(saml) == ["signature"]


@pytest.mark.parametrize(
    "relay_state",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "", "x" * 5000],
    ids=["address", "no scheme", "backslash", "javascript", "nothing", "long"],
)
def test_a_relay_state_leads_nowhere(
    relay_state: str, browser: Browser, saml: SsoConnection, idp: fake.IdentityProvider
) -> None:
    request_id, _state = saml_company.start(browser, saml)
    answer = saml_company.post(saml, idp.respond(saml_company.says(idp, saml, request_id, ROBIN)), relay_state)
    is_refused(answer, saml, "unknown_state")
    saml.idp_initiated = True
    saml.save()
    unasked = saml_company.post(saml, idp.respond(saml_company.says(idp, saml, "", ROBIN)), relay_state)
    assert unasked["Location"].startswith(f"/api/auth/sso/{saml.provider_id}/finish?token=")
    token = unasked["Location"].partition("token=")[2]
    last = browser.post(f"/api/auth/sso/{saml.provider_id}/finish", {"token": token})
    assert last["Location"] == "/"


# ── Answers that nobody asked for ────────────────────────────────────────────────────────────────────────────────────
def test_unasked_answers_are_refused_unless_the_organization_wants_them(
    saml: SsoConnection, idp: fake.IdentityProvider
) -> None:
    is_refused(
        saml_company.post(saml, idp.respond(saml_company.says(idp, saml, "", ROBIN)), "/usage"), saml, "unsolicited"
    )


def test_an_unasked_answer_asks_the_person_first(
    browser: Browser, saml: SsoConnection, idp: fake.IdentityProvider
) -> None:
    saml.idp_initiated = True
    saml.save()
    answer = saml_company.post(saml, idp.respond(saml_company.says(idp, saml, "", ROBIN)), "/usage")
    page = browser.get(answer["Location"])
    assert page.status_code == 200
    assert ROBIN in page.content.decode()
    assert not is_signed_in(browser)
    token = answer["Location"].partition("token=")[2]
    strict = Client(enforce_csrf_checks=True)
    assert strict.post(f"/api/auth/sso/{saml.provider_id}/finish", {"token": token}).status_code == 403
    last = browser.post(f"/api/auth/sso/{saml.provider_id}/finish", {"token": token})
    assert last["Location"] == "/usage"
    assert is_signed_in(browser)


def test_stripping_the_request_from_the_envelope_makes_no_unasked_answer(
    browser: Browser, saml: SsoConnection, idp: fake.IdentityProvider
) -> None:
    saml.idp_initiated = True
    saml.save()
    request_id, _state = saml_company.start(browser, saml)
    tree = idp.tree(saml_company.says(idp, saml, request_id, ROBIN))
    del tree.attrib["InResponseTo"]
    is_refused(saml_company.post(saml, fake.encoded(tree)), saml, "unsolicited")


# ── Where there is nothing ───────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("which", ["unknown", "disabled", "draft", "suspended", "openid"])
def test_what_is_not_open_is_not_there(which: str, saml: SsoConnection, idp: fake.IdentityProvider) -> None:
    if which in ("disabled", "draft"):
        saml.status = which
    elif which == "openid":
        saml.kind = "oidc"
    elif which == "unknown":
        saml.provider_id = "A" * 22
    elif which == "suspended":
        saml.workspace.active = False
        saml.workspace.save()
    if which != "unknown":
        saml.save()
    answer = saml_company.post(saml, "PHgvPg==")
    assert answer.status_code == 404
    assert "This sign-in is not available" in answer.content.decode()


def test_several_answers_at_once_are_refused(saml: SsoConnection) -> None:
    answer = Client().post(f"/api/auth/sso/{saml.provider_id}", {"SAMLResponse": ["PHgvPg==", "PHkvPg=="]})
    is_refused(answer, saml, "malformed")


# ── The libraries ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_libraries_that_do_not_fit_together_are_found_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [found for found in run_checks() if found.id == "sso.E001"] == []
    monkeypatch.setitem(sys.modules, "xmlsec", None)
    assert [found.id for found in run_checks() if found.id == "sso.E001"] == ["sso.E001"]
