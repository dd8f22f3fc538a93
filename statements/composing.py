"""A month of one workspace: what was there, what came, what went, what is left; and by what it was used.

Money comes from the ledger, the parts of usage from the rollup and, by member, from the log; all of it is read in one
REPEATABLE READ snapshot, and a statement whose parts don't add up is not shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Sum
from django.utils.translation import gettext as _

from accounts.models import User
from billing.models import CreditLot, Transfer, Wallet
from core import clock, errors, ids
from keys.models import ApiKey
from statements.months import Month
from usage import queries
from usage.models import Rollup
from usage.queries import ModelCost, Totals

#: The log is asked for the members' shares; a month of a very busy workspace takes it a while.
MEMBERS_SECONDS: Final = 60
#: A transfer's id is made shortly before the moment that dates it, a call's when it starts: index bounds with room.
_ROOM: Final = timedelta(days=2)
_CALLS_ROOM: Final = timedelta(days=14)
#: A transaction that took its moment before the month's end may be written after it: not so long after it, though.
FINAL_AFTER: Final = timedelta(hours=1)
_NOBODY: Final = UUID(int=0)


class StatementDisagrees(errors.InternalError):
    """The ledger and the sums of usage differ for this month: no statement rather than a wrong one."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What moved in the month under one heading; negative: out of the wallet. ``key`` is ``kind`` or ``kind:lot``."""

    key: str
    amount_microcredits: int


@dataclass(frozen=True, slots=True)
class Movement:
    """One transfer that is no call. ``amount_microcredits`` is negative where credits left."""

    at: datetime
    key: str
    reference: UUID
    amount_microcredits: int


@dataclass(frozen=True, slots=True)
class Share:
    """What one key or member used. ``id`` is None for calls that no key or no member is known of any more."""

    id: UUID | None
    name: str
    requests: int
    charged_microcredits: int


@dataclass(frozen=True, slots=True)
class Statement:
    """All amounts are microcredits. ``flows`` lead from ``opening`` to ``closing``, usage by what paid it."""

    workspace_id: UUID
    month: Month
    made_at: datetime
    opening_microcredits: int
    closing_microcredits: int
    flows: Sequence[Flow]
    movements: Sequence[Movement]
    usage: Totals
    models: Sequence[ModelCost] = field(default_factory=tuple)
    keys: Sequence[Share] = field(default_factory=tuple)
    members: Sequence[Share] = field(default_factory=tuple)

    @property
    def is_closed(self) -> bool:
        """Whether the month is over for good, so that nothing on this statement changes any more."""
        return self.made_at >= self.month.end + FINAL_AFTER

    @property
    def number(self) -> str:
        """What the statement is called in letters and books: the month and the end of the workspace's id."""
        return f"{self.month.year:04d}{self.month.number:02d}-{self.workspace_id.hex[-10:].upper()}"

    @property
    def used_microcredits(self) -> int:
        """What calls took."""
        return self.usage.charged_microcredits


_FLOWS: Final = """
SELECT t.kind, COALESCE(l.kind, ''), t.credit_account = t.workspace_id, t.billed_at < %(end)s,
       sum(t.amount_microcredits)
FROM billing_transfer t LEFT JOIN billing_creditlot l ON l.id = t.lot_id
WHERE t.workspace_id = %(workspace)s AND t.id >= %(first)s AND t.billed_at >= %(start)s
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2"""

_MEMBERS: Final = """
SELECT user_id, count(*), sum(charged_microcredits) FROM usage_requestlog
WHERE workspace_id = %(workspace)s AND id >= %(first_call)s AND id < %(last)s
  AND billed_at >= %(start)s AND billed_at < %(end)s GROUP BY 1"""


def compose(workspace_id: UUID, month: Month) -> Statement:
    """The statement of a month, so far where it is not over. Raises StatementDisagrees."""
    with _snapshot():
        balance = Wallet.objects.values_list("balance_microcredits", flat=True).get(pk=workspace_id)
        flows, since_end = _flows(workspace_id, month)
        closing = balance - since_end
        made = Statement(
            workspace_id=workspace_id,
            month=month,
            made_at=clock.now(),
            opening_microcredits=closing - sum(flow.amount_microcredits for flow in flows),
            closing_microcredits=closing,
            flows=flows,
            movements=_movements(workspace_id, month),
            usage=(summary := queries.summary(workspace_id, month.query)).totals,
            models=summary.models,
            keys=_keys(workspace_id, month),
            members=_members(workspace_id, month),
        )
    _prove(made)
    return made


def first_month(workspace_id: UUID) -> Month:
    """The month in which a workspace's books begin: before it there is no statement."""
    opened = Wallet.objects.values_list("created_at", flat=True).get(pk=workspace_id)
    return min([Month.of(opened), *spent_by_month(workspace_id)])


