"""A code becomes credits once a workspace and no more often than it may, whoever asks how often at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from billing.models import HOUSE_ACCOUNTS, Account, CreditLot, Transfer, Wallet
from core import clock, errors, ids
from events import audit
from events.models import AuditEvent
from tests.support.money import Payer, new_payer
from usage import verify
from vouchers import codes, issuing, redeeming
from vouchers.models import FailedAttempt, Redemption, Voucher

CREDIT = 1_000_000
OPERATOR = audit.operator("test")


def issue(amount: int = 500 * CREDIT, **terms: Any) -> issuing.Issued:
    made = issuing.Terms(amount_microcredits=amount, **terms)
    return issuing.issue(made, actor=OPERATOR, form_token=ids.uuid7())


def redeem(payer: Payer, code: str) -> redeeming.Redeemed:
    return redeeming.redeem(payer.workspace, code, actor=audit.Actor(payer.user.pk, payer.user.email))


@pytest.fixture
def payer(db: None) -> Payer:
    return new_payer()


def test_a_code_credits_what_it_is_worth(payer: Payer) -> None:
    issued = issue(note="for the fair", credits_valid_days=30)
    done = redeem(payer, issued.code)
    assert not done.again
    books = payer.books()
    assert (books.balance, books.lots) == (500 * CREDIT, [500 * CREDIT])
    lot, transfer = CreditLot.objects.get(wallet_id=payer.workspace.pk), Transfer.objects.get(lot_id__isnull=False)
    assert lot.kind == CreditLot.Kind.PROMOTIONAL
    assert lot.expires_at == done.redemption.redeemed_at + timedelta(days=30)
    assert (transfer.kind, transfer.reference) == (Transfer.Kind.GRANT, done.redemption.pk)
    assert transfer.debit_account == HOUSE_ACCOUNTS[Account.Kind.PROMOTION]
    assert Voucher.objects.get().redeemed_count == 1
    assert verify.verify().clean
    trail = AuditEvent.objects.filter(target_type="voucher").order_by("pk")
    assert [(row.action, row.workspace_id) for row in trail] == [
        ("voucher.issue", None), ("voucher.redeem", payer.workspace.pk),
    ]  # fmt: skip


def test_the_same_code_again_changes_nothing(payer: Payer) -> None:
    issued = issue(redemption_limit=5)
    first, second = redeem(payer, issued.code), redeem(payer, issued.code)
    assert second.again
    assert second.redemption == first.redemption
    assert payer.books().balance == 500 * CREDIT
    assert Voucher.objects.get().redeemed_count == 1


def test_it_is_redeemed_as_often_as_it_may(payer: Payer) -> None:
    issued = issue(redemption_limit=2)
    other, third = new_payer(), new_payer()
    redeem(payer, issued.code)
    redeem(other, issued.code)
    with pytest.raises(errors.Conflict) as refused:
        redeem(third, issued.code)
    assert (refused.value.code, refused.value.param) == ("voucher_used_up", "code")
    assert third.books().balance == 0
    assert redeem(other, issued.code).again  # whoever has it already is not told that it is over


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"expires_at": timedelta(0)}, "voucher_expired"),
        ({"withdrawn_at": timedelta(0)}, "voucher_withdrawn"),
    ],
    ids=["expired", "withdrawn"],
)
def test_one_that_is_over_credits_nothing(payer: Payer, columns: dict[str, timedelta], code: str) -> None:
    issued = issue()
    Voucher.objects.update(**{name: clock.now() - ago for name, ago in columns.items()})
    with pytest.raises(errors.Conflict) as refused:
        redeem(payer, issued.code)
    assert refused.value.code == code
    assert (payer.books().balance, Redemption.objects.count()) == (0, 0)


@pytest.mark.parametrize("typed", ["", "nonsense", "AAAAA-AAAAA-AAAAA-AAAAA", "ÄÖ" * 10, "0" * 21])
def test_what_is_no_code_is_not_there(payer: Payer, typed: str) -> None:
    with pytest.raises(errors.NotFound) as refused:
        redeem(payer, typed)
    assert refused.value.param == "code"
    assert FailedAttempt.objects.filter(workspace_id=payer.workspace.pk).count() == 1


def test_a_code_may_be_typed_as_people_type(payer: Payer) -> None:
    code = issue().code
    typed = code.lower().replace("-", "  ").replace("0", "o").replace("1", "l")
    assert not redeem(payer, f" {typed} ").again


def test_the_code_is_stored_nowhere(payer: Payer) -> None:
    code = issue(note="n").code
    redeem(payer, code)
    with connection.cursor() as cursor:
        for table in ("vouchers_voucher", "vouchers_redemption", "events_auditevent", "billing_transfer"):
            cursor.execute(f"SELECT string_agg(t::text, ' ') FROM {table} t")
            text = (cursor.fetchone()[0] or "").upper()
            assert code not in text
            assert codes.normalised(code) not in text
    assert Voucher.objects.get().ending == code[-4:]


def test_who_tries_too_many_codes_waits(payer: Payer) -> None:
    issued = issue()
    for _ in range(redeeming.MOST_FAILURES):
        with pytest.raises(errors.NotFound):
            redeem(payer, "wrong")
    with pytest.raises(errors.RateLimited) as refused:
        redeem(payer, issued.code)
    assert 0 < int(refused.value.headers["Retry-After"]) <= 3_601
    assert payer.books().balance == 0
    FailedAttempt.objects.update(created_at=clock.now() - redeeming.WINDOW)
    assert not redeem(payer, issued.code).again


def test_a_person_s_failures_count_in_all_their_workspaces(payer: Payer) -> None:
    other, issued = new_payer(), issue()
    actor = audit.Actor(payer.user.pk, payer.user.email)
    for _ in range(redeeming.MOST_FAILURES):
        with pytest.raises(errors.NotFound):
            redeeming.redeem(payer.workspace, "wrong", actor=actor)
    with pytest.raises(errors.RateLimited):
        redeeming.redeem(other.workspace, issued.code, actor=actor)
    assert not redeem(other, issued.code).again


def test_the_same_form_issues_one_voucher_and_shows_one_code(db: None) -> None:
    token, terms = ids.uuid7(), issuing.Terms(amount_microcredits=CREDIT)
    first = issuing.issue(terms, actor=OPERATOR, form_token=token)
    second = issuing.issue(terms, actor=OPERATOR, form_token=token)
    assert (first.code, first.voucher.pk) == (second.code, second.voucher.pk)
    assert Voucher.objects.count() == AuditEvent.objects.filter(action="voucher.issue").count() == 1
    assert issue().code != first.code


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        ({"amount_microcredits": 0}, "amount"),
        ({"amount_microcredits": -1}, "amount"),
        ({"amount_microcredits": issuing.MOST_MICROCREDITS + 1}, "amount"),
        ({"amount_microcredits": 1, "redemption_limit": 0}, "redemption_limit"),
        ({"amount_microcredits": 1, "credits_valid_days": 0}, "credits_valid_days"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_terms_that_can_t_be_meant_are_refused(db: None, terms: dict[str, Any], param: str) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        issuing.issue(issuing.Terms(**terms), actor=OPERATOR, form_token=ids.uuid7())
    assert refused.value.param == param
    assert not Voucher.objects.exists()


def test_the_database_itself_refuses_one_redemption_too_many(db: None) -> None:
    voucher = issue().voucher
    with pytest.raises(IntegrityError), transaction.atomic():
        Voucher.objects.filter(pk=voucher.pk).update(redeemed_count=2)


@pytest.fixture
def many(committed: None) -> Iterator[list[Payer]]:
    yield [new_payer() for _ in range(20)]


def at_once(work: Callable[[int], Any], threads: int = 20) -> list[Any]:
    barrier = threading.Barrier(threads)

    def one(number: int) -> Any:
        try:
            barrier.wait(timeout=60)
            return work(number)
        except errors.ProductError as error:
            return error.code
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(threads)))


def test_twenty_workspaces_at_once_redeem_a_code_for_one_once(many: list[Payer]) -> None:
    issued = issue()
    done = at_once(lambda number: redeem(many[number], issued.code).again)
    assert sorted(map(str, done)) == sorted(["False"] + ["voucher_used_up"] * 19)
    balances = Wallet.objects.filter(pk__in=[payer.workspace.pk for payer in many])
    assert sum(balances.values_list("balance_microcredits", flat=True)) == 500 * CREDIT
    assert Voucher.objects.get(pk=issued.voucher.pk).redeemed_count == 1


def test_twenty_clicks_of_one_workspace_at_once_credit_once(many: list[Payer]) -> None:
    issued, payer = issue(redemption_limit=50), many[0]
    done = at_once(lambda _: redeem(payer, issued.code))
    assert sorted(one.again for one in done) == [False] + [True] * 19
    assert len({one.redemption.pk for one in done}) == 1
    assert payer.books().balance == 500 * CREDIT
    assert Voucher.objects.get(pk=issued.voucher.pk).redeemed_count == 1
