"""Calls that come alone have SQL functions of their own, which write and refuse what those for batches do."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db.models import QuerySet
from msgspec.structs import replace

from accounts.models import User
from billing.models import Hold, SpendMeter, Transfer
from catalog.pricing import Line
from core import clock
from keys.models import ApiKey
from limits.models import SpendingLimit
from orgs.models import Membership, Workspace
from orgs.permissions import Role
from tests import factories
from tests.support.money import Payer, new_payer
from tests.support.visitor import CREDIT, Visitor, acquainted, later
from usage.items import Admit, Admitted, Answer, Attempt, Extended, Item, LogRow, Refused, Settle, Settled
from usage.known import SHARED_SECONDS
from usage.metering import apply_now
from usage.models import RequestLog, Rollup

NO_BODY = Answer(200, "application/json", None)
ALONE = ["hypereal_calls_apply_admit", "hypereal_calls_apply_settle"]


def developer() -> Payer:
    """A developer of an organization with 1 000 credits, with a key of theirs."""
    workspace = factories.organization()
    user = factories.member(workspace, Role.DEVELOPER)
    key = ApiKey.objects.create(
        workspace=workspace, created_by=user, name="test", secret_hash=os.urandom(32), prefix="ck_test…test"
    )
    payer = Payer(user, workspace, key)
    payer.give(1_000 * CREDIT)
    return payer


def membership(payer: Payer) -> Membership:
    return Membership.objects.get(workspace=payer.workspace, user=payer.user)


def full_row(payer: Payer, admit: Admit) -> LogRow:
    """A log row in which every column says something, and texts are what a quoting could stumble over."""
    return payer.row(
        admit.hold_id,
        user_id=payer.user.pk,
        key_name='null "quoted" \\ {braces}, комма',
        provider="NULL",
        target="a/b/c'd\\\\e",
        attempts=2,
        error_type="",
        stream=True,
        ttfb_ms=7,
        input_tokens=11,
        cached_input_tokens=3,
        cache_write_tokens=2,
        output_tokens=5,
        units=Decimal("1.250000"),
        saved_microcredits=4,
        price_id=admit.price_id,
        estimated=True,
        client_disconnected=True,
        sandbox=True,
        attempt_trace=[Attempt("a/b/c", 3, 'er"r\nor', 500)],
        charge_lines=[Line("input", 11, 1, 1, 'm"\\x')],
        response_id="resp_1",
    )


def written(payer: Payer, admit: Admit) -> list[dict[str, Any]]:
    """All rows of a call, without what makes it another call than the next."""
    own = {"id", "request_id", "reference", "created_at", "resolved_at", "billed_at"}
    found: list[Any] = [
        *Hold.objects.filter(pk=admit.hold_id).values(),
        *Transfer.objects.filter(reference=admit.hold_id).values(),
        *RequestLog.objects.filter(pk=admit.hold_id).values(),
    ]
    return [{name: value for name, value in row.items() if name not in own} for row in found]


@pytest.mark.parametrize("make", [lambda: new_payer(balance=1_000 * CREDIT), developer], ids=["personal", "member"])
async def test_a_lone_call_writes_what_the_ordinary_way_writes(visitor: Visitor, make: Callable[[], Payer]) -> None:
    payer = await later(make)
    price = payer.user.pk  # any id will do

    def the_ordinary_way() -> Admit:
        admit = payer.admit(9 * CREDIT, owner_id=price, price_id=price, model='mo"del')
        assert isinstance(apply_now(admit), Admitted)
        assert isinstance(apply_now(Settle(*whose(admit), 7 * CREDIT, full_row(payer, admit))), Settled)
        return admit

    def whose(admit: Admit) -> tuple[Any, Any, Any]:
        return admit.hold_id, admit.workspace_id, admit.key_id

    ordinary = await later(the_ordinary_way)
    await acquainted(visitor, payer)
    lone = payer.admit(9 * CREDIT, owner_id=price, price_id=price, model='mo"del')
    assert await visitor.one(lone) == Admitted(lone.hold_id, 983 * CREDIT)
    settled = await visitor.ask(Settle(*whose(lone), 7 * CREDIT, full_row(payer, lone)), flush=True)
    assert visitor.functions == ALONE
    assert visitor.way() == ["short", "short"]
    rows = await later(lambda: written(payer, lone))
    assert len(rows) == 3
    assert rows == await later(lambda: written(payer, ordinary))
    row = await later(lambda: RequestLog.objects.get(pk=lone.hold_id))
    hold = await later(lambda: Hold.objects.get(pk=lone.hold_id))
    assert isinstance(settled[0], Settled)
    assert settled[0].billed_at == row.billed_at == hold.resolved_at
    assert row.request_id == lone.hold_id
    sums = await later(lambda: Rollup.objects.get(workspace_id=payer.workspace.pk, input_tokens__gt=0))
    assert (sums.requests, sums.input_tokens, sums.cached_input_tokens, sums.output_tokens) == (3, 22, 6, 10)
    assert (sums.charged_microcredits, sums.saved_microcredits, sums.latency_ms) == (15 * CREDIT, 8, 36)
    counted = await later(lambda: scopes(payer))
    meters = await later(lambda: list(SpendMeter.objects.filter(scope_id__in=counted)))
    assert [(meter.spent_microcredits, meter.held_microcredits) for meter in meters] == [(15 * CREDIT, 0)] * len(
        counted
    )


def scopes(payer: Payer) -> list[UUID]:
    """Whose meters count a payer's calls."""
    if payer.workspace.kind == Workspace.Kind.PERSONAL:
        return [payer.key.pk]
    return [payer.key.pk, payer.workspace.pk, membership(payer).pk]


