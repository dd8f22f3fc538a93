"""The headings of a statement in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from django.utils.functional import Promise
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from statements.composing import Flow, Movement
from vouchers.models import Redemption

#: In the order in which a statement shows them.
HEADINGS: Final[dict[str, Promise]] = {
    "topup": _("Top-ups"),
    "topup:demo": _("Demo top-ups (no card was charged)"),
    "grant": _("Gifts and vouchers"),
    "grant:demo": _("Demo credits"),
    "adjustment": _("Adjustments by the operator"),
    "refund": _("Refunds"),
    "dispute": _("Disputed payments"),
    "expiry": _("Expired credits"),
    "usage:paid": _("Calls, from paid credits"),
    "usage:promotional": _("Calls, from promotional credits"),
    "usage:demo": _("Calls, from demo credits"),
    "usage:debt": _("Calls beyond the balance"),
}

#: One movement, where its heading speaks of several.
_ONE: Final[dict[str, Promise]] = {
    "topup": _("Top-up"),
    "topup:demo": _("Demo top-up"),
    "grant": _("Gift"),
    "adjustment": _("Adjustment by the operator"),
    "refund": _("Refund"),
    "dispute": _("Disputed payment"),
}


def headed(flows: Sequence[Flow]) -> list[tuple[str, Flow]]:
    """The flows that moved anything, in order, each with its heading."""
    places = {key: place for place, key in enumerate(HEADINGS)}
    ordered = sorted(flows, key=lambda flow: (places.get(flow.key, len(places)), flow.key))
    return [(str(HEADINGS.get(flow.key) or flow.key), flow) for flow in ordered if flow.amount_microcredits]


def described(movements: Sequence[Movement]) -> list[tuple[str, Movement]]:
    """Each movement in words; a voucher goes by the end of its code."""
    grants = [movement.reference for movement in movements if movement.key == "grant"]
    rows = Redemption.objects.filter(pk__in=grants).values_list("pk", "voucher__ending")
    vouchers: dict[UUID, str] = dict(rows)
    return [(_one(movement, vouchers.get(movement.reference)), movement) for movement in movements]


def _one(movement: Movement, voucher: str | None) -> str:
    if voucher:
        return _t("Voucher …%(ending)s") % {"ending": voucher}
    return str(_ONE.get(movement.key) or HEADINGS.get(movement.key) or movement.key)
