"""Workers that are kept warm on purpose are paid for by the second, a stretch of time at once.

A stretch is billed in the transaction that moves ``warm_billed_until`` on, so each second is billed once. It has no
hold: what was kept warm is charged even where the balance has just gone. Before that, people get a mail; when the
balance does not reach any more, no worker is kept warm until somebody saves the deployment again.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.urls import reverse

from accounts import emails
from billing.models import Wallet
from core import clock, errors, ids, money
from infra import rates
from infra.models import Deployment, WarmCharge
from orgs.models import Membership
from orgs.permissions import Permission, allows
from usage import metering
from usage.items import LogRow, Settle

log = logging.getLogger(__name__)

State = Deployment.State

#: The word in the log's column ``endpoint``.
KIND: Final = "gpu_warm"
#: A balance that pays for less than this is warned of.
WARN_BEFORE: Final = timedelta(hours=1)
#: A balance that pays for less than this keeps no worker warm any more.
STOP_BEFORE: Final = timedelta(minutes=2)
_SECOND: Final = timedelta(seconds=1)


def sweep() -> int:
    """Bill every deployment with warm workers up to now, and look at its balance; how many there were."""
    rows = Deployment.objects.filter(Q(warm_billed_until__isnull=False) | (Q(min_workers__gt=0) & Q(state=State.READY)))
    found = list(rows.values_list("pk", flat=True))
    for deployment_id in found:
        try:
            _look(deployment_id)
        except (errors.Overloaded, OSError):
            log.exception("warm workers wait to be billed", extra={"deployment": str(deployment_id)})
    return len(found)


def bill(row: Deployment, now: datetime | None = None) -> int:
    """Charge ``row`` (locked, in a transaction) for its warm workers up to ``now``; microcredits. Saves nothing of it.

    Begins to count where workers are kept and ends where none are (any more). Raises Overloaded without a price.
    """
    now = now or clock.now()
    keeps = row.min_workers > 0 and row.warm_stopped_at is None and not row.is_deleted and bool(row.endpoint_id)
    since, row.warm_billed_until = row.warm_billed_until, now if keeps else None
    if since is None:
        return 0
    seconds = max((now - since) // _SECOND, 0)
    if keeps:
        row.warm_billed_until = since + timedelta(seconds=seconds)  # the rest of a second waits for the next stretch
    return _charge(row, since, seconds) if seconds and row.min_workers else 0


def hourly(row: Deployment) -> int:
    """Microcredits an hour of its warm workers. Raises Overloaded without a price."""
    return rates.of_warm(row.gpu_types).charge(3_600_000) * row.min_workers


@transaction.atomic
def _look(deployment_id: UUID) -> None:
    row = Deployment.objects.select_for_update().get(pk=deployment_id)
    bill(row)
    if row.warm_billed_until is not None:
        _heed_balance(row)
    row.save(update_fields=["warm_billed_until", "warm_warned_at", "warm_stopped_at", "wanted_version", "run_after"])


def _charge(row: Deployment, since: datetime, seconds: int) -> int:
    tariff = rates.of_warm(row.gpu_types)
    milliseconds = seconds * 1000 * row.min_workers
    amount, made = tariff.charge(milliseconds), ids.uuid7()
    logged = LogRow(
        request_id=made,
        workspace_id=row.workspace_id,
        endpoint=KIND,
        model=row.slug,
        status=200,
        latency_ms=0,
        key_id=row.pk,
        key_name=row.name,
        provider=row.engine,
        units=Decimal(milliseconds) / 1000,
        price_id=tariff.price_id,
        charge_lines=(tariff.line(milliseconds),),
    )
    WarmCharge.objects.create(
        id=made,
        deployment=row,
        since=since,
        until=since + timedelta(seconds=seconds),
        workers=row.min_workers,
        charged_microcredits=amount,
    )
    metering.apply_now(Settle(made, row.workspace_id, row.pk, amount, logged))
    return amount


def _heed_balance(row: Deployment) -> None:
    wallet = Wallet.objects.get(pk=row.workspace_id)
    an_hour = hourly(row)
    left = wallet.available_microcredits
    if left >= an_hour * WARN_BEFORE / timedelta(hours=1):
        row.warm_warned_at = None
        return
    stops = left < an_hour * STOP_BEFORE / timedelta(hours=1)
    if row.warm_warned_at is None:
        row.warm_warned_at = clock.now()
        _mail(row, wallet, an_hour)
    elif stops:
        row.warm_stopped_at = row.run_after = clock.now()
        row.wanted_version += 1
        row.warm_billed_until = None


def _mail(row: Deployment, wallet: Wallet, an_hour: int) -> None:
    context = {
        "workspace": row.workspace,
        "deployment": row,
        "balance": money.credits(wallet.available_microcredits),
        "hourly": money.credits(an_hour),
        "page_url": settings.SITE_URL + reverse("infra:deployment", args=[row.pk]),
    }
    members = Membership.objects.filter(workspace_id=row.workspace_id, user__is_active=True).select_related("user")
    for member in members:
        if allows(member.role, Permission.BILLING_WRITE) or allows(member.role, Permission.GPU_WRITE):
            emails.message("warm_workers", context, to=member.user.email).send()
