"""What the books show about one payer's top-ups, and the verbs that tests of top-ups share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from billing import stripe_events, topups
from billing.models import HOUSE_ACCOUNTS, Account, CreditLot, TopUp, Transfer, Wallet
from core import clock, ids
from events import audit
from events.models import AuditEvent
from tests.fakes.stripe import FakeStripe, signed
from tests.support.money import Payer
from usage import verify

CENT = 1_000_000  # microcredits
HOUSE = {account: kind for kind, account in HOUSE_ACCOUNTS.items()}


@dataclass(frozen=True)
class TopUpBooks:
    """Everything that money coming in touches. Amounts in cents."""

    balance: int
    held: int
    #: kind, granted, remaining
    lots: list[tuple[str, int, int]]
    #: the house's account, amount
    transfers: list[tuple[str, int]]
    #: state, amount
    history: list[tuple[str, int]]


def books(payer: Payer) -> TopUpBooks:
    """The payer's books as they stand."""
    wallet = Wallet.objects.get(pk=payer.workspace.pk)
    lots = CreditLot.objects.filter(wallet=wallet).order_by("pk")
    transfers = Transfer.objects.filter(workspace_id=wallet.pk, kind=Transfer.Kind.TOPUP).order_by("pk")
    assert all(transfer.credit_account == wallet.pk for transfer in transfers)
    return TopUpBooks(
        balance=wallet.balance_microcredits // CENT,
        held=wallet.held_microcredits // CENT,
        lots=[(lot.kind, lot.granted_microcredits // CENT, lot.remaining_microcredits // CENT) for lot in lots],
        transfers=[(HOUSE[one.debit_account], one.amount_microcredits // CENT) for one in transfers],
        history=[(one.state, one.amount_cents) for one in TopUp.objects.filter(wallet=wallet).order_by("pk")],
    )


def nothing(*history: tuple[str, int]) -> TopUpBooks:
    """Books of somebody who got nothing, whatever they tried."""
    return TopUpBooks(balance=0, held=0, lots=[], transfers=[], history=list(history))


def paid(*amounts: int, kind: str = CreditLot.Kind.DEMO, account: str = Account.Kind.DEMO) -> TopUpBooks:
    """Books of somebody who topped up by these amounts and did nothing else."""
    return TopUpBooks(
        balance=sum(amounts),
        held=0,
        lots=[(kind, amount, amount) for amount in amounts],
        transfers=[(account, amount) for amount in amounts],
        history=[(TopUp.State.PAID, amount) for amount in amounts],
    )


def start(
    payer: Payer, amount_cents: int = 1_000, *, form_token: UUID | None = None, saves_card: bool = False
) -> TopUp:
    """Send the form."""
    token = form_token or ids.uuid7()
    return topups.start(
        payer.workspace, actor=actor_of(payer), amount_cents=amount_cents, form_token=token, saves_card=saves_card
    )


def actor_of(payer: Payer) -> audit.Actor:
    """The payer as the audit trail names them."""
    return audit.Actor(payer.user.pk, payer.user.email)


def top_up(payer: Payer, stripe: FakeStripe, amount_cents: int = 1_000, outcome: str = "success") -> TopUp:
    """A top-up that is paid and credited."""
    topup = start(payer, amount_cents)
    stripe.pay(topup, outcome)
    return topups.reconcile(topup)


def with_card(payer: Payer, stripe: FakeStripe, outcome: str = "success", amount_cents: int = 1_000) -> TopUp:
    """A top-up whose card is kept."""
    topup = start(payer, amount_cents, saves_card=True)
    stripe.pay(topup, outcome)
    topup = topups.reconcile(topup)
    topups.follow_up(topup.pk)
    return topup


def hear(events: Iterable[dict[str, Any]]) -> None:
    """Take these webhooks in and handle them."""
    for event in events:
        stripe_events.receive(*signed(event))
    stripe_events.sweep(clock.now() + timedelta(seconds=1), most=10_000)


def proven() -> bool:
    """The books agree, and so does Stripe's side of them."""
    report = verify.verify()
    assert report.clean, report.findings
    return True


def trail(payer: Payer) -> list[str]:
    """The actions of the audit trail about the payer's top-ups, oldest first."""
    rows = AuditEvent.objects.filter(workspace_id=payer.workspace.pk, target_type="topup").order_by("pk")
    return list(rows.values_list("action", flat=True))
