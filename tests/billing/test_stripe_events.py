"""Stripe's webhooks over HTTP: doubled, shuffled, lost, late, forged. The credits come once, or not at all."""

from __future__ import annotations

import itertools
import json
import random
import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils.module_loading import import_string
from pytest_django import Settings

from billing import stripe_api, stripe_events, topups
from billing.models import StripeEvent, TopUp
from billing.stripe_events import State
from core import clock, ids
from tests.billing.support import books, nothing, paid, start
from tests.fakes.stripe import SECRET, FakeStripe, signed
from tests.support.money import Payer, new_payer

pytestmark = pytest.mark.django_db

URL = "/billing/webhooks/stripe"
COMPLETED = "checkout.session.completed"


@pytest.fixture
def payer(db: None) -> Payer:
    return new_payer()


def deliver(client: Client, event: dict[str, Any], **signing: Any) -> int:
    """POST an event's webhook; the status."""
    body, signature = signed(event, **signing)
    headers = {"Stripe-Signature": signature}
    return client.post(URL, body, content_type="application/json", headers=headers).status_code


def work() -> None:
    """What workers and sweeps do now."""
    stripe_events.sweep(clock.now() + timedelta(seconds=1))


def told(stripe: FakeStripe, *types: str) -> dict[str, Any]:
    return stripe.events(*types)[-1]


def state_of(event: dict[str, Any]) -> str:
    return StripeEvent.objects.get(pk=event["id"]).state


def test_it_works(client: Client, payer: Payer, stripe: FakeStripe) -> None:
    stripe.pay(start(payer))
    event = told(stripe, COMPLETED)
    assert deliver(client, event) == 200
    row = StripeEvent.objects.get()
    assert (row.pk, row.type, row.state) == (event["id"], COMPLETED, State.RECEIVED)
    assert row.object_id == event["data"]["object"]["id"]
    assert books(payer).balance == 0  # stored first, handled afterwards
    work()
    assert state_of(event) == State.HANDLED
    assert books(payer) == paid(1_000)


def test_no_csrf_token_is_asked_of_stripe_and_no_get_is_answered(payer: Payer, stripe: FakeStripe) -> None:
    strict = Client(enforce_csrf_checks=True)
    stripe.pay(start(payer))
    assert deliver(strict, told(stripe, COMPLETED)) == 200
    assert strict.get(URL).status_code == 405


