"""Money that goes back: refunds that somebody asks for, disputes that cardholders begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from billing.demo_stripe import records
from billing.demo_stripe.objects import Object
from billing.demo_stripe.params import Refused, missing
from billing.demo_stripe.store import Store

#: Disputes that nobody can close any more.
CLOSED: Final = ("won", "lost", "warning_closed")
_BOUNCED: Final = "insufficient_funds"


class Reversals:
    """Refunds and disputes of one account. ``tell`` makes an event, ``now`` gives the seconds since 1970."""

    def __init__(self, store: Store, tell: Callable[[str, Object], None], now: Callable[[], int]) -> None:
        self._store = store
        self._tell = tell
        self._now = now

    def create_refund(self, params: Mapping[str, Any]) -> Object:
        """A refund, whole or of ``amount`` cents. Raises Refused where Stripe would."""
        charge = self._charge(params)
        left = charge["amount_captured"] - charge["amount_refunded"]
        if charge["status"] != "succeeded":
            raise Refused(f"Charge {charge['id']} has not been paid.", param="charge")
        if charge["disputed"] and not self._may_refund(charge):
            raise Refused(f"Charge {charge['id']} has been charged back.", code="charge_disputed")
        if left == 0:
            raise Refused(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
        amount = params.get("amount", left)
        if not 0 < amount <= left:
            message = f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
            raise Refused(message, param="amount", code="amount_too_large" if amount > 0 else "parameter_invalid")
        slow = charge["payment_method_details"]["type"] != "card"
        refund = records.refund(
            charge, params, amount=amount, status="pending" if slow else "succeeded", now=self._now()
        )
        self._store.tables.refunds[refund["id"]] = refund
        self._count(charge)
        self._tell("refund.created", refund)
        self._tell("charge.refunded", charge)
        return refund

    def settle_refund(self, refund: Object, *, succeeds: bool) -> None:
        """A refund's end: it arrived, or the bank sent it back (which can come after it had arrived)."""
        changes = {"status": "succeeded"} if succeeds else {"status": "failed", "failure_reason": _BOUNCED}
        refund.update(changes, pending_reason=None)
        self._count(self._store.tables.charges[refund["charge"]])
        for type_ in ("refund.updated", "charge.refund.updated", *(() if succeeds else ("refund.failed",))):
            self._tell(type_, refund)

    def dispute(
        self, charge: Object, *, amount: int | None = None, reason: str = "fraudulent", inquiry: bool = False
    ) -> Object:
        """What a cardholder does at their bank. Raises Refused for a charge that can't be disputed."""
        if charge["status"] != "succeeded" or (charge["disputed"] and not self._may_refund(charge)):
            raise Refused(f"Charge {charge['id']} cannot be disputed.")
        amount = charge["amount"] if amount is None else amount
        dispute = records.dispute(charge, amount=amount, reason=reason, inquiry=inquiry, now=self._now())
        self._store.tables.disputes[dispute["id"]] = dispute
        charge["disputed"] = True
        self._tell("charge.dispute.created", dispute)
        if not inquiry:
            self._tell("charge.dispute.funds_withdrawn", dispute)
        return dispute

    def close_dispute(self, dispute: Object, status: str) -> Object:
        """End it: ``won`` by us, ``lost``, or ``warning_closed`` for an inquiry. Raises Refused for one that ended."""
        if dispute["status"] in CLOSED:
            raise Refused(f"This dispute is already closed ({dispute['status']}).")
        dispute["status"] = status
        if status == "won":
            self._tell("charge.dispute.funds_reinstated", dispute)
        self._tell("charge.dispute.closed", dispute)
        return dispute

    def escalate(self, dispute: Object) -> None:
        """An inquiry becomes a chargeback: now the money is gone."""
        dispute.update(status="needs_response", is_charge_refundable=False)
        self._tell("charge.dispute.updated", dispute)
        self._tell("charge.dispute.funds_withdrawn", dispute)

    def _charge(self, params: Mapping[str, Any]) -> Object:
        tables = self._store.tables
        if "charge" in params and "payment_intent" in params:
            raise Refused("You may only specify one of these parameters: charge, payment_intent.", param="charge")
        identifier = params.get("charge")
        if intent := tables.payment_intents.get(params.get("payment_intent", "")):
            identifier = intent["latest_charge"]
        elif "payment_intent" in params:
            raise Refused(
                f"No such payment_intent: '{params['payment_intent']}'", param="payment_intent", code="resource_missing"
            )
        if identifier is None:
            raise missing("charge")
        if identifier not in tables.charges:
            raise Refused(f"No such charge: '{identifier}'", param="charge", code="resource_missing")
        return tables.charges[identifier]

    def _may_refund(self, charge: Object) -> bool:
        disputes = [one for one in self._store.tables.disputes.values() if one["charge"] == charge["id"]]
        return all(one["is_charge_refundable"] or one["status"] == "won" for one in disputes)

    def _count(self, charge: Object) -> None:
        gone = ("failed", "canceled")
        mine = [one for one in self._store.tables.refunds.values() if one["charge"] == charge["id"]]
        total = sum(one["amount"] for one in mine if one["status"] not in gone)
        charge.update(amount_refunded=total, refunded=total == charge["amount_captured"])
