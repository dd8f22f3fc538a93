"""The last step of every single sign-on, whatever protocol brought the person: who is it, may they, let them in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from allauth.account.internal.flows.login import record_authentication
from allauth.account.utils import perform_login
from django.contrib.auth import logout
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from accounts.models import User
from core import clock
from events import audit
from orgs import invitations, members
from orgs.members import Source
from orgs.models import Membership, Workspace
from orgs.permissions import Role
from sso import people, roles
from sso.models import SUBJECT_LENGTH, ScimUser, SsoConnection, SsoFlow, SsoIdentity
from sso.oidc import leaving
from sso.refusals import SignInRefused, target

#: What `allauth` calls the way somebody signed in; the session's list of them holds it.
METHOD: Final = "sso"


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody whom a provider vouches for, before anything is decided. ``email`` is as the provider wrote it."""

    connection: SsoConnection
    subject: str
    email: str
    claims: Mapping[str, Any]
    actor: audit.Actor

    @property
    def name(self) -> str:
        """The person's name, where the provider sent one."""
        name = self.claims.get(self.connection.attribute_map.get("name") or "name", "")
        return (roles.values(name) or [""])[0]


def complete(
    request: HttpRequest,
    connection: SsoConnection,
    subject: str,
    email: str,
    claims: Mapping[str, Any],
    *,
    flow: SsoFlow | None = None,
    session_ends_at: datetime | None = None,
    id_token: str = "",
) -> HttpResponse:
    """Sign the person in, or show the outcome where the flow is an admin's test. Raises SignInRefused.

    The caller has checked everything that its protocol signs: ``subject``, ``email`` and ``claims`` are the provider's
    own words. ``claims`` maps names to texts or lists of texts; a name comes as "name" unless the connection's
    attribute map says otherwise. ``session_ends_at``: when the provider wants the session to be over.
    ``id_token``: what the session keeps, sealed, where signing out here is to sign out over there.
    """
    arrival = Arrival(connection, subject, email, claims, audit.actor_of(request))
    if flow is not None and flow.tester_id is not None:
        return _show_test(request, arrival, flow)
    with transaction.atomic():
        workspace = _open(connection)
        user = _who(arrival)
        _enter(arrival, workspace, user)
    marks = {
        "sso_connection": str(connection.pk),
        "sso_session_ends_at": session_ends_at.isoformat() if session_ends_at else "",
        "sso_sign_out_hint": leaving.sealed_hint(connection, id_token),
    }
    return _log_in(request, connection, user, flow, marks)


def _open(connection: SsoConnection) -> Workspace:
    """The organization, both rows held: two first sign-ins of one person are heard one after the other."""
    row = SsoConnection.objects.select_for_update(no_key=True, of=("self",)).filter(pk=connection.pk).first()
    workspace = Workspace.objects.get(pk=connection.workspace_id)
    if row is None or not row.is_active or not workspace.active:
        raise SignInRefused("inactive", _("This way to sign in is switched off."))
    return workspace


def _who(arrival: Arrival) -> User:
    """The account behind (connection, subject); at the first sign-in the one with that address, or a new one."""
    _check_subject(arrival.subject)
    email = people.address(arrival.connection, arrival.email)
    identities = SsoIdentity.objects.select_related("user")
    identity = identities.filter(connection=arrival.connection, subject=arrival.subject).first()
    if identity is None:
        identity = _first_sign_in(arrival, email)
    user: User = identity.user
    if not user.is_active:
        raise SignInRefused("deactivated", _("This account is deactivated."), email=email)
    identity.email, identity.last_sign_in_at = email, clock.now()
    identity.save(update_fields=["email", "last_sign_in_at"])
    return user


def _check_subject(subject: str) -> None:
    if not subject.strip() or len(subject) > SUBJECT_LENGTH or not subject.isprintable():
        raise SignInRefused(
            "no_subject",
            _("Your identity provider did not say who you are. Ask your administrator."),
            detail=f"the subject is empty, does not print or is longer than {SUBJECT_LENGTH} characters",
        )


