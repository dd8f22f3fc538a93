"""Sets limits and warnings, and reads them beside what is used of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from billing.models import SpendMeter
from core import clock, errors, money
from events import audit
from limits import moving
from limits.models import LowBalance, SpendingLimit
from orgs.models import Membership, Workspace

Scope = SpendMeter.Scope

#: A hundred million credits: what nobody means by a monthly limit is a slip of the hand.
MOST_MICROCREDITS = 10**8 * money.MICROCREDITS_PER_CREDIT


@dataclass(frozen=True, slots=True)
class Use:
    """One meter of this month with its limit. Microcredits; ``limit`` None where there is none."""

    limit: int | None
    spent: int
    held: int


def set_member(membership: Membership, amount_microcredits: int | None, *, actor: audit.Actor) -> None:
    """Limit what a member's keys may spend of the organization's credits in a month; None takes the limit away."""
    target = audit.Target("membership", membership.pk, membership.user.email)
    _set(membership.workspace, Scope.MEMBER, membership.pk, amount_microcredits, actor, target)


def set_workspace(workspace: Workspace, amount_microcredits: int | None, *, actor: audit.Actor) -> None:
    """Limit what an organization may spend in a month; None takes the limit away."""
    target = audit.Target("workspace", workspace.pk, workspace.name)
    _set(workspace, Scope.WORKSPACE, workspace.pk, amount_microcredits, actor, target)


def set_low_balance(workspace: Workspace, below_microcredits: int | None, *, actor: audit.Actor) -> None:
    """Warn by mail when the balance falls below an amount; None warns no more. Raises InvalidRequest."""
    if below_microcredits is not None and not 0 < below_microcredits <= MOST_MICROCREDITS:
        raise errors.InvalidRequest(_("Enter an amount above 0."), param="low_balance")
    with transaction.atomic():
        before = LowBalance.objects.select_for_update().filter(pk=workspace.pk).first()
        if (before.below_microcredits if before else None) == below_microcredits:
            return
        if below_microcredits is None:
            LowBalance.objects.filter(pk=workspace.pk).delete()
        else:
            values = {"below_microcredits": below_microcredits, "warned": False}
            LowBalance.objects.update_or_create(workspace=workspace, defaults=values)
        target = audit.Target("workspace", workspace.pk, workspace.name)
        details = {"below_credits": _credits(below_microcredits)}
        audit.record("low_balance.set", actor=actor, target=target, workspace_id=workspace.pk, details=details)


def uses(workspace: Workspace) -> dict[UUID, Use]:
    """This month of the organization and of its members, by the id of the workspace and of the memberships."""
    scope_ids = [workspace.pk, *workspace.memberships.values_list("pk", flat=True)]
    limits = dict(SpendingLimit.objects.filter(scope_id__in=scope_ids).values_list("scope_id", "amount_microcredits"))
    meters = {
        meter.scope_id: meter
        for meter in SpendMeter.objects.filter(
            scope__in=[Scope.MEMBER, Scope.WORKSPACE], scope_id__in=scope_ids, month=clock.month_of(clock.now())
        )
    }
    return {
        scope_id: Use(
            limit=limits.get(scope_id),
            spent=meters[scope_id].spent_microcredits if scope_id in meters else 0,
            held=meters[scope_id].held_microcredits if scope_id in meters else 0,
        )
        for scope_id in scope_ids
    }


def _set(
    workspace: Workspace,
    scope: SpendMeter.Scope,
    scope_id: UUID,
    amount_microcredits: int | None,
    actor: audit.Actor,
    target: audit.Target,
) -> None:
    if workspace.kind != Workspace.Kind.ORGANIZATION:
        raise errors.InvalidRequest(_("Only organizations have limits above those of keys."), param="spending_limit")
    if amount_microcredits is not None and not 0 <= amount_microcredits <= MOST_MICROCREDITS:
        raise errors.InvalidRequest(_("Enter an amount of 0 or more."), param="spending_limit")
    with transaction.atomic():
        found = SpendingLimit.objects.select_for_update().filter(scope=scope, scope_id=scope_id)
        before = found.first()
        if (before.amount_microcredits if before else None) == amount_microcredits:
            return
        if amount_microcredits is None:
            found.delete()
        else:
            values: dict[str, Any] = {"workspace": workspace, "amount_microcredits": amount_microcredits}
            SpendingLimit.objects.update_or_create(scope=scope, scope_id=scope_id, defaults=values)
        moving.moved(workspace.pk, scope, scope_id)
        details = {"from_credits": _credits(before.amount_microcredits if before else None)}
        details["to_credits"] = _credits(amount_microcredits)
        audit.record("limit.set", actor=actor, target=target, workspace_id=workspace.pk, details=details)


def _credits(amount_microcredits: int | None) -> str | None:
    return None if amount_microcredits is None else str(money.credits(amount_microcredits))
