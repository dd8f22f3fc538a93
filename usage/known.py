"""What a process remembers of wallets from its own last transaction on each of them.

Whoever changes a wallet's lots, meters or holds updates the wallet's row too, so the row's version (who wrote it last)
tells whether any of it has changed since. Decisions over remembered rows are sent to the database together with the
versions that they rest on, and are applied only if those still stand: one round trip a transaction instead of two, and
nothing to read. Where another process writes to the same wallet, remembering is given up for a while.

Remembered rows die with the connection: after a crash PostgreSQL may give the numbers of lost transactions out again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

import msgspec

from billing.books import Books, HoldState, LotState, MeterState, WalletState
from usage.items import Admit, Extend, Item, Record
from usage.metering import Decision
from usage.rows import Key, Remembered, Rows

#: Wallets remembered at most; then all are forgotten and learnt anew.
MOST_WALLETS: Final = 10_000
#: A wallet that others write to is not remembered for so long.
SHARED_SECONDS: Final = 1.0

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _Entry:
    """One wallet and all that hangs on it, as far as this process has touched it."""

    version: str
    month: date
    wallet: WalletState
    lots: list[LotState] = field(default_factory=list)
    meters: dict[tuple[int, date], MeterState] = field(default_factory=dict)
    keys: dict[int, Key] = field(default_factory=dict)
    holds: dict[int, HoldState] = field(default_factory=dict)
    #: Some of the credits are over and are held by running calls still: what they give back ends at once.
    over: bool = False
    #: Decided over in vain: only the version can still be trusted.
    spoilt: bool = False


class Recalled(msgspec.Struct, frozen=True):
    """Rows to decide over, and the versions that they have."""

    rows: Remembered
    versions: list[str]

    @property
    def until(self) -> float | None:
        """The Unix second at which the first of the lots ends; decisions don't stand from then on."""
        ends = [lot.expires for lot in self.rows.lots if lot.expires is not None]
        return min(ends) if ends else None

    def decided(self, changes: str) -> str:
        """JSON for hypereal_calls_apply: ``changes``, and what they rest on."""
        decided: dict[str, Any] = {
            "month": self.rows.month,
            "wallets": [wallet.id for wallet in self.rows.wallets],
            "versions": self.versions,
            "key_ids": [key.id for key in self.rows.keys],
            "keys": self.rows.keys,
        }
        if self.until is not None:
            decided["until"] = self.until
        if changes:
            decided["changes"] = msgspec.Raw(changes)
        return _encode(decided).decode()


