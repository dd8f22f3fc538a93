"""Workspaces come into being."""

from __future__ import annotations

import secrets

from django.db import IntegrityError, transaction
from django.utils.text import slugify

from accounts.models import User
from events import audit
from orgs.models import Membership, Workspace
from orgs.permissions import Role

NAME_LENGTH = 120
_SLUG_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # none that are mistaken for one another
_SLUG_TAIL = 6
_SLUG_HEAD = 40
_TRIES = 5


def create_personal(user: User) -> Workspace:
    """The workspace that is born with ``user``, who owns it. Runs in the transaction that makes the user."""
    with transaction.atomic():
        workspace = _insert(user)
        Membership.objects.create(workspace=workspace, user=user, role=Role.OWNER)
    return workspace


def name_after(user: User) -> None:
    """Call the personal workspace as its person is called now."""
    name = user.display_name[:NAME_LENGTH]
    Workspace.objects.filter(personal_user=user).exclude(name=name).update(name=name)


def set_active(workspace: Workspace, active: bool, *, actor: audit.Actor) -> bool:
    """Suspend or resume a workspace; its keys follow at once (triggers tell the gateway). Whether anything changed.

    A deleted organization stays what it is.
    """
    with transaction.atomic():
        rows = Workspace.objects.filter(pk=workspace.pk, deleted_at=None)
        changed = rows.filter(active=not active).update(active=active)
        if changed:
            target = audit.Target("workspace", workspace.pk, workspace.name)
            action = "workspace.resume" if active else "workspace.suspend"
            audit.record(action, actor=actor, target=target, workspace_id=workspace.pk)
    return bool(changed)


def _insert(user: User) -> Workspace:
    for attempt in range(1, _TRIES + 1):
        try:
            with transaction.atomic():
                return Workspace.objects.create(
                    kind=Workspace.Kind.PERSONAL,
                    name=user.display_name[:NAME_LENGTH],
                    slug=new_slug(user.display_name),
                    personal_user=user,
                )
        except IntegrityError:
            # Thirty bits of tail met an equal head, or the user already has a workspace: that one stays a failure.
            if attempt == _TRIES or Workspace.objects.filter(personal_user=user).exists():
                raise
    raise AssertionError("unreachable")


def new_slug(name: str) -> str:
    """A readable slug that no other workspace is likely to have: the name's letters and a random tail."""
    head = slugify(name)[:_SLUG_HEAD].strip("-") or "workspace"
    tail = "".join(secrets.choice(_SLUG_LETTERS) for _ in range(_SLUG_TAIL))
    return f"{head}-{tail}"
