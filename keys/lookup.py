"""Keys are found here: by their workspace, or by their secret. Deleted ones are found by nobody."""

from __future__ import annotations

import ipaddress
from uuid import UUID

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from accounts.models import User
from core import clock, errors, ids
from keys import auth
from keys.models import ApiKey
from orgs.access import Access, in_workspace
from orgs.models import Membership


def of_workspace(access: Access) -> QuerySet[ApiKey]:
    """The workspace's keys, the newest first, with their makers."""
    rows = ApiKey.objects.filter(workspace=access.workspace, deleted_at=None, internal=False)
    return rows.select_related("created_by").order_by("-created_at", "-id")


def api_key(access: Access, key_id: UUID | str) -> ApiKey:
    """The key of that id in the workspace. Raises NotFound for any other, foreign and invented ones alike."""
    identifier = key_id if isinstance(key_id, UUID) else ids.parse(key_id)
    key = of_workspace(access).filter(pk=identifier).first() if identifier else None
    if key is None:
        raise errors.NotFound(_("There is no such key."))
    return key


def anywhere(user: User, key_id: UUID | str) -> tuple[Access, ApiKey]:
    """The key of that id in any of the person's workspaces, and their access to it. Raises NotFound for any other."""
    identifier = key_id if isinstance(key_id, UUID) else ids.parse(key_id)
    row = ApiKey.objects.filter(pk=identifier, workspace__memberships__user=user).first() if identifier else None
    if row is None:
        raise errors.NotFound(_("There is no such key."))
    access = in_workspace(user, row.workspace_id)
    return access, api_key(access, row.pk)


def by_secret(secret: str, *, address: str | None) -> ApiKey:
    """The key of that secret, fit for use from ``address``.

    Raises AuthenticationFailed for unknown, expired and disabled ones, PermissionDenied for a foreign network.
    """
    row = ApiKey.objects.select_related("workspace", "created_by").filter(secret_hash=auth.hash_of(secret)).first()
    if row is None:
        raise auth.refusal_of_unknown(secret)
    facts = facts_of(row)
    facts.check_usable(clock.now().timestamp())
    facts.check_address(address or "")
    return row


def facts_of(key: ApiKey) -> auth.KeyFacts:
    """What `keys.auth` judges a key by, out of its row."""
    makers = Membership.objects.filter(workspace_id=key.workspace_id, user__is_active=True)
    return auth.KeyFacts(
        id=key.pk,
        name=key.name,
        workspace_id=key.workspace_id,
        user_id=key.created_by_id,
        limit_microcredits=key.spending_limit_microcredits,
        auto_disable=key.auto_disable,
        allowed_models=frozenset(key.allowed_models),
        allowed_networks=tuple(ipaddress.ip_network(text) for text in key.allowed_networks),
        expires_at=None if key.expires_at is None else key.expires_at.timestamp(),
        enabled=key.enabled,
        disabled_reason=key.disabled_reason,
        deleted=key.deleted_at is not None,
        workspace_active=key.workspace.active,
        member=key.created_by_id is None or makers.filter(user_id=key.created_by_id).exists(),
    )