def _first_sign_in(arrival: Arrival, email: str) -> SsoIdentity:
    connection = arrival.connection
    user = people.with_address(email)
    if user is None:
        user = people.create(email, arrival.name, by=arrival.actor, workspace=connection.workspace)
        return people.link(connection, arrival.subject, user, email, by=_as(user, arrival.actor))
    if people.is_unused(user):
        people.take_over(user, email, by=arrival.actor, workspace=connection.workspace)
        return people.link(connection, arrival.subject, user, email, by=_as(user, arrival.actor))
    if arrival.actor.user_id != user.pk and (user.is_staff or not people.is_confirmed(user, email)):
        # Nobody's word but the account's own opens those: an operator's, and one whose address is not confirmed.
        raise SignInRefused(
            "unlinked_account",
            _("There is an account with this address already. Sign in to it once with its password, then start again."),
            email=email,
        )
    identity = people.link(connection, arrival.subject, user, email, by=_as(user, arrival.actor))
    people.tell_linked(connection, user)
    return identity


def _enter(arrival: Arrival, workspace: Workspace, user: User) -> None:
    """The membership: made at the first sign-in, its role kept in step with the map. Raises SignInRefused."""
    actor, connection = _as(user, arrival.actor), arrival.connection
    known = Q(user=user) | Q(user=None, user_name__iexact=arrival.email.strip())
    if ScimUser.objects.filter(known, connection=connection, active=False).exists():
        raise SignInRefused("deprovisioned", _("Your organization has ended your access."), email=user.email)
    role = roles.of_claims(connection, arrival.claims)
    membership = Membership.objects.filter(workspace=workspace, user=user).first()
    if membership is None:
        membership = _join(connection, workspace, user, role or connection.default_role, actor)
    if role is not None and membership.role not in (Role.OWNER, role):
        members.change_role(workspace, user, role, actor, Source.SSO)
    SsoIdentity.objects.filter(connection=connection, user=user, joined_at=None).update(joined_at=clock.now())


def _join(connection: SsoConnection, workspace: Workspace, user: User, role: str, actor: audit.Actor) -> Membership:
    """A member from now on: by an open invitation as what it says, at the first sign-in as ``role``."""
    confirmed = [email.lower() for email in people.confirmed_addresses(user)]
    waiting = invitations.open_ones(workspace).filter(email__in=confirmed)
    invitation = next((row for row in waiting if invitations.usable(row)), None)
    if invitation is not None:
        return invitations.accept(invitation, user, actor=actor)
    if _was_member(connection, user):
        raise SignInRefused(
            "removed",
            _("You are no longer a member of %(name)s. Ask an administrator to invite you again.")
            % {"name": workspace.name},
            email=user.email,
        )
    return members.add_member(workspace, user, role, actor, Source.SSO)


def _was_member(connection: SsoConnection, user: User) -> bool:
    """Whether this identity has already brought the person in once: whoever was removed since does not walk back in."""
    return SsoIdentity.objects.filter(connection=connection, user=user, joined_at__isnull=False).exists()


def _log_in(
    request: HttpRequest,
    connection: SsoConnection,
    user: User,
    flow: SsoFlow | None,
    marks: dict[str, str],
) -> HttpResponse:
    """A session by allauth, which also asks for the person's own second factor if there is one."""
    logout(request)  # a session is new at every sign-in; the one of before may just have been ended
    record_authentication(request, user, method=METHOD, connection=str(connection.pk))
    next_path = flow.next_path if flow else ""
    response: HttpResponse = perform_login(
        request, user, email_verification="none", redirect_url=next_path or None, signal_kwargs=marks
    )
    return response


def _as(user: User, actor: audit.Actor) -> audit.Actor:
    """Who signs in acts in their own name, from the request's address."""
    return audit.Actor(user.pk, user.email, actor.address, actor.request_id)


def _show_test(request: HttpRequest, arrival: Arrival, flow: SsoFlow) -> HttpResponse:
    """What a sign-in would have done; nobody is signed in and nothing is made."""
    connection = arrival.connection
    if request.user.pk != flow.tester_id:
        raise SignInRefused("other_tester", _("This test was started by somebody else."))
    try:
        _check_subject(arrival.subject)
        email, problem = people.address(connection, arrival.email), ""
    except SignInRefused as refused:
        email, problem = refused.email or arrival.email, refused.message
    audit.record(
        "sso.test",
        actor=arrival.actor,
        target=target(connection),
        workspace_id=connection.workspace_id,
        details={"email": email[:254], "problem": problem},
    )
    outcome = {
        "connection": connection,
        "subject": arrival.subject,
        "email": email,
        "name": arrival.name,
        "problem": problem,
        "role": Role(roles.of_claims(connection, arrival.claims) or connection.default_role).label,
        "claims": sorted(arrival.claims),
    }
    return render(request, "sso/tested.html", outcome)