def change(rows: QuerySet[Any], **columns: Any) -> Callable[[], Any]:
    return functools.partial(rows.update, **columns)


def changes(payer: Payer) -> list[tuple[Callable[[], Any], Callable[[], Any], bool]]:
    """All that can happen to a key behind a gateway's back, how it is undone, and whether 5 credits go through then."""
    key, user = ApiKey.objects.filter(pk=payer.key.pk), User.objects.filter(pk=payer.user.pk)
    workspace, over = Workspace.objects.filter(pk=payer.workspace.pk), clock.now() - timedelta(seconds=1)
    other = factories.user()
    made = [
        (change(key, enabled=False), change(key, enabled=True), False),
        (change(key, deleted_at=over), change(key, deleted_at=None), False),
        (change(key, expires_at=over), change(key, expires_at=over + timedelta(days=1)), False),
        (change(key, spending_limit_microcredits=1), change(key, spending_limit_microcredits=None), False),
        (change(key, name="renamed"), change(key, name="test"), True),
        (change(key, created_by=other), change(key, created_by=payer.user), False),
        (change(key, created_by=None), change(key, created_by=payer.user), True),
        (change(workspace, active=False), change(workspace, active=True), False),
        (change(user, is_active=False), change(user, is_active=True), False),
    ]
    if payer.workspace.kind == Workspace.Kind.ORGANIZATION:
        # The rows alone: who sets a limit in earnest updates the wallet's row too, and that shows by itself.
        def limit(scope: str, scope_id: UUID, amount: int | None) -> Callable[[], Any]:
            rows = SpendingLimit.objects.filter(scope=scope, scope_id=scope_id)
            if amount is None:
                return rows.delete
            values = {"workspace": payer.workspace, "amount_microcredits": amount}
            return functools.partial(rows.update_or_create, scope=scope, scope_id=scope_id, defaults=values)

        limit_me = functools.partial(limit, "member", membership(payer).pk)
        limit_all = functools.partial(limit, "workspace", payer.workspace.pk)
        made += [
            (limit_me(1), limit_me(None), False),
            (limit_me(900 * CREDIT), limit_me(901 * CREDIT), True),
            (limit_me(1), limit_me(901 * CREDIT), False),
            (limit_all(1), limit_all(900 * CREDIT), False),
            (limit_all(1), limit_all(None), False),
        ]
    memberships = Membership.objects.filter(workspace=payer.workspace, user=payer.user)
    again = functools.partial(factories.member, payer.workspace, Role.OWNER, payer.user)
    return [*made, (memberships.delete, again, False)]


@pytest.mark.parametrize("together", [1, 2], ids=["alone", "batch"])
@pytest.mark.parametrize("make", [lambda: new_payer(balance=1_000 * CREDIT), developer], ids=["personal", "member"])
async def test_nothing_that_happens_to_a_key_escapes_the_short_way(
    visitor: Visitor, make: Callable[[], Payer], together: int
) -> None:
    payer = await later(make)
    for number, (happen, undo, fine) in enumerate(await later(lambda: changes(payer))):
        await acquainted(visitor, payer)
        before = await later(payer.books)
        await later(happen)
        results = await visitor.ask(*(payer.admit(5 * CREDIT) for _ in range(together)))
        assert {type(result) for result in results} == {Admitted if fine else Refused}, number
        short = ALONE[0] if together == 1 else "hypereal_calls_apply"
        assert visitor.functions[:2] == [short, "hypereal_calls_read"], number
        assert visitor.way() == ["short", "long", "long"], number
        if not fine:
            after = await later(payer.books)
            assert (after.balance, after.held, after.holds) == (before.balance, before.held, before.holds), number
        await later(undo)
        assert type(await visitor.one(payer.admit(1))) is Admitted, number
        both = await visitor.ask(payer.admit(1), payer.admit(1))
        assert visitor.functions[-1] == "hypereal_calls_apply", number
        assert [type(result) for result in both] == [Admitted, Admitted], number


