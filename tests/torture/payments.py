"""A machine that pays, spends, refunds and disputes as it comes to its mind, and tells of it late, twice or never.

It works from threads of its own process and from two processes beside it, on one database and one stand-in for Stripe.

What Stripe holds in the end is the model: the balance must be what was paid there and not sent back, and gifts, less
what was spent and what expired. After each step the proofs of the books must find nothing.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any, ClassVar

from django.db import connection
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from billing import auto, customers, expiry, reversals, stripe_events, topups
from billing.demo_stripe.params import Refused
from billing.models import CreditLot, TopUp, Transfer, Wallet
from core import clock, errors
from events import audit
from tests.billing.support import CENT, actor_of, start
from tests.fakes.stripe import FakeStripe, signed
from tests.support.money import Payer, new_payer
from tests.torture.workers import Worker
from usage import verify
from usage.metering import apply_now

NUMBERS = st.integers(0, 10_000)
CENTS = st.integers(200, 3_000)
OUTCOMES = st.sampled_from(["success", "success", "decline", "success_then_declines", "late_success"])
THREADS = 4
PROCESSES = 2
GONE = ("needs_response", "under_review", "lost")


class PaymentsMachine(RuleBasedStateMachine):
    """Run it with `hypothesis.stateful.run_state_machine_as_test`, on a database that nobody else works on."""

    pool: ClassVar[ThreadPoolExecutor]
    stripe: ClassVar[FakeStripe]
    workers: ClassVar[tuple[Worker, ...]]
    steps: ClassVar[int] = 0

    @initialize()
    def people(self) -> None:
        self.payers = [new_payer() for _ in range(2)]
        self.spent = {payer.workspace.pk: 0 for payer in self.payers}
        self.told = len(self.stripe.events())
        self.now = clock.now()
        self.boss = audit.operator("machine")

    # ── People ───────────────────────────────────────────────────────────────────────────────────────────────────────
    @rule(number=NUMBERS, cents=CENTS, outcome=OUTCOMES, keep=st.booleans())
    def pay(self, number: int, cents: int, outcome: str, keep: bool) -> None:
        payer = self.payers[number % 2]
        if outcome == "late_success" or not keep:
            outcome = outcome.removesuffix("_then_declines")
        self.stripe.pay(start(payer, cents, saves_card=keep), outcome)

    @rule(number=NUMBERS, cents=st.integers(1, 2_000))
    def spend(self, number: int, cents: int) -> None:
        payer = self.payers[number % 2]
        call = payer.admit(0)
        apply_now(call)
        apply_now(payer.settle(call, cents * CENT))
        self.spent[payer.workspace.pk] += cents * CENT

    @rule(number=NUMBERS, wishes=st.lists(st.tuples(NUMBERS, st.integers(1, 1_500)), min_size=2, max_size=6))
    def at_once(self, number: int, wishes: list[tuple[int, int]]) -> None:
        """From all processes at one moment: calls and refunds of one payer, and what runs by itself."""
        payer = self.payers[number % 2]
        asked: list[Future[bool]] = []
        mine = [one for one in self._paid() if one.wallet_id == payer.workspace.pk]
        for turn, (pick, cents) in enumerate(wishes):
            worker = self.workers[turn % len(self.workers)]
            if pick % 3 == 0 and mine:
                asked.append(self.pool.submit(worker.ask, "refund", topup=mine[pick % len(mine)].pk, cents=cents))
                continue
            given = {"workspace": payer.workspace.pk, "key": payer.key.pk, "microcredits": cents * CENT}
            asked.append(self.pool.submit(worker.ask, "spend", **given))
            self.spent[payer.workspace.pk] += cents * CENT
        self._at_once(lambda: auto.sweep(self.now), "events")
        for done in asked:
            done.result(timeout=120)

    @rule(number=NUMBERS, cents=CENTS, days=st.integers(0, 3))
    def gift(self, number: int, cents: int, days: int) -> None:
        ends = self.now + timedelta(days=days, seconds=1)
        self.payers[number % 2].give(cents * CENT, CreditLot.Kind.PROMOTIONAL, ends)

    @rule(number=NUMBERS, below=st.integers(1, 5_000), cents=CENTS, enabled=st.booleans())
    def set_rule(self, number: int, below: int, cents: int, enabled: bool) -> None:
        payer = self.payers[number % 2]
        customer = customers.of(payer.workspace.pk)
        if enabled and (customer is None or not customer.payment_method_id):
            return
        auto.configure(
            payer.workspace,
            actor=actor_of(payer),
            enabled=enabled,
            below_microcredits=below * CENT,
            amount_cents=cents,
            monthly_cap_cents=cents * 3,
        )

    @rule(number=NUMBERS, cents=st.none() | CENTS)
    def refund(self, number: int, cents: int | None) -> None:
        paid = self._paid()
        if paid:
            try:
                reversals.refund(paid[number % len(paid)], cents, "asked for", self.boss)
            except errors.ProductError:
                pass  # more than is left, or disputed meanwhile

    # ── Banks and dashboards ─────────────────────────────────────────────────────────────────────────────────────────
    @rule(number=NUMBERS, cents=st.none() | CENTS)
    def refund_at_stripe(self, number: int, cents: int | None) -> None:
        charges = self._charges()
        if charges:
            wish = {"charge": charges[number % len(charges)]["id"], **({} if cents is None else {"amount": cents})}
            self._try(lambda: self.stripe.reversals.create_refund(wish))

    @rule(number=NUMBERS)
    def return_refund(self, number: int) -> None:
        living = [one for one in self.stripe.refunds if one["status"] in ("succeeded", "pending")]
        if living:
            self.stripe.reversals.settle_refund(living[number % len(living)], succeeds=False)

    @rule(number=NUMBERS, inquiry=st.booleans())
    def dispute(self, number: int, inquiry: bool) -> None:
        charges = self._charges()
        if charges:
            self._try(lambda: self.stripe.reversals.dispute(charges[number % len(charges)], inquiry=inquiry))

    @rule(number=NUMBERS, end=st.sampled_from(["won", "lost"]))
    def close_dispute(self, number: int, end: str) -> None:
        disputes = list(self.stripe.demo.account.store.tables.disputes.values())
        if disputes:
            one = disputes[number % len(disputes)]
            end = "warning_closed" if one["status"].startswith("warning") else end
            self._try(lambda: self.stripe.reversals.close_dispute(one, end))

    # ── News and time ────────────────────────────────────────────────────────────────────────────────────────────────
    @rule(picks=st.lists(NUMBERS, max_size=12))
    def tell(self, picks: list[int]) -> None:
        """Some webhooks, in any order, some of them twice, handled by several threads at once."""
        events = self.stripe.events()[self.told :]
        if not events:
            return
        for pick in picks:
            stripe_events.receive(*signed(events[pick % len(events)]))
        self.now += timedelta(minutes=5)
        self._at_once(lambda: stripe_events.sweep(self.now), "events")

    @rule(days=st.integers(0, 2))
    def sweep(self, days: int) -> None:
        """Time goes by; everything that runs by itself runs, in several processes at once."""
        self.now += timedelta(days=days, minutes=10)
        self._at_once(self._everything, "everything")

    def teardown(self) -> None:
        if not hasattr(self, "payers"):
            return
        for event in self.stripe.events()[self.told :]:
            stripe_events.receive(*signed(event))
        for _ in range(4):
            self.now += timedelta(days=1)
            self._everything()
        self.agree()
        for payer in self.payers:
            wallet = Wallet.objects.get(pk=payer.workspace.pk)
            assert wallet.balance_microcredits == self._wanted(payer), payer.workspace.pk

    @invariant()
    def agree(self) -> None:
        PaymentsMachine.steps += 1
        report = verify.verify()
        assert report.clean, report.findings

    # ── Means ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _everything(self) -> None:
        with self.stripe.demo.account.store.lock:
            for intent in list(self.stripe.demo.account.store.tables.settling.values()):
                intent["due"] = 0
            self.stripe.tick()
        stripe_events.sweep(self.now)
        topups.sweep(self.now)
        topups.heal(self.now, since=timedelta(days=60))
        reversals.sweep(self.now)
        auto.sweep(self.now)
        expiry.sweep(self.now)

    def _at_once(self, work: Any, order: str) -> None:
        """``work`` on all threads here, ``order`` in each other process."""

        def one() -> None:
            try:
                work()
            finally:
                connection.close()

        now = self.now.isoformat()
        beside = [self.pool.submit(worker.ask, order, now=now) for worker in self.workers]
        here = [self.pool.submit(one) for _ in range(THREADS)]
        waiting: list[Future[Any]] = [*beside, *here]
        for done in waiting:
            done.result(timeout=120)

    @staticmethod
    def _try(act: Any) -> None:
        try:
            act()
        except Refused:
            pass  # what Stripe would refuse

    def _paid(self) -> list[TopUp]:
        mine = [payer.workspace.pk for payer in self.payers]
        return list(TopUp.objects.filter(wallet_id__in=mine, state=TopUp.State.PAID).order_by("pk"))

    def _charges(self, payer: Payer | None = None) -> list[dict[str, Any]]:
        """What was paid for one of the payers, or for any of them."""
        tables = self.stripe.demo.account.store.tables
        wallets = [one.workspace.pk for one in self.payers if payer is None or one is payer]
        mine = {str(pk) for pk in TopUp.objects.filter(wallet_id__in=wallets).values_list("pk", flat=True)}
        intents = [one for one in tables.payment_intents.values() if one["metadata"].get("topup_id") in mine]
        return [tables.charges[one["latest_charge"]] for one in intents if one["status"] == "succeeded"]

    def _wanted(self, payer: Payer) -> int:
        """The balance by what Stripe holds now, in microcredits."""
        tables, total = self.stripe.demo.account.store.tables, 0
        for charge in self._charges(payer):
            disputes = [one for one in tables.disputes.values() if one["charge"] == charge["id"]]
            back = charge["amount_refunded"] + sum(one["amount"] for one in disputes if one["status"] in GONE)
            total += charge["amount"] - min(charge["amount"], back)
        moved = Transfer.objects.filter(workspace_id=payer.workspace.pk)
        gifts = sum(moved.filter(kind=Transfer.Kind.GRANT).values_list("amount_microcredits", flat=True))
        expired = sum(moved.filter(kind=Transfer.Kind.EXPIRY).values_list("amount_microcredits", flat=True))
        return total * CENT + gifts - expired - self.spent[payer.workspace.pk]
