"""A model of the books, and a machine that does to the real ones whatever comes to its mind.

Items go in one after another and many at once: from several threads, each over a connection and in a transaction of its
own, in batches over several wallets, and again when they were applied before. After each step the model knows what
every hold, balance and limit must be, and the proof of the books must find nothing.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from django.db import connection
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from billing import ledger
from billing.models import HOUSE_ACCOUNTS, Account, CreditLot, Hold, HoldOwner, SpendMeter, Transfer, Wallet
from core import clock, ids
from keys.models import ApiKey
from tests.support.installation import LOOKS
from tests.support.money import new_payer
from tests.torture.batches import apply_batch
from tests.torture.model import Books, Call
from usage import verify
from usage.items import (
    Admit,
    Admitted,
    Answer,
    Claim,
    Done,
    Extend,
    Extended,
    Item,
    Record,
    Refused,
    Replay,
    Result,
    Settle,
    Settled,
    Void,
)
from usage.sweep import sweep

T = TypeVar("T")

THREADS = 5
#: Small numbers, so that wallets run empty and limits are reached all the time.
AMOUNTS = st.integers(0, 60)
NUMBERS = st.integers(0, 10_000)
LIMIT = 150
KINDS = ["admit", "extend", "settle", "void", "again"]
BODY = b"sealed"


class Machine(RuleBasedStateMachine):
    """Run it with `hypothesis.stateful.run_state_machine_as_test`, on a database that nobody else works on."""

    pool: ClassVar[ThreadPoolExecutor]
    steps: ClassVar[int] = 0
    items: ClassVar[int] = 0
    #: What went wrong, when it did: tried again, threads may not bring it back, and Hypothesis tells of that alone.
    failures: ClassVar[list[str]] = []

    @initialize()
    def people(self) -> None:
        self.accounts = [Books(new_payer(), limit) for limit in (None, None, LIMIT)]
        self.calls: list[Call] = []
        self.applied: list[Item] = []
        self.owners = [HoldOwner.objects.create(id=ids.uuid7(), label=f"machine/{i}", beats=1) for i in range(2)]
        self.looked_at = clock.now()
        for account in self.accounts:
            account.payer.limit(account.limit)
            self._grant(account, 100)

    def teardown(self) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, Exception) and not isinstance(error, HypothesisException):
            Machine.failures.append("".join(traceback.format_exception(error)))

    # ── one after another: the result is known before ────────────────────────────────────────────────────────────────
    @rule(number=NUMBERS, amount=AMOUNTS, least=st.sampled_from([0, 0, 50]), owner=st.sampled_from([None, 0, 1]))
    def admit(self, number: int, amount: int, least: int, owner: int | None) -> None:
        account = self._account(number)
        item = self._admission(account, amount, owner, least=least)
        [result] = apply_batch([item])
        wallet = account.granted - account.charged
        fits = (
            account.enabled
            and wallet >= least
            and amount <= wallet - account.held
            and (account.limit is None or self._fits_limit(account, amount))
        )
        assert isinstance(result, Admitted) is fits, (result, account)
        self._note([item], [result])

    @rule(number=NUMBERS, again=NUMBERS, other=st.booleans())
    def admit_with_a_name(self, number: int, again: int, other: bool) -> None:
        """An Idempotency-Key: of calls that bear the same one, one at a time may run, and its answer comes again."""
        account = self._account(number)
        name = (again % 3).to_bytes(1, "big") * 32
        claim = Claim(name, (b"x" if other else b"y") * 32, is_stream=False)
        item = self._admission(account, 1, None, claim=claim)
        first = next(
            (
                call
                for call in account.calls.values()
                if call.admit.claim is not None and call.admit.claim.key_hash == name and call.state != "voided"
            ),
            None,
        )
        [result] = apply_batch([item])
        if first is None or not account.enabled:
            assert not isinstance(result, Replay)
        elif first.admit.claim != claim or first.state == "pending":
            assert isinstance(result, Refused)
        elif first.state == "posted":
            assert isinstance(result, Replay)
            assert (result.request_id, result.sealed_body) == (first.admit.hold_id, BODY)
        self._note([item], [result])

    @rule(number=NUMBERS, amount=AMOUNTS)
    def extend(self, number: int, amount: int) -> None:
        if not self.calls:
            return
        call = self._call(number)
        account = self._account_of(call)
        item = call.payer.extend(call.admit, call.amount + amount)
        [result] = apply_batch([item])
        fits = amount <= account.granted - account.charged - account.held and (
            account.limit is None or self._fits_limit(account, amount)
        )
        assert result == Extended(call.state == "pending" and account.enabled and (amount == 0 or fits)), account
        self._note([item], [result])

    @rule(number=NUMBERS)
    def void(self, number: int) -> None:
        if not self.calls:
            return
        item = self._call(number).payer.void(self._call(number).admit)
        self._note([item], apply_batch([item]))

    @rule(number=NUMBERS, amount=AMOUNTS)
    def settle(self, number: int, amount: int) -> None:
        if not self.calls:
            return
        call = self._call(number)
        item = self._settlement(call, amount)
        [result] = apply_batch([item])
        assert isinstance(result, Settled)
        assert result.late == (call.state in ("voided", "expired"))
        self._note([item], [result])

    @rule(number=NUMBERS, amount=st.integers(1, 100), twice=st.booleans())
    def grant(self, number: int, amount: int, twice: bool) -> None:
        self._grant(self._account(number), amount, times=2 if twice else 1)

    @rule(number=NUMBERS)
    def switch_a_key(self, number: int) -> None:
        account = self._account(number)
        account.enabled = not account.enabled
        ApiKey.objects.filter(pk=account.payer.key.pk).update(enabled=account.enabled)

    @rule(number=NUMBERS)
    def record(self, number: int) -> None:
        row = self._account(number).payer.row(ids.uuid7(), status=429)
        assert apply_batch([Record(row)]) == [Done()]

    @rule(number=NUMBERS)
    def again(self, number: int) -> None:
        """A batch whose outcome was unknown."""
        if not self.applied:
            return
        item = self.applied[number % len(self.applied)]
        self._note([item], apply_batch([item]))

    @rule(dead=st.integers(0, 1))
    def a_process_dies(self, dead: int) -> None:
        """Its holds are ended by sweeps that see its beat stand still; those of the other one are not."""
        self._sweep_over(dead)
        for call in self.calls:
            if call.owner == dead and call.state == "pending":
                call.state = "expired"

    # ── many at once ─────────────────────────────────────────────────────────────────────────────────────────────────
    @rule(data=st.data(), batches=st.integers(2, THREADS))
    def at_once(self, data: st.DataObject, batches: int) -> None:
        self._at_once(data, batches, None)

    @rule(data=st.data())
    def at_once_in_every_thread(self, data: st.DataObject) -> None:
        self._at_once(data, THREADS, None)

    @rule(data=st.data(), batches=st.integers(2, THREADS), dead=st.integers(0, 1))
    def at_once_while_a_process_dies(self, data: st.DataObject, batches: int, dead: int) -> None:
        self._at_once(data, batches, dead)

    def _at_once(self, data: st.DataObject, batches: int, dead: int | None) -> None:
        planned = [self._plan(data) for _ in range(batches)]
        jobs: list[Callable[[], Any]] = [lambda batch=batch: apply_batch(batch) for batch in planned]  # type: ignore[misc]
        account, granted = self._account(data.draw(NUMBERS)), data.draw(st.integers(1, 50))
        reference = ids.uuid7()
        jobs.append(lambda: self._post_grant(account, granted, reference))
        if dead is not None:
            jobs.append(lambda: self._sweep_over(dead))
        results = self._all(jobs)
        account.granted += granted
        for batch, result in zip(planned, results, strict=False):
            self._note(batch, result)
        if dead is not None:
            self._look_up_expired(dead)
        self._check_names(planned, results)

    def _plan(self, data: st.DataObject) -> list[Item]:
        """One batch. An admission stands in it once, as it does in life; a settlement may be repeated."""
        batch: list[Item] = []
        for kind in data.draw(st.lists(st.sampled_from(KINDS), min_size=2, max_size=6)):
            item = self._planned(kind, data.draw(NUMBERS), data.draw(AMOUNTS))
            if item is not None and not (isinstance(item, Admit) and item in batch):
                batch.append(item)
        return batch

    def _planned(self, kind: str, number: int, amount: int) -> Item | None:
        if kind == "admit":
            claim = Claim(b"\x07" * 32, b"y" * 32, is_stream=False) if amount % 5 == 0 else None
            return self._admission(self._account(number), amount, number % 3 or None, claim=claim)
        if kind == "again":
            return self.applied[number % len(self.applied)] if self.applied else None
        if not self.calls:
            return None
        call = self._call(number)
        if kind == "extend":
            return call.payer.extend(call.admit, call.admit.amount_microcredits + amount)
        return self._settlement(call, amount) if kind == "settle" else call.payer.void(call.admit)

    def _check_names(self, planned: Sequence[Sequence[Item]], results: Sequence[Any]) -> None:
        """Of the new calls of one step that bear one name, one was admitted at most."""
        admitted: dict[tuple[UUID, bytes], set[UUID]] = {}
        for batch, result in zip(planned, results, strict=False):
            for item, each in zip(batch, result, strict=True):
                if isinstance(item, Admit) and item.claim is not None and isinstance(each, Admitted):
                    calls = admitted.setdefault((item.workspace_id, item.claim.key_hash), set())
                    calls.add(item.hold_id)
        new = {call.admit.hold_id for call in self.calls if call.state == "pending"}
        assert all(len(calls & new) <= 1 for calls in admitted.values())

    # ── what must hold after each step ───────────────────────────────────────────────────────────────────────────────
    @invariant()
    def the_model_is_right(self) -> None:
        Machine.steps += 1
        for account in getattr(self, "accounts", ()):
            wallet = Wallet.objects.get(pk=account.payer.workspace.pk)
            assert wallet.balance_microcredits == account.granted - account.charged
            assert wallet.held_microcredits == account.held
            assert wallet.available_microcredits >= -account.uncovered
            meters = SpendMeter.objects.filter(scope_id=account.payer.key.pk).values_list(
                "spent_microcredits", "held_microcredits"
            )
            spent, held = sum(row[0] for row in meters), sum(row[1] for row in meters)
            assert (spent, held) == (account.charged, account.held)
            if account.limit is not None:
                assert spent + held <= account.limit + account.uncovered
            states = dict(Hold.objects.filter(wallet_id=account.payer.workspace.pk).values_list("id", "state"))
            assert states == {call.admit.hold_id: call.state for call in account.calls.values()}

    @invariant()
    def the_books_agree(self) -> None:
        findings = verify.verify().findings
        assert not findings

    # ── making items ─────────────────────────────────────────────────────────────────────────────────────────────────
    def _account(self, number: int) -> Books:
        return self.accounts[number % len(self.accounts)]

    def _account_of(self, call: Call) -> Books:
        return next(account for account in self.accounts if account.payer is call.payer)

    def _call(self, number: int) -> Call:
        """One of the latest: what is long over says nothing new."""
        return self.calls[-1 - number % min(len(self.calls), 8)]

    def _admission(
        self, account: Books, amount: int, owner: int | None, *, least: int = 0, claim: Claim | None = None
    ) -> Admit:
        owner_id = self.owners[owner % 2].id if owner is not None else None
        return account.payer.admit(amount, owner_id=owner_id, min_balance_microcredits=least, claim=claim)

    def _settlement(self, call: Call, amount: int) -> Settle:
        """A gateway makes one settlement of a call, whatever becomes of it."""
        if call.planned is None:
            call.planned = call.payer.settle(call.admit, amount, input_tokens=amount)
            if call.admit.claim is not None:
                call.planned = replace(call.planned, answer=Answer(200, "application/json", BODY))
        return call.planned

    def _fits_limit(self, account: Books, amount: int) -> bool:
        assert account.limit is not None
        return account.charged < account.limit and account.charged + account.held + amount <= account.limit

    def _grant(self, account: Books, amount: int, times: int = 1) -> None:
        reference = ids.uuid7()
        for _ in range(times):
            self._post_grant(account, amount, reference)
        account.granted += amount

    def _post_grant(self, account: Books, amount: int, reference: UUID) -> None:
        ledger.grant(
            account.payer.workspace.pk,
            kind=CreditLot.Kind.DEMO,
            amount_microcredits=amount,
            transfer_kind=Transfer.Kind.GRANT,
            reference=reference,
            source_account=HOUSE_ACCOUNTS[Account.Kind.DEMO],
            at=clock.now(),
        )

    def _sweep_over(self, dead: int) -> None:
        """A minute and a bit of sweeps on a clock that only goes on; the other process beats between them."""
        for second in LOOKS:
            living = self.owners[1 - dead]
            HoldOwner.objects.filter(pk=living.pk).update(beats=second + int(self.looked_at.timestamp()))
            sweep(self.looked_at + timedelta(seconds=second))
        self.looked_at += timedelta(seconds=LOOKS[-1] + 300)  # a gap: what comes next starts to count anew

    def _look_up_expired(self, dead: int) -> None:
        """Sweeps that ran beside may have come before or after an item: the books say which."""
        for call in self.calls:
            if call.owner == dead and call.state == "pending":
                call.state = Hold.objects.values_list("state", flat=True).get(pk=call.admit.hold_id)
                assert call.state in ("pending", "expired")

    # ── what came of them ────────────────────────────────────────────────────────────────────────────────────────────
    def _note(self, items: Sequence[Item], results: Sequence[Result]) -> None:
        Machine.items += len(items)
        for item, result in zip(items, results, strict=True):
            if item not in self.applied:
                self.applied.append(item)
            if isinstance(item, Admit):
                self._note_admission(item, result)
            elif isinstance(item, Record):
                continue
            else:
                self._note_rest(self._known(item.hold_id), item, result)

    def _note_admission(self, item: Admit, result: Result) -> None:
        account = next(each for each in self.accounts if each.payer.workspace.pk == item.workspace_id)
        if isinstance(result, Admitted) and item.hold_id not in account.calls:
            owner = next((i for i, owner in enumerate(self.owners) if owner.id == item.owner_id), None)
            call = Call(account.payer, item, owner, item.amount_microcredits)
            account.calls[item.hold_id] = call
            self.calls.append(call)

    def _note_rest(self, call: Call, item: Extend | Settle | Void, result: Result) -> None:
        account = self._account_of(call)
        if isinstance(item, Extend):
            if result == Extended(True):
                call.amount = max(call.amount, item.amount_microcredits)
            return
        hold = Hold.objects.get(pk=call.admit.hold_id)
        if isinstance(item, Settle):
            assert isinstance(result, Settled)
            assert result.charged_microcredits == (call.settle or item).charge_microcredits
            if call.settle is None:
                covered = hold.amount_microcredits if hold.state == "posted" else 0
                account.uncovered += max(0, item.charge_microcredits - covered)
            call.settle = call.settle or item
        call.state, call.amount = hold.state, hold.amount_microcredits
        assert hold.state != "pending"

    def _known(self, hold_id: UUID) -> Call:
        return next(call for call in self.calls if call.admit.hold_id == hold_id)

    def _all(self, jobs: Sequence[Callable[[], Any]]) -> list[Any]:
        """The jobs' results; they begin at the same moment."""
        start = threading.Barrier(len(jobs))

        def run(job: Callable[[], T]) -> T:
            start.wait(30)
            try:
                return job()
            finally:
                connection.close()

        return [future.result(60) for future in [self.pool.submit(run, job) for job in jobs]]
