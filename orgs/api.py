"""``/api/orgs``: organizations, their members, invitations and audit log, for scripts that hold a person's session."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest, StreamingHttpResponse
from django.utils.translation import gettext as _
from ninja import Query, Router, Schema, Status
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from accounts import reauth
from accounts.models import User
from core import errors, ids
from events import audit, trail
from orgs import access, invitations, members, organizations, permissions
from orgs.access import Access
from orgs.members import Source
from orgs.models import Invitation, Membership, Workspace
from orgs.permissions import Permission, Role

router = Router(tags=["Organizations"])

_MOST_KEY_CHARACTERS = 255


class _In(Schema):
    """Unknown members are refused: a misspelt one must not be taken for a wish that was granted."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class _Out(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class NewOrganization(_In):
    name: str = Field(max_length=1_000)


class OrganizationChange(_In):
    """A member that is left out stays as it is."""

    name: str | None = Field(default=None, max_length=1_000)
    require_second_factor: bool | None = None


class OrganizationName(_In):
    name: str = Field(max_length=1_000, description="The organization's name, exactly.")


class NewInvitation(_In):
    email: str = Field(max_length=1_000)
    role: str = Field(description=f"One of: {', '.join(role.value for role in invitations.ROLES)}.")


class RoleChange(_In):
    role: str = Field(description=f"One of: {', '.join(Role.values)}.")


class NewOwner(_In):
    member_id: UUID


class Heir(_In):
    """Who takes over the keys of somebody who goes; without one they are disabled."""

    reassign_keys_to: UUID | None = Field(default=None, description="The id of a member who may create keys.")


class AuditQuery(_In):
    q: str = Field(default="", description="Text in action, target or actor; or a target's or request's id.")
    actor: str = ""
    action: str = Field(default="", description="``api_key.create``, or ``api_key`` for all about keys.")
    since: str = Field(default="", alias="from", description="First day, UTC, as 2030-01-31.")
    until: str = Field(default="", alias="to", description="Last day, UTC.")
    before: UUID | None = Field(default=None, description="Rows older than this one: the ``next`` of the page before.")
    limit: int = Field(default=trail.PAGE_ROWS, ge=1, le=trail.MOST_ROWS)

    def filters(self) -> trail.Filters:
        """What is looked for. Raises InvalidRequest that names the member."""
        values = {"q": self.q, "actor": self.actor, "action": self.action, "from": self.since, "to": self.until}
        return trail.Filters.of(values)


class OrganizationOut(_Out):
    id: UUID
    slug: str
    name: str
    role: str = Field(description="The asker's own role.")
    require_second_factor: bool
    created_at: datetime


class OrganizationList(_Out):
    organizations: list[OrganizationOut]


class MemberOut(_Out):
    id: UUID
    user_id: UUID
    email: str
    name: str
    role: str
    active: bool
    created_at: datetime


class MemberList(_Out):
    members: list[MemberOut]


class InvitationOut(_Out):
    id: UUID
    email: str
    role: str
    invited_by: str
    created_at: datetime
    sent_at: datetime
    expires_at: datetime
    expired: bool


class InvitationList(_Out):
    invitations: list[InvitationOut]


class PermissionOut(_Out):
    permission: str
    text: str
    roles: list[str]


class RoleTable(_Out):
    roles: list[str]
    permissions: list[PermissionOut]


class ActorOut(_Out):
    id: UUID | None
    label: str


class TargetOut(_Out):
    type: str
    id: str
    label: str


class AuditEventOut(_Out):
    id: UUID
    created_at: datetime
    actor: ActorOut
    action: str
    target: TargetOut
    details: dict[str, Any]
    address: str | None
    request_id: UUID | None


class AuditPage(_Out):
    """The newest rows first."""

    events: list[AuditEventOut]
    next: UUID | None = Field(description="The ``before`` of the next page; null at the end.")


# ── Organizations ────────────────────────────────────────────────────────────────────────────────────────────────────
@router.get("", auth=access.member(locked_too=True), response=OrganizationList, by_alias=True, summary="Organizations")
def list_organizations(request: HttpRequest) -> dict[str, Any]:
    rows = access.memberships(access.signed_in(request))
    found = [row for row in rows if row.workspace.kind == Workspace.Kind.ORGANIZATION]
    return {"organizations": [_organization(row.workspace, row.role) for row in found]}


@router.post(
    "",
    auth=access.member(locked_too=True),
    response={201: OrganizationOut},
    by_alias=True,
    summary="Create an organization",
)
def create_organization(request: HttpRequest, body: NewOrganization) -> Status[dict[str, Any]]:
    user = access.signed_in(request)
    made = organizations.create(
        body.name, owner=user, actor=audit.actor_of(request), form_token=_token(request, user, body.name)
    )
    return Status(201, _organization(made, Role.OWNER))


