"""kill -9 between any two steps of a top-up, a refund, an automatic top-up: everything ends settled or given back.

A child of this process does the work and is killed at the place that FAULT_POINT names; then sweeps run as they would
in the process that comes after it. The stand-in for Stripe lives on in the parent, as Stripe would.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import time_machine
from django.db import connection
from pytest_django import Settings

from billing import auto, reconcile, reversals, stripe_api, stripe_events, topups
from billing.models import AutoTopUp, Reversal, StripeEvent, StripeReport, TopUp
from core import faults
from tests.billing.support import CENT, actor_of, books, start, with_card
from tests.fakes.stripe import KEY, SECRET, FakeStripe, signed
from tests.support.money import Payer, new_payer
from usage import verify
from usage.metering import apply_now

pytestmark = pytest.mark.usefixtures("committed")

SECONDS: int = 60


@pytest.fixture
def stripe(settings: Settings) -> Iterator[FakeStripe]:
    fake = FakeStripe()
    settings.STRIPE_API_BASE, settings.STRIPE_SECRET_KEY = fake.url, KEY
    settings.STRIPE_WEBHOOK_SECRETS = [SECRET]
    settings.DEMO_PAYMENTS, settings.SITE_URL = True, "http://testserver"
    yield fake
    fake.stop()


@pytest.fixture
def payer(committed: None, stripe: FakeStripe) -> Iterator[Payer]:
    yield new_payer()
    # Rows that stay behind must not be due in other tests.
    TopUp.objects.filter(run_after__isnull=False).update(run_after=None)
    Reversal.objects.filter(run_after__isnull=False).update(run_after=None)
    AutoTopUp.objects.update(enabled=False, mail_due="")
    StripeEvent.objects.filter(state__in=("received", "failed")).update(state="ignored")
    StripeReport.objects.all().delete()


def killed_at(point: str, work: Callable[[], object]) -> None:
    """Do ``work`` in a child that dies at ``point``; fails where it came through alive."""
    connection.close()
    child = os.fork()
    if child == 0:
        try:
            os.environ[faults.VARIABLE] = point
            stripe_api._client_for.cache_clear()  # its sockets are the parent's
            work()
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    limit = time.monotonic() + SECONDS
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > limit:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail(f"the child never came to {point}")
        time.sleep(0.01)
    assert os.WIFSIGNALED(status), f"the child came by {point} alive"
    assert os.WTERMSIG(status) == signal.SIGKILL


def afterwards(payer: Payer, stripe: FakeStripe) -> None:
    """What the next processes do within some minutes, on a clock that is moved on; then both books agree."""
    with time_machine.travel(datetime.now(UTC), tick=True) as later:
        for _ in range(4):
            later.shift(130)
            stripe.tick()
            stripe_events.sweep()
            topups.sweep()
            reversals.sweep()
            auto.sweep()
        later.shift(reconcile.SETTLING)
        later.shift(5)
        report = reconcile.run()
    mine = {str(pk) for pk in TopUp.objects.filter(wallet_id=payer.workspace.pk).values_list("pk", flat=True)}
    assert [one for one in report.differences if one["topup_id"] in mine] == []
    StripeReport.objects.all().delete()
    assert verify.verify().clean
    assert not TopUp.objects.filter(wallet_id=payer.workspace.pk, state__in=topups.OPEN).exists()


@pytest.mark.parametrize("point", ["topup.begun", "customer.made", "topup.opened"])
def test_a_top_up_that_dies_while_it_is_begun(payer: Payer, stripe: FakeStripe, point: str) -> None:
    token = payer.workspace.pk
    killed_at(point, lambda: start(payer, form_token=token))
    assert books(payer).balance == 0
    topup = start(payer, form_token=token)  # the form is sent again
    assert len(stripe.sessions) == 1
    stripe.pay(topup)
    afterwards(payer, stripe)
    assert books(payer).balance == 1_000


@pytest.mark.parametrize("point", ["topup.begun", "topup.opened"])
def test_a_top_up_that_nobody_comes_back_to_ends(payer: Payer, stripe: FakeStripe, point: str) -> None:
    killed_at(point, lambda: start(payer))
    with time_machine.travel(datetime.now(UTC), tick=True) as later:
        later.shift(topups.UNOPENED)
        later.shift(5)
        topups.sweep()
    assert books(payer).history == [(TopUp.State.FAILED, 1_000)]
    assert books(payer).balance == 0


@pytest.mark.parametrize("point", ["topup.read", "topup.credited", "topup.card_kept"])
def test_a_paid_top_up_that_dies_while_it_is_credited(payer: Payer, stripe: FakeStripe, point: str) -> None:
    topup = start(payer, saves_card=True)
    stripe.pay(topup)

    def work() -> None:
        topups.reconcile(topup)
        topups.follow_up(topup.pk)

    killed_at(point, work)
    afterwards(payer, stripe)
    assert books(payer).balance == 1_000
    topup.refresh_from_db()
    assert (topup.state, topup.mailed_at is not None) == (TopUp.State.PAID, True)


def test_a_webhook_that_dies_while_it_is_handled(payer: Payer, stripe: FakeStripe) -> None:
    topup = start(payer)
    stripe.pay(topup)
    (event,) = stripe.events("checkout.session.completed")
    stripe_events.receive(*signed(event))
    killed_at("event.claimed", lambda: stripe_events.handle(event["id"]))
    afterwards(payer, stripe)
    assert books(payer).balance == 1_000
    assert StripeEvent.objects.get(pk=event["id"]).state == stripe_events.State.HANDLED


@pytest.mark.parametrize(
    "point", ["refund.requested", "refund.asked", "refund.sent", "reversal.read", "reversal.taken"]
)
def test_a_refund_that_dies_on_its_way(payer: Payer, stripe: FakeStripe, point: str) -> None:
    topup = start(payer)
    stripe.pay(topup)
    topups.reconcile(topup)
    topup.refresh_from_db()
    killed_at(point, lambda: reversals.refund(topup, 600, "asked for", actor_of(payer)))
    afterwards(payer, stripe)
    if point == "reversal.taken":  # before the first step was committed: nothing was asked for
        assert (stripe.refunds, books(payer).balance) == ([], 1_000)
        return
    assert [one["amount"] for one in stripe.refunds] == [600]
    assert books(payer).balance == 400
    assert Reversal.objects.get(topup=topup).state == Reversal.State.FINAL


@pytest.mark.parametrize("point", ["reversal.read", "reversal.taken"])
def test_a_dispute_that_dies_while_it_is_booked(payer: Payer, stripe: FakeStripe, point: str) -> None:
    topup = start(payer)
    stripe.pay(topup)
    topups.reconcile(topup)
    dispute = stripe.dispute(topup)
    event = stripe.events("charge.dispute.created")[-1]
    stripe_events.receive(*signed(event))
    killed_at(point, lambda: stripe_events.handle(event["id"]))
    assert books(payer).balance == 1_000
    afterwards(payer, stripe)
    assert books(payer).balance == 0
    stripe.reversals.close_dispute(dispute, "won")
    stripe_events.receive(*signed(stripe.events("charge.dispute.closed")[-1]))
    afterwards(payer, stripe)
    assert books(payer).balance == 1_000


@pytest.mark.parametrize(
    ("point", "outcome"),
    [
        ("auto.begun", "success"),
        ("auto.charged", "success"),
        ("topup.credited", "success"),
        ("auto.begun", "success_then_declines"),
        ("auto.declined", "success_then_asks"),
        ("auto.cancelled", "success_then_declines"),
    ],
)
def test_an_automatic_top_up_that_dies_on_its_way(payer: Payer, stripe: FakeStripe, point: str, outcome: str) -> None:
    with_card(payer, stripe, outcome)
    auto.configure(
        payer.workspace,
        actor=actor_of(payer),
        enabled=True,
        below_microcredits=500 * CENT,
        amount_cents=1_000,
        monthly_cap_cents=1_000,
    )
    call = payer.admit(900 * CENT)
    apply_now(call)
    apply_now(payer.settle(call, 900 * CENT))
    killed_at(point, auto.sweep)
    afterwards(payer, stripe)
    pays = outcome == "success"
    assert books(payer).balance == (1_100 if pays else 100)
    own = [one for one in stripe.payments if one["description"].endswith("automatic top-up")]
    assert [one["status"] for one in own] == (["succeeded"] if pays else ["canceled"])
    states = TopUp.objects.filter(wallet_id=payer.workspace.pk, source="auto").values_list("state", flat=True)
    assert list(states) == ([TopUp.State.PAID] if pays else [TopUp.State.FAILED])


def test_the_places_do_nothing_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(faults.VARIABLE, raising=False)
    killed: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, number: killed.append(number))
    faults.point("topup.begun")
    monkeypatch.setenv(faults.VARIABLE, "another.place")
    faults.point("topup.begun")
    assert killed == []
    faults.point("another.place")
    assert killed == [signal.SIGKILL]
