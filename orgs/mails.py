"""Mails to people whose standing in an organization changed."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.dispatch import receiver

from accounts import emails
from accounts.models import User
from events import audit
from orgs import signals
from orgs.models import Workspace
from orgs.permissions import Role


@receiver(signals.role_changed, dispatch_uid="orgs.mails.role")
def tell_of_role(workspace: Workspace, user: User, role: str, by: audit.Actor, **_: Any) -> None:
    """Tell somebody what they are from now on, unless they did it themselves."""
    if by.user_id != user.pk:
        _tell("member_role", workspace, user, by, role=Role(role).label, url=settings.SITE_URL)


@receiver(signals.member_removed, dispatch_uid="orgs.mails.removed")
def tell_of_removal(workspace: Workspace, user: User, by: audit.Actor, **_: Any) -> None:
    """Tell somebody that they are out, unless they left."""
    if by.user_id != user.pk:
        _tell("member_removed", workspace, user, by)


def _tell(name: str, workspace: Workspace, user: User, by: audit.Actor, **more: Any) -> None:
    context = {"workspace": workspace, "by": by.label if by.user_id else "", **more}
    emails.send(emails.message(name, context, to=user.email))
