"""Invitations: a mail lets whoever owns its address become a member, once, within a week.

The mail's link holds a token of 256 random bits; only its keyed hash is kept. The link alone lets nobody in: the person
who accepts must have confirmed the very address that the mail went to.
"""

from __future__ import annotations

import math
import secrets as random
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from allauth.account.models import EmailAddress
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts import emails
from accounts.models import User
from core import clock, errors, ids, secrets
from events import audit
from orgs import members
from orgs.members import Source
from orgs.models import Invitation, Membership, Workspace
from orgs.permissions import Role

LIFETIME: Final = timedelta(days=7)
#: The same address gets one mail in this time, however often somebody presses the button.
RESEND_PAUSE: Final = timedelta(minutes=1)
#: An organization that sends more than this in an hour sends mail to strangers.
MOST_AN_HOUR: Final = 200
#: What somebody may be invited as; an owner is made of a member.
ROLES: Final = tuple(role for role in Role if role != Role.OWNER)
_PURPOSE: Final = "invitation"
_TOKEN_BYTES: Final = 32
_LONGEST_ADDRESS: Final = 254


def open_ones(workspace: Workspace) -> QuerySet[Invitation]:
    """Neither accepted nor revoked, the newest first; those whose time is over are among them."""
    rows = workspace.invitations.filter(accepted_at=None, revoked_at=None)
    return rows.select_related("invited_by").order_by("-created_at", "-id")


def find(workspace: Workspace, invitation_id: UUID | str) -> Invitation:
    """The open invitation of that id. Raises NotFound for any other."""
    identifier = invitation_id if isinstance(invitation_id, UUID) else ids.parse(invitation_id)
    row = open_ones(workspace).filter(pk=identifier).first() if identifier else None
    if row is None:
        raise errors.NotFound(_("There is no such invitation."))
    return row


def by_token(token: str) -> Invitation | None:
    """The invitation whose newest mail held ``token``, in whatever state; None where there is none or it is over."""
    rows = Invitation.objects.select_related("workspace", "invited_by")
    return rows.filter(token_hash=secrets.keyed_hash(_PURPOSE, token)).first()


def usable(invitation: Invitation | None) -> bool:
    """Whether it can still be accepted."""
    if invitation is None or invitation.expired:
        return False
    return invitation.accepted_at is None and invitation.revoked_at is None and invitation.workspace.active


# ── Sending ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def invite(workspace: Workspace, email: str, role: str, *, by: User, request: HttpRequest) -> Invitation:
    """Invite the address and send the mail once the transaction stands. An open invitation is sent anew, as ``role``;
    the same asked twice within RESEND_PAUSE is one mail.

    Raises InvalidRequest for a bad address or role, Conflict (``already_member``, ``already_invited`` as something else
    just now), PermissionDenied where ``by`` may not, RateLimited where the organization sent too many.
    """
    email = _checked_address(email)
    if role not in [choice.value for choice in ROLES]:
        names = ", ".join(choice.value for choice in ROLES)
        raise errors.InvalidRequest(_("The role is one of: %(roles)s.") % {"roles": names}, param="role")
    with transaction.atomic():
        organization = members.locked(workspace)
        _check_standing(organization, by)
        if Membership.objects.filter(workspace=organization).filter(_owns(email)).exists():
            raise errors.Conflict(_("%(email)s is a member already.") % {"email": email}, code="already_member")
        found = open_ones(organization).filter(email=email).first()
        if found:
            return found if found.role == role and _pause(found) else _send_anew(found, request, role=role)
        _check_flood(organization)
        token = random.token_urlsafe(_TOKEN_BYTES)
        made = Invitation.objects.create(
            workspace=organization,
            email=email,
            role=role,
            token_hash=secrets.keyed_hash(_PURPOSE, token),
            invited_by=by,
            expires_at=clock.now() + LIFETIME,
        )
        _record("invitation.create", made, audit.actor_of(request), role=role)
        _mail(made, token, request)
    return made


def resend(invitation: Invitation, *, by: User, request: HttpRequest) -> Invitation:
    """Send it again with a new link and a new week; the links of older mails end.

    Raises RateLimited within RESEND_PAUSE of the last mail, else as `invite` does.
    """
    with transaction.atomic():
        organization = members.locked(invitation.workspace)
        _check_standing(organization, by)
        return _send_anew(find(organization, invitation.pk), request)


def revoke(invitation: Invitation, *, by: User, actor: audit.Actor) -> None:
    """Make its link worthless. Raises NotFound where it is accepted or revoked already."""
    with transaction.atomic():
        organization = members.locked(invitation.workspace)
        _check_standing(organization, by)
        fresh = find(organization, invitation.pk)
        fresh.revoked_at = clock.now()
        fresh.save(update_fields=["revoked_at"])
        _record("invitation.revoke", fresh, actor)


