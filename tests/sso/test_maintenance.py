"""What happens to connections by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.test import TestCase

from core import clock
from events import audit
from sso import connections, flows, maintenance
from sso.models import SsoConnection, SsoConsumed, SsoFlow
from sso.saml import metadata
from tests import cast, factories
from tests.accounts.front_door import Browser
from tests.fakes import identity_provider as saml
from tests.fakes.identity_provider import IdentityProvider
from tests.fakes.oidc import OidcProvider
from tests.sso import company

pytestmark = pytest.mark.django_db

NOW = datetime(2030, 1, 31, tzinfo=UTC)


def overdue() -> None:
    SsoConnection.objects.update(last_check_at=clock.now() - timedelta(days=1, minutes=1))


def test_a_provider_is_asked_once_a_day(provider: OidcProvider) -> None:
    made = connections.create(factories.organization(), "oidc", {}, by=audit.SYSTEM)
    sent = {"issuer": provider.issuer, "client_id": "x", "client_secret": "y"}
    connections.change(made, sent, by=audit.SYSTEM)
    assert maintenance.recheck_connections() == 0
    overdue()
    provider.kid = "second"
    assert maintenance.recheck_connections() == 1
    made.refresh_from_db()
    assert [key["kid"] for key in made.jwks["keys"]] == ["second"]
    overdue()
    provider.stop()
    assert maintenance.recheck_connections() == 1
    made.refresh_from_db()
    assert (made.last_check_ok, made.status) == (False, "active"), "said, and nobody is locked out for it"
    SsoConnection.objects.update(status="disabled")
    overdue()
    assert maintenance.recheck_connections() == 0


def test_metadata_by_address_bring_new_certificates_and_never_another_provider(
    provider: OidcProvider,
) -> None:
    idp = IdentityProvider()
    published = {"text": idp.metadata()}
    provider.instead["/metadata"] = lambda: (200, {}, published["text"].encode())
    sent = {"metadata_url": f"{provider.issuer}/metadata"}
    made = connections.create(factories.organization(), "saml", sent, by=audit.SYSTEM)
    assert made.is_active
    published["text"] = idp.metadata(certificates=[saml.pair("new")])
    overdue()
    maintenance.recheck_connections()
    made.refresh_from_db()
    assert made.idp_certificates == [saml.pair("new").certificate.decode()]
    published["text"] = IdentityProvider(entity_id="https://evil.example").metadata()
    overdue()
    maintenance.recheck_connections()
    made.refresh_from_db()
    assert made.idp_entity_id == idp.entity_id
    assert made.idp_certificates == [saml.pair("new").certificate.decode()]
    assert made.last_check_ok is False


@pytest.mark.parametrize(
    ("before", "now", "warned"),
    [(31, 30, True), (30, 29, False), (29, 28, False), (8, 7, True), (7, 6, False), (2, 1, True), (1, 0, False),
     (0, -1, False), (40, 5, True)],
)  # fmt: skip
def test_when_to_warn(before: int, now: int, warned: bool) -> None:
    """Days that a certificate had left at the last look, and has now."""
    at = [NOW - timedelta(days=days) for days in (before, now)]
    assert maintenance.is_time_to_warn(NOW, *at) is warned


def test_those_who_can_do_something_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    people = cast.assemble()
    sent = {"metadata_xml": IdentityProvider().metadata(), "name": "Entra ID"}
    connections.create(people.organization, "saml", sent, by=audit.SYSTEM)
    overdue()
    monkeypatch.setattr("sso.maintenance._last_end", lambda row: clock.now() + timedelta(days=7, seconds=-1))
    with TestCase.captureOnCommitCallbacks(execute=True):
        maintenance.recheck_connections()
    assert {to for message in mail.outbox for to in message.to} == {people["owner"].email, people["admin"].email}
    assert "Acme" in mail.outbox[0].subject
    assert "/settings/organization/sso/" in str(mail.outbox[0].body)


def test_what_is_over_is_forgotten(connection: SsoConnection) -> None:
    company.start(Browser(), connection)
    flows.consume(connection, "an assertion", clock.now() + timedelta(minutes=5))
    assert flows.forget() == 0
    long_ago: Any = clock.now() - timedelta(hours=2)
    SsoFlow.objects.update(expires_at=long_ago)
    SsoConsumed.objects.update(expires_at=long_ago)
    assert flows.forget() == 2
    assert not SsoFlow.objects.exists()


def test_a_check_does_not_undo_what_somebody_changes_meanwhile(
    provider: OidcProvider, connection: SsoConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(row: SsoConnection) -> None:
        connections.change(SsoConnection.objects.get(pk=row.pk), {"name": "New", "client_id": "n"}, by=audit.SYSTEM)
        row.discovery = {"stale": True}

    overdue()
    monkeypatch.setattr("sso.connections.refresh", meanwhile)
    maintenance.recheck_connections()
    connection.refresh_from_db()
    assert (connection.name, connection.client_id) == ("New", "n")
    assert "stale" not in connection.discovery


def test_our_key_pair_survives_a_change_under_way(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.SITE_URL = "http://testserver"
    made = connections.create(factories.organization(), "saml", {}, by=audit.SYSTEM)
    browser = Browser()
    read = metadata.read

    def slow(document: bytes, *, entity_id: str = "") -> Any:
        browser.get(f"/api/auth/sso/{made.provider_id}/metadata")  # somebody registers us at this very moment
        return read(document, entity_id=entity_id)

    monkeypatch.setattr("sso.connections.metadata.read", slow)
    connections.change(made, {"metadata_xml": IdentityProvider().metadata()}, by=audit.SYSTEM)
    made.refresh_from_db()
    assert made.sp_certificate
    assert made.idp_entity_id
