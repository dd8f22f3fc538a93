"""The same few people in every test of who may do what: five roles of one organization, a stranger, and nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace

from allauth.account.internal.flows.login import record_authentication
from django.test import Client

from accounts.models import User
from orgs import access
from orgs.models import Workspace
from orgs.permissions import Role
from tests import factories

#: Everybody who may knock, in the words of the tests' tables.
ROLES = tuple(role.value for role in Role)
EVERYBODY = ("anonymous", "stranger", *ROLES)


@dataclass(frozen=True)
class Cast:
    """``people`` by their role; each works in ``organization``, the stranger in a workspace of their own."""

    organization: Workspace
    people: Mapping[str, User]

    def __getitem__(self, who: str) -> User:
        return self.people[who]

    def client(self, who: str, *, enforce_csrf_checks: bool = False) -> Client:
        """A browser in which that person is signed in, by password and just now, and works in the organization.

        The stranger's session claims it as well: a choice that a membership does not back must not count.
        """
        client = Client(enforce_csrf_checks=enforce_csrf_checks)
        if who != "anonymous":
            client.force_login(self.people[who])
            session = client.session
            session[access.SESSION_KEY] = str(self.organization.pk)
            record_authentication(SimpleNamespace(session=session), self.people[who], "password")
            session.save()
        return client


def assemble() -> Cast:
    """A new organization with one member of each role, and a stranger."""
    organization = factories.organization()
    people = {role: factories.member(organization, role) for role in ROLES}
    return Cast(organization, {**people, "stranger": factories.user()})
