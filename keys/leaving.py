"""What becomes of an organization's keys when the person who made them is no longer there (C-ORG-2).

A key belongs to the organization. Who takes somebody out of it may hand the keys that person made to another member;
those that nobody takes are disabled at once, and any member who may make keys can take them over later.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.dispatch import receiver
from django.utils.translation import gettext as _

from accounts.models import User
from core import errors
from events import audit
from keys import issuing
from keys.models import ApiKey
from orgs import signals
from orgs.models import Membership, Workspace


def orphans(workspace: Workspace) -> QuerySet[ApiKey]:
    """The workspace's keys whose maker is no active member any more, the newest first."""
    makers = Membership.objects.filter(workspace=workspace, user=OuterRef("created_by"), user__is_active=True)
    rows = ApiKey.objects.filter(workspace=workspace, deleted_at=None, created_by__isnull=False, internal=False)
    return rows.exclude(Exists(makers)).select_related("created_by", "workspace").order_by("-created_at", "-id")


def made_by(workspace: Workspace, user: User) -> QuerySet[ApiKey]:
    """The workspace's keys that ``user`` made or took over."""
    return ApiKey.objects.filter(workspace=workspace, created_by=user, deleted_at=None, internal=False)


def is_orphan(key: ApiKey) -> bool:
    """Whether the key's maker is gone: it is refused until somebody takes it over."""
    return orphans(key.workspace).filter(pk=key.pk).exists()


def take_over(key: ApiKey, taker: User, *, actor: audit.Actor) -> ApiKey:
    """Make an orphan the key of ``taker``, a member; if it was disabled because its maker left, it works again.

    Raises Conflict where somebody else took it meanwhile.
    """
    with transaction.atomic():
        fresh = orphans(key.workspace).select_for_update(no_key=True, of=("self",)).filter(pk=key.pk).first()
        if fresh is None:
            raise errors.Conflict(_("Somebody has taken this key over already."), code="already_taken")
        _hand_over(fresh, taker, actor)
    return fresh


@receiver(signals.member_removed, dispatch_uid="keys.leaving")
def member_left(workspace: Workspace, user: User, by: audit.Actor, heir: User | None, **_kwargs: Any) -> None:
    """Hand the keys on, or disable them. Runs in the transaction that takes the person out."""
    for key in made_by(workspace, user).select_for_update(no_key=True):
        if heir is not None:
            _hand_over(key, heir, by)
        elif key.enabled:
            key.enabled, key.disabled_reason = False, ApiKey.DisabledReason.MEMBER_LEFT
            key.save(update_fields=["enabled", "disabled_reason"])
            issuing.tell_of_disabled(key)
            _record(key, "api_key.disable", by, reason=ApiKey.DisabledReason.MEMBER_LEFT.value, maker=user.email)


def _hand_over(key: ApiKey, taker: User, actor: audit.Actor) -> None:
    before = "" if key.created_by is None else key.created_by.email
    key.created_by = taker
    if key.disabled_reason == ApiKey.DisabledReason.MEMBER_LEFT:
        key.enabled, key.disabled_reason = True, ""
    key.save(update_fields=["created_by", "enabled", "disabled_reason"])
    _record(key, "api_key.reassign", actor, **{"from": before, "to": taker.email})


def _record(key: ApiKey, action: str, actor: audit.Actor, **details: str) -> None:
    target = audit.Target("api_key", key.pk, key.name)
    audit.record(action, actor=actor, target=target, workspace_id=key.workspace_id, details=details)
