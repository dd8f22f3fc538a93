"""Invitations under several hands at once, and limits; what people see of them is tried in tests.console."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import RequestFactory

from core import clock, errors
from events import audit
from events.models import AuditEvent
from orgs import invitations, members
from orgs.members import Source
from orgs.models import Invitation, Membership, Workspace
from tests import cast, factories
from tests.orgs.test_members import actor, together

OWNER, ADMIN, DEVELOPER, BILLING, VIEWER = cast.ROLES


def invited(workspace: Workspace, email: str, role: str = VIEWER) -> Invitation:
    owner = workspace.memberships.get(role=OWNER).user
    request = RequestFactory().post("/")
    request.user = owner
    return invitations.invite(workspace, email, role, by=owner, request=request)


def office(name: str) -> Workspace:
    workspace = factories.organization(name)
    factories.member(workspace, OWNER)
    return workspace


@pytest.mark.parametrize("attempt", range(5))
def test_one_invitation_accepted_twice_at_once_makes_one_member(committed: None, attempt: int) -> None:
    workspace, person = office(f"Twice {attempt}"), factories.user()
    invitation = invited(workspace, person.email)
    outcomes = together(*([lambda: invitations.accept(invitation, person, actor=actor(person))] * 3))
    assert all(isinstance(outcome, Membership) for outcome in outcomes)
    assert Membership.objects.filter(workspace=workspace, user=person).count() == 1
    events = AuditEvent.objects.filter(workspace_id=workspace.pk)
    assert [events.filter(action=action).count() for action in ("invitation.accept", "member.add")] == [1, 1]


@pytest.mark.parametrize("attempt", range(5))
def test_accepted_and_revoked_at_once_is_one_of_them(committed: None, attempt: int) -> None:
    workspace, person = office(f"Either {attempt}"), factories.user()
    invitation, owner = invited(workspace, person.email), workspace.memberships.get(role=OWNER).user
    together(
        lambda: invitations.accept(invitation, person, actor=actor(person)),
        lambda: invitations.revoke(invitation, by=owner, actor=actor(owner)),
    )
    fresh = Invitation.objects.get(pk=invitation.pk)
    is_member = Membership.objects.filter(workspace=workspace, user=person).exists()
    assert (fresh.accepted_at is not None) == is_member
    assert (fresh.revoked_at is None) == is_member


def test_one_address_invited_by_two_at_once_has_one_invitation(committed: None) -> None:
    workspace = office("Both")
    outcomes = together(*([lambda: invited(workspace, "both@people.example")] * 3))
    assert all(isinstance(outcome, Invitation) for outcome in outcomes)
    assert Invitation.objects.filter(workspace=workspace).count() == 1


@pytest.mark.django_db
def test_an_organization_does_not_flood_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invitations, "MOST_AN_HOUR", 3)
    workspace = office("Loud")
    owner = workspace.memberships.get(role=OWNER).user
    for number in range(3):
        made = invited(workspace, f"p{number}@people.example")
        invitations.revoke(made, by=owner, actor=actor(owner))  # revoking brings no new one
    with pytest.raises(errors.RateLimited):
        invited(workspace, "next@people.example")
    Invitation.objects.update(created_at=clock.now() - timedelta(hours=2))
    invited(workspace, "next@people.example")


@pytest.mark.django_db
def test_a_standing_that_ended_meanwhile_does_not_count() -> None:
    workspace = office("Past")
    admin = factories.member(workspace, ADMIN)
    request = RequestFactory().post("/")
    request.user = admin
    members.change_role(workspace, admin, VIEWER, audit.SYSTEM, Source.OPERATOR)
    with pytest.raises(errors.PermissionDenied):
        invitations.invite(workspace, "a@people.example", VIEWER, by=admin, request=request)
    assert not Invitation.objects.exists()
