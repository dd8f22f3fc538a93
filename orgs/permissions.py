"""Who may do what: one enum and one table. Views, APIs, pages and documentation all read this."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from django.db import models
from django.utils.translation import gettext_lazy as _


class Permission(enum.StrEnum):
    """One thing that a member may be allowed to do in a workspace."""

    AUDIT_READ = "audit.read"
    BILLING_READ = "billing.read"
    BILLING_WRITE = "billing.write"
    GPU_WRITE = "gpu.write"
    KEYS_READ = "keys.read"
    KEYS_WRITE = "keys.write"
    MEMBERS_READ = "members.read"
    MEMBERS_WRITE = "members.write"
    ORG_DELETE = "org.delete"
    SSO_WRITE = "sso.write"
    USAGE_READ = "usage.read"
    WEBHOOKS_WRITE = "webhooks.write"


class Role(models.TextChoices):
    """The five roles of a workspace."""

    OWNER = "owner", _("Owner")
    ADMIN = "admin", _("Admin")
    DEVELOPER = "developer", _("Developer")
    BILLING = "billing", _("Billing")
    VIEWER = "viewer", _("Viewer")


_P = Permission

ROLE_PERMISSIONS: Mapping[str, frozenset[Permission]] = {
    Role.OWNER: frozenset(Permission),
    Role.ADMIN: frozenset(
        {
            _P.BILLING_READ,
            _P.GPU_WRITE,
            _P.KEYS_READ,
            _P.KEYS_WRITE,
            _P.MEMBERS_READ,
            _P.MEMBERS_WRITE,
            _P.SSO_WRITE,
            _P.USAGE_READ,
            _P.WEBHOOKS_WRITE,
            _P.AUDIT_READ,
        }
    ),
    Role.DEVELOPER: frozenset({_P.GPU_WRITE, _P.KEYS_READ, _P.KEYS_WRITE, _P.MEMBERS_READ, _P.USAGE_READ}),
    Role.BILLING: frozenset({_P.AUDIT_READ, _P.BILLING_READ, _P.BILLING_WRITE, _P.MEMBERS_READ, _P.USAGE_READ}),
    Role.VIEWER: frozenset({_P.AUDIT_READ, _P.BILLING_READ, _P.KEYS_READ, _P.MEMBERS_READ, _P.USAGE_READ}),
}


def allows(role: str, permission: Permission) -> bool:
    """Whether ``role`` has ``permission``; an unknown role has none."""
    return permission in ROLE_PERMISSIONS.get(role, frozenset())
