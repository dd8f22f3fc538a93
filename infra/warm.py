"""Workers that are kept warm on purpose are paid for by the second, and no second is spent that was not reserved.

A stretch (`infra.models.WarmCharge`) is a hold of the books that is always some way ahead of the clock: reserved before
the engine is told to keep workers, counted from when it has been told, extended by a sweep, settled after some minutes
and followed by the next one. It counts on the meters of whoever asked for the workers: an API key, or a person's own
standing key. Where the wallet, a limit or the key refuses, people get a mail, what is reserved is used up, and then
none are kept until somebody saves the deployment again.

Deployments are locked before wallets. What an engine went on to keep while no sweep ran is charged beyond the hold.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.urls import reverse

from accounts import emails
from billing.models import Wallet
from core import clock, errors, faults, ids, money
from events import audit
from infra import rates
from infra.models import Deployment, WarmCharge
from keys import internal
from keys.models import ApiKey
from orgs.models import Membership
from orgs.permissions import Permission, allows
from usage import metering
from usage.items import Admit, Extend, Extended, LogRow, Refused, Settle, Void

log = logging.getLogger(__name__)

Because = Deployment.StoppedBecause

#: The word in the log's column ``endpoint``.
KIND: Final = "gpu_warm"
#: So far ahead of the clock workers are reserved; a sweep comes several times in that.
AHEAD: Final = timedelta(seconds=120)
#: Where no more is to be had, workers go when so little of what is reserved is left.
SPARE: Final = timedelta(seconds=60)
#: A stretch is settled, and the next one begun, after so long.
STRETCH: Final = timedelta(minutes=10)
#: A balance that pays for less than this is warned of.
WARN_BEFORE: Final = timedelta(hours=1)
_SECOND: Final = timedelta(seconds=1)
_REASONS: Final = {
    errors.InsufficientCredits.type: Because.BALANCE,
    errors.SpendingLimitExceeded.type: Because.LIMIT,
    errors.AuthenticationFailed.type: Because.KEY,
}


# ── By itself ────────────────────────────────────────────────────────────────────────────────────────────────────────
def sweep() -> int:
    """Reserve ahead for every deployment that keeps workers, and look at its balance; how many there were."""
    found = list(_running().values_list("deployment_id", flat=True))
    for deployment_id in found:
        try:
            _look(deployment_id)
        except Exception:  # one that breaks must not keep the others from being reserved
            log.exception("warm workers could not be looked at", extra={"deployment": str(deployment_id)})
    return len(found)


@transaction.atomic
def _look(deployment_id: UUID) -> None:
    row = Deployment.objects.select_for_update().get(pk=deployment_id)
    stretch = _open(row)
    if stretch is None or stretch.since is None or stretch.until is None:
        return
    now, refused = clock.now(), False
    if now - stretch.since >= STRETCH:
        _renew(row, stretch, stretch.workers)
    elif not _extended(stretch, now):
        refused = True
        if stretch.until - now <= SPARE:
            _renew(row, stretch, stretch.workers)  # refused once more, it says why
    if row.warm_stopped_at is None:
        _heed(row, stretch, refused=refused)
    row.save()


# ── Around what the engine is told ───────────────────────────────────────────────────────────────────────────────────
def prepare(row: Deployment) -> int | None:
    """How many workers the engine may be told to keep for a deployment as ``row`` read it, once they are reserved.

    None where the lease in ``row`` is lost.
    """
    with transaction.atomic():
        now = Deployment.objects.select_for_update().filter(pk=row.pk, lease=row.lease).first()
        if now is None:
            return None
        workers = min(_wanted(now), row.min_workers)
        stretch = _open(now)
        if stretch is not None and stretch.since is None and (stretch.workers != workers or _is_dearer(now, stretch)):
            _release(stretch)
            stretch = None
        if workers and stretch is None:
            _begin(now, workers, hold_for=workers)
        elif workers and stretch is not None and (workers > stretch.workers or _is_dearer(now, stretch)):
            _renew(now, stretch, stretch.workers, hold_for=workers)
        if now.warm_stopped_at is not None:
            workers = 0
        now.save()
    return workers


def confirm(row: Deployment, told: int) -> None:
    """The engine keeps ``told`` workers from now on: they are counted. ``row`` is locked; saves nothing of it."""
    stretch, workers = _open(row), min(told, _wanted(row))
    if stretch is None:
        return
    if not workers:
        end(row)
    elif stretch.since is None:
        stretch.since = clock.now()
        stretch.until = stretch.since + AHEAD
        stretch.save()
    elif workers != stretch.workers or _tariff_of(stretch) != _tariff_now(row):
        _renew(row, stretch, workers)


def lower(row: Deployment) -> None:
    """Somebody wants fewer: that counts at once, whenever the engine hears of it. ``row`` is locked; saves nothing."""
    stretch = _open(row)
    if stretch is not None and stretch.since is not None and row.min_workers < stretch.workers:
        if row.min_workers:
            _renew(row, stretch, row.min_workers)
        else:
            end(row)


def end(row: Deployment) -> None:
    """No worker is kept any more: charge what was, give back the rest. ``row`` is locked; saves nothing of it."""
    stretch = _open(row)
    if stretch is not None:
        _settle(row, stretch)


def release(row: Deployment) -> None:
    """Give back what was reserved for workers that the engine did not take. ``row`` is locked."""
    stretch = _open(row)
    if stretch is not None and stretch.since is None:
        _release(stretch)


# ── Who pays ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def charge_to(row: Deployment, *, user_id: UUID | None, key_id: UUID | None, actor: audit.Actor) -> None:
    """From now on workers count on the meters of that API key, or of that person. Saves nothing of ``row``."""
    before = row.warm_key_id
    if key_id is None and before is not None and internal.stands_for(before, user_id):
        return
    row.warm_key_id = key_id
    if key_id is None:
        row.warm_key_id = internal.standing(row.workspace_id, user_id, name=row.name, actor=actor).pk
    if before is not None and before != row.warm_key_id:
        internal.end_standing(before, actor=actor)


def forget_payer(row: Deployment, actor: audit.Actor) -> None:
    """End the standing key of a deployment that goes. Saves nothing of ``row``."""
    if row.warm_key_id is not None:
        internal.end_standing(row.warm_key_id, actor=actor)


def hourly(row: Deployment) -> int:
    """Microcredits an hour of its warm workers. Raises Overloaded without a price."""
    return rates.of_warm(row.gpu_types).charge(3_600_000) * row.min_workers


# ── Stretches ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _running() -> QuerySet[WarmCharge]:
    return WarmCharge.objects.filter(charged_microcredits__isnull=True, since__isnull=False)


def _open(row: Deployment) -> WarmCharge | None:
    return WarmCharge.objects.filter(deployment=row, charged_microcredits__isnull=True).first()


def _wanted(row: Deployment) -> int:
    return 0 if row.is_deleted or row.warm_stopped_at is not None else row.min_workers


def _tariff_of(stretch: WarmCharge) -> rates.Tariff:
    assert stretch.price_id is not None
    return rates.warm_tariff(stretch.price_id, stretch.gpu_type, stretch.microcredits_per_second)


def _tariff_now(row: Deployment) -> rates.Tariff | None:
    try:
        return rates.of_warm(row.gpu_types)
    except errors.Overloaded:
        return None


def _is_dearer(row: Deployment, stretch: WarmCharge) -> bool:
    tariff = _tariff_now(row)
    return tariff is None or tariff.microcredits_per_second > stretch.microcredits_per_second


def _extended(stretch: WarmCharge, now: datetime) -> bool:
    """Reserve up to ``AHEAD`` of now. False where the wallet, a limit or the key refuses."""
    assert stretch.since is not None
    until = now + AHEAD
    amount = _tariff_of(stretch).charge((until - stretch.since) // _SECOND * 1000 * stretch.workers)
    workspace_id = stretch.deployment.workspace_id
    result = metering.apply_now(Extend(stretch.pk, workspace_id, stretch.key_id, amount))
    if not isinstance(result, Extended) or not result.granted:
        return False
    stretch.until = until
    stretch.save(update_fields=["until"])
    return True


def _renew(row: Deployment, stretch: WarmCharge, workers: int, *, hold_for: int = 0) -> None:
    """Settle a stretch and go on without a gap, with ``workers`` (and a hold for more), or stop the workers."""
    since = _settle(row, stretch)
    made = _begin(row, workers, hold_for=max(hold_for, workers))
    if made is not None:
        made.since, made.until = since, since + AHEAD
        made.save()


def _begin(row: Deployment, workers: int, *, hold_for: int) -> WarmCharge | None:
    """Reserve ``AHEAD``; the stretch, not counted yet. None where that is refused: then no worker is kept any more."""
    tariff = _tariff_now(row)
    if tariff is None:
        _stop(row, Because.PRICE)
        return None
    if row.warm_key_id is None:
        charge_to(row, user_id=row.created_by_id, key_id=None, actor=audit.SYSTEM)
    assert row.warm_key_id is not None
    made = WarmCharge(
        id=ids.uuid7(),
        deployment=row,
        workers=workers,
        key_id=row.warm_key_id,
        price_id=tariff.price_id,
        gpu_type=tariff.gpu_type,
        microcredits_per_second=tariff.microcredits_per_second,
    )
    admission = Admit(
        hold_id=made.pk,
        workspace_id=row.workspace_id,
        key_id=row.warm_key_id,
        amount_microcredits=tariff.charge(AHEAD // _SECOND * 1000 * hold_for),
        owner_id=None,
        endpoint=KIND,
        model=row.slug,
        price_id=tariff.price_id,
    )
    result = metering.apply_now(admission)
    if isinstance(result, Refused):
        _stop(row, _REASONS.get(result.error().type, Because.BALANCE))
        return None
    made.save(force_insert=True)
    return made


def _settle(row: Deployment, stretch: WarmCharge) -> datetime:
    """Charge a stretch's whole seconds; up to when. What is left of a second waits for the next stretch."""
    now = clock.now()
    seconds = (now - stretch.since) // _SECOND if stretch.since is not None else 0
    if stretch.since is None or seconds <= 0:
        _release(stretch)
        return stretch.since or now
    tariff, milliseconds = _tariff_of(stretch), seconds * 1000 * stretch.workers
    stretch.charged_microcredits = tariff.charge(milliseconds)
    stretch.until = stretch.since + timedelta(seconds=seconds)
    key = ApiKey.objects.filter(pk=stretch.key_id).values_list("name", "created_by_id").first() or (row.name, None)
    logged = LogRow(
        request_id=stretch.pk,
        workspace_id=row.workspace_id,
        endpoint=KIND,
        model=row.slug,
        status=200,
        latency_ms=0,
        user_id=key[1],
        key_id=stretch.key_id,
        key_name=key[0],
        provider=row.engine,
        units=Decimal(milliseconds) / 1000,
        price_id=stretch.price_id,
        charge_lines=(tariff.line(milliseconds),),
    )
    stretch.save()
    metering.apply_now(Settle(stretch.pk, row.workspace_id, stretch.key_id, stretch.charged_microcredits, logged))
    faults.point("warm.settled")
    return stretch.until


