"""The money rules of calls, over the rows of one transaction: pure, in memory.

`usage.metering` reads and locks the rows, asks `Books` for decisions and movements, and writes `Books.changes()` back.
The wallet's row is the mutex for all that hangs on it: its lots, its keys' meters, its holds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from enum import Enum
from typing import Any, Final
from uuid import UUID

import msgspec

from billing.models import HOUSE_ACCOUNTS, Account
from core import ids

#: A moment as the database writes it, and reads it: a text with a date and a time, or NOW.
Moment = str
#: The moment at which the transaction begins that this is written in.
NOW: Final[Moment] = "now"

_REVENUE = HOUSE_ACCOUNTS[Account.Kind.REVENUE]
_EXPIRED = HOUSE_ACCOUNTS[Account.Kind.EXPIRED]


class Shortfall(Enum):
    """Why a reservation does not fit into a wallet."""

    BALANCE_TOO_LOW = "balance_too_low"
    NOT_AVAILABLE = "not_available"


class WalletState(msgspec.Struct):
    """A locked wallet: microcredits that it has, and those of them that running calls reserve."""

    id: UUID
    balance: int
    held: int

    @property
    def available(self) -> int:
        """What a new call may still reserve."""
        return self.balance - self.held


class LotState(msgspec.Struct, omit_defaults=True):
    """``expires`` in Unix seconds; ``expiries``: once that is over, how many entries the lot has expired by so far."""

    id: UUID
    wallet_id: UUID
    remaining: int
    expires: float | None = None
    expiries: int | None = None


class MeterState(msgspec.Struct):
    """One month of a key, of a member or of an organization. ``reached``: its limit has been run into."""

    id: UUID
    month: date
    scope: str = "key"
    spent: int = 0
    held: int = 0
    reached: bool = False


#: A meter with the limit that it is under: microcredits a month, None without one.
Limited = tuple[MeterState, int | None]


class HoldState(msgspec.Struct):
    id: UUID
    wallet_id: UUID
    state: str
    amount: int
    charged: int | None
    key_id: UUID | None
    month: date
    resolved_at: Moment | None
    #: The meters of the member and of the organization, where the call is an organization's.
    meter_ids: list[UUID] | None = None


class HoldRow(msgspec.Struct, kw_only=True):
    """A new row of billing_hold, by its column names."""

    id: UUID
    wallet_id: UUID
    amount_microcredits: int
    owner_id: UUID | None
    key_id: UUID | None
    key_name: str
    user_id: UUID | None
    month: date
    endpoint: str
    model: str
    price_id: UUID | None
    created_at: Moment
    state: str = "pending"
    charged_microcredits: int | None = None
    resolved_at: Moment | None = None
    meter_ids: list[UUID] | None = None


class TransferRow(msgspec.Struct):
    """A new row of billing_transfer, by its column names."""

    id: UUID
    kind: str
    reference: UUID
    sequence: int
    debit_account: UUID
    credit_account: UUID
    amount_microcredits: int
    workspace_id: UUID
    lot_id: UUID | None
    billed_at: Moment


class Books:
    """The locked wallets of one transaction with their lots, holds and meters, and what is to be written back.

    Rows are found by the integers of their ids: `UUID` hashes and compares itself in Python, which cost a fifth of it.
    """

    def __init__(
        self,
        now: Moment,
        month: date,
        wallets: Sequence[WalletState],
        lots: Sequence[LotState],
        holds: Sequence[HoldState],
        meters: Sequence[MeterState],
    ) -> None:
        self.now = now
        self.month = month
        self.wallets = {wallet.id.int: wallet for wallet in wallets}
        self.holds = {hold.id.int: hold for hold in holds}
        self.meters = {(meter.id.int, meter.month): meter for meter in meters}
        self.lots: dict[int, list[LotState]] = {}
        self._over: set[int] = set()
        for lot in lots:
            self.lots.setdefault(lot.wallet_id.int, []).append(lot)
            if lot.expiries is not None:
                self._over.add(lot.wallet_id.int)
        self._changed: dict[str, dict[Any, msgspec.Struct]] = {"wallets": {}, "lots": {}, "meters": {}, "holds": {}}
        self.placed: list[HoldRow] = []
        self._transfers: list[TransferRow] = []

    @property
    def changed_wallets(self) -> Collection[int]:
        """The wallets whose rows are written back."""
        return self._changed["wallets"]

    def meter(self, scope_id: UUID, month: date, scope: str = "key") -> MeterState:
        """The meter of that month; a new one starts at zero."""
        meter = self.meters.get((scope_id.int, month))
        if meter is None:
            meter = self.meters[(scope_id.int, month)] = MeterState(scope_id, month, scope)
        return meter

    def shortfall(self, wallet: WalletState, amount: int, *, least: int = 0) -> Shortfall | None:
        """Why the wallet can't reserve ``amount`` more, or None. What is in flight counts.

        ``least`` is the balance (before holds) that the endpoint asks for. Microcredits.
        """
        if wallet.balance < least:
            return Shortfall.BALANCE_TOO_LOW
        if amount > wallet.available:
            return Shortfall.NOT_AVAILABLE
        return None

    def expire(self, wallet_id: UUID) -> None:
        """Take what is left of the wallet's lots whose time is over, except what running calls hold.

        Ask it before deciding over a call: credits end at their moment, whenever the sweep comes by.
        """
        if wallet_id.int not in self._over:
            return
        wallet = self.wallets[wallet_id.int]
        for lot in self.lots[wallet_id.int]:
            amount = min(lot.remaining, wallet.available)
            if lot.expiries is None or amount <= 0:
                continue
            lot.remaining -= amount
            wallet.balance -= amount
            self._changed["lots"][lot.id.int] = lot
            self._changed["wallets"][wallet_id.int] = wallet
            self._transfer(wallet_id, lot.id, lot.expiries, amount, lot.id, kind="expiry", to_account=_EXPIRED)
            lot.expiries += 1

    def over_limit(self, limits: Sequence[Limited], amount: int) -> tuple[MeterState, int] | None:
        """The first meter whose limit does not allow ``amount`` more, with that limit. What is in flight counts.

        A refusal while nothing of the meter is in flight says that its limit is reached: that is noted, once a month.
        """
        for meter, limit in limits:
            if limit is not None and (meter.spent >= limit or meter.spent + meter.held + amount > limit):
                if not meter.reached and (meter.spent >= limit or not meter.held):
                    meter.reached = True
                    self._changed["meters"][(meter.id.int, meter.month)] = meter
                return meter, limit
        return None

    def place(self, row: HoldRow) -> None:
        """Reserve ``row.amount_microcredits``; the caller asked `shortfall` and `over_limit` before."""
        self.placed.append(row)
        self._reserve(row, row.amount_microcredits)

    def extend(self, hold: HoldState, amount: int) -> None:
        """Raise a pending hold to ``amount`` in all; the caller asked for the difference before."""
        self._reserve(hold, amount - hold.amount)
        hold.amount = amount
        self._changed["holds"][hold.id.int] = hold

    def release(self, hold: HoldState, state: str) -> None:
        """End a pending hold without a charge: voided, or expired where its owner died."""
        self._reserve(hold, -hold.amount)
        self._resolve(hold, state, None)

    def post(self, hold: HoldState, charge: int) -> None:
        """End a pending hold with its charge, which may be below or above what was reserved."""
        self._reserve(hold, -hold.amount)
        self.charge_for(hold, charge)
        self._resolve(hold, "posted", charge)

    def charge_for(self, hold: HoldState, charge: int) -> None:
        """`charge` for the call of a hold, whatever became of that."""
        self.charge(hold.wallet_id, self._metered(hold), reference=hold.id, charge=charge)

    def charge(self, wallet_id: UUID, meters: Sequence[MeterState], *, reference: UUID, charge: int) -> None:
        """Take ``charge`` microcredits: lots in their order, one transfer each; what no lot covers becomes a debt."""
        if charge == 0:
            return
        wallet = self.wallets[wallet_id.int]
        wallet.balance -= charge
        self._changed["wallets"][wallet_id.int] = wallet
        for meter in meters:
            meter.spent += charge
            self._changed["meters"][(meter.id.int, meter.month)] = meter
        left, sequence = charge, 0
        for lot in self.lots.get(wallet_id.int, ()):
            if not left:
                break
            if part := min(left, lot.remaining):
                lot.remaining -= part
                self._changed["lots"][lot.id.int] = lot
                self._transfer(wallet_id, reference, sequence, part, lot.id)
                left, sequence = left - part, sequence + 1
        if left:
            self._transfer(wallet_id, reference, sequence, left, None)

    def post_lost(self, row: HoldRow, charge: int) -> None:
        """Charge a call whose hold the database lost in a crash: its row comes back as one that has ended."""
        row.state, row.charged_microcredits, row.resolved_at = "posted", charge, self.now
        self.placed.append(row)
        self.charge(row.wallet_id, self._metered(row), reference=row.id, charge=charge)

    def changes(self) -> dict[str, list[Any]]:
        """What is to be written back, by table; only what changed."""
        changes: dict[str, list[Any]] = {name: list(rows.values()) for name, rows in self._changed.items() if rows}
        if self.placed:
            changes["placed"] = list(self.placed)
        if self._transfers:
            changes["transfers"] = list(self._transfers)
        return changes

    def _metered(self, hold: HoldState | HoldRow) -> list[MeterState]:
        """All meters that a hold counts on: its key's, its member's, its organization's."""
        meters = [self.meter(hold.key_id, hold.month)] if hold.key_id is not None else []
        for scope_id in hold.meter_ids or ():
            scope = "workspace" if scope_id == hold.wallet_id else "member"
            meters.append(self.meter(scope_id, hold.month, scope))
        return meters

    def _reserve(self, hold: HoldState | HoldRow, amount: int) -> None:
        wallet = self.wallets[hold.wallet_id.int]
        wallet.held += amount
        self._changed["wallets"][hold.wallet_id.int] = wallet
        for meter in self._metered(hold):
            meter.held += amount
            self._changed["meters"][(meter.id.int, meter.month)] = meter

    def _resolve(self, hold: HoldState, state: str, charged: int | None) -> None:
        hold.state, hold.charged, hold.resolved_at = state, charged, self.now
        self._changed["holds"][hold.id.int] = hold

    def _transfer(
        self,
        wallet_id: UUID,
        reference: UUID,
        sequence: int,
        amount: int,
        lot_id: UUID | None,
        *,
        kind: str = "usage",
        to_account: UUID = _REVENUE,
    ) -> None:
        self._transfers.append(
            TransferRow(
                id=ids.uuid7(),
                kind=kind,
                reference=reference,
                sequence=sequence,
                debit_account=wallet_id,
                credit_account=to_account,
                amount_microcredits=amount,
                workspace_id=wallet_id,
                lot_id=lot_id,
                billed_at=self.now,
            )
        )
