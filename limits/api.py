"""``/api/limits``: what an organization and its members may spend in a month, for scripts that hold a person's session.

Amounts are credits a calendar month (UTC), as everywhere in the management API; names are camelCase.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any
from uuid import UUID

from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Query, Router, Schema
from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from accounts import reauth
from core import clock, errors, money
from events import audit
from keys import rules
from limits import setting
from limits.models import LowBalance
from orgs import access
from orgs.access import Access
from orgs.models import Membership, Workspace
from orgs.permissions import Permission

router = Router(tags=["Limits"])

#: Members whose limits one request may set.
MOST_MEMBERS = 1000

Number = int | float
Credits = Annotated[
    int | None,
    BeforeValidator(rules.spending_limit),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.000001}, {"type": "null"}]}),
]


class _In(Schema):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class _Out(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Chosen(_In):
    """Which workspace is meant; the one in use where nothing is said."""

    organization_id: UUID | None = None


class MemberLimit(_In):
    member_id: UUID
    spending_limit: Credits = Field(description="null: no limit.")


class LimitsIn(_In):
    """What is left out stays as it is; `null` takes a limit or the warning away."""

    spending_limit: Credits = Field(default=None, description="What all of the organization may spend together.")
    low_balance: Credits = Field(default=None, description="A mail goes out once when the balance falls below it.")
    members: list[MemberLimit] = Field(default_factory=list, max_length=MOST_MEMBERS)


class UseOut(_Out):
    spending_limit: Number | None
    spent: Number = Field(description="Of this month.")
    held: Number = Field(description="Reserved by running calls; it counts against the limit.")


class MemberUseOut(UseOut):
    member_id: UUID
    user_id: UUID
    email: str
    name: str


class LimitsOut(UseOut):
    organization_id: UUID | None
    month: date = Field(description="Its first day (UTC).")
    low_balance: Number | None
    members: list[MemberUseOut]


@router.get("", auth=access.member(), response=LimitsOut, by_alias=True, summary="Limits, and what is used of them")
def get_limits(request: HttpRequest, chosen: Query[Chosen]) -> dict[str, Any]:
    return _shown(_place(request, chosen, Permission.BILLING_READ).workspace)


@router.put("", auth=access.member(), response=LimitsOut, by_alias=True, summary="Set limits")
def set_limits(request: HttpRequest, body: LimitsIn, chosen: Query[Chosen]) -> dict[str, Any]:
    """All that was sent, or nothing where any of it is refused. What stays as it was is not recorded."""
    workspace, actor = _place(request, chosen, Permission.BILLING_WRITE).workspace, audit.actor_of(request)
    reauth.check(request)
    rows = _members_of(workspace, body.members)
    with transaction.atomic():
        if "spending_limit" in body.model_fields_set:
            _set("spendingLimit", setting.set_workspace, workspace, body.spending_limit, actor)
        for place, row, amount in rows:
            _set(f"members.{place}.spendingLimit", setting.set_member, row, amount, actor)
        if "low_balance" in body.model_fields_set:
            _set("lowBalance", setting.set_low_balance, workspace, body.low_balance, actor)
    return _shown(workspace)


def _set(param: str, setter: Any, whose: Workspace | Membership, amount: int | None, actor: audit.Actor) -> None:
    """``setter``'s work. Raises its InvalidRequest with the name that the caller knows."""
    try:
        setter(whose, amount, actor=actor)
    except errors.InvalidRequest as error:
        error.param = param
        raise


def _members_of(workspace: Workspace, wanted: list[MemberLimit]) -> list[tuple[int, Membership, int | None]]:
    """(place in the request, member, amount), in an order in which two requests can't lock each other out.

    Raises InvalidRequest for somebody who is no member, or who is named twice.
    """
    rows = {row.pk: row for row in _memberships(workspace)}
    seen: set[UUID] = set()
    for place, each in enumerate(wanted):
        if each.member_id not in rows:
            raise errors.InvalidRequest(_("There is no such member."), param=f"members.{place}.memberId")
        if each.member_id in seen:
            raise errors.InvalidRequest(_("This member is named twice."), param=f"members.{place}.memberId")
        seen.add(each.member_id)
    found = [(place, rows[each.member_id], each.spending_limit) for place, each in enumerate(wanted)]
    return sorted(found, key=lambda one: one[1].pk)


def _shown(workspace: Workspace) -> dict[str, Any]:
    uses = setting.uses(workspace)
    low = LowBalance.objects.filter(pk=workspace.pk).values_list("below_microcredits", flat=True).first()
    members = [
        {
            **_use(uses[row.pk]),
            "member_id": row.pk,
            "user_id": row.user_id,
            "email": row.user.email,
            "name": row.user.name,
        }
        for row in _memberships(workspace)
    ]
    return {
        **_use(uses[workspace.pk]),
        "organization_id": workspace.pk if workspace.kind == Workspace.Kind.ORGANIZATION else None,
        "month": clock.month_of(clock.now()),
        "low_balance": None if low is None else money.credits_json(low),
        "members": members,
    }


def _use(use: setting.Use) -> dict[str, Number | None]:
    return {
        "spending_limit": None if use.limit is None else money.credits_json(use.limit),
        "spent": money.credits_json(use.spent),
        "held": money.credits_json(use.held),
    }


def _memberships(workspace: Workspace) -> list[Membership]:
    """An organization's members; a personal workspace has nobody whose month is counted."""
    if workspace.kind != Workspace.Kind.ORGANIZATION:
        return []
    return list(workspace.memberships.select_related("user").order_by("created_at", "id"))


def _place(request: HttpRequest, chosen: Chosen, permission: Permission) -> Access:
    """The workspace in use, or the organization named, where the role allows ``permission``."""
    place = access.current(request)
    if chosen.organization_id is not None:
        place = access.in_workspace(place.user, chosen.organization_id)
    place.require(permission)
    return place
