"""A statement is the ledger, the rollup and the log of a month, and they agree to the microcredit."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import Sum

from billing import ledger
from billing.models import HOUSE_ACCOUNTS, Account, CreditLot, Transfer
from core import clock, ids
from statements import composing, csv_file, pdf, profiles, wording
from statements.composing import Statement, StatementDisagrees
from statements.months import Month
from tests import factories
from tests.support.money import Payer, new_payer
from tests.usage import rows
from usage.models import Rollup

CREDIT = 1_000_000
MAY = Month(2026, 5)
MID = datetime(2026, 5, 10, 12, tzinfo=UTC)


@pytest.fixture
def payer(db: None) -> Payer:
    return new_payer()


def give(payer: Payer, amount: int, at: datetime, kind: str = CreditLot.Kind.PAID, transfer: str = "topup") -> None:
    accounts = {"topup": Account.Kind.STRIPE, "grant": Account.Kind.PROMOTION}
    ledger.grant(
        payer.workspace.pk,
        kind=kind,
        amount_microcredits=amount,
        transfer_kind=transfer,
        reference=ids.uuid7(),
        source_account=HOUSE_ACCOUNTS[accounts[transfer]],
        at=at,
    )


def flows(made: Statement) -> dict[str, int]:
    return {flow.key: flow.amount_microcredits for flow in made.flows}


def test_a_month_leads_from_its_opening_to_its_closing_balance(payer: Payer) -> None:
    give(payer, 100 * CREDIT, MAY.previous.start)
    rows.call(payer, 7 * CREDIT, at=MAY.start - timedelta(microseconds=1))
    give(payer, 50 * CREDIT, MAY.start)
    give(payer, 5 * CREDIT, MID, CreditLot.Kind.PROMOTIONAL, "grant")
    rows.call(payer, 12_345_678, at=MID, model="dear")
    rows.call(payer, 2, at=MAY.end - timedelta(microseconds=1), model="cheap")
    ledger.adjust(payer.workspace.pk, amount_microcredits=-3 * CREDIT, reference=ids.uuid7(), at=MID)
    rows.call(payer, 9 * CREDIT, at=MAY.end)
    give(payer, 1_000 * CREDIT, MAY.end)
    made = composing.compose(payer.workspace.pk, MAY)
    assert made.opening_microcredits == 93 * CREDIT
    assert flows(made) == {
        "topup": 50 * CREDIT,
        "grant": 5 * CREDIT,
        "adjustment": -3 * CREDIT,
        "usage:promotional": -5 * CREDIT,
        "usage:paid": -7_345_680,
    }
    assert made.closing_microcredits == 93 * CREDIT + 52 * CREDIT - 12_345_680
    assert [(cost.model, cost.totals.charged_microcredits) for cost in made.models] == [
        ("dear", 12_345_678), ("cheap", 2),
    ]  # fmt: skip
    assert [(each.key, each.amount_microcredits) for each in made.movements] == [
        ("topup", 50 * CREDIT), ("grant", 5 * CREDIT), ("adjustment", -3 * CREDIT),
    ]  # fmt: skip
    assert made.is_closed


def test_months_join_without_a_gap(payer: Payer) -> None:
    give(payer, 500 * CREDIT, MAY.start)
    for number in range(1, 6):
        rows.call(payer, number * 1_111_111, at=Month(2026, 4 + number).start + timedelta(days=3))
    made = [composing.compose(payer.workspace.pk, Month(2026, number)) for number in range(4, 11)]
    assert made[0].opening_microcredits == 0
    for earlier, later in itertools.pairwise(made):
        assert earlier.closing_microcredits == later.opening_microcredits
    assert made[-1].closing_microcredits == payer.books().balance


def test_the_opening_balance_is_the_sum_of_everything_before(payer: Payer) -> None:
    give(payer, 20 * CREDIT, MAY.previous.start)
    rows.call(payer, 21 * CREDIT, at=MAY.previous.start + timedelta(days=1))  # one more than was there: a debt
    give(payer, 4 * CREDIT, MID)
    before = Transfer.objects.filter(workspace_id=payer.workspace.pk, billed_at__lt=MAY.start)
    incoming = before.filter(credit_account=payer.workspace.pk).aggregate(total=Sum("amount_microcredits"))["total"]
    outgoing = before.filter(debit_account=payer.workspace.pk).aggregate(total=Sum("amount_microcredits"))["total"]
    made = composing.compose(payer.workspace.pk, MAY)
    assert made.opening_microcredits == incoming - outgoing == -CREDIT
    april = composing.compose(payer.workspace.pk, MAY.previous)
    assert flows(april) == {"topup": 20 * CREDIT, "usage:paid": -20 * CREDIT, "usage:debt": -CREDIT}


def test_usage_by_key_and_by_member_adds_up(payer: Payer) -> None:
    give(payer, 500 * CREDIT, MAY.start)
    colleague = factories.member(payer.workspace, "developer")
    theirs = factories.api_key(payer.workspace, created_by=colleague, name="theirs").key
    other = Payer(colleague, payer.workspace, theirs)
    rows.call(payer, 3 * CREDIT, at=MID, user_id=payer.user.pk)
    rows.call(other, 5 * CREDIT, at=MID, user_id=colleague.pk)
    rows.call(other, 1 * CREDIT, at=MID, user_id=colleague.pk)
    made = composing.compose(payer.workspace.pk, MAY)
    shown = [(share.name, share.requests, share.charged_microcredits) for share in made.keys]
    assert shown == [("theirs", 2, 6 * CREDIT), ("test", 1, 3 * CREDIT)]
    members = [(share.name, share.requests, share.charged_microcredits) for share in made.members]
    assert members == [(colleague.email, 2, 6 * CREDIT), (payer.user.email, 1, 3 * CREDIT)]


def test_other_workspaces_are_not_in_it(payer: Payer) -> None:
    other = new_payer()
    give(other, 10 * CREDIT, MID)
    rows.call(other, CREDIT, at=MID)
    made = composing.compose(payer.workspace.pk, MAY)
    assert (made.opening_microcredits, made.closing_microcredits, made.flows) == (0, 0, [])
    assert (made.models, made.keys, made.members) == ([], [], [])


def test_books_that_disagree_make_no_statement(payer: Payer) -> None:
    give(payer, 10 * CREDIT, MAY.start)
    rows.call(payer, CREDIT, at=MID)
    Rollup.objects.filter(workspace_id=payer.workspace.pk).update(charged_microcredits=CREDIT + 1)
    with pytest.raises(StatementDisagrees):
        composing.compose(payer.workspace.pk, MAY)


@pytest.mark.parametrize(
    ("after", "final"), [(timedelta(days=-1), False), (timedelta(minutes=59), False), (timedelta(minutes=60), True)]
)
def test_a_month_is_final_an_hour_after_it_ends(
    payer: Payer, monkeypatch: pytest.MonkeyPatch, after: timedelta, final: bool
) -> None:
    monkeypatch.setattr(clock, "now", lambda: MAY.end + after)
    assert composing.compose(payer.workspace.pk, MAY).is_closed is final


def test_a_job_that_ran_for_days_is_in_the_month_that_it_was_billed_in(payer: Payer) -> None:
    give(payer, 10 * CREDIT, MAY.previous.start)
    rows.call(payer, CREDIT, at=MAY.start + timedelta(hours=1), lasted=timedelta(days=6), user_id=payer.user.pk)
    made = composing.compose(payer.workspace.pk, MAY)
    assert [share.charged_microcredits for share in made.members] == [CREDIT]
    assert composing.compose(payer.workspace.pk, MAY.previous).members == []


def test_the_csv_has_every_amount_exactly(payer: Payer) -> None:
    give(payer, 100 * CREDIT, MAY.start)
    rows.call(payer, 1_000_001, at=MID, model="=cmd|' /C calc'!A0")
    made = composing.compose(payer.workspace.pk, MAY)
    text = "".join(csv_file.lines(made))
    lines = [line.split(",") for line in text.split("\r\n") if line]
    assert tuple(lines[0]) == csv_file.COLUMNS
    found = {(line[0], line[1]): line[-1] for line in lines[1:]}
    assert found["balance", "opening"] == "0"
    assert found["flow", "topup"] == "100"
    assert found["flow", "usage:paid"] == "-1.000001"
    assert found["balance", "closing"] == "98.999999"
    assert found["model", "'=cmd|' /C calc'!A0"] == "1.000001"
    assert found["key", "test"] == "1.000001"


def test_the_pdf_is_one_and_the_same_file_each_time(payer: Payer) -> None:
    give(payer, 100 * CREDIT, MAY.start)
    for number in range(60):
        rows.call(payer, 1_000_001 + number, at=MID, model=f"model-<b>&{number}")
    made = composing.compose(payer.workspace.pk, MAY)
    profile = profiles.newest(payer.workspace.pk)
    first, second = (pdf.render(made, payer.workspace, profile) for _ in range(2))
    assert first.startswith(b"%PDF-1.")
    assert first == second
    assert first.count(b"/Type /Page\n") >= 2 or first.count(b"/Type /Page ") >= 2


def test_every_heading_a_flow_can_have_is_in_words(payer: Payer) -> None:
    kinds = {kind.value for kind in Transfer.Kind} - {"usage"}
    known = {key for key in wording.HEADINGS if not key.startswith("usage:")}
    assert kinds <= known
    assert {f"usage:{kind}" for kind in [*CreditLot.Kind.values, "debt"]} <= set(wording.HEADINGS)


@pytest.mark.parametrize("text", ["2026-13", "2026-00", "26-05", "2026-5", "2026-05-01", "", "٢٠٢٦-٠٥", "0001-01"])
def test_what_is_no_month(text: str) -> None:
    assert Month.parse(text) is None


@pytest.mark.parametrize(
    ("month", "days", "following"),
    [("2026-12", 31, "2027-01"), ("2024-02", 29, "2024-03"), ("2026-02", 28, "2026-03")],
)
def test_months(month: str, days: int, following: str) -> None:
    parsed: Any = Month.parse(month)
    assert (parsed.last_day.day, str(parsed.next), parsed.next.previous) == (days, following, parsed)
    assert (parsed.query.first_day, parsed.query.today) == (parsed.first_day, parsed.last_day)
