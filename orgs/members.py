"""Who belongs to an organization, and as what. Everything that changes a membership goes through these functions.

The pages, the management API, single sign-on and SCIM all call them. Each takes the organization's row as its queue, so
that two people who act at once are heard one after the other, and writes its audit row and sends its signal
(`orgs.signals`) in that transaction. Raises NotFound where the organization is deleted or the person no member of it.
"""

from __future__ import annotations

from enum import StrEnum

from django.db import transaction
from django.utils.translation import gettext as _

from accounts import sessions
from accounts.models import User
from core import errors
from events import audit
from orgs import signals
from orgs.models import Membership, Workspace
from orgs.permissions import Permission, Role, allows


class Source(StrEnum):
    """What brought a change about. The trail says so; only by `MEMBER` a member's own standing counts."""

    MEMBER = "member"
    INVITATION = "invitation"
    SSO = "sso"
    SCIM = "scim"
    OPERATOR = "operator"


def add_member(workspace: Workspace, user: User, role: str, by: audit.Actor, source: Source) -> Membership:
    """Let ``user`` into ``workspace`` as ``role``. Somebody who is a member already stays what they are.

    Nobody becomes an owner this way: an owner makes a member one. Raises InvalidRequest for an unknown role and for
    owner, PermissionDenied for a deactivated account.
    """
    _known(role)
    if role == Role.OWNER:
        raise errors.InvalidRequest(_("Only an owner can make somebody an owner, who is a member then."), param="role")
    with transaction.atomic():
        organization = locked(workspace)
        _check_standing(organization, by, source, role)
        if not User.objects.filter(pk=user.pk, is_active=True).exists():
            raise errors.PermissionDenied(_("This account is deactivated."), code="account_inactive")
        membership, created = Membership.objects.get_or_create(
            workspace=organization, user=user, defaults={"role": role}
        )
        if created:
            _record("member.add", membership, user, by, source, role=role)
            signals.member_added.send(
                sender=Membership, workspace=organization, user=user, role=role, by=by, source=source
            )
    return membership


def change_role(workspace: Workspace, user: User, role: str, by: audit.Actor, source: Source) -> Membership:
    """Make the member ``user`` a ``role``. What is already so is neither written nor recorded.

    Raises Conflict (``last_owner``) where nobody would own the organization, InvalidRequest for an unknown role and for
    an owner made by anything but an owner, PermissionDenied where the acting member may not.
    """
    _known(role)
    with transaction.atomic():
        organization = locked(workspace)
        membership = of(organization, user)
        before = membership.role
        _check_standing(organization, by, source, before, role)
        if role == Role.OWNER != before and source not in (Source.MEMBER, Source.OPERATOR):
            raise errors.InvalidRequest(_("Only an owner can make somebody an owner."), param="role")
        if before == role:
            return membership
        if before == Role.OWNER:
            _keep_an_owner(organization, without=user)
        membership.role = role
        membership.save(update_fields=["role"])
        _record("member.role", membership, user, by, source, **{"from": before, "to": role})
        signals.role_changed.send(
            sender=Membership, workspace=organization, user=user, before=before, role=role, by=by, source=source
        )
    return membership


def remove_member(
    workspace: Workspace, user: User, by: audit.Actor, source: Source, *, heir: User | None = None
) -> None:
    """Take ``user`` out of ``workspace``. Whoever is removed by others is signed out everywhere at once.

    What the person made for the organization passes to ``heir``, a member who may make keys; without one it is
    disabled and can be taken over later. Raises Conflict (``last_owner``), InvalidRequest for an unfit heir,
    PermissionDenied where the acting member may not.
    """
    with transaction.atomic():
        organization = locked(workspace)
        membership = of(organization, user)
        leaves = source == Source.MEMBER and by.user_id == user.pk
        if not leaves:
            _check_standing(organization, by, source, membership.role)
        if membership.role == Role.OWNER:
            _keep_an_owner(organization, without=user)
        _check_heir(organization, user, heir)
        details = {"role": membership.role} | ({"heir": heir.email} if heir else {})
        _record("member.leave" if leaves else "member.remove", membership, user, by, source, **details)
        membership.delete()
        signals.member_removed.send(
            sender=Membership, workspace=organization, user=user, role=details["role"], by=by, source=source, heir=heir
        )
        if not leaves:
            sessions.end_all(user)


