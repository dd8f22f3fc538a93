"""Whichever way a visit goes, lone, short or long, it decides and writes what the ordinary way would have.

Random hands work on the wallets of an organization and of a person: two processes that remember, one that does not, and
people who change limits, keys and lots in between. Before each visit the ordinary way decides over the very rows that
are there and writes nothing; afterwards the rows must be what it decided.
"""

from __future__ import annotations

import copy
import functools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from msgspec.structs import replace

from billing.models import CreditLot, Hold, SpendMeter, Wallet
from core import clock
from keys.models import ApiKey
from limits.models import SpendingLimit
from orgs.models import Workspace
from orgs.permissions import Role
from tests import factories
from tests.support.money import Payer, new_payer
from tests.support.visitor import CREDIT, Visitor, dsn, later
from tests.usage.test_lone_calls import ALONE, developer, membership
from usage.doors import CursorDoor
from usage.items import Admit, Admitted, Item, LogRow, Refused, Result, Settle, Settled, Void
from usage.known import SHARED_SECONDS
from usage.line import Line
from usage.metering import Decision, apply_now, foresee
from usage.models import RequestLog, Rollup

STEPS = 400
LOGGED = ("workspace_id", "model", "provider", "error_type", "status", "charged_microcredits", "late")
TEXTS = (
    "gpt-test",
    "NULL",
    "null",
    "",
    "{}",
    '"',
    "\\",
    "a,b",
    "\\\\'",
    "комма 漢 😀",
    "\x7f\u2028",
    "two\nlines",
    "\\n",
)


def colleague(payer: Payer) -> Payer:
    """Another member of the same organization, with a key of theirs."""
    user = factories.member(payer.workspace, Role.DEVELOPER)
    key = ApiKey.objects.create(
        workspace=payer.workspace, created_by=user, name="other", secret_hash=user.pk.bytes * 2, prefix="ck_test…othr"
    )
    return Payer(user, payer.workspace, key)


def foreseen(items: Sequence[Item]) -> Decision:
    """What the ordinary way decides over the rows that are there. Nothing is written."""
    with transaction.atomic():
        connection.ensure_connection()
        try:
            return foresee(CursorDoor(connection.connection), items)
        finally:
            transaction.set_rollback(True)


def told(result: Result) -> object:
    """A result without its moment, which is the database's."""
    if isinstance(result, Refused):
        error = result.error()
        return error.status, error.message, error.extra
    return (result.charged_microcredits, result.late) if isinstance(result, Settled) else result


def as_decided(decision: Decision, log: Sequence[LogRow]) -> dict[str, Any]:
    """The rows that a decision leaves behind; of the log those that were not there before."""
    books = decision.books
    named = [(row.id, row.key_name, row.user_id) for row in books.placed]
    placed = [(row.id, row.state, row.amount_microcredits, row.charged_microcredits) for row in books.placed]
    meters = {
        (each.scope, each.id, each.month): (each.spent, each.held, each.reached) for each in books.meters.values()
    }
    return {
        "wallets": sorted((each.id, each.balance, each.held) for each in books.wallets.values()),
        "lots": sorted((lot.id, lot.remaining) for lots in books.lots.values() for lot in lots if lot.remaining),
        "meters": {name: sums for name, sums in meters.items() if any(sums)},
        "holds": sorted(placed + [(each.id, each.state, each.amount, each.charged) for each in books.holds.values()]),
        "placed": sorted(named, key=str),
        "log": sorted((row.id, *(getattr(row, name) for name in LOGGED)) for row in log),
    }


