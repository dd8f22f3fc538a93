"""``/api/orgs/{id}/sso`` and ``…/domains``: identity providers and e-mail domains, for scripts that hold a session."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from accounts import reauth
from events import audit
from orgs import access
from orgs.access import Access
from orgs.api import organization
from orgs.permissions import Permission
from sso import addresses, connections, domains, proofs
from sso.models import OrgDomain, SsoConnection

router = Router(tags=["Single sign-on"])

_MEMBER = access.member(locked_too=True)
_METADATA_LENGTH = 600_000


class _In(Schema):
    """Unknown members are refused: a misspelt one must not be taken for a wish that was granted."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class _Out(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class ConnectionChange(_In):
    """What is left out stays as it is. Secrets can be set and never be read."""

    name: str | None = Field(default=None, max_length=1_000)
    domain: str | None = Field(default=None, max_length=1_000, description="E-mail domain to route here.")
    issuer: str | None = Field(default=None, max_length=1_000, description="OpenID Connect.")
    client_id: str | None = Field(default=None, max_length=1_000)
    client_secret: str | None = Field(default=None, max_length=2_000)
    metadata_xml: str | None = Field(default=None, max_length=_METADATA_LENGTH, description="SAML.")
    metadata_url: str | None = Field(default=None, max_length=2_000)
    entity_id: str | None = Field(default=None, max_length=2_000, description="Which one, of several in the metadata.")
    default_role: str | None = Field(default=None, description="Of people who come for the first time.")
    role_claim: str | None = Field(default=None, max_length=1_000)
    role_map: dict[str, str] | None = Field(default=None, description="Value of the claim → role; never owner.")
    attribute_map: dict[str, str] | None = Field(default=None, description="email, name, subject → the provider's name")
    idp_initiated: bool | None = Field(default=None, description="SAML: take answers that nobody here asked for.")
    provider_logout: bool | None = Field(default=None, description="OpenID Connect: signing out here signs out there.")
    enforced: bool | None = Field(default=None, description="The domain's people may sign in this way only.")
    status: str | None = Field(default=None, description="active or disabled")

    def wanted(self) -> dict[str, Any]:
        """What was sent and is not null."""
        sent = {name: getattr(self, name) for name in self.model_fields_set}
        return {name: value for name, value in sent.items() if value is not None and name != "type"}


class NewConnection(ConnectionChange):
    """``type`` alone makes a draft, whose addresses are registered at the provider; PATCH completes it."""

    type: str = Field(description="saml or oidc")


class NewDomain(_In):
    domain: str = Field(max_length=1_000)
    provider_id: str | None = Field(default=None, description="The connection that the domain's people sign in with.")


class Dns(_Out):
    type: str
    host: str
    value: str


class DomainOut(_Out):
    id: str
    domain: str
    verified: bool
    method: str | None
    verified_at: datetime | None
    checked_at: datetime | None
    provider_id: str | None
    dns: Dns
    file_url: str
    file_content: str


class DomainList(_Out):
    domains: list[DomainOut]


class DomainCheck(DomainOut):
    message: str = Field(description="Why the proof was not found; empty where it was.")


class ConnectionOut(_Out):
    id: str
    provider_id: str
    type: str
    name: str
    status: str
    enforced: bool
    domain: str | None
    domain_verified: bool
    dns: Dns | None
    reachable: bool | None = Field(description="How the provider answered last; null where it was never asked.")
    last_check_at: datetime | None
    check_error: str = Field(description="Why the provider could not be used when it was last asked.")
    acs_url: str
    redirect_uri: str
    post_logout_redirect_uri: str = Field(description="OpenID Connect: where people come back to who signed out there.")
    metadata_url: str
    entity_id: str
    login_url: str
    issuer: str | None
    client_id: str | None
    idp_entity_id: str | None
    idp_metadata_url: str | None
    default_role: str
    role_claim: str
    role_map: dict[str, str]
    attribute_map: dict[str, str]
    idp_initiated: bool
    provider_logout: bool
    created_at: datetime


class ConnectionList(_Out):
    connections: list[ConnectionOut]


# ── Connections ──────────────────────────────────────────────────────────────────────────────────────────────────────
@router.get("/{org_id}/sso", auth=_MEMBER, response=ConnectionList, by_alias=True, summary="Identity providers")
def list_connections(request: HttpRequest, org_id: str) -> dict[str, Any]:
    here = _here(request, org_id)
    return {"connections": [shown(row) for row in connections.of_workspace(here.workspace)]}


@router.post("/{org_id}/sso", auth=_MEMBER, response={201: ConnectionOut}, by_alias=True, summary="Connect one")
def create_connection(request: HttpRequest, org_id: str, body: NewConnection) -> Status[dict[str, Any]]:
    here = _here(request, org_id, writes=True)
    made = connections.create(here.workspace, body.type, body.wanted(), by=audit.actor_of(request))
    return Status(201, shown(made))


@router.get("/{org_id}/sso/{provider_id}", auth=_MEMBER, response=ConnectionOut, by_alias=True, summary="One")
def get_connection(request: HttpRequest, org_id: str, provider_id: str) -> dict[str, Any]:
    return shown(connections.find(_here(request, org_id).workspace, provider_id))


