"""What happens to workspaces when other things happen, and what workspaces tell those above them.

The four signals are sent inside the transaction of the change they tell of: a receiver that fails undoes it. All carry
``workspace`` and ``by`` (`events.audit.Actor`); those about members also ``user``, ``role`` and ``source``
(`orgs.members.Source`), `role_changed` also ``before``, `member_removed` also ``heir``, who takes over what the person
made (None: nobody).
"""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_save
from django.dispatch import Signal, receiver

from accounts.models import User
from orgs import workspaces

member_added = Signal()
member_removed = Signal()
role_changed = Signal()
organization_deleted = Signal()


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
