"""Keys that pages of our own call with: whose they are, in which lists they are not, and when they end."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.signals import user_logged_out
from django.http import HttpRequest
from django.test import RequestFactory

from accounts.models import User
from core import clock, errors
from events import audit
from events.models import AuditEvent
from keys import auth, internal, issuing, leaving, lookup, rules
from keys.models import ApiKey
from orgs.access import Access
from orgs.models import Workspace
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def workspace() -> Workspace:
    return factories.organization()


@pytest.fixture
def person(workspace: Workspace) -> User:
    return factories.member(workspace, "developer")


def request_of(person: User, session: Any = None) -> HttpRequest:
    request = RequestFactory().post("/playground/key")
    request.user = person
    request.session = session or import_module(settings.SESSION_ENGINE).SessionStore()
    return request


def mint(request: HttpRequest, workspace: Workspace, person: User) -> issuing.Issued:
    return internal.mint(request, workspace, person, name="Playground", lasts=timedelta(hours=1))


def test_it_works_for_an_hour_in_its_person_s_name(workspace: Workspace, person: User) -> None:
    issued = mint(request_of(person), workspace, person)
    facts = lookup.facts_of(lookup.by_secret(issued.secret, address="127.0.0.1"))
    assert (facts.workspace_id, facts.user_id, facts.name) == (workspace.pk, person.pk, "Playground")
    facts.check_usable(clock.now().timestamp())
    with pytest.raises(errors.AuthenticationFailed):
        facts.check_usable((clock.now() + timedelta(minutes=61)).timestamp())
    [event] = AuditEvent.objects.filter(action="api_key.create", target_id=str(issued.key.pk))
    assert event.details == {"internal": True}
    assert issued.secret not in str(event.__dict__)


def test_it_is_in_no_list_and_takes_no_place(
    workspace: Workspace, person: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MOST_KEYS", 1)
    issued = mint(request_of(person), workspace, person)
    assert not lookup.of_workspace(Access(person, workspace, "developer")).exists()
    with pytest.raises(errors.NotFound):
        lookup.api_key(Access(person, workspace, "developer"), issued.key.pk)
    factories.api_key(workspace, created_by=person)


def test_signing_out_ends_the_session_s_keys_alone(workspace: Workspace, person: User) -> None:
    one, other = request_of(person), request_of(person)
    ended, kept = mint(one, workspace, person), mint(other, workspace, person)
    ordinary = factories.api_key(workspace, created_by=person)
    one.session["internal_keys"] += [str(ordinary.key.pk), "nonsense"]
    user_logged_out.send(User, request=one, user=person)
    alive = set(ApiKey.objects.filter(workspace=workspace, deleted_at=None).values_list("pk", flat=True))
    assert alive == {kept.key.pk, ordinary.key.pk}
    assert auth.hash_of(ended.secret)


def test_a_session_has_a_few(workspace: Workspace, person: User) -> None:
    request = request_of(person)
    made = [mint(request, workspace, person).key.pk for _ in range(10)]
    alive = ApiKey.objects.filter(workspace=workspace, deleted_at=None).order_by("created_at")
    assert list(alive.values_list("pk", flat=True)) == made[2:]


def test_they_are_not_made_by_the_dozen(workspace: Workspace, person: User) -> None:
    for _ in range(20):
        mint(request_of(person), workspace, person)
    with pytest.raises(errors.RateLimited):
        mint(request_of(person), workspace, person)
    mint(request_of(person), factories.organization(), person)


def test_nobody_inherits_one(workspace: Workspace, person: User) -> None:
    heir = factories.member(workspace, "owner")
    issued = mint(request_of(person), workspace, person)
    leaving.member_left(workspace=workspace, user=person, by=audit.SYSTEM, heir=heir)
    internal.member_left(workspace=workspace, user=person, by=audit.SYSTEM, heir=heir)
    issued.key.refresh_from_db()
    assert issued.key.deleted_at is not None
    assert issued.key.created_by == person
