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
from uuid import UUID

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
    meters: dict[tuple[UUID, date], MeterState] = field(default_factory=dict)
    keys: dict[UUID, Key] = field(default_factory=dict)
    holds: dict[UUID, HoldState] = field(default_factory=dict)
    #: Decided over in vain: only the version can still be trusted.
    spoilt: bool = False


@dataclass(frozen=True, slots=True)
class Recalled:
    """Rows to decide over, and the versions that they have."""

    rows: Remembered
    versions: dict[UUID, str]

    def decided(self, changes: str) -> str:
        """JSON for hypereal_calls_apply: ``changes``, and what they rest on."""
        decided: dict[str, Any] = {
            "month": self.rows.month,
            "wallets": list(self.versions),
            "versions": list(self.versions.values()),
            "key_ids": [key.id for key in self.rows.keys],
            "keys": self.rows.keys,
        }
        if changes:
            decided["changes"] = msgspec.Raw(changes)
        return _encode(decided).decode()


class Known:
    """Belongs to one committer, which never works on two batches at a time."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._entries: dict[UUID, _Entry] = {}
        self._shared_until: dict[UUID, float] = {}

    def recall(self, items: Sequence[Item]) -> Recalled | None:
        """All that ``items`` need, or None where something is not remembered.

        It is changed by deciding over it: afterwards `confirm` it, or `doubt` it.
        """
        entries: dict[UUID, _Entry] = {}
        keys: dict[UUID, Key] = {}
        holds: dict[UUID, HoldState] = {}
        meters: dict[tuple[UUID, date], MeterState] = {}
        for item in items:
            if isinstance(item, Record):
                continue
            entry = entries.get(item.workspace_id) or self._entry(item.workspace_id)
            if entry is None or not _gather(entry, item, keys, holds, meters):
                return None
            entries[item.workspace_id] = entry
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
        return Recalled(rows, {wallet_id: entry.version for wallet_id, entry in entries.items()})

    def confirm(self, items: Sequence[Item], decision: Decision, version: str) -> None:
        """Decisions over recalled rows were applied; what they wrote has ``version``."""
        for wallet_id in {item.workspace_id for item in items if not isinstance(item, Record)}:
            entry = self._entries[wallet_id]
            if wallet_id in decision.books.changed_wallets:
                entry.version = version
            entry.lots = [lot for lot in entry.lots if lot.remaining]
        self._note_holds(decision.books)

    def doubt(self, items: Sequence[Item]) -> None:
        """Decisions over recalled rows were not applied."""
        for item in items:
            if not isinstance(item, Record) and (entry := self._entries.get(item.workspace_id)):
                entry.spoilt = True

    def learn(self, items: Sequence[Item], rows: Rows, decision: Decision) -> None:
        """Remember what was read in the ordinary way, and what was then written."""
        if len(self._entries) + len(rows.wallets) > MOST_WALLETS:
            self.clear()
        books = decision.books
        for wallet in rows.wallets:
            entry = self._entries.get(wallet.id)
            if entry is not None and entry.version != wallet.version:
                self._shared_until[wallet.id] = self._monotonic() + SHARED_SECONDS
                entry = None
            if entry is None or entry.spoilt or entry.month != rows.month:
                entry = self._entries[wallet.id] = _Entry(wallet.version, rows.month, wallet)
            entry.version = rows.version if wallet.id in books.changed_wallets else wallet.version
            entry.wallet = wallet
            entry.lots = [lot for lot in books.lots.get(wallet.id, ()) if lot.remaining]
        self._note_keys(items, rows.keys, books)
        self._note_holds(books)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._shared_until.clear()

    def _entry(self, wallet_id: UUID) -> _Entry | None:
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
        owners = {item.key_id: item.workspace_id for item in items if not isinstance(item, Record)}
        for key in keys:
            if entry := self._entries.get(owners[key.id]):
                entry.keys[key.id] = key
        for (key_id, month), meter in books.meters.items():
            if key_id in owners and (entry := self._entries.get(owners[key_id])):
                entry.meters[(key_id, month)] = meter

    def _note_holds(self, books: Books) -> None:
        """Only pending ones: nothing is decided over the others, and they would pile up."""
        for hold in books.holds.values():
            if entry := self._entries.get(hold.wallet_id):
                if hold.state == "pending":
                    entry.holds[hold.id] = hold
                else:
                    entry.holds.pop(hold.id, None)
        for row in books.placed:
            if entry := self._entries.get(row.wallet_id):
                entry.holds[row.id] = HoldState(
                    row.id, row.wallet_id, row.state, row.amount_microcredits, None, row.key_id, row.month, None
                )


def _gather(
    entry: _Entry,
    item: Item,
    keys: dict[UUID, Key],
    holds: dict[UUID, HoldState],
    meters: dict[tuple[UUID, date], MeterState],
) -> bool:
    """Add what one item needs. False where something is missing."""
    assert not isinstance(item, Record)
    hold = entry.holds.get(item.hold_id)
    if hold is not None:
        holds[hold.id] = hold
    elif not isinstance(item, Admit):
        return False
    if isinstance(item, Admit) and item.claim is not None:
        return False  # what an Idempotency-Key was used for stands in the database alone
    if isinstance(item, Admit | Extend):
        key = entry.keys.get(item.key_id)
        if key is None:
            return False
        keys[key.id] = key
    month = hold.month if hold is not None else entry.month
    meter = entry.meters.get((item.key_id, month))
    if meter is None or (hold is not None and hold.key_id != item.key_id):
        return False
    meters[(item.key_id, month)] = meter
    return True
