"""An independent checker of SCIM servers (scim2-tester) against the site."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from scim2_client.engines.wsgi import WSGISCIMClient
from scim2_tester import Status, check_server

from events import audit
from sso.models import ScimGroup, ScimUser
from sso.scim import tokens
from tests import factories
from tests.fakes.identity_provider import IdentityProvider
from tests.sso import saml_company

pytestmark = pytest.mark.django_db


class Application:
    """The site as a WSGI application inside the test's transaction: Django's own test client drives the handler."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        headers = {name: value for name, value in environ.items() if name.startswith("HTTP_")}
        path = environ["PATH_INFO"] + (f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else "")
        answer = Client(raise_request_exception=True).generic(
            environ["REQUEST_METHOD"],
            path,
            environ["wsgi.input"].read(),
            content_type=environ.get("CONTENT_TYPE") or "application/scim+json",
            **headers,
        )
        start_response(f"{answer.status_code} {answer.reason_phrase}", list(answer.headers.items()))
        return [answer.content]


def test_the_checker_finds_nothing(settings: Any) -> None:
    settings.SITE_URL = "http://testserver"
    connection = saml_company.saml(IdentityProvider())
    issued = tokens.issue(connection, actor=audit.SYSTEM, created_by=factories.user())
    client = WSGISCIMClient(
        Application(), "http://testserver/scim/v2", headers={"Authorization": f"Bearer {issued.secret}"}
    )
    results = check_server(client)
    wrong = [f"{found.title}: {found.reason}" for found in results if found.status == Status.ERROR]
    assert wrong == []
    skipped = {found.title for found in results if found.status == Status.SKIPPED}
    assert skipped <= {"search_with_attributes"}
    assert len([found for found in results if found.status == Status.SUCCESS]) > 30
    assert not ScimUser.objects.exists()
    assert not ScimGroup.objects.exists()
