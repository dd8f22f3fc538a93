"""What happens to workspaces when other things happen."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_save
from django.dispatch import receiver

from accounts.models import User
from orgs import workspaces


@receiver(post_save, sender=User, dispatch_uid="orgs.personal_workspace")
def keep_personal_workspace(
    sender: type[User], instance: User, created: bool, raw: bool, update_fields: frozenset[str] | None, **_: Any
) -> None:
    """Every new user gets a personal workspace, which bears their name. Fixtures (``raw``) bring their own."""
    if raw:
        return
    if created:
        workspaces.create_personal(instance)
    elif update_fields is None or "name" in update_fields:
        workspaces.name_after(instance)
