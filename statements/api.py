"""``/api/billing``: statements and the billing profile, for scripts that hold a session. Amounts are credits."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router, Schema
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from core import clock, money
from events import audit
from orgs import access
from orgs.access import Access
from orgs.permissions import Permission
from statements import composing, profiles
from statements.composing import Share, Statement
from statements.models import LINES
from statements.months import Month
from usage.queries import ModelCost

router = Router(tags=["Billing"])


class _Answer(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class FlowOut(_Answer):
    """What moved under one heading; negative: out of the wallet."""

    kind: str = Field(description="`topup`, `grant`, `refund`, … and `usage:` with the credits that paid it.")
    credits: int | float


class MovementOut(_Answer):
    """One transfer that is no call."""

    at: datetime
    kind: str
    reference: UUID
    credits: int | float


class ModelOut(_Answer):
    model: str
    requests: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    credits: int | float


class ShareOut(_Answer):
    """What a key or a member used; `id` is null where none is known."""

    id: UUID | None
    name: str
    requests: int
    credits: int | float


class StatementOut(_Answer):
    number: str
    month: str
    is_closed: bool
    opening_credits: int | float
    closing_credits: int | float
    flows: list[FlowOut]
    movements: list[MovementOut]
    models: list[ModelOut]
    keys: list[ShareOut]
    members: list[ShareOut]


class ProfileOut(_Answer):
    """Who statements are made out to."""

    legal_name: str
    email: str
    address: str
    tax_id: str


class ProfileChange(Schema):
    """A member that is left out stays as it is."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")

    legal_name: str = Field(default="", max_length=160)
    email: str = Field(default="", max_length=254)
    address: str = Field(default="", max_length=400, description=f"At most {LINES} lines.")
    tax_id: str = Field(default="", max_length=40)


class Chosen(Schema):
    """Which workspace is meant; the one in use where nothing is said."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")

    organization_id: UUID | None = None


@router.get(
    "/statements/{month}", auth=access.member(), response=StatementOut, by_alias=True, summary="A month's statement"
)
def read_statement(request: HttpRequest, month: str, chosen: Query[Chosen]) -> dict[str, Any]:
    """The statement of a calendar month (UTC) such as `2026-05`; of the running one so far."""
    place = _place(request, chosen, Permission.BILLING_READ)
    wanted = Month.parse(month)
    if wanted is None or not composing.first_month(place.workspace.pk) <= wanted <= Month.of(clock.now()):
        access.not_found()
    return _shown(composing.compose(place.workspace.pk, wanted))


@router.get("/profile", auth=access.member(), response=ProfileOut, by_alias=True, summary="The billing profile")
def read_profile(request: HttpRequest, chosen: Query[Chosen]) -> Any:
    return profiles.newest(_place(request, chosen, Permission.BILLING_READ).workspace.pk)


@router.patch(
    "/profile", auth=access.member(), response=ProfileOut, by_alias=True, summary="Change the billing profile"
)
def change_profile(request: HttpRequest, body: ProfileChange, chosen: Query[Chosen]) -> Any:
    place = _place(request, chosen, Permission.BILLING_WRITE)
    given = {name: getattr(body, name) for name in body.model_fields_set}
    return profiles.change(place.workspace, actor=audit.actor_of(request), **given)


def _place(request: HttpRequest, chosen: Chosen, permission: Permission) -> Access:
    place = access.current(request)
    if chosen.organization_id is not None:
        place = access.in_workspace(place.user, chosen.organization_id)
    place.require(permission)
    return place


def _shown(made: Statement) -> dict[str, Any]:
    credits = money.credits_json
    return {
        "number": made.number,
        "month": str(made.month),
        "is_closed": made.is_closed,
        "opening_credits": credits(made.opening_microcredits),
        "closing_credits": credits(made.closing_microcredits),
        "flows": [{"kind": flow.key, "credits": credits(flow.amount_microcredits)} for flow in made.flows],
        "movements": [
            {"at": one.at, "kind": one.key, "reference": one.reference, "credits": credits(one.amount_microcredits)}
            for one in made.movements
        ],
        "models": [_model(cost) for cost in made.models],
        "keys": [_share(share) for share in made.keys],
        "members": [_share(share) for share in made.members],
    }


def _model(cost: ModelCost) -> dict[str, Any]:
    sums = cost.totals
    return {
        "model": cost.model,
        "requests": sums.requests,
        "input_tokens": sums.input_tokens,
        "cached_input_tokens": sums.cached_input_tokens,
        "output_tokens": sums.output_tokens,
        "credits": money.credits_json(sums.charged_microcredits),
    }


def _share(share: Share) -> dict[str, Any]:
    amount = money.credits_json(share.charged_microcredits)
    return {"id": share.id, "name": share.name, "requests": share.requests, "credits": amount}