def as_written(decision: Decision, log: Sequence[LogRow]) -> dict[str, Any]:
    """The same rows as they stand in the database."""
    books = decision.books
    wallets = [each.id for each in books.wallets.values()]
    holds = [each.id for each in books.holds.values()] + [row.id for row in books.placed]
    found = SpendMeter.objects.filter(scope_id__in=[each.id for each in books.meters.values()])
    meters = {
        (each.scope, each.scope_id, each.month): (
            each.spent_microcredits,
            each.held_microcredits,
            each.reached_at is not None,
        )
        for each in found
        if (each.scope_id.int, each.month) in books.meters
    }
    return {
        "wallets": sorted(
            Wallet.objects.filter(pk__in=wallets).values_list("pk", "balance_microcredits", "held_microcredits")
        ),
        "lots": sorted(
            CreditLot.objects.filter(wallet_id__in=wallets, remaining_microcredits__gt=0).values_list(
                "pk", "remaining_microcredits"
            )
        ),
        "meters": {name: sums for name, sums in meters.items() if any(sums)},
        "holds": sorted(
            Hold.objects.filter(pk__in=holds).values_list("pk", "state", "amount_microcredits", "charged_microcredits")
        ),
        "placed": sorted(
            Hold.objects.filter(pk__in=[row.id for row in books.placed]).values_list("pk", "key_name", "user_id"),
            key=str,
        ),
        "log": sorted(RequestLog.objects.filter(pk__in=[row.id for row in log]).values_list("pk", *LOGGED)),
    }


def unlogged(decision: Decision) -> list[LogRow]:
    """The rows of the log that a decision adds."""
    new: list[LogRow] = decision.changed.get("rows", [])
    there = set(RequestLog.objects.filter(pk__in=[row.id for row in new]).values_list("pk", flat=True))
    return [row for row in new if row.id not in there]


def happening(payer: Payer, dice: random.Random) -> Callable[[], object]:
    """Something that people do between two calls."""
    key = ApiKey.objects.filter(pk=payer.key.pk)

    def limit(scope: str, scope_id: UUID, amount: int) -> object:
        found = SpendingLimit.objects.filter(scope=scope, scope_id=scope_id)
        values = {"workspace": payer.workspace, "amount_microcredits": amount}
        return found.update_or_create(scope=scope, scope_id=scope_id, defaults=values)

    amount = dice.choice((0, 100 * CREDIT, 300 * CREDIT))
    hour = timedelta(hours=1)
    ways: list[Callable[[], object]] = [
        lambda: payer.give(dice.randrange(1, 300) * CREDIT),
        lambda: payer.give(300 * CREDIT),
        lambda: payer.give(dice.randrange(1, 50) * CREDIT, expires_at=clock.now() + hour),
        lambda: payer.give(dice.randrange(1, 50) * CREDIT, expires_at=clock.now() - hour),
        lambda: key.update(enabled=False),
        lambda: key.update(expires_at=clock.now() + hour),
        lambda: key.update(expires_at=clock.now() - hour),
        lambda: key.update(name=dice.choice(TEXTS) or "none"),
        lambda: key.update(created_by=dice.choice((None, payer.user))),
        lambda: payer.limit(amount),
    ]
    if payer.workspace.kind == Workspace.Kind.ORGANIZATION:
        member = membership(payer).pk
        ways += [lambda: limit("member", member, amount), lambda: limit("workspace", payer.workspace.pk, amount)]
    return dice.choice(ways)


def put_right(payers: Sequence[Payer]) -> None:
    """Whatever keeps calls from being admitted is taken away."""
    for payer in payers:
        ApiKey.objects.filter(pk=payer.key.pk).update(
            enabled=True, expires_at=None, spending_limit_microcredits=None, created_by=payer.user
        )
        SpendingLimit.objects.filter(workspace=payer.workspace).delete()
        if Wallet.objects.get(pk=payer.workspace.pk).available_microcredits < 100 * CREDIT:
            payer.give(200 * CREDIT)


