"""The proof of the books finds each kind of damage, and nothing in books that are right."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from billing.models import CreditLot, Hold, Reversal, SpendMeter, StripeReport, TopUp, Transfer, Wallet
from core import clock, ids
from events import audit
from orgs.models import Workspace
from tests.support.money import Payer, new_payer
from usage import verify
from usage.metering import apply_now
from usage.models import Checkpoint, Rollup
from vouchers import issuing, redeeming
from vouchers.models import Voucher

pytestmark = pytest.mark.django_db


def payer_with_calls() -> Payer:
    """Someone with a posted, a voided and a pending call."""
    payer = new_payer(balance=1_000)
    posted, voided, pending = payer.admit(100), payer.admit(50), payer.admit(25)
    for item in (posted, voided, pending, payer.settle(posted, 70), payer.void(voided)):
        apply_now(item)
    return payer


@pytest.fixture
def payer() -> Payer:
    return payer_with_calls()


def sql(*statements: str) -> Callable[[], None]:
    """Damage that no code path can do: the append-only triggers are switched off first."""

    def damage() -> None:
        with connection.cursor() as cursor:
            for table in ("billing_transfer", "usage_requestlog", "usage_requestlog_default"):
                cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER append_only")
            for statement in statements:
                cursor.execute(statement)

    return damage


def grant_from(source: str) -> Callable[[], None]:
    """Credits that came out of a house account which never gave them."""
    return sql(
        f"UPDATE billing_transfer SET debit_account = (SELECT id FROM billing_account WHERE kind = '{source}')"
        " WHERE kind = 'grant'"
    )


def reversal() -> None:
    """A refund of a top-up that never brought anything."""
    topup = TopUp.objects.create(wallet=Wallet.objects.latest("pk"), amount_cents=1, credits_microcredits=1_000_000)
    Reversal.objects.create(topup=topup, kind="refund", state="final", amount_cents=1, taken_microcredits=1)


def voucher(**damage: int) -> None:
    """A voucher that was redeemed properly, and then that."""
    terms = issuing.Terms(amount_microcredits=500, redemption_limit=3)
    issued = issuing.issue(terms, actor=audit.SYSTEM, form_token=ids.uuid7())
    redeeming.redeem(Workspace.objects.latest("pk"), issued.code, actor=audit.SYSTEM)
    assert verify.verify().clean
    Voucher.objects.filter(pk=issued.voucher.pk).update(**damage)


def underpaid() -> None:
    """A top-up that brought more than was paid for it."""
    sql("UPDATE billing_transfer SET kind = 'topup' WHERE kind = 'grant'")()
    row = Transfer.objects.get(kind="topup")
    TopUp.objects.create(
        id=row.reference, wallet_id=row.workspace_id, amount_cents=999, credits_microcredits=row.amount_microcredits,
        state="paid", lot_id=row.lot_id,
    )  # fmt: skip


DAMAGE: dict[str, Callable[[], object]] = {
    "balance": lambda: Wallet.objects.update(balance_microcredits=1),
    "held": lambda: Wallet.objects.update(held_microcredits=1),
    "lots": lambda: CreditLot.objects.update(remaining_microcredits=1),
    "lot": lambda: CreditLot.objects.update(remaining_microcredits=1_000),
    "meters": lambda: SpendMeter.objects.update(spent_microcredits=71),
    "meters above keys": lambda: SpendMeter.objects.create(
        scope="member", scope_id=ids.uuid7(), month=clock.month_of(clock.now()), spent_microcredits=1
    ),
    "rollups": lambda: Rollup.objects.filter(status=200).update(requests=2),
    "statements": lambda: Rollup.objects.filter(status=200).update(charged_microcredits=71),
    "holds": lambda: Hold.objects.filter(state="posted").update(charged_microcredits=69),
    "calls": sql("UPDATE usage_requestlog SET charged_microcredits = 71 WHERE charged_microcredits = 70"),
    "dates": sql("UPDATE billing_transfer SET billed_at = billed_at + interval '1 second' WHERE kind = 'usage'"),
    "accounts": sql("UPDATE billing_transfer SET credit_account = gen_random_uuid() WHERE kind = 'usage'"),
    "grants": sql("DELETE FROM billing_transfer WHERE kind = 'grant'"),
    "topups": sql("UPDATE billing_transfer SET kind = 'topup' WHERE kind = 'grant'"),
    "reversals": sql("UPDATE billing_transfer SET kind = 'refund' WHERE kind = 'usage'"),
    "reversed": reversal,
    "sides": grant_from("revenue"),
    "vouchers": grant_from("promotion"),
    "voucher counts": lambda: voucher(redeemed_count=2),
    "expiry": sql("UPDATE billing_transfer SET kind = 'expiry' WHERE kind = 'usage'"),
    "stripe": lambda: StripeReport.objects.create(
        since=clock.now(), until=clock.now(), is_demo=False, payments=1, refunds=0, disputes=0, differences=[{}]
    ),
}


def test_right_books_are_found_right(db: None) -> None:
    before = verify.verify()
    payer_with_calls()
    report = verify.verify()
    assert report.findings == ()
    assert report.wallets - before.wallets == 1
    assert report.transfers - before.transfers == 2
    assert report.log_rows - before.log_rows == 2
    assert report.charged_microcredits - before.charged_microcredits == 70


@pytest.mark.parametrize("name", DAMAGE)
def test_each_kind_of_damage_is_found(payer: Payer, name: str) -> None:
    DAMAGE[name]()
    report = verify.verify()
    assert name in {finding.check.name for finding in report.findings}
    assert all(finding.wrong >= 1 and finding.examples for finding in report.findings)


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (sql("UPDATE billing_transfer SET workspace_id = gen_random_uuid() WHERE kind = 'grant'"), "sides"),
        (sql("UPDATE billing_transfer SET kind = 'adjustment' WHERE kind = 'usage'"), "sides"),
        (underpaid, "topups"),
        (lambda: voucher(amount_microcredits=501), "voucher counts"),
    ],
    ids=["another workspace's", "another kind", "more than was paid", "another worth"],
)
def test_what_sums_alone_would_not_show(payer: Payer, damage: Callable[[], object], name: str) -> None:
    damage()
    assert name in {finding.check.name for finding in verify.verify().findings}


def test_every_check_has_its_damage() -> None:
    assert {check.name for check in verify.CHECKS} == DAMAGE.keys() | {"checkpoints"}


def test_a_sealed_day_that_changes_is_found(payer: Payer) -> None:
    sql(
        "UPDATE billing_transfer SET billed_at = billed_at - interval '2 days'",
        "UPDATE usage_requestlog SET billed_at = billed_at - interval '2 days'",
    )()
    Rollup.objects.all().delete()
    assert len(verify.seal()) == 1
    assert verify.seal() == []
    assert Checkpoint.objects.get().log_rows >= 2
    assert "checkpoints" not in {f.check.name for f in verify.verify().findings}
    sql("UPDATE usage_requestlog SET charged_microcredits = 0")()
    assert "checkpoints" in {f.check.name for f in verify.verify().findings}


def test_the_command_says_it_by_text_json_and_exit_code(payer: Payer) -> None:
    out = StringIO()
    call_command("verify_ledger", stdout=out)
    assert "ok    balance" in out.getvalue()
    out = StringIO()
    call_command("verify_ledger", "--json", "--seal", stdout=out)
    assert json.loads(out.getvalue())["clean"] is True
    DAMAGE["balance"]()
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("verify_ledger", stdout=out)
    assert ended.value.code == 1
    assert "WRONG balance" in out.getvalue()
    assert str(payer.workspace.pk) in out.getvalue()
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("verify_ledger", "--seal", stdout=out)
    assert "nothing was sealed" in out.getvalue()


def test_books_that_can_not_be_read_are_not_called_wrong(payer: Payer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage.verify._TOTALS", "SELECT 1 FROM no_such_table")
    with pytest.raises(CommandError, match="could not be read") as failed:
        call_command("verify_ledger", stdout=StringIO())
    assert failed.value.returncode == 2