def test_a_worker_is_woken_on_commit(
    client: Client,
    payer: Payer,
    stripe: FakeStripe,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    woken: list[Any] = []
    monkeypatch.setattr("core.background._enqueue", lambda *arguments: woken.append(arguments))
    stripe.pay(start(payer))
    with django_capture_on_commit_callbacks(execute=True):
        deliver(client, told(stripe, COMPLETED))
        assert woken == []
    ((task, arguments, queue, *_),) = woken
    assert queue == "critical"
    import_string(task)(*arguments)
    assert books(payer) == paid(1_000)


def test_redis_that_is_gone_does_not_trouble_stripe(
    client: Client,
    payer: Payer,
    stripe: FakeStripe,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    def gone(name: str) -> None:
        raise ConnectionError("no Redis")

    monkeypatch.setattr("django_rq.get_queue", gone)
    stripe.pay(start(payer))
    with django_capture_on_commit_callbacks(execute=True):
        assert deliver(client, told(stripe, COMPLETED)) == 200
    work()
    assert books(payer) == paid(1_000)


# ── Who may ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def refused(client: Client, body: bytes, signature: str) -> None:
    answer = client.post(URL, body, content_type="application/json", headers={"Stripe-Signature": signature})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert SECRET not in answer.content.decode()
    assert not StripeEvent.objects.exists()


def test_forged_webhooks_are_refused_and_not_stored(client: Client, payer: Payer, stripe: FakeStripe) -> None:
    topup = start(payer)
    stripe.pay(topup)
    event = told(stripe, COMPLETED)
    body, signature = signed(event)
    refused(client, body, "")
    refused(client, body, "t=1,v1=00")
    refused(client, body, "nonsense")
    refused(client, *signed(event, secret="whsec_other"))
    refused(client, body.replace(topup.stripe_session_id.encode(), b"cs_test_other"), signature)  # type: ignore[union-attr]
    refused(client, body + b" ", signature)
    refused(client, b"\xff\xfe", signature)
    refused(client, *signed({"object": "something"}))
    work()
    assert books(payer) == nothing((TopUp.State.PENDING, 1_000))


def test_old_signatures_are_refused(client: Client, payer: Payer, stripe: FakeStripe) -> None:
    stripe.pay(start(payer))
    event = told(stripe, COMPLETED)
    now = int(time.time())
    refused(client, *signed(event, stamp=now - stripe_api.TOLERANCE_SECONDS - 5))
    assert deliver(client, event, stamp=now - stripe_api.TOLERANCE_SECONDS + 5) == 200


def test_two_secrets_work_while_one_replaces_the_other(
    client: Client, payer: Payer, stripe: FakeStripe, settings: Settings
) -> None:
    settings.STRIPE_WEBHOOK_SECRETS = ["whsec_new", SECRET]
    for secret in settings.STRIPE_WEBHOOK_SECRETS:
        stripe.pay(start(payer))
        assert deliver(client, told(stripe, COMPLETED), secret=secret) == 200
    settings.STRIPE_WEBHOOK_SECRETS = []
    stripe.pay(start(payer))
    assert deliver(client, told(stripe, COMPLETED)) == 400
    work()
    assert books(payer).balance == 2_000


def test_the_other_mode_is_refused(client: Client, payer: Payer, stripe: FakeStripe, settings: Settings) -> None:
    stripe.pay(start(payer))
    event = told(stripe, COMPLETED)
    refused(client, *signed({**event, "livemode": True}))
    settings.STRIPE_SECRET_KEY = "sk_live_" + "x" * 20
    refused(client, *signed(event))


def test_unknown_types_are_taken_and_left_alone(client: Client, payer: Payer, stripe: FakeStripe) -> None:
    stripe.pay(start(payer))
    for event in stripe.events("charge.succeeded", "payment_intent.created"):
        assert deliver(client, event) == 200
        assert deliver(client, {**event, "id": event["id"] + "x", "type": "brand.new"}) == 200
    work()
    assert set(StripeEvent.objects.values_list("state", flat=True)) == {State.IGNORED}
    assert books(payer).balance == 0


# ── How they come ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_doubled_webhooks_are_one(client: Client, payer: Payer, stripe: FakeStripe) -> None:
    stripe.pay(start(payer))
    event = told(stripe, COMPLETED)
    for _ in range(3):
        assert deliver(client, event) == 200
    work()
    for _ in range(3):
        assert deliver(client, event) == 200
        work()
    assert StripeEvent.objects.count() == 1
    assert StripeEvent.objects.get().attempts == 1
    assert books(payer) == paid(1_000)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_order_does_not_matter(
    client: Client, payer: Payer, stripe: FakeStripe, later: Any, order: tuple[int, ...]
) -> None:
    """A slow payment that was paid, and an event of expiry that somebody else's bug sent for it."""
    topup = start(payer)
    stripe.pay(topup, "late_success")
    later.shift(10)
    stripe.tick()
    events = stripe.events(COMPLETED, "checkout.session.async_payment_succeeded")
    events.append({**events[0], "id": "evt_odd", "type": "checkout.session.expired"})
    for index in order:
        assert deliver(client, events[index]) == 200
        work()
    assert books(payer) == paid(1_000)


def test_an_early_webhook_of_a_slow_payment_credits_nothing(
    client: Client, payer: Payer, stripe: FakeStripe, later: Any
) -> None:
    topup = start(payer)
    stripe.pay(topup, "late_failure")
    deliver(client, told(stripe, COMPLETED))
    work()
    assert books(payer) == nothing((TopUp.State.PROCESSING, 1_000))
    later.shift(10)
    stripe.tick()
    deliver(client, told(stripe, "checkout.session.async_payment_failed"))
    work()
    assert books(payer) == nothing((TopUp.State.FAILED, 1_000))


def test_a_webhook_may_be_quicker_than_our_own_row(client: Client, payer: Payer, stripe: FakeStripe) -> None:
    topup = start(payer)
    stripe.pay(topup)
    TopUp.objects.filter(pk=topup.pk).update(stripe_session_id=None, checkout_url="")
    deliver(client, told(stripe, COMPLETED))
    work()
    assert books(payer) == paid(1_000)


def test_lost_webhooks_are_not_missed(payer: Payer, stripe: FakeStripe, later: Any) -> None:
    for outcome in ("success", "late_success", "late_failure"):
        stripe.pay(start(payer), outcome)
    later.shift(65)
    stripe.tick()
    topups.sweep()
    later.shift(125)
    topups.sweep()
    after = books(payer)
    assert after.balance == 2_000
    assert sorted(state for state, _ in after.history) == ["failed", "paid", "paid"]


def test_a_late_webhook_finds_its_work_done(client: Client, payer: Payer, stripe: FakeStripe, later: Any) -> None:
    topup = start(payer)
    stripe.pay(topup)
    topups.reconcile(topup)
    event = told(stripe, COMPLETED)
    later.shift(3 * 86_400)
    assert deliver(client, event) == 200
    work()
    assert state_of(event) == State.HANDLED
    assert books(payer) == paid(1_000)


def test_a_webhooks_own_content_is_not_believed(client: Client, payer: Payer, stripe: FakeStripe) -> None:
    """Signed, but stale: it says paid while Stripe, asked again, does not."""
    topup = start(payer)
    session = stripe.session(topup)
    stripe.pay(start(payer))
    event = json.loads(json.dumps(told(stripe, COMPLETED)))
    event["data"]["object"] |= {"id": session["id"], "payment_status": "paid", "metadata": session["metadata"]}
    deliver(client, event)
    work()
    topup.refresh_from_db()
    assert topup.state == TopUp.State.PENDING
    assert books(payer).balance == 0


def test_somebody_elses_session_is_ignored(client: Client, payer: Payer, stripe: FakeStripe) -> None:
    """The same Stripe account may serve another shop."""
    topup = start(payer)
    stripe.pay(topup)
    stripe.session(topup)["metadata"]["topup_id"] = str(ids.uuid7())
    event = told(stripe, COMPLETED)
    deliver(client, event)
    work()
    assert state_of(event) == State.IGNORED
    assert books(payer).balance == 0


def test_a_storm_of_doubled_and_shuffled_webhooks_gives_exactly_the_right_balance(
    client: Client, payer: Payer, stripe: FakeStripe, later: Any
) -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    wanted = 0
    for number in range(8):
        outcome = dice.choice(["success", "late_success", "late_failure", "decline"])
        stripe.pay(start(payer, 200 + number), outcome)
        wanted += 200 + number if outcome in ("success", "late_success") else 0
    later.shift(10)
    stripe.tick()
    storm = stripe.events() * 3
    dice.shuffle(storm)
    for event in storm:
        if dice.random() < 0.8:
            assert deliver(client, event) == 200
        if dice.random() < 0.2:
            work()
    work()
    later.shift(130)
    topups.sweep()
    later.shift(130)
    topups.sweep()
    assert books(payer).balance == wanted, f"seed {seed}"
    assert sum(amount for _, amount in books(payer).transfers) == wanted


# ── When handling fails ──────────────────────────────────────────────────────────────────────────────────────────────
def test_what_fails_is_tried_again_further_and_further_apart(
    client: Client, payer: Payer, stripe: FakeStripe, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stripe.pay(start(payer))
    event = told(stripe, COMPLETED)
    deliver(client, event)
    tries: list[float] = []

    def silent(session_id: str) -> stripe_api.Session:
        tries.append(time.time())
        raise stripe_api.StripeUnavailable

    later.shift(1)
    with monkeypatch.context() as patched:
        patched.setattr(stripe_api, "retrieve_session", silent)
        for _ in range(30):
            stripe_events.sweep()
            later.shift(10)
    row = StripeEvent.objects.get()
    assert (row.state, row.attempts) == (State.FAILED, 4)
    assert row.error.startswith("StripeUnavailable: ")
    pauses = [round(after - before, -1) for before, after in itertools.pairwise(tries)]
    assert pauses == [30, 60, 120]
    assert books(payer).balance == 0
    later.shift(300)
    stripe_events.sweep()
    assert state_of(event) == State.HANDLED
    assert StripeEvent.objects.get().error == ""
    assert books(payer) == paid(1_000)


def test_a_worker_that_died_leaves_the_event_to_the_next(
    client: Client, payer: Payer, stripe: FakeStripe, later: Any
) -> None:
    stripe.pay(start(payer))
    event = told(stripe, COMPLETED)
    deliver(client, event)
    assert stripe_events._claim(event["id"], clock.now() + timedelta(seconds=1))  # and then it was killed
    work()
    assert books(payer).balance == 0
    later.shift(stripe_events.LEASE + timedelta(seconds=2))
    work()
    assert books(payer) == paid(1_000)


def test_what_never_works_is_given_up_and_told(
    client: Client,
    payer: Payer,
    stripe: FakeStripe,
    later: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stripe.pay(start(payer))
    deliver(client, told(stripe, COMPLETED))
    monkeypatch.setattr(stripe_api, "retrieve_session", lambda session_id: 1 / 0)
    for _ in range(stripe_events.MAX_ATTEMPTS + 5):
        later.shift(stripe_events.LONGEST_PAUSE + timedelta(seconds=1))
        stripe_events.sweep()
    row = StripeEvent.objects.get()
    assert (row.state, row.attempts) == (State.FAILED, stripe_events.MAX_ATTEMPTS)
    assert "could not be handled" in caplog.text


def test_the_sweep_is_bounded(client: Client, payer: Payer, stripe: FakeStripe) -> None:
    for _ in range(3):
        stripe.pay(start(payer))
    for event in stripe.events(COMPLETED):
        deliver(client, event)
    soon = clock.now() + timedelta(seconds=1)
    assert [stripe_events.sweep(soon, most=2), stripe_events.sweep(soon, most=2)] == [2, 1]
    assert books(payer) == paid(1_000, 1_000, 1_000)


def test_the_stored_row_holds_no_content(client: Client, payer: Payer, stripe: FakeStripe) -> None:
    stripe.pay(start(payer))
    deliver(client, told(stripe, COMPLETED))
    stored = " ".join(str(value) for value in StripeEvent.objects.values().get().values())
    assert payer.user.email not in stored
