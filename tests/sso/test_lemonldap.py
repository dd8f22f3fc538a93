"""A real identity provider and a real browser: people of badwolf.org sign in, over SAML and over OpenID Connect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from playwright.sync_api import expect

from accounts.models import User
from events import audit
from events.models import AuditEvent
from orgs.models import Membership, Workspace
from sso import addresses, connections
from sso.models import OrgDomain, SsoConnection, SsoIdentity
from sso.saml import sides
from tests import factories
from tests.fakes.identity_provider import pair
from tests.look.conftest import Visit, Visitor, browser, server, site, visit  # noqa: F401  (fixtures)
from tests.sso import company
from tests.sso import lemonldap as provider
from tests.sso.lemonldap import Client, LemonLdap
from tests.sso.lemonldap_session import lemonldap, lemonldap_process  # noqa: F401  (fixtures)

pytestmark = [pytest.mark.browser, pytest.mark.lemonldap]


@pytest.fixture(autouse=True)
def reachable(lemonldap: LemonLdap, site: str, settings: Any) -> Iterator[None]:  # noqa: F811
    """The product knows its own address and may call this provider. Nothing of a test stays to be met by the next."""
    settings.SITE_URL = site
    settings.EGRESS_ALLOW = [f"identity_provider=localhost:{lemonldap.port}"]
    yield
    OrgDomain.objects.filter(domain=provider.DOMAIN).delete()
    for person in User.objects.filter(email__endswith=f"@{provider.DOMAIN}"):
        person.email = f"{person.pk}@gone.example"
        person.save(update_fields=["email"])
        EmailAddress.objects.filter(user=person).delete()


@pytest.fixture
def badwolf(reachable: None) -> Workspace:
    """An organization that has proven the domain of the provider's people."""
    organization = factories.organization("Bad Wolf")
    company.domain(organization, provider.DOMAIN)
    return organization


def saml(organization: Workspace, idp: LemonLdap, **wanted: Any) -> SsoConnection:
    """What an admin does: a draft, our metadata registered over there, theirs pasted here; that switches it on."""
    made = connections.create(organization, "saml", wanted, by=audit.SYSTEM)
    idp.register(services={made.provider_id: sides.own_metadata(made).decode()})
    return paste(made, idp.saml_metadata())


def paste(connection: SsoConnection, document: str) -> SsoConnection:
    """Take the provider's metadata."""
    changed = connections.change(connection, {"metadata_xml": document}, by=audit.SYSTEM)
    assert changed.is_active
    return changed


def oidc(organization: Workspace, idp: LemonLdap) -> SsoConnection:
    """The same over OpenID Connect."""
    made = connections.create(organization, "oidc", {}, by=audit.SYSTEM)
    client = Client(
        "hypereal", "a-secret-of-the-client", addresses.endpoint(made), signed_out_uri=addresses.signed_out(made)
    )
    idp.register(clients={made.provider_id: client})
    given = {"issuer": idp.issuer, "client_id": client.client_id, "client_secret": client.client_secret}
    changed = connections.change(made, given, by=audit.SYSTEM)
    assert changed.is_active
    return changed


def patient(visitor: Visitor) -> Visitor:
    """Two servers, a browser and perhaps other tests share the machine."""
    visitor.page.context.set_default_timeout(60_000)
    return visitor


def come_in(visitor: Visitor, name: str) -> None:
    """At the provider's own sign-in page."""
    page = visitor.page
    page.wait_for_url(re.compile("^http://localhost:"))
    page.locator("input[name=user]").fill(name)
    page.locator("input[name=password]").fill(name)
    page.locator("button[type=submit]").first.click()
    page.wait_for_url(f"{visitor.site}/**")
    page.wait_for_load_state("networkidle")  # a page that only sends the browser on is none


def start(visitor: Visitor, connection: SsoConnection) -> None:
    visitor.page.goto(f"{visitor.site}/api/auth/sso/{connection.provider_id}/login")


def is_in(visitor: Visitor, email: str) -> bool:
    me = visitor.page.request.get(f"{visitor.site}/api/me")
    return bool(me.status == 200 and me.json()["user"]["email"] == email)


def refusals(connection: SsoConnection) -> list[str]:
    rows = AuditEvent.objects.filter(action="sso.refuse", workspace_id=connection.workspace_id).order_by("id")
    return [row.details["reason"] for row in rows]


def is_a_new_member(email: str, organization: Workspace, name: str) -> None:
    person = User.objects.get(email=email)
    assert person.name == name
    assert not person.has_usable_password()
    assert Membership.objects.get(user=person, workspace=organization).role == "viewer"


# ── SAML ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_the_first_sign_in_over_saml_makes_person_and_membership(
    encrypted: bool, badwolf: Workspace, lemonldap: LemonLdap, visit: Visit  # noqa: F811
) -> None:  # fmt: skip
    connection = saml(badwolf, lemonldap)
    if encrypted:
        lemonldap.register(encrypted=[connection.provider_id])
    visitor = patient(visit())
    start(visitor, connection)
    come_in(visitor, "rtyler")
    assert refusals(connection) == []
    assert is_in(visitor, "rtyler@badwolf.org")
    is_a_new_member("rtyler@badwolf.org", badwolf, "Rose Tyler")
    again = patient(visit())
    start(again, connection)
    come_in(again, "rtyler")
    assert is_in(again, "rtyler@badwolf.org")
    assert SsoIdentity.objects.filter(connection=connection).count() == 1


