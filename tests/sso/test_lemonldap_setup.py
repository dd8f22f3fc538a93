"""An owner connects a real identity provider on the settings pages, in three steps, and tries it."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from playwright.sync_api import expect

from accounts.models import User
from events.models import AuditEvent
from sso.models import OrgDomain, SsoConnection
from tests import cast
from tests.look.conftest import Visit, Visitor, browser, server, site, visit  # noqa: F401  (fixtures)
from tests.sso import company
from tests.sso import lemonldap as provider
from tests.sso.lemonldap import LemonLdap
from tests.sso.lemonldap_session import lemonldap, lemonldap_process  # noqa: F401  (fixtures)
from tests.sso.test_lemonldap import come_in, patient

pytestmark = [pytest.mark.browser, pytest.mark.lemonldap]


@pytest.fixture
def owner(site: str, visit: Visit, lemonldap: LemonLdap, settings: Any) -> Iterator[Visitor]:  # noqa: F811
    """The window of an owner whose organization has proven the domain of the provider's people."""
    settings.SITE_URL = site
    settings.EGRESS_ALLOW = [f"identity_provider=localhost:{lemonldap.port}"]
    people = cast.assemble()
    company.domain(people.organization, provider.DOMAIN)
    name = str(django_settings.SESSION_COOKIE_NAME)
    cookie = people.client("owner").cookies[name].value
    visitor = patient(visit())
    visitor.page.context.add_cookies([{"name": name, "value": cookie, "url": site}])
    yield visitor
    OrgDomain.objects.filter(domain=provider.DOMAIN).delete()


def test_saml_in_three_steps(owner: Visitor, lemonldap: LemonLdap) -> None:  # noqa: F811
    page = owner.page
    owner.go("/settings/organization/sso")
    page.get_by_role("button", name="SAML 2.0").click()
    page.get_by_role("heading", name="1. Register Hypereal").wait_for()
    made = SsoConnection.objects.latest("created_at")
    ours = page.get_by_role("link", name="Download our metadata").get_attribute("href")
    assert ours
    with urllib.request.urlopen(ours) as answer:
        lemonldap.register(services={made.provider_id: answer.read().decode()})

    page.get_by_label("metadata", exact=False).first.fill(lemonldap.saml_metadata())
    page.get_by_role("button", name="Save and check").click()
    expect(page.get_by_text("Connected: the identity provider answers")).to_be_visible()

    page.get_by_role("button", name="Test sign-in").click()
    come_in(owner, "dwho")
    expect(page.get_by_text("The test sign-in worked")).to_be_visible()
    expect(page.get_by_text(provider.address_of("dwho")).first).to_be_visible()
    assert not User.objects.filter(email=provider.address_of("dwho")).exists()
    assert page.request.get(f"{owner.site}/api/me").json()["user"]["email"].startswith("owner")
    rows = AuditEvent.objects.filter(workspace_id=made.workspace_id).order_by("id")
    assert [row.action for row in rows if row.action.startswith("sso.")] == ["sso.create", "sso.change", "sso.test"]