def next_items(payers: Sequence[Payer], calls: list[tuple[Payer, Admit]], dice: random.Random) -> list[Item]:
    """What comes to the books at one moment: one item more often than not."""
    items: list[Item] = []
    known = list(calls)  # a call goes on when what it asked before is answered, never beside it
    for _ in range(dice.choice((1, 1, 1, 1, 1, 2, 3))):
        kind = dice.choice(("admit", "admit", "extend", "settle", "settle", "void")) if known else "admit"
        if kind == "admit":
            payer = dice.choice(payers)
            items.append(payer.admit(dice.randrange(30) * CREDIT, model=dice.choice(TEXTS)))
            continue
        payer, admit = call = known.pop(dice.randrange(len(known)))
        if kind == "extend":
            items.append(payer.extend(admit, dice.randrange(60) * CREDIT))
            continue
        if dice.random() < 0.9:  # the others are told to end once more
            calls.remove(call)
        if kind == "void":
            items.append(payer.void(admit, model=admit.model))
        else:
            charge = dice.choice((0, 1, CREDIT, 3 * CREDIT, 10 * CREDIT, 50 * CREDIT))
            texts = {"model": admit.model, "provider": dice.choice(TEXTS), "error_type": dice.choice(TEXTS)}
            items.append(payer.settle(admit, charge, **texts))
    return items


async def test_every_way_does_what_the_ordinary_way_would(visitor: Visitor) -> None:
    dice = random.Random(20)
    first = await later(developer)
    payers = [first, await later(lambda: colleague(first)), await later(lambda: new_payer(balance=300 * CREDIT))]
    owners = {payer.key.pk: payer for payer in payers}
    other = Visitor(await Line.open(await dsn(), options="-c timezone=UTC"))
    calls: list[tuple[Payer, Admit]] = []
    functions: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for step in range(STEPS):
        if dice.random() < 0.15:  # the next call is of the one that something happened to
            payer = dice.choice(payers)
            await later(await later(functools.partial(happening, payer, dice)))
            items: list[Item] = [payer.admit(dice.randrange(30) * CREDIT)]
        else:
            items = next_items(payers, calls, dice)
        if dice.random() < 0.05 and isinstance(items[0], Settle):  # its process was taken for dead
            lost, row = items[0], replace(items[0].log, status=500, error_type="interrupted")
            swept = Void(lost.hold_id, lost.workspace_id, lost.key_id, row, "expired")
            await later(functools.partial(apply_now, swept))
        expected = await later(functools.partial(foreseen, copy.deepcopy(items)))
        log = await later(functools.partial(unlogged, expected))
        hand = other if dice.random() < 0.08 else visitor
        hand.now += dice.choice((0, SHARED_SECONDS, SHARED_SECONDS))
        results = await hand.ask(*items, flush=dice.random() < 0.5)
        for item, result in zip(items, results, strict=True):
            if isinstance(item, Admit) and (isinstance(result, Admitted) or dice.random() < 0.1):
                calls.append((owners[item.key_id], item))
        assert list(map(told, results)) == list(map(told, expected.results)), step
        assert await later(functools.partial(as_written, expected, log)) == as_decided(expected, log), step
        if dice.random() < 0.2:
            await later(functools.partial(put_right, payers))
        functions.update(hand.functions)
        outcomes.update(type(result).__name__ for result in results)
        hand.way()
    other.close()
    assert min(functions[name] for name in (*ALONE, "hypereal_calls_apply", "hypereal_calls_read")) > STEPS // 20
    assert min(outcomes[name.__name__] for name in (Admitted, Refused, Settled)) > STEPS // 20
    for payer in payers[1:]:
        mine = await later(functools.partial(sums, payer.workspace.pk))
        assert mine[0] == mine[1]


def sums(workspace_id: UUID) -> tuple[Counter[Any], Counter[Any]]:
    """Calls and charges of a workspace by model and status: from its log, and from the sums that pages show."""
    log, rolled_up = Counter[Any](), Counter[Any]()
    for row in RequestLog.objects.filter(workspace_id=workspace_id):
        log[row.model, row.status, "calls"] += 1
        log[row.model, row.status, "charged"] += row.charged_microcredits
    for sum_ in Rollup.objects.filter(workspace_id=workspace_id):
        rolled_up[sum_.model, sum_.status, "calls"] += sum_.requests
        rolled_up[sum_.model, sum_.status, "charged"] += sum_.charged_microcredits
    return +log, +rolled_up
