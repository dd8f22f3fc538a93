"""Things a test needs to exist, each made by the product's own functions and complete: ``factories.user()``."""

from __future__ import annotations

import itertools
from typing import Any

from allauth.account.models import EmailAddress

from accounts.models import User
from events import audit
from keys import issuing
from orgs.models import Membership, Workspace
from orgs.workspaces import new_slug

PASSWORD = "a horse of correct batteries"

_numbers = itertools.count(1)


def user(email: str = "", *, verified: bool = True, password: str | None = PASSWORD, **fields: Any) -> User:
    """A person with a personal workspace, who may sign in with PASSWORD."""
    email = email or f"person{next(_numbers)}@people.example"
    person = User.objects.create_user(email, password, **fields)
    EmailAddress.objects.create(user=person, email=person.email, primary=True, verified=verified)
    return person


def organization(name: str = "Acme") -> Workspace:
    """An organization without members, with its wallet."""
    return Workspace.objects.create(kind=Workspace.Kind.ORGANIZATION, name=name, slug=new_slug(name))


def member(workspace: Workspace, role: str, person: User | None = None) -> User:
    """A person with that role in the workspace."""
    person = person or user(f"{role}{next(_numbers)}@people.example")
    Membership.objects.create(workspace=workspace, user=person, role=role)
    return person


def api_key(
    workspace: Workspace, *, created_by: User | None = None, name: str = "prod", **terms: Any
) -> issuing.Issued:
    """A key and its secret."""
    return issuing.create(workspace, issuing.Terms(name=name, **terms), actor=audit.SYSTEM, created_by=created_by)
