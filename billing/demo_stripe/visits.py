"""What visitors of the stand-in's pages do: pay, confirm at the bank, dispute a payment, look after their cards."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from billing.demo_stripe import pages
from billing.demo_stripe.account import OUTCOMES, Account, NotOpen
from billing.demo_stripe.objects import Object
from billing.demo_stripe.params import Refused

_PAY: Final = re.compile(r"/c/pay/(\w+)")
_RECEIPT: Final = re.compile(r"/receipts/(\w+)")
_PORTAL: Final = re.compile(r"/p/session/(\w+)")


@dataclass(frozen=True, slots=True)
class Visit:
    """A page, or where to go. ``back`` are the addresses that the page's forms may lead to."""

    status: int = 200
    page: str = ""
    location: str = ""
    back: Sequence[str] = ()


NOTHING: Final = Visit(404, pages.nothing_here())


class Visits:
    """The pages of one account."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._tables = account.store.tables

    def get(self, path: str) -> Visit:
        """The page at ``path``."""
        with self.account.store.lock:
            if (match := _PAY.fullmatch(path)) and (session := self._tables.sessions.get(match[1])):
                return self._pay_page(session)
            if (match := _RECEIPT.fullmatch(path)) and (charge := self._tables.charges.get(match[1])):
                return Visit(page=pages.receipt(charge, self._dispute_of(charge)))
            if (match := _PORTAL.fullmatch(path)) and (portal := self._tables.portals.get(match[1])):
                return Visit(page=pages.portal(portal, self._cards_of(portal["customer"])))
        return NOTHING

    def post(self, path: str, form: Mapping[str, str]) -> Visit:
        """Do what a page's form says, and go on. A second click ends where the first one did."""
        answer: Visit | None = None
        with self.account.store.lock:
            if (match := _PAY.fullmatch(path)) and (session := self._tables.sessions.get(match[1])):
                answer = self._pay(session, form.get("outcome", ""))
            elif (match := _RECEIPT.fullmatch(path)) and (charge := self._tables.charges.get(match[1])):
                self._dispute(charge, form.get("act", ""))
            elif (match := _PORTAL.fullmatch(path)) and (portal := self._tables.portals.get(match[1])):
                self._remove(portal, form.get("card", ""))
            else:
                return NOTHING
            self.account.store.save()
        return Visit(location=path) if answer is None else answer

    def _pay_page(self, session: Object, status: int = 200) -> Visit:
        back = [session[name] for name in ("success_url", "cancel_url") if session[name]]
        if session["status"] != "open":
            return Visit(status, pages.over(session), back=back)
        intent = self._tables.payment_intents.get(session["payment_intent"])
        if intent and intent["status"] == "requires_action":
            return Visit(status, pages.confirm(session), back=back)
        error = intent["last_payment_error"]["message"] if intent and intent["last_payment_error"] else ""
        hidden = self._tables.hidden[session["id"]]
        saves = hidden["payment_intent_data"].get("setup_future_usage") == "off_session"
        return Visit(status, pages.pay(session, product=hidden["product"], error=error, saves=saves), back=back)

    def _pay(self, session: Object, outcome: str) -> Visit | None:
        if outcome not in OUTCOMES:
            return self._pay_page(session, 400)
        try:
            self.account.pay(session, outcome)
        except NotOpen:
            pass
        if session["status"] != "complete":
            return None
        return Visit(location=pages.with_session(session["success_url"], session))

    def _dispute_of(self, charge: Object) -> Object | None:
        return next((one for one in self._tables.disputes.values() if one["charge"] == charge["id"]), None)

    def _dispute(self, charge: Object, act: str) -> None:
        """The cardholder disputes, or the bank decides."""
        reversals, dispute = self.account.reversals, self._dispute_of(charge)
        try:
            if act == "dispute" and dispute is None:
                reversals.dispute(charge)
            elif act in ("won", "lost") and dispute is not None:
                reversals.close_dispute(dispute, act)
        except Refused:
            pass  # a second click

    def _cards_of(self, customer: str) -> list[Object]:
        return [one for one in self._tables.payment_methods.values() if one["customer"] == customer]

    def _remove(self, portal: Object, card: str) -> None:
        for one in self._cards_of(portal["customer"]):
            if one["id"] == card:
                self.account.cards.detach(one)
