"""The neck: what admissions, settlements and voids leave in the books, one transaction at a time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from msgspec.structs import replace

from billing.models import CreditLot, Hold, SpendMeter, Transfer
from core import errors
from events import audit
from idempotency.models import StoredAnswer
from keys.models import ApiKey
from orgs import members
from orgs.models import Membership, Workspace
from tests import factories
from tests.support.money import Payer, new_payer
from usage import verify
from usage.doors import CursorDoor
from usage.items import Admitted, Answer, Claim, Done, Extended, Item, Record, Refused, Replay, Result, Settled
from usage.metering import apply, apply_now
from usage.models import RequestLog, Rollup

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000


@pytest.fixture
def payer() -> Payer:
    return new_payer(balance=1_000 * CREDIT)


@pytest.fixture(autouse=True)
def _books_agree(db: None) -> object:
    """Whatever a test did, the proof must hold afterwards."""
    yield
    assert verify.verify().findings == ()


def batch(*items: Item, now: datetime | None = None) -> list[Result]:
    with transaction.atomic():
        connection.ensure_connection()
        return apply(CursorDoor(connection.connection), items, now)


def refusal(result: Result) -> errors.ProductError:
    assert isinstance(result, Refused)
    return result.error()


def test_a_call_is_reserved_then_charged_what_it_cost(payer: Payer) -> None:
    admit = payer.admit(300 * CREDIT)
    assert apply_now(admit) == Admitted(admit.hold_id, 700 * CREDIT)
    held = payer.books()
    assert (held.balance, held.held, held.meter_held, held.holds) == (
        1_000 * CREDIT,
        300 * CREDIT,
        300 * CREDIT,
        ["pending"],
    )

    settled = apply_now(payer.settle(admit, 123_456_789, input_tokens=10, output_tokens=20))
    assert isinstance(settled, Settled)
    assert (settled.charged_microcredits, settled.late) == (123_456_789, False)
    books = payer.books()
    assert (books.balance, books.held) == (1_000 * CREDIT - 123_456_789, 0)
    assert (books.spent, books.meter_held, books.holds) == (123_456_789, 0, ["posted"])
    assert books.transfers == [123_456_789]
    assert books.log[0]["id"] == admit.hold_id
    assert books.log[0]["billed_at"] == settled.billed_at
    assert books.rolled_up == 123_456_789


def test_a_failed_call_gives_everything_back(payer: Payer) -> None:
    admit = payer.admit(300 * CREDIT)
    apply_now(admit)
    assert apply_now(payer.void(admit, error_type="upstream_error")) == Done()
    books = payer.books()
    assert (books.balance, books.held, books.spent, books.meter_held) == (1_000 * CREDIT, 0, 0, 0)
    assert (books.holds, books.transfers) == (["voided"], [])
    assert [(row["status"], row["error_type"], row["charged_microcredits"]) for row in books.log] == [
        (502, "upstream_error", 0)
    ]


def test_a_call_that_cost_nothing_is_logged_without_a_transfer(payer: Payer) -> None:
    admit = payer.admit(5)
    batch(admit)
    apply_now(payer.settle(admit, 0))
    books = payer.books()
    assert (books.holds, books.transfers, len(books.log)) == (["posted"], [], 1)


def test_real_usage_is_charged_above_the_hold_and_may_make_a_debt(payer: Payer) -> None:
    admit = payer.admit(10 * CREDIT)
    apply_now(admit)
    apply_now(payer.settle(admit, 1_200 * CREDIT))
    books = payer.books()
    assert (books.balance, books.held, books.lots) == (-200 * CREDIT, 0, [0])
    assert books.transfers == [1_000 * CREDIT, 200 * CREDIT]
    payer.give(500 * CREDIT)
    assert (payer.books().balance, payer.books().lots) == (300 * CREDIT, [0, 300 * CREDIT])


def test_lots_are_drawn_in_their_order() -> None:
    payer = new_payer()
    soon = datetime(2100, 1, 1, tzinfo=UTC)
    payer.give(10, CreditLot.Kind.PAID)
    payer.give(10, CreditLot.Kind.DEMO)
    payer.give(10, CreditLot.Kind.PROMOTIONAL, soon)
    admit = payer.admit(25)
    batch(admit)
    apply_now(payer.settle(admit, 25))
    assert payer.books().lots == [5, 0, 0]  # what expires first, then gifts, money last
    assert payer.books().transfers == [10, 10, 5]


@pytest.mark.parametrize(("amount", "least", "required"), [(1_001, 0, 1_001), (1, 1_001, 1_001), (1_000, 1_001, 1_001)])
def test_what_is_not_there_is_not_reserved(payer: Payer, amount: int, least: int, required: int) -> None:
    error = refusal(apply_now(payer.admit(amount * CREDIT, min_balance_microcredits=least * CREDIT)))
    assert isinstance(error, errors.InsufficientCredits)
    assert error.extra == {"required_credits": required, "available_credits": 1_000}
    assert payer.books().holds == []
    assert payer.books().held == 0


def test_what_is_in_flight_counts(payer: Payer) -> None:
    first, second, third = payer.admit(600 * CREDIT), payer.admit(600 * CREDIT), payer.admit(400 * CREDIT)
    results = batch(first, second, third)
    assert isinstance(results[0], Admitted)
    assert refusal(results[1]).extra["available_credits"] == 400
    assert isinstance(results[2], Admitted)
    assert payer.books().available == 0


def test_the_smallest_balance_counts_before_holds(payer: Payer) -> None:
    batch(payer.admit(950 * CREDIT))
    assert isinstance(apply_now(payer.admit(CREDIT, min_balance_microcredits=200 * CREDIT)), Admitted)


def test_a_keys_month_is_not_overspent_by_what_runs_beside(payer: Payer) -> None:
    payer.limit(100 * CREDIT)
    first, second = payer.admit(60 * CREDIT), payer.admit(60 * CREDIT)
    results = batch(first, second)
    error = refusal(results[1])
    assert isinstance(error, errors.SpendingLimitExceeded)
    expected = {"limit_of": "key", "spending_limit_credits": 100, "spent_credits": 0, "held_credits": 60}
    assert error.extra == expected
    apply_now(payer.settle(first, 100 * CREDIT))
    assert isinstance(refusal(apply_now(payer.admit(0))), errors.SpendingLimitExceeded)
    payer.limit(None)
    assert isinstance(apply_now(payer.admit(0)), Admitted)


def test_a_new_month_starts_at_zero_and_a_call_is_billed_to_the_month_of_its_hold(payer: Payer) -> None:
    payer.limit(100 * CREDIT)
    may, june = datetime(2026, 5, 31, 23, 59, 59, tzinfo=UTC), datetime(2026, 6, 1, 0, 0, 1, tzinfo=UTC)
    old, new = payer.admit(90 * CREDIT), payer.admit(90 * CREDIT)
    assert isinstance(apply_now(old, may), Admitted)
    assert isinstance(apply_now(new, june), Admitted)
    apply_now(payer.settle(old, 80 * CREDIT), june)
    meters = {m.month: (m.spent_microcredits, m.held_microcredits) for m in SpendMeter.objects.all()}
    assert meters == {date(2026, 5, 1): (80 * CREDIT, 0), date(2026, 6, 1): (0, 90 * CREDIT)}
    assert payer.books().log[0]["billed_at"] == june


def test_a_hold_is_extended_while_the_money_lasts(payer: Payer) -> None:
    admit = payer.admit(100 * CREDIT)
    apply_now(admit)
    assert apply_now(payer.extend(admit, 900 * CREDIT)) == Extended(True)
    assert apply_now(payer.extend(admit, 900 * CREDIT)) == Extended(True)  # the same again changes nothing
    assert payer.books().held == 900 * CREDIT
    assert apply_now(payer.extend(admit, 1_001 * CREDIT)) == Extended(False)
    payer.limit(950 * CREDIT)
    assert apply_now(payer.extend(admit, 951 * CREDIT)) == Extended(False)
    assert payer.books().held == 900 * CREDIT


def test_a_disabled_keys_hold_is_not_extended_but_what_was_served_is_charged(payer: Payer) -> None:
    admit = payer.admit(100 * CREDIT)
    apply_now(admit)
    ApiKey.objects.update(enabled=False)
    assert apply_now(payer.extend(admit, 200 * CREDIT)) == Extended(False)
    apply_now(payer.settle(admit, 7))
    assert payer.books().transfers == [7]


@pytest.mark.parametrize("again", [1, 3])
def test_every_item_may_come_again(payer: Payer, again: int) -> None:
    admit = payer.admit(100)
    settle = payer.settle(admit, 40)
    for _ in range(again + 1):
        assert isinstance(apply_now(admit), Admitted)
    for _ in range(again + 1):
        assert isinstance(apply_now(settle), Settled)
    apply_now(payer.void(admit))
    books = payer.books()
    assert (books.transfers, books.held, books.holds, len(books.log)) == ([40], 0, ["posted"], 1)
    assert Rollup.objects.get().requests == 1


def test_a_settlement_after_the_sweep_charges_once_and_says_late(payer: Payer) -> None:
    admit = payer.admit(100)
    apply_now(admit)
    swept = payer.void(admit, error_type="interrupted")
    apply_now(type(swept)(swept.hold_id, swept.workspace_id, swept.key_id, swept.log, state="expired"))
    settle = payer.settle(admit, 40)
    first, second = apply_now(settle), apply_now(settle)
    assert isinstance(first, Settled)
    assert first.late
    assert second == first
    books = payer.books()
    assert (books.transfers, books.holds, books.spent) == ([40], ["expired"], 40)
    assert [(r["error_type"], r["late"], r["charged_microcredits"]) for r in books.log] == [
        ("interrupted", False, 0),
        ("", True, 40),
    ]
    assert {row["request_id"] for row in books.log} == {admit.hold_id}


def test_a_settlement_whose_hold_was_lost_in_a_crash_charges_once(payer: Payer) -> None:
    settle = payer.settle(payer.admit(100), 40)
    results = batch(settle, settle)
    assert results[0] == results[1]
    assert isinstance(results[0], Settled)
    assert results[0].late
    assert apply_now(settle) == replace(results[0], late=False)  # the hold is there again
    assert (payer.books().transfers, payer.books().holds, len(payer.books().log)) == ([40], ["posted"], 1)
    assert [row["late"] for row in payer.books().log] == [True]


def test_a_call_whose_hold_was_lost_counts_for_its_member_and_organization(payer: Payer) -> None:
    organization = factories.organization()
    member = Membership.objects.create(workspace=organization, user=payer.user, role="developer")
    key = factories.api_key(organization, created_by=payer.user).key
    theirs = Payer(payer.user, organization, key)
    theirs.give(100 * CREDIT)
    apply_now(theirs.settle(theirs.admit(30 * CREDIT), 25 * CREDIT))
    kept = theirs.admit(10 * CREDIT)
    apply_now(kept)
    apply_now(theirs.settle(kept, 5 * CREDIT))
    spent = {meter.scope_id: meter.spent_microcredits for meter in SpendMeter.objects.all()}
    assert spent == dict.fromkeys((key.pk, member.pk, organization.pk), 30 * CREDIT)
    members.remove_member(organization, payer.user, audit.SYSTEM, members.Source.OPERATOR)
    assert verify.verify().clean  # also when the member is gone


def test_refused_calls_are_logged_without_a_hold(payer: Payer) -> None:
    admit = payer.admit(1)
    apply_now(Record(payer.row(admit.hold_id, status=429, error_type="rate_limit_error")))
    apply_now(Record(payer.row(admit.hold_id, status=429, error_type="rate_limit_error")))
    assert [row["status"] for row in payer.books().log] == [429]
    assert Rollup.objects.get().requests == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda p: ApiKey.objects.update(enabled=False),
        lambda p: ApiKey.objects.update(expires_at=datetime(2020, 1, 1, tzinfo=UTC)),
        lambda p: ApiKey.objects.update(deleted_at=datetime(2020, 1, 1, tzinfo=UTC)),
        lambda p: Workspace.objects.update(active=False),
        lambda p: type(p.user).objects.update(is_active=False),
        lambda p: Membership.objects.all().delete(),
    ],
    ids=["disabled", "expired", "deleted", "workspace closed", "user inactive", "maker left"],
)
def test_a_key_that_is_no_longer_good_is_refused_whatever_a_cache_says(payer: Payer, change: object) -> None:
    change(payer)  # type: ignore[operator]
    assert isinstance(refusal(apply_now(payer.admit(1))), errors.AuthenticationFailed)
    assert payer.books().holds == []


class TestIdempotencyKey:
    claim = Claim(key_hash=b"k" * 32, request_hash=b"r" * 32, is_stream=False)

    def test_the_stored_answer_comes_again(self, payer: Payer) -> None:
        admit = payer.admit(100, claim=self.claim)
        apply_now(admit)
        settle = payer.settle(admit, 40)
        answer = Answer(200, "application/json", b"sealed")
        apply_now(replace(settle, answer=answer))
        again = apply_now(payer.admit(100, claim=self.claim))
        assert again == Replay(admit.hold_id, 200, "application/json", b"sealed")
        assert (payer.books().transfers, payer.books().held) == ([40], 0)

    def test_while_the_first_runs_and_with_another_body_it_is_a_conflict(self, payer: Payer) -> None:
        first, second = batch(payer.admit(100, claim=self.claim), payer.admit(100, claim=self.claim))
        assert isinstance(first, Admitted)
        assert "still running" in refusal(second).message
        other = Claim(self.claim.key_hash, b"x" * 32, False)
        error = refusal(apply_now(payer.admit(100, claim=other)))
        assert isinstance(error, errors.Conflict)
        assert error.param == "Idempotency-Key"
        assert payer.books().held == 100

    def test_a_stream_is_not_sent_again(self, payer: Payer) -> None:
        stream = Claim(self.claim.key_hash, self.claim.request_hash, True)
        admit = payer.admit(100, claim=stream)
        apply_now(admit)
        settle = payer.settle(admit, 40)
        apply_now(replace(settle, answer=Answer(200, "", None)))
        error = refusal(apply_now(payer.admit(100, claim=stream)))
        assert error.extra == {"request_id": str(admit.hold_id)}
        assert payer.books().transfers == [40]

    def test_a_call_that_failed_may_be_tried_again(self, payer: Payer) -> None:
        admit = payer.admit(100, claim=self.claim)
        apply_now(admit)
        apply_now(payer.void(admit))
        assert StoredAnswer.objects.count() == 0
        assert isinstance(apply_now(payer.admit(100, claim=self.claim)), Admitted)

    def test_it_is_forgotten_after_a_day(self, payer: Payer) -> None:
        start = datetime(2026, 5, 1, tzinfo=UTC)
        first = payer.admit(100, claim=self.claim)
        apply_now(first, start)
        apply_now(payer.settle(first, 1), start)
        assert isinstance(apply_now(payer.admit(1, claim=self.claim), start + timedelta(hours=24, seconds=1)), Admitted)

    def test_another_workspaces_key_is_another_key(self, payer: Payer) -> None:
        other = new_payer(balance=100)
        results = batch(payer.admit(1, claim=self.claim), other.admit(1, claim=self.claim))
        assert [type(result) for result in results] == [Admitted, Admitted]


def test_the_database_itself_refuses_what_the_rules_forbid(payer: Payer) -> None:
    admit = payer.admit(100)
    batch(admit)
    apply_now(payer.settle(admit, 10))
    for change in (
        lambda: Transfer.objects.update(amount_microcredits=1),
        lambda: Transfer.objects.all().delete(),
        lambda: RequestLog.objects.update(charged_microcredits=0),
        lambda: RequestLog.objects.all().delete(),
        lambda: Hold.objects.update(state="pending"),
        lambda: Hold.objects.update(amount_microcredits=-1),
        lambda: CreditLot.objects.update(remaining_microcredits=-1),
        lambda: CreditLot.objects.update(remaining_microcredits=10**18),
        lambda: SpendMeter.objects.update(held_microcredits=-1),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            change()


def test_many_workspaces_in_one_batch() -> None:
    payers = [new_payer(balance=100) for _ in range(5)]
    admits = [payer.admit(30 + i) for payer in payers for i in range(4)]
    results = batch(*admits)
    assert [isinstance(result, Admitted) for result in results] == [True, True, True, False] * 5
    batch(*(payer.settle(admits[4 * n + i], 10 + i) for n, payer in enumerate(payers) for i in range(3)))
    for payer in payers:
        assert (payer.books().balance, payer.books().held, payer.books().spent) == (100 - 33, 0, 33)