def _release(stretch: WarmCharge) -> None:
    """Give a stretch back in which nothing was kept."""
    metering.apply_now(Void(stretch.pk, stretch.deployment.workspace_id, stretch.key_id))
    stretch.delete()


def _stop(row: Deployment, because: Because) -> None:
    """Have the engine keep none; the deployment says so until somebody saves it. Saves nothing of ``row``."""
    if row.warm_warned_at is None:
        _warn(row, because)
    row.warm_stopped_at = row.run_after = clock.now()
    row.warm_stopped_because = because
    row.wanted_version += 1


# ── What people are told ─────────────────────────────────────────────────────────────────────────────────────────────
def _heed(row: Deployment, stretch: WarmCharge, *, refused: bool) -> None:
    """Tell of workers that will go soon, and be ready to tell again once they won't any more."""
    tariff, left = _tariff_of(stretch), _left(row)
    if left < tariff.charge(WARN_BEFORE // _SECOND * 1000 * stretch.workers):
        _warn(row, Because.BALANCE)
    elif refused:
        _warn(row, Because.LIMIT)
    else:
        row.warm_warned_at = None


def _warn(row: Deployment, because: Because) -> None:
    """Mail once, after the transaction: nobody's calls wait for a mail server. Saves nothing of ``row``."""
    if row.warm_warned_at is not None:
        return
    row.warm_warned_at = clock.now()
    transaction.on_commit(lambda: _mail(row.pk, because))


def _mail(deployment_id: UUID, because: Because) -> None:
    row = Deployment.objects.select_related("workspace").get(pk=deployment_id)
    tariff = _tariff_now(row)
    context = {
        "workspace": row.workspace,
        "deployment": row,
        "stopped": row.warm_stopped_at is not None,
        "because": because.value,
        "balance": money.credits(_left(row)),
        "hourly": money.credits(tariff.charge(3_600_000) * row.min_workers if tariff is not None else 0),
        "page_url": settings.SITE_URL + reverse("infra:deployment", args=[row.pk]),
    }
    members = Membership.objects.filter(workspace_id=row.workspace_id, user__is_active=True).select_related("user")
    concerned = [
        member.user.email
        for member in members
        if allows(member.role, Permission.BILLING_WRITE) or allows(member.role, Permission.GPU_WRITE)
    ]
    try:
        emails.deliver(emails.message("warm_workers", context, to=address) for address in concerned)
    except OSError:  # the next sweep tells them, while there is one
        log.exception("a mail about warm workers waits", extra={"deployment": str(row.pk)})
        Deployment.objects.filter(pk=row.pk, warm_stopped_at=None).update(warm_warned_at=None)


def _left(row: Deployment) -> int:
    return Wallet.objects.get(pk=row.workspace_id).available_microcredits
