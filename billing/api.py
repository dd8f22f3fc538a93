"""``/api/billing``: balance, top-ups, automatic top-ups, for scripts that hold a person's session. Amounts are credits.

A payment is made by a person in a browser: the answer to a new top-up holds the address of its pay page.
"""

from __future__ import annotations

import uuid
from datetime import date, datetime
from typing import Annotated, Any, Final
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from ninja import Query, Router, Schema, Status
from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from accounts import reauth
from billing import auto, customers, links, stripe_payments, topups
from billing.models import AutoTopUp, CreditLot, Customer, Reversal, TopUp, Wallet
from core import clock, errors, ids, money
from events import audit
from idempotency import management
from orgs import access
from orgs.access import Access
from orgs.permissions import Permission

router = Router(tags=["Billing"])

MOST_LISTED: Final = 100
_CREDIT: Final = money.MICROCREDITS_PER_CREDIT

Number = int | float


def _microcredits(value: object) -> int:
    amount = money.parse_credits(value)
    if amount <= 0:
        raise ValueError("must be more than zero")
    return amount


def _whole_cents(value: object) -> int:
    """Credits that are paid for: one is one cent."""
    cents, rest = divmod(_microcredits(value), _CREDIT)
    if rest:
        raise ValueError("must be whole credits: one is one cent")
    return cents


_NUMBER: Final = WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.000001})
_WHOLE: Final = WithJsonSchema({"type": "integer", "minimum": 1})
Credits = Annotated[int, BeforeValidator(_microcredits), _NUMBER]
Cents = Annotated[int, BeforeValidator(_whole_cents), _WHOLE]