async def test_what_is_not_an_ordinary_lone_call_goes_with_the_batches(visitor: Visitor, payer: Payer) -> None:
    await acquainted(visitor, payer)
    odd = payer.admit(CREDIT, model="two\nlines")
    assert type(await visitor.one(odd)) is Admitted
    answered = replace(payer.settle(odd, 1, model="two\nlines"), answer=NO_BODY)
    assert type(await visitor.one(answered)) is Settled
    assert type(await visitor.one(payer.admit(5_000 * CREDIT))) is Refused
    assert visitor.functions == ["hypereal_calls_apply"] * 3
    assert visitor.way() == ["short"] * 3
    row = await later(lambda: RequestLog.objects.get(pk=odd.hold_id))
    assert row.model == "two\nlines"
    assert (await later(lambda: Hold.objects.get(pk=odd.hold_id))).model == "two\nlines"


async def test_a_lone_call_that_costs_nothing_is_logged_all_the_same(visitor: Visitor, payer: Payer) -> None:
    await acquainted(visitor, payer)
    free = payer.admit(3 * CREDIT)
    assert type(await visitor.one(free)) is Admitted
    assert type(await visitor.one(payer.settle(free, 0))) is Settled
    assert visitor.functions == ALONE
    books = await later(payer.books)
    assert (books.balance, books.held, books.transfers) == (999 * CREDIT, 0, [CREDIT])
    assert [row["charged_microcredits"] for row in books.log] == [CREDIT, 0]


async def test_a_lone_call_begins_meters_and_sums_that_are_not_there_yet(visitor: Visitor, payer: Payer) -> None:
    await acquainted(visitor, payer)

    def begin_anew() -> None:
        """What a new month, or another model, finds."""
        SpendMeter.objects.filter(scope_id=payer.key.pk).delete()

    await later(begin_anew)
    first = payer.admit(3 * CREDIT)
    assert type(await visitor.one(first)) is Admitted
    await later(begin_anew)
    assert type(await visitor.one(payer.settle(first, CREDIT, model="another"))) is Settled
    assert visitor.functions == ALONE
    books = await later(payer.books)
    assert (books.spent, books.meter_held, books.rolled_up) == (2 * CREDIT, 0, 2 * CREDIT)


async def test_a_version_that_lies_charges_nothing_twice(visitor: Visitor, payer: Payer) -> None:
    """Were a settled call's memory of a pending hold ever believed, the database would refuse all of the visit."""
    await acquainted(visitor, payer)
    admit = payer.admit(3 * CREDIT)
    await visitor.ask(admit, payer.admit(3 * CREDIT))
    entry = visitor.known._entries[payer.workspace.pk.int]
    hold, lots = copy.copy(entry.holds[admit.hold_id.int]), copy.deepcopy(entry.lots)
    settle = payer.settle(admit, CREDIT)
    assert type(await visitor.one(settle)) is Settled
    entry.holds[admit.hold_id.int], entry.lots = hold, lots
    with pytest.raises(psycopg.errors.UniqueViolation):
        await visitor.one(settle)
    books = await later(payer.books)
    assert (books.balance, books.held, books.transfers) == (998 * CREDIT, 3 * CREDIT, [CREDIT, CREDIT])


async def test_a_call_of_last_month_is_settled_on_the_meters_of_its_month(visitor: Visitor) -> None:
    payer = await later(developer)
    await acquainted(visitor, payer)
    admit, earlier = payer.admit(5 * CREDIT), clock.now().replace(day=1) - timedelta(days=3)
    await later(lambda: apply_now(admit, now=earlier))
    assert await visitor.one(payer.extend(admit, 6 * CREDIT)) == Extended(True)  # from here on it is remembered
    visitor.now += SHARED_SECONDS
    visitor.way()
    assert type(await visitor.one(payer.settle(admit, 4 * CREDIT))) is Settled
    assert visitor.functions == ALONE[1:]
    counted = await later(lambda: scopes(payer))
    meters = await later(lambda: list(SpendMeter.objects.filter(scope_id__in=counted).order_by("month")))
    assert [(meter.spent_microcredits, meter.held_microcredits) for meter in meters] == [
        *[(4 * CREDIT, 0)] * 3,
        *[(CREDIT, 0)] * 3,
    ]


@pytest.mark.parametrize("together", [1, 2], ids=["alone", "batch"])
async def test_what_can_not_even_be_asked_for_is_not_remembered_as_done(
    visitor: Visitor, payer: Payer, together: int
) -> None:
    await acquainted(visitor, payer)
    admit = payer.admit(3 * CREDIT)
    assert type(await visitor.one(admit)) is Admitted
    unwritable = payer.settle(admit, CREDIT, target="\ud800")  # half a character, which is in no encoding
    items: list[Item] = [unwritable, payer.admit(CREDIT)]
    with pytest.raises(UnicodeEncodeError):
        await visitor.ask(*items[:together])
    assert type(await visitor.one(payer.admit(3 * CREDIT))) is Admitted
    books = await later(payer.books)
    assert (books.balance, books.held, books.transfers) == (999 * CREDIT, 6 * CREDIT, [CREDIT])
