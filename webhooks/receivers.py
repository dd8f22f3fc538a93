"""Changes among an organization's members, told to its servers in the transaction of the change."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver

from accounts.models import User
from events import outbox
from orgs import signals
from orgs.models import Workspace


@receiver(signals.member_added, dispatch_uid="webhooks.member_added")
def member_added(workspace: Workspace, user: User, role: str, **_kwargs: Any) -> None:
    """Somebody is a member from now on."""
    outbox.tell(workspace.pk, "member.joined", _person(user) | {"role": str(role)})


@receiver(signals.member_removed, dispatch_uid="webhooks.member_removed")
def member_removed(workspace: Workspace, user: User, role: str, **_kwargs: Any) -> None:
    """Somebody left, or was removed."""
    outbox.tell(workspace.pk, "member.left", _person(user) | {"role": str(role)})


@receiver(signals.role_changed, dispatch_uid="webhooks.role_changed")
def role_changed(workspace: Workspace, user: User, before: str, role: str, **_kwargs: Any) -> None:
    """Somebody may do other things from now on."""
    outbox.tell(workspace.pk, "member.role_changed", _person(user) | {"before": str(before), "role": str(role)})


def _person(user: User) -> dict[str, Any]:
    return {"userId": user.pk, "email": user.email, "name": user.display_name}