class _In(Schema):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class _Out(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Chosen(_In):
    """Which workspace is meant; the one in use where nothing is said."""

    organization_id: UUID | None = None


class Older(Chosen):
    limit: int = Field(default=20, ge=1, le=MOST_LISTED)
    before: UUID | None = Field(default=None, description="`nextCursor` of the page before.")


class NewTopUp(_In):
    """Credits to buy: 100 are 1.00 USD, tax comes on top."""

    credits: Cents
    save_card: bool = Field(default=False, description="Keep the card, so that automatic top-ups can charge it.")


class Rule(_In):
    """Below so many credits buy so many, so many a calendar month (UTC) at most."""

    enabled: bool
    below_credits: Credits
    amount_credits: Cents
    monthly_cap_credits: Cents


class LotOut(_Out):
    kind: str
    remaining_credits: Number
    expires_at: datetime | None


class CardOut(_Out):
    brand: str
    last4: str
    expires: date | None


class RuleOut(_Out):
    enabled: bool
    below_credits: Number
    amount_credits: Number
    monthly_cap_credits: Number
    charged_this_month_credits: Number
    paused_for: str | None = Field(description="Why nothing is charged although it is enabled.")


class BillingOut(_Out):
    balance_credits: Number = Field(description="May be below zero.")
    held_credits: Number = Field(description="Reserved by running calls.")
    available_credits: Number
    demo: bool = Field(description="No card is charged here.")
    lots: list[LotOut]
    saved_card: CardOut | None
    auto_topup: RuleOut | None


class ReversalOut(_Out):
    id: UUID
    kind: str
    state: str
    credits: Number = Field(description="The money that goes back, in credits.")
    taken_credits: Number = Field(description="What it took out of the balance and has not given back.")
    created_at: datetime


class TopUpOut(_Out):
    id: UUID
    state: str
    source: str
    credits: Number
    demo: bool
    failure: str | None
    checkout_url: str | None
    receipt_url: str | None
    created_at: datetime
    completed_at: datetime | None
    reversals: list[ReversalOut]


class TopUpList(_Out):
    topups: list[TopUpOut]
    next_cursor: UUID | None


class PortalOut(_Out):
    url: str


@router.get("", auth=access.member(), response=BillingOut, by_alias=True, summary="Balance, credits, saved card")
def overview(request: HttpRequest, chosen: Query[Chosen]) -> dict[str, Any]:
    place = _place(request, chosen, Permission.BILLING_READ)
    wallet = Wallet.objects.get(pk=place.workspace.pk)
    lots = CreditLot.objects.filter(wallet=wallet, remaining_microcredits__gt=0).order_by("expires_at", "pk")
    rule = AutoTopUp.objects.filter(pk=wallet.pk).first()
    return {
        "balance_credits": money.credits_json(wallet.balance_microcredits),
        "held_credits": money.credits_json(wallet.held_microcredits),
        "available_credits": money.credits_json(wallet.available_microcredits),
        "demo": settings.DEMO_PAYMENTS,
        "lots": [
            {
                "kind": lot.kind,
                "remaining_credits": money.credits_json(lot.remaining_microcredits),
                "expires_at": lot.expires_at,
            }
            for lot in lots
        ],
        "saved_card": _card(customers.of(wallet.pk)),
        "auto_topup": _rule(rule) if rule else None,
    }


@router.get("/topups", auth=access.member(), response=TopUpList, by_alias=True, summary="Top-ups, newest first")
def list_topups(request: HttpRequest, older: Query[Older]) -> dict[str, Any]:
    place = _place(request, older, Permission.BILLING_READ)
    rows = TopUp.objects.filter(wallet_id=place.workspace.pk).prefetch_related("reversals").order_by("-pk")
    if older.before is not None:
        rows = rows.filter(pk__lt=older.before)
    found = list(rows[: older.limit + 1])
    more = len(found) > older.limit
    shown = found[: older.limit]
    return {"topups": [_topup(one) for one in shown], "next_cursor": shown[-1].pk if more else None}


@router.post("/topups", auth=access.member(), response={201: TopUpOut}, by_alias=True, summary="Begin a top-up")
@management.own_steps
def start_topup(request: HttpRequest, body: NewTopUp, chosen: Query[Chosen]) -> Status[dict[str, Any]]:
    place = _place(request, chosen, Permission.BILLING_WRITE)
    topup = topups.start(
        place.workspace,
        actor=audit.actor_of(request),
        amount_cents=body.credits,
        form_token=management.token(request) or uuid.uuid4(),
        saves_card=body.save_card,
    )
    if topup.state in (TopUp.State.FAILED, TopUp.State.EXPIRED):
        raise errors.Conflict(
            _("The top-up of this Idempotency-Key is over: begin another one under a new key."), param=management.HEADER
        )
    return Status(201, _topup(topup))


@router.get("/topups/{topup_id}", auth=access.member(), response=TopUpOut, by_alias=True, summary="One top-up")
def get_topup(request: HttpRequest, topup_id: str) -> dict[str, Any]:
    """Asked of the payment provider where it is still open."""
    identifier = ids.parse(topup_id)
    topup = TopUp.objects.filter(pk=identifier).first() if identifier else None
    if topup is None:
        access.not_found()
    access.in_workspace(access.signed_in(request), topup.wallet_id).require(Permission.BILLING_READ)
    return _topup(topups.look_again(topup))


@router.put("/auto-topup", auth=access.member(), response=RuleOut, by_alias=True, summary="Set automatic top-ups")
def set_rule(request: HttpRequest, body: Rule, chosen: Query[Chosen]) -> dict[str, Any]:
    place = _place(request, chosen, Permission.BILLING_WRITE)
    reauth.check(request)
    try:
        rule = auto.configure(
            place.workspace,
            actor=audit.actor_of(request),
            enabled=body.enabled,
            below_microcredits=body.below_credits,
            amount_cents=body.amount_credits,
            monthly_cap_cents=body.monthly_cap_credits,
        )
    except errors.InvalidRequest as error:
        error.param = _MEMBERS.get(error.param or "", error.param)
        raise
    return _rule(rule)


_MEMBERS: Final = {
    "below_microcredits": "belowCredits",
    "amount_cents": "amountCredits",
    "monthly_cap_cents": "monthlyCapCredits",
}


@router.delete("/card", auth=access.member(), response={204: None}, summary="Remove the saved card")
@management.own_steps
def remove_card(request: HttpRequest, chosen: Query[Chosen]) -> Status[None]:
    place = _place(request, chosen, Permission.BILLING_WRITE)
    reauth.check(request)
    auto.remove_card(place.workspace, actor=audit.actor_of(request))
    return Status(204, None)


@router.post("/portal", auth=access.member(), response=PortalOut, by_alias=True, summary="Open the customer portal")
@management.own_steps
def open_portal(request: HttpRequest, chosen: Query[Chosen]) -> dict[str, Any]:
    """The payment provider's own pages for cards, invoices and tax ids."""
    place = _place(request, chosen, Permission.BILLING_WRITE)
    reauth.check(request)
    customer = customers.of(place.workspace.pk)
    if customer is None:
        access.not_found()
    return {"url": stripe_payments.open_portal(customer.stripe_id, settings.SITE_URL + reverse("billing:auto"))}


def _place(request: HttpRequest, chosen: Chosen, permission: Permission) -> Access:
    """The workspace in use, or the organization named, where the role allows ``permission``."""
    place = access.current(request)
    if chosen.organization_id is not None:
        place = access.in_workspace(place.user, chosen.organization_id)
    place.require(permission)
    return place


def _card(customer: Customer | None) -> dict[str, Any] | None:
    if customer is None or not customer.payment_method_id:
        return None
    return {"brand": customer.card_brand, "last4": customer.card_last4, "expires": customer.card_expires}


def _rule(rule: AutoTopUp) -> dict[str, Any]:
    return {
        "enabled": rule.enabled,
        "below_credits": money.credits_json(rule.below_microcredits),
        "amount_credits": rule.amount_cents,
        "monthly_cap_credits": rule.monthly_cap_cents,
        "charged_this_month_credits": auto.spent_this_month_cents(rule.pk, clock.now()),
        "paused_for": (rule.paused_for or None) if rule.enabled else None,
    }


def _topup(topup: TopUp) -> dict[str, Any]:
    return {
        "id": topup.pk,
        "state": topup.state,
        "source": topup.source,
        "credits": money.credits_json(topup.credits_microcredits),
        "demo": topup.is_demo,
        "failure": topup.failure or None,
        "checkout_url": links.checkout(topup) or None,
        "receipt_url": links.receipt(topup) or None,
        "created_at": topup.created_at,
        "completed_at": topup.completed_at,
        "reversals": [_reversal(one) for one in topup.reversals.all()],
    }


def _reversal(reversal: Reversal) -> dict[str, Any]:
    return {
        "id": reversal.pk,
        "kind": reversal.kind,
        "state": reversal.state,
        "credits": reversal.amount_cents,
        "taken_credits": money.credits_json(reversal.taken_microcredits),
        "created_at": reversal.created_at,
    }