@router.get("/roles", auth=access.public, response=RoleTable, by_alias=True, summary="What each role may do")
def roles(request: HttpRequest) -> dict[str, Any]:
    table = [
        {"permission": permission.value, "text": str(text), "roles": [role.value for role in held if held[role]]}
        for permission, text, held in permissions.table()
    ]
    return {"roles": Role.values, "permissions": table}


@router.get("/{org_id}", auth=access.member(locked_too=True), response=OrganizationOut, by_alias=True, summary="One")
def get_organization(request: HttpRequest, org_id: str) -> dict[str, Any]:
    here = organization(request, org_id)
    return _organization(here.workspace, here.role)


@router.patch(
    "/{org_id}", auth=access.member(locked_too=True), response=OrganizationOut, by_alias=True, summary="Change"
)
def change_organization(request: HttpRequest, org_id: str, body: OrganizationChange) -> dict[str, Any]:
    here = organization(request, org_id, Permission.ORG_WRITE)
    wanted = body.require_second_factor
    if wanted is not None and wanted != here.workspace.require_second_factor:
        reauth.check(request)
    changed = organizations.change(
        here.workspace, actor=audit.actor_of(request), name=body.name, require_second_factor=wanted
    )
    return _organization(changed, here.role)


@router.delete("/{org_id}", auth=access.member(locked_too=True), response={204: None}, summary="Delete for good")
def delete_organization(request: HttpRequest, org_id: str, body: OrganizationName) -> Status[None]:
    here = organization(request, org_id, Permission.ORG_DELETE)
    reauth.check(request)
    organizations.delete(here.workspace, actor=audit.actor_of(request), typed_name=body.name)
    return Status(204, None)


@router.post("/{org_id}/transfer", auth=access.member(locked_too=True), response=MemberList, by_alias=True)
def transfer(request: HttpRequest, org_id: str, body: NewOwner) -> dict[str, Any]:
    """Make a member the owner and oneself an admin."""
    here = organization(request, org_id, Permission.ORG_DELETE)
    reauth.check(request)
    members.transfer_ownership(here.workspace, _member(here, body.member_id).user, audit.actor_of(request))
    return _members(here)


# ── Members ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@router.get("/{org_id}/members", auth=access.member(locked_too=True), response=MemberList, by_alias=True)
def list_members(request: HttpRequest, org_id: str) -> dict[str, Any]:
    """Everybody who belongs to the organization."""
    return _members(organization(request, org_id, Permission.MEMBERS_READ))


@router.patch("/{org_id}/members/{member_id}", auth=access.member(locked_too=True), response=MemberOut, by_alias=True)
def change_member(request: HttpRequest, org_id: str, member_id: str, body: RoleChange) -> dict[str, Any]:
    """Change what somebody is."""
    here = organization(request, org_id, Permission.MEMBERS_WRITE)
    row = _member(here, member_id)
    members.change_role(here.workspace, row.user, body.role, audit.actor_of(request), Source.MEMBER)
    return _shown_member(_member(here, member_id))


@router.delete("/{org_id}/members/{member_id}", auth=access.member(locked_too=True), response={204: None})
def remove_member(request: HttpRequest, org_id: str, member_id: str, heir: Query[Heir]) -> Status[None]:
    """Take somebody out, or leave. Whoever is taken out is signed out everywhere at once."""
    here = organization(request, org_id, Permission.MEMBERS_READ)
    row = _member(here, member_id)
    if row.user_id != here.user.pk:
        here.require(Permission.MEMBERS_WRITE)
    taker = _member(here, heir.reassign_keys_to, param="reassignKeysTo").user if heir.reassign_keys_to else None
    members.remove_member(here.workspace, row.user, audit.actor_of(request), Source.MEMBER, heir=taker)
    return Status(204, None)


# ── Invitations ──────────────────────────────────────────────────────────────────────────────────────────────────────
@router.get("/{org_id}/invitations", auth=access.member(locked_too=True), response=InvitationList, by_alias=True)
def list_invitations(request: HttpRequest, org_id: str) -> dict[str, Any]:
    """Those that are neither accepted nor revoked."""
    here = organization(request, org_id, Permission.MEMBERS_READ)
    return {"invitations": [_shown_invitation(row) for row in invitations.open_ones(here.workspace)]}


@router.post("/{org_id}/invitations", auth=access.member(locked_too=True), response={201: InvitationOut}, by_alias=True)
def invite(request: HttpRequest, org_id: str, body: NewInvitation) -> Status[dict[str, Any]]:
    """Send a mail that lets its reader become a member."""
    here = organization(request, org_id, Permission.MEMBERS_WRITE)
    made = invitations.invite(here.workspace, body.email, body.role, by=here.user, request=request)
    return Status(201, _shown_invitation(made))


