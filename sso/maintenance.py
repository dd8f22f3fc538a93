"""What happens to connections by itself: asked again every day, admins told before a certificate ends, rests swept."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.urls import reverse

from accounts import emails
from core import clock
from orgs.models import Membership
from orgs.permissions import Permission, allows
from sso import certificates, connections, domains, flows
from sso.models import SsoConnection

logger = logging.getLogger(__name__)

CHECK_EVERY: Final = timedelta(days=1)
#: Admins are told this many days before the last certificate of a provider ends, each once.
WARN_DAYS: Final = (30, 7, 1)


def sweep() -> int:
    """Everything that is due; how many things were done. One provider's failure stops no other's turn."""
    return recheck_connections() + domains.recheck() + flows.forget()


def recheck_connections() -> int:
    """Ask every active provider that was not asked for a day; how many were."""
    due = SsoConnection.objects.filter(
        status=SsoConnection.Status.ACTIVE, workspace__active=True, last_check_at__lt=clock.now() - CHECK_EVERY
    )
    rows = list(due.select_related("workspace").order_by("last_check_at"))
    for row in rows:
        try:
            _recheck(row)
        except Exception:  # the others are not to wait for it
            logger.exception("an identity provider could not be asked", extra={"connection": str(row.pk)})
    return len(rows)


def _recheck(row: SsoConnection) -> None:
    before = row.last_check_at or row.created_at
    connections.refresh(row)
    with transaction.atomic():
        now = SsoConnection.objects.select_for_update(of=("self",)).filter(pk=row.pk, updated_at=row.updated_at)
        if not now.exists():  # somebody changed it while its provider was being asked
            return
        row.save(update_fields=connections.ASKED)
        if not row.last_check_ok:
            logger.warning("an identity provider is not reachable", extra={"connection": str(row.pk)})
        ends_at = _last_end(row)
        if ends_at is not None and is_time_to_warn(ends_at, before, clock.now()):
            _warn(row, ends_at)


def is_time_to_warn(ends_at: datetime, before: datetime, now: datetime) -> bool:
    """Whether one of the days on which to warn lies after ``before`` and not after ``now``."""
    return any(before < ends_at - timedelta(days=days) <= now for days in WARN_DAYS)


def _last_end(row: SsoConnection) -> datetime | None:
    """When the last of the provider's certificates ends; None where it has none."""
    return max((certificates.described(pem).ends_at for pem in row.idp_certificates), default=None)


def _warn(row: SsoConnection, ends_at: datetime) -> None:
    """Mail those who can do something about it."""
    context = {
        "organization": row.workspace.name,
        "connection": str(row),
        "day": ends_at.date().isoformat(),
        "path": reverse("organization_sso_connection", args=[row.provider_id]),
    }
    members = Membership.objects.filter(workspace=row.workspace, user__is_active=True).select_related("user")
    for member in members:
        if allows(member.role, Permission.SSO_WRITE):
            emails.send(emails.message("sso_certificate_ends", context, to=member.user.email))
