"""The settings pages of single sign-on in a real browser: nothing in the console, no barrier, nothing sticking out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import Client

from accounts.models import User
from events import audit
from orgs import access
from sso import connections
from tests import factories
from tests.fakes.identity_provider import IdentityProvider
from tests.fakes.oidc import OidcProvider
from tests.look.conftest import Visit, Visitor, browser, server, site, visit  # noqa: F401  (fixtures)
from tests.sso import company

pytestmark = pytest.mark.browser

WINDOWS: dict[str, dict[str, bool]] = {"light": {}, "dark, phone": {"dark": True, "phone": True}}


@pytest.fixture
def acme(site: str, settings: Any) -> Iterator[tuple[User, list[str]]]:  # noqa: F811
    """An organization with connections in every state, and the paths of their pages."""
    settings.SITE_URL = site
    idp = OidcProvider()
    settings.EGRESS_ALLOW = [f"identity_provider=127.0.0.1:{idp.port}"]
    organization = factories.organization("Acme")
    admin = factories.member(organization, "admin", factories.user(f"boss{organization.pk.hex[-12:]}@people.example"))
    domain = f"d{organization.pk.hex[-12:]}.example"
    company.domain(organization, domain)
    company.domain(organization, f"eu.{domain}", proven=False)
    working = company.oidc(idp, organization, name="Keycloak")
    connections.check(working, by=audit.SYSTEM)
    metadata = {"metadata_xml": IdentityProvider().metadata()}
    others = [connections.create(organization, "saml", wanted, by=audit.SYSTEM) for wanted in (metadata, {})]
    broken = company.oidc(idp, organization, status="disabled")
    idp.stop()
    connections.check(broken, by=audit.SYSTEM)
    home = "/settings/organization"
    paths = [f"{home}/sso/{row.provider_id}" for row in (working, *others, broken)]
    yield admin, [f"{home}/sso", *paths, f"{paths[0]}/delete", f"{home}/domains"]


def signed_in(visitor: Visitor, admin: User) -> Visitor:
    """The admin's window, in the organization."""
    client = Client()
    client.force_login(admin, backend="allauth.account.auth_backends.AuthenticationBackend")
    session = client.session
    session[access.SESSION_KEY] = str(admin.memberships.get(role="admin").workspace_id)
    session.save()
    name = django_settings.SESSION_COOKIE_NAME
    visitor.page.context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": visitor.site}])
    visitor.page.context.set_default_timeout(60_000)
    return visitor


@pytest.mark.parametrize("window", WINDOWS)
def test_the_pages_are_sound(visit: Visit, acme: tuple[User, list[str]], window: str) -> None:  # noqa: F811
    admin, paths = acme
    visitor = signed_in(visit(**WINDOWS[window]), admin)
    for path in paths:
        visitor.go(path)
        visitor.assert_sound()
