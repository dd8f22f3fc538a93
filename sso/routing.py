"""Which provider signs an address in, and whether in that way only. Nothing here asks whether an account exists."""

from __future__ import annotations

from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled

from accounts.models import User
from orgs.models import Membership
from orgs.permissions import Role
from sso import domains, people
from sso.models import OrgDomain, SsoConnection


def connection_for(email: str) -> SsoConnection | None:
    """The active connection that an e-mail address is routed to: its domain is proven, its organization not suspended.

    A domain that names no connection goes to the organization's only active one.
    """
    try:
        domain = domains.normalize(email.rpartition("@")[2])
    except ValueError:
        return None
    rows = OrgDomain.objects.filter(domain=domain, verified_at__isnull=False, workspace__active=True)
    row = rows.select_related("connection__workspace").first()
    if row is None:
        return None
    if row.connection is not None:
        return row.connection if row.connection.is_active else None
    active = SsoConnection.objects.select_related("workspace").filter(
        workspace_id=row.workspace_id, status=SsoConnection.Status.ACTIVE
    )
    found = list(active[:2])
    return found[0] if len(found) == 1 else None


def enforced_for(email: str) -> SsoConnection | None:
    """The connection that is the address's only way in, or None."""
    connection = connection_for(email)
    return connection if connection is not None and connection.enforced else None


def enforced_on(user: User) -> SsoConnection | None:
    """The connection that is this person's only way in, by any of the addresses that sign in to the account."""
    for email in dict.fromkeys([user.email, *people.confirmed_addresses(user)]):
        connection = enforced_for(email)
        if connection is not None:
            return connection
    return None


def may_break_glass(user: User, connection: SsoConnection) -> bool:
    """Whether the person may sign in without the provider, for the day it is down: an owner with a second factor."""
    owner = Membership.objects.filter(workspace_id=connection.workspace_id, user=user, role=Role.OWNER).exists()
    factors = [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]
    return owner and bool(is_mfa_enabled(user, factors))
