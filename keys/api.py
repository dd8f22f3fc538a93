"""``/api/api-keys``: keys for scripts that hold a person's session. Amounts are credits, names are camelCase."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router, Schema, Status
from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from accounts import reauth
from core import money
from events import audit
from keys import issuing, leaving, lookup, rules, widening
from keys.models import ApiKey
from orgs import access
from orgs.access import Access
from orgs.models import Workspace
from orgs.permissions import Permission

router = Router(tags=["API keys"])

Name = Annotated[str, BeforeValidator(lambda value: rules.name(value) if isinstance(value, str) else value)]
Credits = Annotated[
    int | None,
    BeforeValidator(rules.spending_limit),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.000001}, {"type": "null"}]}),
]


class _Strict(Schema):
    """Unknown members are refused: a misspelt ``spendinglimit`` must not make a key without a limit."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class KeyChange(_Strict):
    """What a key may do. A member that is left out stays as it is; ``null`` takes a limit or an expiry away."""

    name: Name = Field(default="", max_length=rules.NAME_LENGTH)
    spending_limit: Credits = Field(default=None, description="Credits a calendar month (UTC).")
    auto_disable: bool = Field(default=False, description="Disable the key when the limit is reached.")
    expires_at: datetime | None = None
    allowed_models: list[str] = Field(default_factory=list, description="Empty: every model.")
    allowed_networks: list[str] = Field(default_factory=list, description="CIDR networks. Empty: from everywhere.")
    enabled: bool = True

    def columns(self) -> dict[str, Any]:
        """What was sent, by the names of `issuing.Terms`, checked. Raises InvalidRequest that names the member."""
        sent: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set - {"enabled"}}
        sent.pop("organization_id", None)
        if "spending_limit" in sent:
            sent["spending_limit_microcredits"] = sent.pop("spending_limit")
        for name, rule in (
            ("expires_at", rules.expiry),
            ("allowed_models", rules.models),
            ("allowed_networks", rules.networks),
        ):
            if name in sent:
                sent[name] = rules.checked(to_camel(name), rule, sent[name])
        return sent


class NewKey(KeyChange):
    """A key to be made, for the workspace in use or for the organization named."""

    name: Name = Field(max_length=rules.NAME_LENGTH)
    organization_id: UUID | None = None


class KeyOut(Schema):
    """A key as it is shown: never its secret."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    id: UUID
    name: str
    prefix: str
    enabled: bool
    disabled_reason: str | None
    spending_limit: int | float | None = Field(description="Credits a calendar month (UTC).")
    auto_disable: bool
    expires_at: datetime | None
    allowed_models: list[str]
    allowed_networks: list[str]
    last_used_at: datetime | None
    created_at: datetime
    organization_id: UUID | None


class CreatedKey(KeyOut):
    """The one answer that holds the secret."""

    key: str = Field(description="The secret. It can't be shown again.")


class KeyList(Schema):
    keys: list[KeyOut]


class Chosen(Schema):
    """Which workspace is meant; the one in use where nothing is said."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")

    organization_id: UUID | None = None


@router.get("", auth=access.member(), response=KeyList, by_alias=True, summary="List keys")
def list_keys(request: HttpRequest, chosen: Query[Chosen]) -> dict[str, Any]:
    place = _place(request, chosen.organization_id, Permission.KEYS_READ)
    return {"keys": [shown(key) for key in lookup.of_workspace(place)]}


@router.post("", auth=access.member(), response={201: CreatedKey}, by_alias=True, summary="Create a key")
def create_key(request: HttpRequest, body: NewKey) -> Status[dict[str, Any]]:
    place = _place(request, body.organization_id, Permission.KEYS_WRITE)
    reauth.check_old_session(request)
    actor = audit.actor_of(request)
    terms = issuing.Terms(**body.columns())
    issued = issuing.create(place.workspace, terms, actor=actor, created_by=place.user, enabled=body.enabled)
    return Status(201, {**shown(issued.key), "key": issued.secret})


@router.get("/{key_id}", auth=access.member(), response=KeyOut, by_alias=True, summary="One key")
def get_key(request: HttpRequest, key_id: str) -> dict[str, Any]:
    return shown(_key(request, key_id, Permission.KEYS_READ))


@router.patch("/{key_id}", auth=access.member(), response=KeyOut, by_alias=True, summary="Change a key")
def change_key(request: HttpRequest, key_id: str, body: KeyChange) -> dict[str, Any]:
    """What gives the key more than it has asks an old session for a proof first; what takes away never does."""
    key = _key(request, key_id, Permission.KEYS_WRITE)
    enabled = body.enabled if "enabled" in body.model_fields_set else None
    columns = body.columns()
    if widening.widens(key, columns, enabled=enabled):
        reauth.check_old_session(request)
    if enabled and leaving.is_orphan(key):
        leaving.take_over(key, access.signed_in(request), actor=audit.actor_of(request))
    return shown(issuing.change(key, actor=audit.actor_of(request), enabled=enabled, **columns))


@router.delete("/{key_id}", auth=access.member(), response={204: None}, summary="Delete a key")
def delete_key(request: HttpRequest, key_id: str) -> Status[None]:
    issuing.delete(_key(request, key_id, Permission.KEYS_WRITE), actor=audit.actor_of(request))
    return Status(204, None)


def shown(key: ApiKey) -> dict[str, Any]:
    """The members of `KeyOut`."""
    limit = key.spending_limit_microcredits
    personal = key.workspace.kind == Workspace.Kind.PERSONAL
    return {
        "id": key.pk,
        "name": key.name,
        "prefix": key.prefix,
        "enabled": key.enabled,
        "disabled_reason": key.disabled_reason or None,
        "spending_limit": None if limit is None else money.credits_json(limit),
        "auto_disable": key.auto_disable,
        "expires_at": key.expires_at,
        "allowed_models": key.allowed_models,
        "allowed_networks": key.allowed_networks,
        "last_used_at": key.last_used_at,
        "created_at": key.created_at,
        "organization_id": None if personal else key.workspace_id,
    }


def _place(request: HttpRequest, organization_id: UUID | None, permission: Permission) -> Access:
    """The workspace in use, or the organization named, where the role allows ``permission``."""
    place = access.current(request)
    if organization_id is not None:
        place = access.in_workspace(place.user, organization_id)
    place.require(permission)
    return place


def _key(request: HttpRequest, key_id: str, permission: Permission) -> ApiKey:
    """A key of any workspace of the asker, where their role allows ``permission``."""
    place, key = lookup.anywhere(access.signed_in(request), key_id)
    place.require(permission)
    return key
