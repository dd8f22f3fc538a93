"""``/api/orgs/{id}/sso/{providerId}/scim-tokens``: provisioning tokens, for scripts that hold a session."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from accounts import reauth
from core import ids
from events import audit
from orgs import access
from orgs.api import organization
from orgs.permissions import Permission
from sso import connections
from sso.models import ScimToken, SsoConnection
from sso.scim import tokens

router = Router(tags=["Provisioning"])

_MEMBER = access.member(locked_too=True)


class NewToken(Schema):
    """Unknown members are refused: a misspelt one must not be taken for a wish that was granted."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")

    name: str = Field(min_length=1, max_length=80)


class TokenOut(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    id: str
    name: str
    prefix: str
    created_at: datetime
    last_used_at: datetime | None


class CreatedToken(TokenOut):
    """The one answer that holds the secret."""

    token: str = Field(description="The bearer token. It can't be shown again.")
    base_url: str = Field(description="Where the directory sends its requests to.")


class TokenList(Schema):
    tokens: list[TokenOut]


@router.get("/{org_id}/sso/{provider_id}/scim-tokens", auth=_MEMBER, response=TokenList, by_alias=True, summary="List")
def list_tokens(request: HttpRequest, org_id: str, provider_id: str) -> dict[str, Any]:
    connection = _connection(request, org_id, provider_id)
    return {"tokens": [shown(token) for token in tokens.living(connection)]}


@router.post(
    "/{org_id}/sso/{provider_id}/scim-tokens", auth=_MEMBER, response={201: CreatedToken}, by_alias=True, summary="Make"
)
def create_token(request: HttpRequest, org_id: str, provider_id: str, body: NewToken) -> Status[dict[str, Any]]:
    connection = _connection(request, org_id, provider_id, writes=True)
    by = access.signed_in(request)
    issued = tokens.issue(connection, actor=audit.actor_of(request), created_by=by, name=body.name)
    return Status(201, {**shown(issued.token), "token": issued.secret, "base_url": tokens.base_url()})


@router.delete(
    "/{org_id}/sso/{provider_id}/scim-tokens/{token_id}", auth=_MEMBER, response={204: None}, summary="Revoke for good"
)
def revoke_token(request: HttpRequest, org_id: str, provider_id: str, token_id: str) -> Status[None]:
    token = tokens.find(_connection(request, org_id, provider_id, writes=True), ids.parse(token_id))
    tokens.revoke(token, actor=audit.actor_of(request))
    return Status(204, None)


def shown(token: ScimToken) -> dict[str, Any]:
    """The members of `TokenOut`."""
    return {
        "id": str(token.pk),
        "name": token.name,
        "prefix": token.prefix,
        "created_at": token.created_at,
        "last_used_at": token.last_used_at,
    }


def _connection(request: HttpRequest, org_id: str, provider_id: str, *, writes: bool = False) -> SsoConnection:
    here = organization(request, org_id, Permission.SSO_WRITE)
    if writes:
        reauth.check(request)
    return connections.find(here.workspace, provider_id)
