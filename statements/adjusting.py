"""An operator corrects a balance: one transfer in the ledger, one row in the audit trail, a reason in both hands."""

from __future__ import annotations

from typing import Final
from uuid import UUID, uuid5

from django.db import transaction
from django.utils.translation import gettext as _

from billing import ledger
from core import clock, errors, money
from events import audit
from orgs.models import Workspace

MOST_MICROCREDITS: Final = 10_000_000 * money.MICROCREDITS_PER_CREDIT
LEAST_REASON: Final = 5
MOST_REASON: Final = 200


def adjust(
    workspace: Workspace, *, amount_microcredits: int, reason: str, actor: audit.Actor, form_token: UUID
) -> bool:
    """Add credits, or take them where the amount is negative. The same form sent twice moves them once.

    False where this form was sent before. Raises InvalidRequest that names the member.
    """
    reason = " ".join(reason.split())
    if not 0 < abs(amount_microcredits) <= MOST_MICROCREDITS:
        raise errors.InvalidRequest(_("The amount must not be 0, and at most 10,000,000 credits."), param="amount")
    if not LEAST_REASON <= len(reason) <= MOST_REASON:
        raise errors.InvalidRequest(_("Give a reason of 5 to 200 characters."), param="reason")
    # Workspace and amount are part of the key: another wish on the same page is no double click.
    reference = uuid5(form_token, f"{workspace.pk} {amount_microcredits}")
    with transaction.atomic():
        moved = ledger.adjust(
            workspace.pk, amount_microcredits=amount_microcredits, reference=reference, at=clock.now()
        )
        if moved:
            audit.record(
                "credits.adjust",
                actor=actor,
                target=audit.Target("adjustment", reference, workspace.name),
                workspace_id=workspace.pk,
                details={"amount_credits": str(money.credits(amount_microcredits)), "reason": reason},
            )
    return moved