def transfer_ownership(workspace: Workspace, to: User, by: audit.Actor) -> None:
    """The acting owner makes the member ``to`` an owner and becomes an admin, in one step.

    Raises PermissionDenied unless the actor is an owner, InvalidRequest where ``to`` is the actor.
    """
    with transaction.atomic():
        organization = locked(workspace)
        acting = organization.memberships.select_related("user").filter(user_id__in=[by.user_id]).first()
        if acting is None or acting.role != Role.OWNER:
            raise errors.PermissionDenied(_("Only an owner can hand the organization over."))
        if acting.user_id == to.pk:
            raise errors.InvalidRequest(_("You own this organization already. Choose somebody else."), param="member")
        change_role(organization, to, Role.OWNER, by, Source.MEMBER)
        change_role(organization, acting.user, Role.ADMIN, by, Source.MEMBER)


def of(workspace: Workspace, user: User) -> Membership:
    """The membership of ``user``. Raises NotFound where there is none."""
    membership = Membership.objects.select_related("user").filter(workspace=workspace, user=user).first()
    if membership is None:
        raise errors.NotFound(_("There is no such member."))
    return membership


def locked(workspace: Workspace) -> Workspace:
    """The organization's row, held until the transaction ends. Raises NotFound for deleted and personal ones."""
    rows = Workspace.objects.select_for_update(no_key=True).filter(kind=Workspace.Kind.ORGANIZATION, deleted_at=None)
    row = rows.filter(pk=workspace.pk).first()
    if row is None:
        raise errors.NotFound(_("There is no such organization."))
    return row


def may_manage(acting_role: str, *roles: str) -> bool:
    """Whether a member of ``acting_role`` may give and take ``roles``: owners all, admins all but owner."""
    return acting_role == Role.OWNER or (allows(acting_role, Permission.MEMBERS_WRITE) and Role.OWNER not in roles)


def _known(role: str) -> None:
    if role not in Role.values:
        raise errors.InvalidRequest(
            _("The role is one of: %(roles)s.") % {"roles": ", ".join(Role.values)}, param="role"
        )


def _check_standing(workspace: Workspace, by: audit.Actor, source: Source, *roles: str) -> None:
    """What the page saw may be over: the role that counts is the one under the lock."""
    if source != Source.MEMBER:
        return
    acting = (
        Membership.objects.filter(workspace=workspace, user_id__in=[by.user_id]).values_list("role", flat=True).first()
    )
    if acting is None or not may_manage(acting, *roles):
        raise errors.PermissionDenied(_("Your role in this organization does not allow this."))


def _keep_an_owner(workspace: Workspace, *, without: User) -> None:
    others = workspace.memberships.filter(role=Role.OWNER, user__is_active=True).exclude(user=without)
    if not others.exists():
        raise errors.Conflict(
            _("An organization needs an owner. Make somebody else an owner first."), code="last_owner"
        )


def _check_heir(workspace: Workspace, user: User, heir: User | None) -> None:
    if heir is None:
        return
    role = workspace.memberships.filter(user=heir, user__is_active=True).values_list("role", flat=True).first()
    if heir.pk == user.pk or role is None or not allows(role, Permission.KEYS_WRITE):
        raise errors.InvalidRequest(_("The keys can pass to a member who may create keys."), param="reassignKeysTo")


def _record(action: str, membership: Membership, user: User, by: audit.Actor, source: Source, **details: str) -> None:
    target = audit.Target("member", user.pk, user.email)
    details = {**details, "source": source.value}
    audit.record(action, actor=by, target=target, workspace_id=membership.workspace_id, details=details)
