"""The rows that decisions about calls rest on, as the SQL functions of `usage/migrations` give them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

import msgspec

from billing.books import NOW, HoldState, LotState, MeterState, Moment, WalletState


class Above(msgspec.Struct):
    """Whom a key's calls count for besides it: its member, its organization. ``limit`` in microcredits a month."""

    scope: str
    id: UUID
    limit: int | None


class Key(msgspec.Struct):
    """What admission asks of a key. ``good``: it may be used at this moment. A personal key has nobody ``above`` it."""

    id: UUID
    name: str
    created_by_id: UUID | None
    limit: int | None
    good: bool
    above: list[Above] = []


class Stored(msgspec.Struct):
    """An Idempotency-Key that is taken. ``status`` is None while its first call runs."""

    scope_id: UUID
    key_hash: str
    request_hash: str
    request_id: UUID
    status: int | None
    content_type: str
    sealed_body: str | None
    is_stream: bool


class VersionedWallet(WalletState):
    """``version`` says who wrote the wallet's row last."""

    version: str = ""


class Rows(msgspec.Struct):
    """A batch's rows, locked. ``version`` is what the rows will have that this transaction writes."""

    now: Moment
    month: date
    version: str
    wallets: list[VersionedWallet]
    lots: list[LotState]
    holds: list[HoldState]
    meters: list[MeterState]
    keys: list[Key]
    stored: list[Stored]


class Remembered(msgspec.Struct, frozen=True):
    """A batch's rows as this process left them, not locked: what is decided over them must be checked."""

    month: date
    wallets: Sequence[WalletState]
    lots: Sequence[LotState]
    holds: Sequence[HoldState]
    meters: Sequence[MeterState]
    keys: Sequence[Key]
    now: Moment = NOW
    stored: Sequence[Stored] = ()


class Standing(msgspec.Struct):
    """The database found that remembered rows still stand, and applied what was decided over them."""

    now: datetime
    version: str


parse = msgspec.json.Decoder(Rows).decode
parse_standing = msgspec.json.Decoder(Standing).decode
