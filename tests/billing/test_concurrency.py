"""The same money told of by several processes at once, on real connections and committed data."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from billing import stripe_api, stripe_events, topups
from billing.models import StripeEvent, TopUp
from core import clock, ids
from tests.billing.support import books, paid, start, trail
from tests.fakes.stripe import FakeStripe, signed
from tests.support.money import Payer, new_payer

pytestmark = pytest.mark.usefixtures("committed")

THREADS = 6


@pytest.fixture
def payer(committed: None) -> Iterator[Payer]:
    yield new_payer()
    # Rows that stay behind must not be due in other tests.
    TopUp.objects.filter(run_after__isnull=False).update(run_after=None)
    StripeEvent.objects.filter(state__in=("received", "failed")).update(state="ignored")


def at_once(work: Callable[[], Any], threads: int = THREADS) -> list[Any]:
    """Do the same in several threads that start together; what each returned."""
    barrier = threading.Barrier(threads)

    def one(_: int) -> Any:
        try:
            barrier.wait(timeout=60)
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(threads)))


def test_several_who_bring_the_same_news_credit_once(payer: Payer, stripe: FakeStripe) -> None:
    topup = start(payer)
    stripe.pay(topup)
    session = stripe_api.retrieve_session(topup.stripe_session_id or "")
    done = at_once(lambda: topups.complete(topup.pk, session).state)
    assert done == [TopUp.State.PAID] * THREADS
    assert books(payer) == paid(1_000)
    assert trail(payer) == ["topup.start", "topup.complete"]


def test_webhook_return_page_and_sweep_at_once_credit_once(payer: Payer, stripe: FakeStripe) -> None:
    topup = start(payer)
    stripe.pay(topup)
    for event in stripe.events("checkout.session.completed"):
        stripe_events.receive(*signed(event))
    soon = clock.now() + timedelta(seconds=61)
    turns = iter(
        [
            lambda: topups.sweep(soon),
            lambda: stripe_events.sweep(soon),
            lambda: topups.look_again(topup),
            lambda: topups.reconcile(topup),
        ]
        * 2
    )
    lock = threading.Lock()

    def turn() -> Any:
        with lock:
            mine = next(turns)
        return mine()

    at_once(turn, threads=8)
    assert books(payer) == paid(1_000)
    assert trail(payer) == ["topup.start", "topup.complete"]


def test_the_same_form_sent_at_once_is_one_top_up(payer: Payer, stripe: FakeStripe) -> None:
    token = ids.uuid7()
    made = at_once(lambda: start(payer, form_token=token))
    assert len({topup.pk for topup in made}) == 1
    assert len({topup.checkout_url for topup in made}) == 1
    assert len(stripe.sessions) == 1
    assert trail(payer) == ["topup.start"]


def test_the_same_webhook_received_and_handled_at_once_is_one(payer: Payer, stripe: FakeStripe) -> None:
    stripe.pay(start(payer))
    (event,) = stripe.events("checkout.session.completed")
    rows = at_once(lambda: stripe_events.receive(*signed(event)).pk)
    assert set(rows) == {event["id"]}
    soon = clock.now() + timedelta(seconds=1)
    done = at_once(lambda: stripe_events.handle(event["id"], soon))
    assert sorted(state for state in done if state) == [stripe_events.State.HANDLED]
    assert StripeEvent.objects.get(pk=event["id"]).attempts == 1
    assert books(payer) == paid(1_000)


def test_different_top_ups_of_one_wallet_at_once_all_arrive(payer: Payer, stripe: FakeStripe) -> None:
    made = [start(payer, 200 + number) for number in range(THREADS)]
    for topup in made:
        stripe.pay(topup)
    waiting = iter(made)
    lock = threading.Lock()

    def turn() -> Any:
        with lock:
            mine = next(waiting)
        return topups.reconcile(mine)

    at_once(turn)
    after = books(payer)
    assert after.balance == sum(200 + number for number in range(THREADS))
    assert len(after.lots) == len(after.transfers) == THREADS


def test_two_sweeps_at_once_ask_and_mail_once(
    payer: Payer, stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    topup = start(payer)
    stripe.pay(topup)
    sent: list[str] = []
    monkeypatch.setattr("billing.emails.send_receipt", lambda topup, *, to: sent.append(to))
    at_once(lambda: topups.sweep(clock.now() + timedelta(seconds=61)))
    at_once(lambda: topups.sweep(clock.now() + timedelta(seconds=200)))
    at_once(lambda: topups.send_receipt(topup.pk))
    assert sent == [payer.user.email]
    assert books(payer) == paid(1_000)