@router.post(
    "/{org_id}/invitations/{invitation_id}/resend",
    auth=access.member(locked_too=True),
    response=InvitationOut,
    by_alias=True,
)
def resend(request: HttpRequest, org_id: str, invitation_id: str) -> dict[str, Any]:
    """Send it again with a new link; older links end."""
    here = organization(request, org_id, Permission.MEMBERS_WRITE)
    found = invitations.find(here.workspace, invitation_id)
    return _shown_invitation(invitations.resend(found, by=here.user, request=request))


@router.delete("/{org_id}/invitations/{invitation_id}", auth=access.member(locked_too=True), response={204: None})
def revoke(request: HttpRequest, org_id: str, invitation_id: str) -> Status[None]:
    """Make its link worthless."""
    here = organization(request, org_id, Permission.MEMBERS_WRITE)
    found = invitations.find(here.workspace, invitation_id)
    invitations.revoke(found, by=here.user, actor=audit.actor_of(request))
    return Status(204, None)


# ── Audit log ────────────────────────────────────────────────────────────────────────────────────────────────────────
@router.get("/{org_id}/audit-log", auth=access.member(locked_too=True), response=AuditPage, by_alias=True)
def audit_log(request: HttpRequest, org_id: str, query: Query[AuditQuery]) -> dict[str, Any]:
    """Who did what to what, when, from where."""
    here = organization(request, org_id, Permission.AUDIT_READ)
    rows = trail.found(trail.of_workspace(here.workspace.pk), query.filters())
    page = trail.page(rows, before=query.before, most=query.limit)
    return {"events": [trail.shown(event) for event in page.rows], "next": page.older}


@router.get("/{org_id}/audit-log/export", auth=access.member(locked_too=True))
def export_audit_log(request: HttpRequest, org_id: str, query: Query[AuditQuery]) -> StreamingHttpResponse:
    """The same, all of it, as CSV."""
    here = organization(request, org_id, Permission.AUDIT_READ)
    rows = trail.found(trail.of_workspace(here.workspace.pk), query.filters())
    return trail.csv_response(rows)


# ── Parts ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def organization(request: HttpRequest, org_id: str, permission: Permission | None = None) -> Access:
    """The asker's access to the organization of that id. Raises NotFound for any other, PermissionDenied."""
    here = access.in_workspace(access.signed_in(request), org_id)
    if here.workspace.kind != Workspace.Kind.ORGANIZATION:
        access.not_found()
    here.require(permission)
    return here


def _token(request: HttpRequest, user: User, name: str) -> UUID | None:
    """What stands for the person's ``Idempotency-Key``. Raises InvalidRequest, Conflict where it meant another name."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not key.strip() or len(key) > _MOST_KEY_CHARACTERS or not key.isprintable():
        message = _("Idempotency-Key must be 1 to %(most)d printable characters.") % {"most": _MOST_KEY_CHARACTERS}
        raise errors.InvalidRequest(message, param="Idempotency-Key")
    token = UUID(bytes=hashlib.sha256(f"{user.pk} {key.strip()}".encode()).digest()[:16])
    made = Workspace.objects.filter(form_token=token).first()
    if made is not None and made.name != " ".join(name.split()):
        raise errors.Conflict(_("This Idempotency-Key came with another request."), code="idempotency_key_reused")
    return token


def _member(here: Access, member_id: UUID | str, *, param: str = "") -> Membership:
    identifier = member_id if isinstance(member_id, UUID) else ids.parse(member_id)
    row = here.workspace.memberships.select_related("user").filter(pk=identifier).first() if identifier else None
    if row is None and param:
        raise errors.InvalidRequest(_("There is no such member."), param=param)
    if row is None:
        raise errors.NotFound(_("There is no such member."))
    return row


def _members(here: Access) -> dict[str, Any]:
    rows = here.workspace.memberships.select_related("user").order_by("created_at", "id")
    return {"members": [_shown_member(row) for row in rows]}


def _organization(workspace: Workspace, role: str) -> dict[str, Any]:
    return {
        "id": workspace.pk,
        "slug": workspace.slug,
        "name": workspace.name,
        "role": role,
        "require_second_factor": workspace.require_second_factor,
        "created_at": workspace.created_at,
    }


def _shown_member(row: Membership) -> dict[str, Any]:
    return {
        "id": row.pk,
        "user_id": row.user_id,
        "email": row.user.email,
        "name": row.user.name,
        "role": row.role,
        "active": row.user.is_active,
        "created_at": row.created_at,
    }


def _shown_invitation(row: Invitation) -> dict[str, Any]:
    return {
        "id": row.pk,
        "email": row.email,
        "role": row.role,
        "invited_by": row.invited_by.email,
        "created_at": row.created_at,
        "sent_at": row.sent_at,
        "expires_at": row.expires_at,
        "expired": row.expired,
    }