def spent_by_month(workspace_id: UUID) -> dict[Month, int]:
    """Microcredits that calls took, by month, for months in which there were calls: from the rollup."""
    rows = Rollup.objects.filter(workspace_id=workspace_id).values("day__year", "day__month")
    sums = rows.annotate(total=Sum("charged_microcredits")).order_by()
    return {Month(row["day__year"], row["day__month"]): row["total"] for row in sums}


def _flows(workspace_id: UUID, month: Month) -> tuple[list[Flow], int]:
    """The month's flows by heading, and what moved after its end."""
    within: dict[str, int] = {}
    since_end = 0
    with connection.cursor() as cursor:
        cursor.execute(_FLOWS, _bounds(workspace_id, month))
        for kind, lot_kind, incoming, in_month, amount in cursor.fetchall():
            signed = int(amount) if incoming else -int(amount)
            if in_month:
                key = _key(kind, lot_kind)
                within[key] = within.get(key, 0) + signed
            else:
                since_end += signed
    return [Flow(key, amount) for key, amount in within.items()], since_end


def _key(kind: str, lot_kind: str) -> str:
    """The heading of a transfer: usage by the credits that paid it (``usage:debt`` where none were left)."""
    if kind == Transfer.Kind.USAGE:
        return f"{kind}:{lot_kind or 'debt'}"
    demo = lot_kind == CreditLot.Kind.DEMO and kind in (Transfer.Kind.TOPUP, Transfer.Kind.GRANT)
    return f"{kind}:demo" if demo else kind


def _movements(workspace_id: UUID, month: Month) -> list[Movement]:
    """Every transfer of the month that is no call, oldest first."""
    rows = Transfer.objects.filter(
        workspace_id=workspace_id,
        id__gte=ids.first_at(month.start - _ROOM),
        billed_at__gte=month.start,
        billed_at__lt=month.end,
    ).exclude(kind=Transfer.Kind.USAGE)
    found = list(rows.order_by("billed_at", "id"))
    kinds = dict(CreditLot.objects.filter(pk__in={row.lot_id for row in found}).values_list("pk", "kind"))
    return [
        Movement(
            at=row.billed_at,
            key=_key(row.kind, kinds.get(row.lot_id, "") if row.lot_id else ""),
            reference=row.reference,
            amount_microcredits=row.amount_microcredits * (1 if row.credit_account == workspace_id else -1),
        )
        for row in found
    ]


def _keys(workspace_id: UUID, month: Month) -> list[Share]:
    rows = Rollup.objects.filter(workspace_id=workspace_id, day__gte=month.first_day, day__lte=month.last_day)
    sums = rows.values("key_id").annotate(n=Sum("requests"), charged=Sum("charged_microcredits")).order_by()
    found = [(row["key_id"], row["n"], row["charged"]) for row in sums]
    names = dict(ApiKey.objects.filter(workspace_id=workspace_id).values_list("pk", "name"))
    return _shares(found, names)


def _members(workspace_id: UUID, month: Month) -> list[Share]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{MEMBERS_SECONDS}s"])
        cursor.execute(_MEMBERS, _bounds(workspace_id, month))
        found = [(user_id, int(n), int(charged)) for user_id, n, charged in cursor.fetchall()]
    names = dict(User.objects.filter(pk__in=[row[0] for row in found]).values_list("pk", "email"))
    return _shares(found, names)


def _shares(found: Iterable[tuple[UUID | None, int, int]], names: dict[UUID, str]) -> list[Share]:
    """Dearest first; a key or member that is gone goes by its id."""
    shares = []
    for identifier, requests, charged in found:
        known = identifier if identifier and identifier != _NOBODY else None
        shares.append(Share(known, names.get(known, str(known)) if known else "", requests, charged))
    return sorted(shares, key=lambda share: (-share.charged_microcredits, -share.requests, share.name))


def _bounds(workspace_id: UUID, month: Month) -> dict[str, Any]:
    return {
        "workspace": workspace_id,
        "start": month.start,
        "end": month.end,
        "first": ids.first_at(month.start - _ROOM),
        "first_call": ids.first_at(month.start - _CALLS_ROOM),
        "last": ids.first_at(month.end + _ROOM),
    }


def _prove(made: Statement) -> None:
    ledger = -sum(flow.amount_microcredits for flow in made.flows if flow.key.startswith("usage:"))
    sums = {
        "models": sum(cost.totals.charged_microcredits for cost in made.models),
        "keys": sum(share.charged_microcredits for share in made.keys),
        "members": sum(share.charged_microcredits for share in made.members),
    }
    if any(total != ledger for total in sums.values()):
        raise StatementDisagrees(
            _("The books of this month do not agree, so there is no statement of it. The operator has been told."),
            code="statement_disagrees",
        )


@contextmanager
def _snapshot() -> Iterator[None]:
    """Everything read inside is of one moment; inside a caller's transaction, of that one's."""
    outer = connection.in_atomic_block
    with transaction.atomic():
        if not outer:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
