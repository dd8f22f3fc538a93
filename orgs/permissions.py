"""Who may do what: one enum and one table. Views, APIs, pages and documentation all read this."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from django.db import models
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class Permission(enum.StrEnum):
    """One thing that a member may be allowed to do in a workspace."""

    AUDIT_READ = "audit.read"
    BILLING_READ = "billing.read"
    BILLING_WRITE = "billing.write"
    GPU_WRITE = "gpu.write"
    JOBS_WRITE = "jobs.write"
    KEYS_READ = "keys.read"
    KEYS_WRITE = "keys.write"
    MEMBERS_READ = "members.read"
    MEMBERS_WRITE = "members.write"
    ORG_DELETE = "org.delete"
    ORG_WRITE = "org.write"
    SSO_WRITE = "sso.write"
    STORAGE_READ = "storage.read"
    STORAGE_WRITE = "storage.write"
    USAGE_READ = "usage.read"
    WEBHOOKS_READ = "webhooks.read"
    WEBHOOKS_WRITE = "webhooks.write"


class Role(models.TextChoices):
    """The five roles of a workspace."""

    OWNER = "owner", _("Owner")
    ADMIN = "admin", _("Admin")
    DEVELOPER = "developer", _("Developer")
    BILLING = "billing", _("Billing")
    VIEWER = "viewer", _("Viewer")


#: Each permission in words, in the order in which people read them.
PERMISSION_TEXTS: Mapping[Permission, Promise] = {
    Permission.KEYS_READ: _("See API keys"),
    Permission.KEYS_WRITE: _("Create, change and delete API keys"),
    Permission.GPU_WRITE: _("Manage workflows and GPUs"),
    Permission.STORAGE_READ: _("See stored files"),
    Permission.STORAGE_WRITE: _("Upload and delete stored files"),
    Permission.USAGE_READ: _("See usage, jobs and the request log"),
    Permission.JOBS_WRITE: _("Cancel jobs"),
    Permission.BILLING_READ: _("See balance and payments"),
    Permission.BILLING_WRITE: _("Top up and manage payments"),
    Permission.MEMBERS_READ: _("See members"),
    Permission.MEMBERS_WRITE: _("Invite, change and remove members"),
    Permission.AUDIT_READ: _("Read the audit log"),
    Permission.SSO_WRITE: _("Manage single sign-on and domains"),
    Permission.WEBHOOKS_READ: _("See webhooks and what was sent to them"),
    Permission.WEBHOOKS_WRITE: _("Manage webhooks"),
    Permission.ORG_WRITE: _("Rename the organization, require a second factor"),
    Permission.ORG_DELETE: _("Hand over or delete the organization"),
}

_P = Permission

ROLE_PERMISSIONS: Mapping[str, frozenset[Permission]] = {
    Role.OWNER: frozenset(Permission),
    Role.ADMIN: frozenset(
        {
            _P.BILLING_READ,
            _P.GPU_WRITE,
            _P.JOBS_WRITE,
            _P.KEYS_READ,
            _P.KEYS_WRITE,
            _P.MEMBERS_READ,
            _P.MEMBERS_WRITE,
            _P.ORG_WRITE,
            _P.SSO_WRITE,
            _P.STORAGE_READ,
            _P.STORAGE_WRITE,
            _P.USAGE_READ,
            _P.WEBHOOKS_READ,
            _P.WEBHOOKS_WRITE,
            _P.AUDIT_READ,
        }
    ),
    Role.DEVELOPER: frozenset(
        {
            _P.GPU_WRITE,
            _P.JOBS_WRITE,
            _P.KEYS_READ,
            _P.KEYS_WRITE,
            _P.MEMBERS_READ,
            _P.STORAGE_READ,
            _P.STORAGE_WRITE,
            _P.USAGE_READ,
            _P.WEBHOOKS_READ,
        }
    ),
    Role.BILLING: frozenset({_P.AUDIT_READ, _P.BILLING_READ, _P.BILLING_WRITE, _P.MEMBERS_READ, _P.USAGE_READ}),
    Role.VIEWER: frozenset(
        {
            _P.AUDIT_READ,
            _P.BILLING_READ,
            _P.KEYS_READ,
            _P.MEMBERS_READ,
            _P.STORAGE_READ,
            _P.USAGE_READ,
            _P.WEBHOOKS_READ,
        }
    ),
}


def allows(role: str, permission: Permission) -> bool:
    """Whether ``role`` has ``permission``; an unknown role has none."""
    return permission in ROLE_PERMISSIONS.get(role, frozenset())


def table() -> list[tuple[Permission, Promise, dict[Role, bool]]]:
    """The table of roles as pages and documentation show it: a permission, its words, and who has it."""
    return [
        (permission, text, {role: permission in ROLE_PERMISSIONS[role] for role in Role})
        for permission, text in PERMISSION_TEXTS.items()
    ]


def as_markdown() -> str:
    """The same table for docs/organizations.md; `manage.py roles_table` writes it there."""
    lines = [["", *(str(role.label) for role in Role)], ["---", *(":-:" for _role in Role)]]
    lines += [[str(text), *("yes" if held[role] else "–" for role in Role)] for _permission, text, held in table()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
