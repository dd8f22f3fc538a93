"""``/api/vouchers``: redeem a code with a signed-in session. Amounts are credits."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from core import money
from events import audit
from orgs import access
from orgs.permissions import Permission
from vouchers import codes, redeeming

router = Router(tags=["Billing"])


class RedeemIn(Schema):
    """A code, for the workspace in use or for the organization named."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")

    code: str = Field(max_length=codes.MOST_TYPED)
    organization_id: UUID | None = None


class RedemptionOut(Schema):
    """What the voucher gave to this workspace, and when."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    id: UUID
    credits: int | float
    redeemed_at: datetime
    credits_expire_at: datetime | None


@router.post(
    "/redeem",
    auth=access.member(),
    response={200: RedemptionOut, 201: RedemptionOut},
    by_alias=True,
    summary="Redeem a voucher",
)
def redeem(request: HttpRequest, body: RedeemIn) -> Status[dict[str, Any]]:
    """201 with what was credited; 200 with the same where this workspace redeemed the code before."""
    place = access.current(request)
    if body.organization_id is not None:
        place = access.in_workspace(place.user, body.organization_id)
    place.require(Permission.BILLING_WRITE)
    done = redeeming.redeem(place.workspace, body.code, actor=audit.actor_of(request))
    redemption = done.redemption
    shown = {
        "id": redemption.pk,
        "credits": money.credits_json(redemption.amount_microcredits),
        "redeemed_at": redemption.redeemed_at,
        "credits_expire_at": redemption.credits_expire_at,
    }
    return Status(200 if done.again else 201, shown)