@router.patch("/{org_id}/sso/{provider_id}", auth=_MEMBER, response=ConnectionOut, by_alias=True, summary="Change")
def change_connection(request: HttpRequest, org_id: str, provider_id: str, body: ConnectionChange) -> dict[str, Any]:
    found = connections.find(_here(request, org_id, writes=True).workspace, provider_id)
    return shown(connections.change(found, body.wanted(), by=audit.actor_of(request)))


@router.delete("/{org_id}/sso/{provider_id}", auth=_MEMBER, response={204: None}, summary="Delete for good")
def delete_connection(request: HttpRequest, org_id: str, provider_id: str) -> Status[None]:
    found = connections.find(_here(request, org_id, writes=True).workspace, provider_id)
    connections.delete(found, by=audit.actor_of(request))
    return Status(204, None)


@router.post("/{org_id}/sso/{provider_id}/check", auth=_MEMBER, response=ConnectionOut, by_alias=True)
def check_connection(request: HttpRequest, org_id: str, provider_id: str) -> dict[str, Any]:
    """Ask the provider again, now."""
    found = connections.find(_here(request, org_id, writes=True).workspace, provider_id)
    return shown(connections.check(found, by=audit.actor_of(request)))


# ── Domains ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@router.get("/{org_id}/domains", auth=_MEMBER, response=DomainList, by_alias=True, summary="E-mail domains")
def list_domains(request: HttpRequest, org_id: str) -> dict[str, Any]:
    here = _here(request, org_id)
    rows = domains.of_workspace(here.workspace)
    return {"domains": [shown_domain(row) for row in rows]}


@router.post("/{org_id}/domains", auth=_MEMBER, response={201: DomainOut}, by_alias=True, summary="Claim one")
def claim_domain(request: HttpRequest, org_id: str, body: NewDomain) -> Status[dict[str, Any]]:
    here = _here(request, org_id, writes=True)
    connection = connections.find(here.workspace, body.provider_id) if body.provider_id else None
    row = domains.claim(here.workspace, body.domain, by=audit.actor_of(request), connection=connection)
    return Status(201, shown_domain(row))


@router.post("/{org_id}/domains/{domain_id}/verify", auth=_MEMBER, response=DomainCheck, by_alias=True)
def verify_domain(request: HttpRequest, org_id: str, domain_id: str) -> dict[str, Any]:
    """Look for the proof now: the TXT record first, then the file."""
    row = domains.find(_here(request, org_id, writes=True).workspace, domain_id)
    outcome = domains.prove(row, by=audit.actor_of(request))
    return {**shown_domain(row), "message": outcome.message if outcome.method is None else ""}


@router.delete("/{org_id}/domains/{domain_id}", auth=_MEMBER, response={204: None}, summary="Give one up")
def remove_domain(request: HttpRequest, org_id: str, domain_id: str) -> Status[None]:
    row = domains.find(_here(request, org_id, writes=True).workspace, domain_id)
    domains.remove(row, by=audit.actor_of(request))
    return Status(204, None)


# ── Parts ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _here(request: HttpRequest, org_id: str, *, writes: bool = False) -> Access:
    here = organization(request, org_id, Permission.SSO_WRITE)
    if writes:
        reauth.check(request)
    return here


def shown(connection: SsoConnection) -> dict[str, Any]:
    """A connection as the API shows it: never a secret."""
    domain = OrgDomain.objects.filter(connection=connection).order_by("created_at").first()
    return {
        "id": str(connection.pk),
        "provider_id": connection.provider_id,
        "type": connection.kind,
        "name": connection.name,
        "status": connection.status,
        "enforced": connection.enforced,
        "domain": domain.domain if domain else None,
        "domain_verified": bool(domain and domain.verified_at),
        "dns": _dns(domain) if domain else None,
        "reachable": connection.last_check_ok,
        "last_check_at": connection.last_check_at,
        "check_error": connection.last_check_error,
        "acs_url": addresses.endpoint(connection),
        "redirect_uri": addresses.endpoint(connection),
        "post_logout_redirect_uri": addresses.signed_out(connection),
        "metadata_url": addresses.metadata(connection),
        "entity_id": addresses.metadata(connection),
        "login_url": addresses.login(connection),
        "issuer": connection.issuer or None,
        "client_id": connection.client_id or None,
        "idp_entity_id": connection.idp_entity_id or None,
        "idp_metadata_url": connection.idp_metadata_url or None,
        "default_role": connection.default_role,
        "role_claim": connection.role_claim,
        "role_map": connection.role_map,
        "attribute_map": connection.attribute_map,
        "idp_initiated": connection.idp_initiated,
        "provider_logout": connection.provider_logout,
        "created_at": connection.created_at,
    }


def shown_domain(row: OrgDomain) -> dict[str, Any]:
    """A domain and how to prove it."""
    return {
        "id": str(row.pk),
        "domain": row.domain,
        "verified": row.verified_at is not None,
        "method": row.method or None,
        "verified_at": row.verified_at,
        "checked_at": row.checked_at,
        "provider_id": row.connection.provider_id if row.connection else None,
        "dns": _dns(row),
        "file_url": proofs.file_url(row.domain),
        "file_content": proofs.expected(row.token),
    }


def _dns(row: OrgDomain) -> dict[str, str]:
    return {"type": "TXT", "host": proofs.record_name(row.domain), "value": proofs.expected(row.token)}
