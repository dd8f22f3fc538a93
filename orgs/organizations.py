"""Organizations come into being, change and end. Their members are the business of `orgs.members`."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from accounts.models import User
from core import clock, errors
from events import audit
from orgs import members, signals
from orgs.models import Invitation, Membership, Workspace
from orgs.permissions import Role
from orgs.workspaces import NAME_LENGTH, new_slug

#: One person can't fill the table: more of them than anybody needs.
MOST_OWNED: Final = 50
_TRIES: Final = 5


def clean_name(value: str) -> str:
    """The name without blanks around it. Raises ValueError, in words for people, for none and for too long a one."""
    name = " ".join(value.split())
    if not name or not name.isprintable():
        raise ValueError(_("Give the organization a name."))
    if len(name) > NAME_LENGTH:
        raise ValueError(_("The name has at most %(most)d characters.") % {"most": NAME_LENGTH})
    return name


def create(name: str, *, owner: User, actor: audit.Actor, form_token: UUID | None = None) -> Workspace:
    """A new organization, with its wallet, owned by ``owner``. ``form_token``: the same form again gives the same one.

    Raises InvalidRequest for a bad name, Conflict where the person owns as many as one may.
    """
    name = _checked_name(name)
    with transaction.atomic():
        # The person's row is the queue: one form sent twice, or a loop, is heard one after the other.
        User.objects.select_for_update(no_key=True).get(pk=owner.pk)
        if form_token and (made := _made_by(form_token, owner)):
            return made
        owned = Membership.objects.filter(user=owner, role=Role.OWNER, workspace__kind=Workspace.Kind.ORGANIZATION)
        if owned.filter(workspace__deleted_at=None).count() >= MOST_OWNED:
            raise errors.Conflict(
                _("A person owns at most %(most)d organizations.") % {"most": MOST_OWNED}, code="too_many_organizations"
            )
        workspace = _insert(name, form_token)
        Membership.objects.create(workspace=workspace, user=owner, role=Role.OWNER)
        _record("organization.create", workspace, actor, {"name": name, "owner": owner.email})
    return workspace


def change(
    workspace: Workspace, *, actor: audit.Actor, name: str | None = None, require_second_factor: bool | None = None
) -> Workspace:
    """Rename the organization, and say whether its members need a second factor. Nothing is recorded where nothing
    changes.

    Raises InvalidRequest for a bad name, NotFound for a deleted organization.
    """
    wanted: dict[str, Any] = {} if name is None else {"name": _checked_name(name)}
    if require_second_factor is not None:
        wanted["require_second_factor"] = require_second_factor
    with transaction.atomic():
        fresh = members.locked(workspace)
        changed = {column: value for column, value in wanted.items() if getattr(fresh, column) != value}
        if not changed:
            return fresh
        details = {column: {"from": getattr(fresh, column), "to": value} for column, value in changed.items()}
        for column, value in changed.items():
            setattr(fresh, column, value)
        fresh.save(update_fields=list(changed))
        _record("organization.change", fresh, actor, details)
    return fresh


def delete(workspace: Workspace, *, actor: audit.Actor, typed_name: str) -> None:
    """End the organization for good: keys are refused at once, open invitations are worthless, nobody sees it again.

    Ledger, log and trail stay, and so do the memberships, as the record of who belonged to it. Raises InvalidRequest
    unless ``typed_name`` is its name, PermissionDenied unless the actor is an owner at that moment.
    """
    with transaction.atomic():
        fresh = members.locked(workspace)
        if not fresh.memberships.filter(user_id__in=[actor.user_id], role=Role.OWNER).exists():
            raise errors.PermissionDenied(_("Only an owner can delete the organization."))
        if typed_name.strip() != fresh.name:
            raise errors.InvalidRequest(_("Type the organization's name exactly as it is shown."), param="name")
        now = clock.now()
        fresh.active, fresh.deleted_at = False, now
        fresh.save(update_fields=["active", "deleted_at"])
        Invitation.objects.filter(workspace=fresh, accepted_at=None, revoked_at=None).update(revoked_at=now)
        _record("organization.delete", fresh, actor)
        signals.organization_deleted.send(sender=Workspace, workspace=fresh, by=actor)


def _checked_name(name: str) -> str:
    try:
        return clean_name(name)
    except ValueError as error:
        raise errors.InvalidRequest(str(error), param="name") from None


def _made_by(form_token: UUID, owner: User) -> Workspace | None:
    return Workspace.objects.filter(form_token=form_token, memberships__user=owner).first()


def _insert(name: str, form_token: UUID | None) -> Workspace:
    for attempt in range(1, _TRIES + 1):
        try:
            with transaction.atomic():
                return Workspace.objects.create(
                    kind=Workspace.Kind.ORGANIZATION, name=name, slug=new_slug(name), form_token=form_token
                )
        except IntegrityError:  # thirty bits of tail met an equal head
            if attempt == _TRIES:
                raise
    raise AssertionError("unreachable")


def _record(action: str, workspace: Workspace, actor: audit.Actor, details: dict[str, Any] | None = None) -> None:
    target = audit.Target("organization", workspace.pk, workspace.name)
    audit.record(action, actor=actor, target=target, workspace_id=workspace.pk, details=details)
