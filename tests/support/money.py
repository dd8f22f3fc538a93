"""A payer for a test, and what the books show about them afterwards."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from accounts.models import User
from billing import ledger
from billing.models import HOUSE_ACCOUNTS, Account, CreditLot, Hold, SpendMeter, Transfer, Wallet
from core import clock, ids
from keys.models import ApiKey
from orgs.models import Workspace
from usage.items import Admit, Extend, LogRow, Settle, Void
from usage.models import RequestLog, Rollup


@dataclass(frozen=True)
class Books:
    """What the books show about one workspace. Amounts in microcredits."""

    balance: int
    held: int
    lots: list[int]
    holds: list[str]
    transfers: list[int]
    log: list[dict[str, Any]]
    rolled_up: int
    spent: int
    meter_held: int

    @property
    def available(self) -> int:
        return self.balance - self.held

    @property
    def charged(self) -> int:
        return sum(row["charged_microcredits"] for row in self.log)


@dataclass(frozen=True)
class Payer:
    """A user's personal workspace with one key."""

    user: User
    workspace: Workspace
    key: ApiKey

    def give(self, amount: int, kind: str = CreditLot.Kind.DEMO, expires_at: datetime | None = None) -> CreditLot:
        """Credit ``amount`` microcredits as a lot of its own."""
        lot = ledger.grant(
            self.workspace.pk,
            kind=kind,
            amount_microcredits=amount,
            transfer_kind=Transfer.Kind.GRANT,
            reference=ids.uuid7(),
            source_account=HOUSE_ACCOUNTS[Account.Kind.DEMO],
            at=clock.now(),
            expires_at=expires_at,
        )
        assert lot is not None
        return lot

    def limit(self, amount: int | None) -> None:
        ApiKey.objects.filter(pk=self.key.pk).update(spending_limit_microcredits=amount)

    def books(self) -> Books:
        """Everything that a test asserts on, read at once."""
        wallet = Wallet.objects.get(pk=self.workspace.pk)
        meters = SpendMeter.objects.filter(scope_id=self.key.pk)
        mine = {"workspace_id": self.workspace.pk}
        return Books(
            balance=wallet.balance_microcredits,
            held=wallet.held_microcredits,
            lots=list(wallet.lots.order_by("id").values_list("remaining_microcredits", flat=True)),
            holds=list(wallet.holds.order_by("id").values_list("state", flat=True)),
            transfers=list(
                Transfer.objects.filter(**mine, kind=Transfer.Kind.USAGE)
                .order_by("id")
                .values_list("amount_microcredits", flat=True)
            ),
            log=[dict(row) for row in RequestLog.objects.filter(**mine).order_by("id").values()],
            rolled_up=sum(Rollup.objects.filter(**mine).values_list("charged_microcredits", flat=True)),
            spent=sum(meters.values_list("spent_microcredits", flat=True)),
            meter_held=sum(meters.values_list("held_microcredits", flat=True)),
        )

    def admit(self, amount: int, **fields: Any) -> Admit:
        values: dict[str, Any] = {
            "hold_id": ids.uuid7(),
            "workspace_id": self.workspace.pk,
            "key_id": self.key.pk,
            "owner_id": None,
            "endpoint": "chat",
            "model": "gpt-test",
            "price_id": None,
        }
        return Admit(amount_microcredits=amount, **{**values, **fields})

    def extend(self, admit: Admit, amount: int) -> Extend:
        return Extend(admit.hold_id, admit.workspace_id, admit.key_id, amount)

    def settle(self, admit: Admit, charge: int, **fields: Any) -> Settle:
        row = self.row(admit.hold_id, **fields)
        return Settle(admit.hold_id, admit.workspace_id, admit.key_id, charge, row)

    def void(self, admit: Admit, **fields: Any) -> Void:
        return Void(admit.hold_id, admit.workspace_id, admit.key_id, self.row(admit.hold_id, status=502, **fields))

    def row(self, request_id: UUID, **fields: Any) -> LogRow:
        values: dict[str, Any] = {
            "workspace_id": self.workspace.pk,
            "key_id": self.key.pk,
            "key_name": self.key.name,
            "endpoint": "chat",
            "model": "gpt-test",
            "status": 200,
            "latency_ms": 12,
        }
        return LogRow(request_id=request_id, **{**values, **fields})


def new_payer(balance: int = 0) -> Payer:
    """A new user, their personal workspace and one key; ``balance`` microcredits of demo credit."""
    user = User.objects.create_user(f"{ids.uuid7()}@example.com", None)
    workspace = user.personal_workspace
    key = ApiKey.objects.create(
        workspace=workspace, created_by=user, name="test", secret_hash=os.urandom(32), prefix="ck_test…test"
    )
    payer = Payer(user, workspace, key)
    if balance:
        payer.give(balance)
    return payer


def pending(payer: Payer) -> int:
    """How many of the payer's holds are open."""
    return Hold.objects.filter(wallet_id=payer.workspace.pk, state=Hold.State.PENDING).count()
