"""SAML connections of organizations, and the way there and back over the small signing provider."""

from __future__ import annotations

import base64
import functools
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from django.test import Client
from lxml import etree

from core import secrets
from orgs.models import Workspace
from sso import addresses
from sso.models import SsoConnection
from sso.saml import metadata, sides
from sso.saml.parties import KeyPair
from tests import factories
from tests.fakes.identity_provider import IdentityProvider, Says
from tests.sso import company


@functools.cache
def _keys() -> KeyPair:
    return KeyPair.new("tests")


def saml(idp: IdentityProvider, workspace: Workspace | None = None, **columns: Any) -> SsoConnection:
    """An active connection to ``idp``; a new organization gets acme.example, proven. All share one key."""
    if workspace is None:
        workspace = factories.organization("Acme")
        company.domain(workspace)
    made = SsoConnection(
        workspace=workspace,
        kind=SsoConnection.Kind.SAML,
        sp_private_key_sealed=secrets.encrypt(_keys().private_key),
        sp_certificate=_keys().certificate,
        **{"status": SsoConnection.Status.ACTIVE, **columns},
    )
    sides.take(made, metadata.read(idp.metadata().encode()))
    made.save()
    return made


def start(client: Client, connection: SsoConnection, **query: str) -> tuple[str, str]:
    """A sign-in begins: the id of our question and the RelayState that goes with it."""
    answer = client.get(f"/api/auth/sso/{connection.provider_id}/login", query)
    assert answer.status_code == 302, answer.content.decode()
    given = parse_qs(urlsplit(answer["Location"]).query)
    document = etree.fromstring(zlib.decompress(base64.b64decode(given["SAMLRequest"][0]), -15))
    return document.get("ID"), given["RelayState"][0]


def says(idp: IdentityProvider, connection: SsoConnection, request_id: str, email: str) -> Says:
    """An honest answer about the person of that address."""
    said = idp.says(addresses.metadata(connection), addresses.endpoint(connection), request_id, email)
    return said.but(assertion_id=f"_{uuid4().hex}")


def post(connection: SsoConnection, message: str, relay_state: str = "") -> Any:
    """The provider's page posts from its own site: without any cookie of ours."""
    fields = {"SAMLResponse": message, "RelayState": relay_state}
    return Client(enforce_csrf_checks=True).post(f"/api/auth/sso/{connection.provider_id}", fields)


def sign_in(
    client: Client,
    connection: SsoConnection,
    idp: IdentityProvider,
    email: str = "robin@acme.example",
    *,
    change: Callable[[Says], Says] = lambda said: said,
    **how: Any,
) -> Any:
    """The whole way there and back; the site's last answer."""
    request_id, relay_state = start(client, connection)
    message = idp.respond(change(says(idp, connection, request_id, email)), **how)
    answer = post(connection, message, relay_state)
    return client.get(answer["Location"]) if answer.status_code == 303 else answer
