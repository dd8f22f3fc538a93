"""An independent checker of SCIM servers (scim2-tester) against the site on a port."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from django.core.cache import cache
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import Status, check_server

from events import audit
from sso.models import ScimGroup, ScimUser
from sso.scim import tokens
from tests import factories
from tests.fakes.identity_provider import IdentityProvider
from tests.look.conftest import server, site  # noqa: F401  (fixtures)
from tests.sso import company, saml_company


@pytest.mark.timeout(600)
def test_the_checker_finds_nothing(site: str, settings: Any) -> None:  # noqa: F811
    settings.SITE_URL = site
    cache.clear()
    organization = factories.organization()
    company.domain(organization, f"{organization.slug}.example")
    connection = saml_company.saml(IdentityProvider(), organization)
    issued = tokens.issue(connection, actor=audit.SYSTEM, created_by=None)
    headers = {"Authorization": f"Bearer {issued.secret}"}
    with httpx2.Client(base_url=f"{site}/scim/v2", headers=headers, timeout=90) as http:
        results = check_server(SyncSCIMClient(http))
    wrong = [f"{found.title}: {found.reason}" for found in results if found.status == Status.ERROR]
    assert wrong == []
    skipped = {found.title for found in results if found.status == Status.SKIPPED}
    assert skipped <= {"search_with_attributes"}
    assert len([found for found in results if found.status == Status.SUCCESS]) > 30
    assert not ScimUser.objects.filter(connection=connection).exists()
    assert not ScimGroup.objects.filter(connection=connection).exists()