def _send_anew(invitation: Invitation, request: HttpRequest, *, role: str | None = None) -> Invitation:
    now, wait = clock.now(), _pause(invitation)
    if wait and role is None:
        raise errors.RateLimited(_("This invitation was sent just now. Wait a minute."), retry_after=wait)
    if wait:
        raise errors.Conflict(_("This address has an open invitation. Revoke it first."), code="already_invited")
    token = random.token_urlsafe(_TOKEN_BYTES)
    invitation.token_hash = secrets.keyed_hash(_PURPOSE, token)
    invitation.sent_at, invitation.expires_at = now, now + LIFETIME
    invitation.role = role or invitation.role
    invitation.save(update_fields=["token_hash", "sent_at", "expires_at", "role"])
    _record("invitation.resend", invitation, audit.actor_of(request), role=invitation.role)
    _mail(invitation, token, request)
    return invitation


def _pause(invitation: Invitation) -> int:
    """Seconds, rounded up, until the next mail may go to this address; 0 = now."""
    wait = invitation.sent_at + RESEND_PAUSE - clock.now()
    return max(0, math.ceil(wait.total_seconds()))


def _mail(invitation: Invitation, token: str, request: HttpRequest) -> None:
    context = {
        "invitation": invitation,
        "workspace": invitation.workspace,
        "inviter": invitation.invited_by,
        "days": LIFETIME.days,
        "url": request.build_absolute_uri(reverse("invitation", args=[token])),
    }
    emails.send(emails.message("invitation", context, to=invitation.email, request=request))


# ── Accepting ────────────────────────────────────────────────────────────────────────────────────────────────────────
def accept(invitation: Invitation, user: User, *, actor: audit.Actor) -> Membership:
    """Make ``user`` a member. The same person accepting it again finds their membership.

    Raises PermissionDenied (``other_address``) unless the person has confirmed the invitation's address, Conflict
    (``invitation_over``) where it was used, revoked or is too old.
    """
    with transaction.atomic():
        organization = _locked_or_over(invitation)
        fresh = Invitation.objects.select_related("workspace").get(pk=invitation.pk)
        if not may_accept(fresh, user):
            raise errors.PermissionDenied(_("This invitation is for another address."), code="other_address")
        mine = organization.memberships.filter(user=user).first()
        if fresh.accepted_by_id == user.pk and mine:
            return mine
        if not usable(fresh):
            raise errors.Conflict(_("This invitation is over. Ask for a new one."), code="invitation_over")
        fresh.accepted_at, fresh.accepted_by = clock.now(), user
        fresh.save(update_fields=["accepted_at", "accepted_by"])
        _record("invitation.accept", fresh, actor, role=fresh.role)
        return members.add_member(organization, user, fresh.role, actor, Source.INVITATION)


def may_accept(invitation: Invitation, user: User) -> bool:
    """Whether the person has confirmed the address that the invitation went to."""
    return EmailAddress.objects.filter(user=user, email__iexact=invitation.email, verified=True).exists()


def _locked_or_over(invitation: Invitation) -> Workspace:
    try:
        return members.locked(invitation.workspace)
    except errors.NotFound:
        raise errors.Conflict(_("This invitation is over. Ask for a new one."), code="invitation_over") from None


# ── Rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _checked_address(email: str) -> str:
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError:
        raise errors.InvalidRequest(_("Enter a valid e-mail address."), param="email") from None
    if len(email) > _LONGEST_ADDRESS:
        raise errors.InvalidRequest(_("Enter a valid e-mail address."), param="email")
    return email


def _owns(email: str) -> Q:
    return Q(user__email__iexact=email) | Q(
        user__in=EmailAddress.objects.filter(email__iexact=email, verified=True).values("user")
    )


def _check_standing(workspace: Workspace, by: User) -> None:
    """The role that counts is the one under the lock."""
    role = workspace.memberships.filter(user=by).values_list("role", flat=True).first()
    if role is None or not members.may_manage(role):
        raise errors.PermissionDenied(_("Your role in this organization does not allow this."))


def _check_flood(workspace: Workspace) -> None:
    since = clock.now() - timedelta(hours=1)
    if workspace.invitations.filter(created_at__gt=since).count() >= MOST_AN_HOUR:
        raise errors.RateLimited(_("Too many invitations in an hour. Try again later."), retry_after=3600)


def _record(action: str, invitation: Invitation, actor: audit.Actor, **details: Any) -> None:
    target = audit.Target("invitation", invitation.pk, invitation.email)
    audit.record(action, actor=actor, target=target, workspace_id=invitation.workspace_id, details=details)
