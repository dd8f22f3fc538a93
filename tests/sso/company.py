"""Acme and its identity providers, made by the product's own functions where it has any."""

from __future__ import annotations

from typing import Any

from django.test import Client

from core import clock, secrets
from orgs.models import Workspace
from sso.models import OrgDomain, SsoConnection
from sso.oidc import discovery
from tests import factories
from tests.fakes.oidc import CLIENT_ID, CLIENT_SECRET, OidcProvider


def domain(workspace: Workspace, name: str = "acme.example", *, proven: bool = True, **columns: Any) -> OrgDomain:
    """A domain of the organization."""
    moment = clock.now() if proven else None
    method = OrgDomain.Method.OPERATOR if proven else ""
    return OrgDomain.objects.create(
        workspace=workspace, domain=name, verified_at=moment, checked_at=moment, method=method, **columns
    )


def oidc(provider: OidcProvider, workspace: Workspace | None = None, **columns: Any) -> SsoConnection:
    """An active connection to ``provider``; a new organization gets acme.example, proven."""
    if workspace is None:
        workspace = factories.organization("Acme")
        domain(workspace)
    made = SsoConnection(
        workspace=workspace,
        kind=SsoConnection.Kind.OIDC,
        issuer=provider.issuer,
        client_id=CLIENT_ID,
        client_secret_sealed=secrets.encrypt(CLIENT_SECRET),
        **{"status": SsoConnection.Status.ACTIVE, **columns},
    )
    discovery.read(made)
    made.save()
    return made


def start(client: Client, connection: SsoConnection, **query: str) -> str:
    """The provider's address that a browser is sent to."""
    answer = client.get(f"/api/auth/sso/{connection.provider_id}/login", query)
    assert answer.status_code == 302, answer.content.decode()
    return str(answer["Location"])


def sign_in(client: Client, connection: SsoConnection, provider: OidcProvider, **query: str) -> Any:
    """The whole way there and back; the site's answer to the provider's."""
    return client.get(provider.visit(start(client, connection, **query)))