def test_a_foreign_domain_is_refused(lemonldap: LemonLdap, visit: Visit) -> None:  # noqa: F811
    stranger = factories.organization("Torchwood")
    company.domain(stranger, "torchwood.example")
    connection = saml(stranger, lemonldap)
    visitor = patient(visit())
    start(visitor, connection)
    come_in(visitor, "msmith")
    expect(visitor.page.get_by_text("You were not signed in")).to_be_visible()
    expect(visitor.page.get_by_text("has not proven that the domain is its own")).to_be_visible()
    assert refusals(connection) == ["foreign_domain"]
    assert not User.objects.filter(email="msmith@badwolf.org").exists()


def test_a_certificate_rolls_over(badwolf: Workspace, lemonldap: LemonLdap, visit: Visit) -> None:  # noqa: F811
    connection = saml(badwolf, lemonldap)
    before = lemonldap.saml_metadata()
    lemonldap.register(keys=pair("the next year's"))
    visitor = patient(visit())
    start(visitor, connection)
    come_in(visitor, "dwho")
    expect(visitor.page.get_by_text("does not fit the certificates registered")).to_be_visible()
    assert refusals(connection) == ["signature"]
    after = lemonldap.saml_metadata()
    descriptor = after[after.index("<KeyDescriptor") : after.index("</KeyDescriptor>") + len("</KeyDescriptor>")]
    connection = paste(connection, before.replace("<KeyDescriptor", f"{descriptor}<KeyDescriptor", 1))
    assert len(connection.idp_certificates) == 2
    start(visitor, connection)
    visitor.page.wait_for_url(f"{visitor.site}/**")
    assert is_in(visitor, "dwho@badwolf.org")


def test_metadata_at_an_address_bring_new_certificates_by_themselves(
    badwolf: Workspace, lemonldap: LemonLdap, visit: Visit  # noqa: F811
) -> None:  # fmt: skip
    connection = saml(badwolf, lemonldap)
    wanted = {"metadata_url": f"{lemonldap.url}/saml/metadata/idp"}
    connection = connections.change(connection, wanted, by=audit.SYSTEM)
    lemonldap.register(keys=pair("the next year's"))
    connections.check(connection, by=audit.SYSTEM)
    visitor = patient(visit())
    start(visitor, connection)
    come_in(visitor, "rtyler")
    assert is_in(visitor, "rtyler@badwolf.org")


def test_a_tile_in_the_provider_s_portal_asks_first(
    badwolf: Workspace, lemonldap: LemonLdap, visit: Visit  # noqa: F811
) -> None:  # fmt: skip
    connection = saml(badwolf, lemonldap, idp_initiated=True)
    visitor = patient(visit())
    page = visitor.page
    page.goto(f"{lemonldap.url}/saml/singleSignOn?IDPInitiated=1&sp={addresses.metadata(connection)}")
    come_in(visitor, "rtyler")
    expect(page.get_by_text("rtyler@badwolf.org")).to_be_visible()
    assert not is_in(visitor, "rtyler@badwolf.org")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{visitor.site}/")
    assert is_in(visitor, "rtyler@badwolf.org")


# ── OpenID Connect ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_first_sign_in_over_openid_connect_makes_person_and_membership(
    badwolf: Workspace, lemonldap: LemonLdap, visit: Visit  # noqa: F811
) -> None:  # fmt: skip
    connection = oidc(badwolf, lemonldap)
    visitor = patient(visit())
    start(visitor, connection)
    come_in(visitor, "dwho")
    assert refusals(connection) == []
    assert is_in(visitor, "dwho@badwolf.org")
    is_a_new_member("dwho@badwolf.org", badwolf, "Doctor Who")


def test_signing_out_here_signs_out_there(badwolf: Workspace, lemonldap: LemonLdap, visit: Visit) -> None:  # noqa: F811
    connection = connections.change(oidc(badwolf, lemonldap), {"provider_logout": True}, by=audit.SYSTEM)
    visitor = patient(visit())
    page = visitor.page
    start(visitor, connection)
    come_in(visitor, "dwho")
    page.goto(f"{visitor.site}/accounts/logout/?next=/models")
    page.get_by_role("main").get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{visitor.site}/models")
    assert not is_in(visitor, "dwho@badwolf.org")
    start(visitor, connection)
    page.wait_for_url(re.compile("^http://localhost:"))
    expect(page.locator("input[name=password]")).to_be_visible()  # over there nobody is signed in any more


def test_keys_of_openid_connect_roll_over(badwolf: Workspace, lemonldap: LemonLdap, visit: Visit) -> None:  # noqa: F811
    connection = oidc(badwolf, lemonldap)
    lemonldap.register(keys=pair("the next year's"))
    visitor = patient(visit())
    start(visitor, connection)
    come_in(visitor, "msmith")
    assert refusals(connection) == []
    assert is_in(visitor, "msmith@badwolf.org")


# ── The sign-in form ─────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", ["saml", "oidc"])
def test_the_form_asks_people_of_the_domain_for_no_password(
    kind: str, badwolf: Workspace, lemonldap: LemonLdap, visit: Visit  # noqa: F811
) -> None:  # fmt: skip
    (saml if kind == "saml" else oidc)(badwolf, lemonldap)
    visitor = patient(visit())
    page = visitor.page
    page.goto(f"{visitor.site}/accounts/login/?next=/usage")
    page.get_by_label("Email").fill("rtyler@badwolf.org")
    expect(page.locator("input[type=password]")).to_be_hidden()
    page.get_by_role("button", name="Continue").click()
    come_in(visitor, "rtyler")
    page.wait_for_url(f"{visitor.site}/usage")
    assert is_in(visitor, "rtyler@badwolf.org")
