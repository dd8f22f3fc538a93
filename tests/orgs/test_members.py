"""Membership: who may let in, change and remove whom, and that an organization always has an owner (C-ORG-2)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test import Client

from accounts.models import User
from core import errors
from events import audit
from events.models import AuditEvent
from orgs import members, signals
from orgs.members import Source
from orgs.models import Membership, Workspace
from orgs.permissions import Role
from tests import cast, factories

OWNER, ADMIN, DEVELOPER, BILLING, VIEWER = cast.ROLES


@pytest.fixture
def company(db: None) -> cast.Cast:
    return cast.assemble()


def actor(user: User) -> audit.Actor:
    return audit.Actor(user.pk, user.email)


def role_of(workspace: Workspace, user: User) -> str | None:
    return Membership.objects.filter(workspace=workspace, user=user).values_list("role", flat=True).first()


def last_event(workspace: Workspace) -> AuditEvent:
    event = AuditEvent.objects.filter(workspace_id=workspace.pk).order_by("-id").first()
    assert event is not None
    return event


# ── In ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_new_member_stands_in_the_trail(company: cast.Cast) -> None:
    person = factories.user("new@people.example")
    by = audit.Actor(None, "scim: Acme", "192.0.2.7")
    made = members.add_member(company.organization, person, VIEWER, by, Source.SCIM)
    assert (made.role, role_of(company.organization, person)) == (VIEWER, VIEWER)
    event = last_event(company.organization)
    assert (event.action, event.target_label, event.address) == ("member.add", person.email, "192.0.2.7")
    assert event.details == {"role": VIEWER, "source": "scim"}


def test_a_member_stays_what_they_are(company: cast.Cast) -> None:
    before = AuditEvent.objects.count()
    found = members.add_member(company.organization, company[ADMIN], VIEWER, audit.SYSTEM, Source.SSO)
    assert found.role == ADMIN
    assert AuditEvent.objects.count() == before


@pytest.mark.parametrize("role", ["owner", "king", ""])
def test_nobody_is_let_in_as(company: cast.Cast, role: str) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        members.add_member(company.organization, factories.user(), role, audit.SYSTEM, Source.SSO)
    assert refused.value.param == "role"


def test_personal_and_deleted_workspaces_take_nobody(company: cast.Cast) -> None:
    gone = factories.organization("Gone")
    Workspace.objects.filter(pk=gone.pk).update(active=False, deleted_at="2026-01-01T00:00:00Z")
    for workspace in (company[OWNER].personal_workspace, gone):
        with pytest.raises(errors.NotFound):
            members.add_member(workspace, factories.user(), VIEWER, audit.SYSTEM, Source.SSO)


def test_a_deactivated_account_is_not_let_in(company: cast.Cast) -> None:
    person = factories.user(is_active=False)
    with pytest.raises(errors.PermissionDenied):
        members.add_member(company.organization, person, VIEWER, audit.SYSTEM, Source.SCIM)
    assert role_of(company.organization, person) is None


# ── Roles ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("role", Role.values)
@pytest.mark.parametrize("acting", [*Role.values, "stranger"])
@pytest.mark.parametrize("target", Role.values)
def test_who_may_change_whom(company: cast.Cast, acting: str, target: str, role: str) -> None:
    second = factories.member(company.organization, target)  # so that the last owner is not what refuses
    allowed = acting == OWNER or (acting == ADMIN and OWNER not in (target, role))
    by = actor(company[acting])
    if allowed:
        members.change_role(company.organization, second, role, by, Source.MEMBER)
        assert role_of(company.organization, second) == role
    else:
        with pytest.raises(errors.PermissionDenied):
            members.change_role(company.organization, second, role, by, Source.MEMBER)
        assert role_of(company.organization, second) == target


def test_a_change_stands_in_the_trail_once(company: cast.Cast) -> None:
    for _ in range(2):
        members.change_role(company.organization, company[VIEWER], BILLING, actor(company[OWNER]), Source.MEMBER)
    events = AuditEvent.objects.filter(action="member.role")
    assert [(e.details["from"], e.details["to"], e.actor_label) for e in events] == [
        (VIEWER, BILLING, company[OWNER].email)
    ]


@pytest.mark.parametrize("source", [Source.SSO, Source.SCIM])
def test_machines_make_no_owners(company: cast.Cast, source: Source) -> None:
    with pytest.raises(errors.InvalidRequest):
        members.change_role(company.organization, company[ADMIN], OWNER, audit.SYSTEM, source)


@pytest.mark.parametrize("source", [Source.MEMBER, Source.SSO, Source.SCIM])
def test_the_last_owner_stays(company: cast.Cast, source: Source) -> None:
    factories.member(company.organization, OWNER, factories.user(is_active=False))  # cannot act: does not count
    owner = company[OWNER]
    by = actor(owner) if source == Source.MEMBER else audit.SYSTEM
    for act in (
        lambda: members.change_role(company.organization, owner, ADMIN, by, source),
        lambda: members.remove_member(company.organization, owner, by, source),
    ):
        with pytest.raises(errors.Conflict) as refused:
            act()
        assert refused.value.code == "last_owner"
    assert role_of(company.organization, owner) == OWNER


def test_handing_over(company: cast.Cast) -> None:
    members.transfer_ownership(company.organization, company[VIEWER], actor(company[OWNER]))
    assert role_of(company.organization, company[VIEWER]) == OWNER
    assert role_of(company.organization, company[OWNER]) == ADMIN
    with pytest.raises(errors.PermissionDenied):  # no owner any more
        members.transfer_ownership(company.organization, company[BILLING], actor(company[OWNER]))


def test_handing_over_to_oneself_or_a_stranger(company: cast.Cast) -> None:
    with pytest.raises(errors.InvalidRequest):
        members.transfer_ownership(company.organization, company[OWNER], actor(company[OWNER]))
    with pytest.raises(errors.NotFound):
        members.transfer_ownership(company.organization, company["stranger"], actor(company[OWNER]))


# ── Out ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_whoever_is_removed_is_signed_out_everywhere_at_once(company: cast.Cast) -> None:
    person = company[DEVELOPER]
    browsers = [company.client(DEVELOPER), company.client(DEVELOPER)]
    assert [browser.get("/manage-api-keys").status_code for browser in browsers] == [200, 200]
    other = company.client(VIEWER)
    members.remove_member(company.organization, person, actor(company[ADMIN]), Source.MEMBER)
    for browser in browsers:
        assert browser.get("/api/me").status_code == 401
    assert other.get("/api/me").status_code == 200
    assert last_event(company.organization).action == "member.remove"


def test_a_session_that_was_only_just_begun_ends_too(company: cast.Cast) -> None:
    browser = Client()
    form = {"login": company[VIEWER].email, "password": factories.PASSWORD}
    assert browser.post("/accounts/login/", form).status_code == 302
    members.remove_member(company.organization, company[VIEWER], audit.SYSTEM, Source.SCIM)
    assert browser.get("/api/me").status_code == 401


def test_whoever_leaves_stays_signed_in(company: cast.Cast) -> None:
    browser = company.client(VIEWER)
    assert browser.get("/api/me").json()["workspace"]["name"] == company.organization.name
    members.remove_member(company.organization, company[VIEWER], actor(company[VIEWER]), Source.MEMBER)
    assert browser.get("/api/me").json()["workspace"]["kind"] == "personal"
    assert last_event(company.organization).action == "member.leave"


@pytest.mark.parametrize("acting", [DEVELOPER, BILLING, VIEWER, "stranger"])
def test_others_remove_nobody(company: cast.Cast, acting: str) -> None:
    with pytest.raises(errors.PermissionDenied):
        members.remove_member(company.organization, company[ADMIN], actor(company[acting]), Source.MEMBER)
    assert role_of(company.organization, company[ADMIN]) == ADMIN


def test_an_admin_removes_no_owner(company: cast.Cast) -> None:
    second = factories.member(company.organization, OWNER)
    with pytest.raises(errors.PermissionDenied):
        members.remove_member(company.organization, second, actor(company[ADMIN]), Source.MEMBER)
    assert role_of(company.organization, second) == OWNER


@pytest.mark.parametrize("heir", [VIEWER, BILLING, DEVELOPER, "stranger"])
def test_an_heir_is_another_member_who_may_make_keys(company: cast.Cast, heir: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        members.remove_member(company.organization, company[DEVELOPER], audit.SYSTEM, Source.SCIM, heir=company[heir])
    assert role_of(company.organization, company[DEVELOPER]) == DEVELOPER


def test_people_hear_what_others_did_to_them(
    company: cast.Cast, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    person, owner = company[DEVELOPER], actor(company[OWNER])
    with django_capture_on_commit_callbacks(execute=True):
        members.change_role(company.organization, person, VIEWER, owner, Source.MEMBER)
        members.remove_member(company.organization, person, owner, Source.MEMBER)
        members.remove_member(company.organization, company[VIEWER], actor(company[VIEWER]), Source.MEMBER)  # leaves
    assert [message.to for message in mail.outbox] == [[person.email], [person.email]]
    assert "You are now: Viewer" in mail.outbox[0].body
    assert f"{company[OWNER].email} took you out" in mail.outbox[1].body


def test_a_receiver_that_fails_undoes_the_removal(company: cast.Cast) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("the key could not be disabled")

    browser = company.client(VIEWER)
    signals.member_removed.connect(fail)
    try:
        with pytest.raises(RuntimeError):
            members.remove_member(company.organization, company[VIEWER], audit.SYSTEM, Source.SCIM)
    finally:
        signals.member_removed.disconnect(fail)
    assert role_of(company.organization, company[VIEWER]) == VIEWER
    assert browser.get("/api/me").status_code == 200


# ── At once ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def together(*acts: Callable[[], object]) -> list[object]:
    """What each act returned or raised; all start at one moment, each on a connection of its own."""
    gate = threading.Barrier(len(acts))
    outcomes: list[object] = [None] * len(acts)

    def run(number: int, act: Callable[[], object]) -> None:
        gate.wait()
        try:
            outcomes[number] = act()
        except errors.ProductError as error:
            outcomes[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@pytest.mark.parametrize("attempt", range(5))
def test_two_owners_who_demote_each_other_leave_one(committed: None, attempt: int) -> None:
    organization = factories.organization(f"Duel {attempt}")
    first, second = (factories.member(organization, OWNER) for _ in range(2))
    outcomes = together(
        lambda: members.change_role(organization, second, VIEWER, actor(first), Source.MEMBER),
        lambda: members.change_role(organization, first, VIEWER, actor(second), Source.MEMBER),
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, errors.ProductError)]
    assert len(refused) == 1
    assert isinstance(refused[0], errors.PermissionDenied)  # demoted meanwhile: the role under the lock counts
    roles = Membership.objects.filter(workspace=organization).values_list("role", flat=True)
    assert sorted(roles) == [OWNER, VIEWER]


@pytest.mark.parametrize("attempt", range(5))
def test_two_owners_who_leave_at_once_leave_one(committed: None, attempt: int) -> None:
    organization = factories.organization(f"Exit {attempt}")
    pair = [factories.member(organization, OWNER) for _ in range(2)]
    outcomes = together(*(lambda p=p: members.remove_member(organization, p, actor(p), Source.MEMBER) for p in pair))
    refused = [outcome for outcome in outcomes if isinstance(outcome, errors.ProductError)]
    assert [error.code for error in refused] == ["last_owner"]
    assert Membership.objects.filter(workspace=organization, role=OWNER).count() == 1


def test_somebody_added_twice_at_once_is_a_member_once(committed: None) -> None:
    organization = factories.organization("Twice")
    person = factories.user()
    outcomes = together(*([lambda: members.add_member(organization, person, VIEWER, audit.SYSTEM, Source.SSO)] * 2))
    assert all(isinstance(outcome, Membership) for outcome in outcomes)
    assert Membership.objects.filter(workspace=organization, user=person).count() == 1
    assert AuditEvent.objects.filter(workspace_id=organization.pk, action="member.add").count() == 1