class Known:
    """Belongs to one committer, which never works on two batches at a time."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._entries: dict[int, _Entry] = {}
        self._shared_until: dict[int, float] = {}

    def recall(self, items: Sequence[Item]) -> Recalled | None:
        """All that ``items`` need, or None where something is not remembered.

        It is changed by deciding over it: afterwards `confirm` it, or `doubt` it.
        """
        entries: dict[int, _Entry] = {}
        keys: dict[int, Key] = {}
        holds: dict[int, HoldState] = {}
        meters: dict[tuple[int, date], MeterState] = {}
        for item in items:
            if isinstance(item, Record):
                continue
            wallet_id = item.workspace_id.int
            entry = entries.get(wallet_id) or self._entry(wallet_id)
            if entry is None or entry.over or not _gather(entry, item, keys, holds, meters):
                return None
            entries[wallet_id] = entry
        months = {entry.month for entry in entries.values()}
        if len(months) != 1:  # also where there is no wallet at all: the month must come from somewhere
            return None
        rows = Remembered(
            month=months.pop(),
            wallets=[entry.wallet for entry in entries.values()],
            lots=[lot for entry in entries.values() for lot in entry.lots],
            holds=list(holds.values()),
            meters=list(meters.values()),
            keys=[keys[key_id] for key_id in sorted(keys)],
        )
        return Recalled(rows, [entry.version for entry in entries.values()])

    def confirm(self, items: Sequence[Item], decision: Decision, version: str) -> None:
        """Decisions over recalled rows were applied; what they wrote has ``version``."""
        for wallet_id in {item.workspace_id.int for item in items if not isinstance(item, Record)}:
            entry = self._entries[wallet_id]
            if wallet_id in decision.books.changed_wallets:
                entry.version = version
            entry.lots = [lot for lot in entry.lots if lot.remaining]
        self._note_holds(decision.books)

    def doubt(self, items: Sequence[Item]) -> None:
        """Decisions over recalled rows were not applied."""
        for item in items:
            if not isinstance(item, Record) and (entry := self._entries.get(item.workspace_id.int)):
                entry.spoilt = True

    def learn(self, items: Sequence[Item], rows: Rows, decision: Decision) -> None:
        """Remember what was read in the ordinary way, and what was then written."""
        if len(self._entries) + len(rows.wallets) > MOST_WALLETS:
            self.clear()
        books = decision.books
        for wallet in rows.wallets:
            entry = self._entries.get(wallet.id.int)
            if entry is not None and entry.version != wallet.version:
                self._shared_until[wallet.id.int] = self._monotonic() + SHARED_SECONDS
                entry = None
            if entry is None or entry.spoilt or entry.month != rows.month:
                entry = self._entries[wallet.id.int] = _Entry(wallet.version, rows.month, wallet)
            entry.version = rows.version if wallet.id.int in books.changed_wallets else wallet.version
            entry.wallet = wallet
            entry.lots = [lot for lot in books.lots.get(wallet.id.int, ()) if lot.remaining]
            entry.over = any(lot.expiries is not None for lot in entry.lots)
        self._note_keys(items, rows.keys, books)
        self._note_holds(books)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._shared_until.clear()

    def _entry(self, wallet_id: int) -> _Entry | None:
        entry = self._entries.get(wallet_id)
        if entry is None or entry.spoilt:
            return None
        until = self._shared_until.get(wallet_id)
        if until is not None:
            if self._monotonic() < until:
                return None
            del self._shared_until[wallet_id]
        return entry

    def _note_keys(self, items: Sequence[Item], keys: Sequence[Key], books: Books) -> None:
        owners = {item.key_id.int: item.workspace_id.int for item in items if not isinstance(item, Record)}
        for key in keys:
            if entry := self._entries.get(owners[key.id.int]):
                entry.keys[key.id.int] = key
                owners |= {above.id.int: owners[key.id.int] for above in key.above}
        for hold in books.holds.values():
            owners |= {scope_id.int: hold.wallet_id.int for scope_id in hold.meter_ids or ()}
        for (scope_id, month), meter in books.meters.items():
            if scope_id in owners and (entry := self._entries.get(owners[scope_id])):
                entry.meters[(scope_id, month)] = meter

    def _note_holds(self, books: Books) -> None:
        """Only pending ones: nothing is decided over the others, and they would pile up."""
        for hold in books.holds.values():
            if entry := self._entries.get(hold.wallet_id.int):
                if hold.state == "pending":
                    entry.holds[hold.id.int] = hold
                else:
                    entry.holds.pop(hold.id.int, None)
        for row in books.placed:
            if row.state == "pending" and (entry := self._entries.get(row.wallet_id.int)):
                entry.holds[row.id.int] = HoldState(
                    row.id,
                    row.wallet_id,
                    row.state,
                    row.amount_microcredits,
                    None,
                    row.key_id,
                    row.month,
                    None,
                    row.meter_ids,
                )


def _gather(
    entry: _Entry,
    item: Item,
    keys: dict[int, Key],
    holds: dict[int, HoldState],
    meters: dict[tuple[int, date], MeterState],
) -> bool:
    """Add what one item needs. False where something is missing."""
    assert not isinstance(item, Record)
    hold = entry.holds.get(item.hold_id.int)
    if hold is not None:
        holds[hold.id.int] = hold
    elif not isinstance(item, Admit):
        return False
    if isinstance(item, Admit) and item.claim is not None:
        return False  # what an Idempotency-Key was used for stands in the database alone
    month = hold.month if hold is not None else entry.month
    if hold is not None and hold.key_id != item.key_id:
        return False
    counted = [(item.key_id.int, month)]
    if hold is not None and hold.meter_ids:
        counted += [(scope_id.int, month) for scope_id in hold.meter_ids]
    if isinstance(item, Admit | Extend):
        key = entry.keys.get(item.key_id.int)
        if key is None:
            return False
        keys[key.id.int] = key
        counted += [(above.id.int, month) for above in key.above]
    for name in counted:
        meter = entry.meters.get(name)
        if meter is None:
            return False
        meters[name] = meter
    return True
