"""A top-up from the form to the credits: each way it can go, and what the books show afterwards."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.utils.module_loading import import_string
from pytest_django import Settings

from billing import emails, stripe_api, topups
from billing.models import Account, CreditLot, TopUp, Wallet
from core import clock, errors, ids
from tests.billing.support import CENT, books, nothing, paid, start, trail
from tests.fakes.stripe import KEY, FakeStripe
from tests.support.money import Payer, new_payer

pytestmark = pytest.mark.django_db

State = TopUp.State


@pytest.fixture
def payer(db: None) -> Payer:
    return new_payer()


# ── Amounts ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("amount", [-1_000, 0, 199, 1_000_001])
def test_amounts_out_of_bounds_are_refused(payer: Payer, stripe: FakeStripe, amount: int) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        start(payer, amount)
    assert refused.value.param == "amount"
    assert books(payer) == nothing()
    assert stripe.sessions == []


@pytest.mark.parametrize("amount", [200, 333, 1_000_000])
def test_what_was_paid_is_credited_to_the_cent(payer: Payer, stripe: FakeStripe, amount: int) -> None:
    topup = start(payer, amount)
    stripe.pay(topup)
    topups.reconcile(topup)
    assert books(payer) == paid(amount)
    assert Wallet.objects.get(pk=payer.workspace.pk).balance_microcredits == amount * CENT


# ── Start ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_pay_page_is_asked_for_what_the_form_said(payer: Payer, stripe: FakeStripe) -> None:
    topup = start(payer, 2_500)
    session = stripe.session(topup)
    assert (session["amount_total"], session["currency"], session["mode"]) == (2_500, "usd", "payment")
    assert session["client_reference_id"] == str(topup.pk)
    customer = stripe.demo.account.store.tables.customers[session["customer"]]
    assert (customer["email"], customer["name"]) == (payer.user.email, payer.workspace.name)
    assert session["success_url"] == (
        f"http://testserver/billing/topups/{topup.pk}/return?session_id={{CHECKOUT_SESSION_ID}}"
    )
    assert session["cancel_url"] == f"http://testserver/billing/topups/{topup.pk}/return?cancelled=1"
    assert session["adaptive_pricing"] == {"enabled": False}
    assert session["expires_at"] == int((topup.created_at + topups.CHECKOUT_OPEN).timestamp())
    assert topup.checkout_url == session["url"]
    assert books(payer) == nothing((State.PENDING, 2_500))
    assert trail(payer) == ["topup.start"]


def test_a_double_click_opens_one_page_and_pays_once(payer: Payer, stripe: FakeStripe) -> None:
    token = ids.uuid7()
    first, second = start(payer, form_token=token), start(payer, form_token=token)
    assert first.pk == second.pk
    assert first.checkout_url == second.checkout_url
    assert len(stripe.sessions) == 1
    stripe.pay(first)
    assert topups.reconcile(first).state == State.PAID
    assert start(payer, form_token=token).state == State.PAID
    assert books(payer) == paid(1_000)
    assert trail(payer) == ["topup.start", "topup.complete"]


def test_another_amount_on_the_same_form_is_another_top_up(payer: Payer, stripe: FakeStripe) -> None:
    token = ids.uuid7()
    assert start(payer, 1_000, form_token=token).pk != start(payer, 2_500, form_token=token).pk
    assert [session["amount_total"] for session in stripe.sessions] == [1_000, 2_500]


def test_somebody_elses_form_is_not_theirs(payer: Payer, stripe: FakeStripe) -> None:
    token = ids.uuid7()
    other = new_payer()
    assert start(payer, form_token=token).wallet_id != start(other, form_token=token).wallet_id


def test_a_stripe_that_does_not_answer_leaves_the_form_usable(
    payer: Payer, stripe: FakeStripe, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stripe_api, "_RETRIES", 0)
    stripe_api._client_for.cache_clear()
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    token = ids.uuid7()
    with pytest.raises(stripe_api.StripeUnavailable):
        start(payer, form_token=token)
    assert books(payer) == nothing((State.PENDING, 1_000))
    settings.STRIPE_API_BASE = stripe.url
    topup = start(payer, form_token=token)
    stripe.pay(topup)
    topups.reconcile(topup)
    assert books(payer) == paid(1_000)
    stripe_api._client_for.cache_clear()


def test_a_stripe_that_refuses_ends_the_top_up(
    payer: Payer, stripe: FakeStripe, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_" + "wrong" * 5
    with pytest.raises(stripe_api.StripeRefused) as refused:
        start(payer)
    assert books(payer) == nothing((State.FAILED, 1_000))
    assert "wrong" not in refused.value.message + caplog.text
    settings.STRIPE_SECRET_KEY = ""
    with pytest.raises(stripe_api.StripeRefused):
        start(payer)


def test_payments_cannot_be_started_without_end(payer: Payer, stripe: FakeStripe) -> None:
    for _ in range(topups.STARTS_AN_HOUR):
        start(payer)
    with pytest.raises(errors.RateLimited):
        start(payer)
    assert len(books(payer).history) == topups.STARTS_AN_HOUR


# ── How it goes on ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_asking_again_changes_nothing(payer: Payer, stripe: FakeStripe) -> None:
    topup = start(payer)
    stripe.pay(topup)
    session = stripe_api.retrieve_session(topup.stripe_session_id or "")
    for _ in range(3):
        topups.reconcile(topup)
        topups.settle(topup.pk, session)
        topups.complete(topup.pk, session)
        topups.expire(topup.pk)
        topups.fail(topup.pk, "late")
    assert books(payer) == paid(1_000)
    assert trail(payer) == ["topup.start", "topup.complete"]


def test_a_paid_top_up_knows_its_payment_and_receipt(payer: Payer, stripe: FakeStripe) -> None:
    topup = start(payer)
    stripe.pay(topup)
    topup = topups.reconcile(topup)
    session = stripe.session(topup)
    assert topup.stripe_payment_intent_id == session["payment_intent"]
    assert topup.stripe_charge_id in stripe.demo.account.store.tables.charges
    assert topup.receipt_url == f"{stripe.url}/receipts/{topup.stripe_charge_id}"
    assert topup.lot is not None
    assert (topup.lot.kind, topup.lot.granted_microcredits) == (CreditLot.Kind.DEMO, 1_000 * CENT)


def test_a_declined_card_costs_and_brings_nothing_until_another_works(payer: Payer, stripe: FakeStripe) -> None:
    topup = start(payer)
    stripe.pay(topup, "decline")
    assert topups.reconcile(topup).state == State.PENDING
    assert books(payer) == nothing((State.PENDING, 1_000))
    stripe.pay(topup, "success")
    topups.reconcile(topup)
    assert books(payer) == paid(1_000)


def test_a_slow_payment_is_credited_when_it_is_paid_and_not_before(
    payer: Payer, stripe: FakeStripe, later: Any
) -> None:
    topup = start(payer)
    stripe.pay(topup, "late_success")
    topup = topups.reconcile(topup)
    assert books(payer) == nothing((State.PROCESSING, 1_000))
    later.shift(10)
    stripe.tick()
    topups.reconcile(topup)
    assert books(payer) == paid(1_000)


def test_a_slow_payment_that_bounces_brings_nothing(payer: Payer, stripe: FakeStripe, later: Any) -> None:
    topup = start(payer)
    stripe.pay(topup, "late_failure")
    later.shift(10)
    stripe.tick()
    topup = topups.reconcile(topup)
    assert topup.failure == "insufficient_funds"
    assert books(payer) == nothing((State.FAILED, 1_000))
    assert trail(payer) == ["topup.start", "topup.fail"]


def test_an_unpaid_page_expires(payer: Payer, stripe: FakeStripe, later: Any) -> None:
    topup = start(payer)
    later.shift(topups.CHECKOUT_OPEN)
    stripe.tick()
    topups.reconcile(topup)
    assert books(payer) == nothing((State.EXPIRED, 1_000))


def test_a_debt_is_paid_first(payer: Payer, stripe: FakeStripe) -> None:
    Wallet.objects.filter(pk=payer.workspace.pk).update(balance_microcredits=-300 * CENT)
    topup = start(payer)
    stripe.pay(topup)
    topups.reconcile(topup)
    after = books(payer)
    assert (after.balance, after.lots) == (700, [(CreditLot.Kind.DEMO, 1_000, 700)])


def test_real_money_makes_paid_credits_out_of_stripes_account(
    payer: Payer, stripe: FakeStripe, settings: Settings
) -> None:
    settings.DEMO_PAYMENTS = False
    topup = start(payer)
    stripe.pay(topup)
    topups.reconcile(topup)
    assert books(payer) == paid(1_000, kind=CreditLot.Kind.PAID, account=Account.Kind.STRIPE)


# ── What does not fit ────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "changes",
    [
        {"amount_subtotal": 999, "amount_total": 999},
        {"amount_subtotal": 100_000, "amount_total": 100_000},
        {"total_details": {"amount_discount": 500, "amount_shipping": 0, "amount_tax": 0}},
        {"currency": "jpy"},
        {"livemode": True},
        {"metadata": {}},
        {"metadata": {"topup_id": str(ids.uuid7())}},
        {"metadata": {"topup_id": "none"}},
    ],
)
def test_a_paid_session_that_is_not_what_was_asked_for_credits_nothing_and_is_told_once(
    payer: Payer, stripe: FakeStripe, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    topup = start(payer)
    stripe.pay(topup)
    stripe.session(topup).update(changes)
    for _ in range(3):
        assert topups.complete(topup.pk, stripe_api.retrieve_session(topup.stripe_session_id or "")).failure == (
            topups.MISMATCH
        )
    assert books(payer) == nothing((State.FAILED, 1_000))
    assert trail(payer) == ["topup.start", "topup.mismatch"]
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    assert topups.heal() == 0


def test_tax_is_no_credit(payer: Payer, stripe: FakeStripe) -> None:
    topup = start(payer)
    stripe.pay(topup)
    stripe.session(topup).update(amount_total=1_190)
    topups.reconcile(topup)
    assert books(payer) == paid(1_000)


def test_another_top_ups_session_pays_for_that_one_only(payer: Payer, stripe: FakeStripe) -> None:
    cheap, dear = start(payer, 200), start(payer, 100_000)
    stripe.pay(cheap)
    topups.complete(dear.pk, stripe_api.retrieve_session(cheap.stripe_session_id or ""))
    assert books(payer).balance == 0
    topups.reconcile(cheap)
    assert (books(payer).balance, books(payer).lots) == (200, [(CreditLot.Kind.DEMO, 200, 200)])


def test_a_demo_top_up_is_not_credited_once_payments_are_real(
    payer: Payer, stripe: FakeStripe, settings: Settings
) -> None:
    topup = start(payer)
    stripe.pay(topup)
    settings.DEMO_PAYMENTS = False
    topups.reconcile(topup)
    assert books(payer).balance == 0


# ── The sweep ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_sweep_credits_what_nobody_told_of(payer: Payer, stripe: FakeStripe, later: Any) -> None:
    topup = start(payer)
    stripe.pay(topup)
    assert topups.sweep() == 0  # not yet: the webhook and the return page are quicker
    later.shift(61)
    assert topups.sweep() == 1
    assert books(payer) == paid(1_000)


def test_the_sweep_looks_less_and_less_often_until_the_page_expired(
    payer: Payer, stripe: FakeStripe, later: Any
) -> None:
    topup = start(payer)
    looks = 0
    for _ in range(200):
        later.shift(60)
        stripe.tick()
        looks += topups.sweep()
    topup.refresh_from_db()
    assert (topup.state, topup.run_after) == (State.EXPIRED, None)
    assert 5 <= looks <= 9
    assert books(payer) == nothing((State.EXPIRED, 1_000))


def test_the_sweep_gives_up_what_never_reached_stripe(
    payer: Payer, stripe: FakeStripe, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(wanted: stripe_api.Checkout) -> stripe_api.Session:
        raise stripe_api.StripeUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(stripe_api, "create_checkout", lost)
        with pytest.raises(stripe_api.StripeUnavailable):
            start(payer)
    later.shift(topups.UNOPENED + timedelta(seconds=1))
    topups.sweep()
    assert books(payer) == nothing((State.FAILED, 1_000))


def test_a_page_that_opened_unnoticed_is_still_credited_when_it_is_paid(
    payer: Payer, stripe: FakeStripe, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process died between Stripe's answer and our row; the row was given up; then the session was paid."""
    really = stripe_api.create_checkout

    def dies_after(wanted: stripe_api.Checkout) -> stripe_api.Session:
        really(wanted)
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(stripe_api, "create_checkout", dies_after)
        with pytest.raises(RuntimeError):
            start(payer)
    later.shift(topups.UNOPENED + timedelta(seconds=1))
    topups.sweep()
    assert books(payer) == nothing((State.FAILED, 1_000))
    (session,) = stripe.sessions
    stripe.browse(session["url"], {"outcome": "success"})
    assert topups.heal() == 1
    assert topups.heal() == 0
    assert books(payer) == paid(1_000)


def test_a_silent_stripe_ends_the_sweep_early_and_loses_nothing(
    payer: Payer, stripe: FakeStripe, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        stripe.pay(start(payer))
    asked: list[str] = []

    def silent(session_id: str) -> stripe_api.Session:
        asked.append(session_id)
        raise stripe_api.StripeUnavailable

    later.shift(61)
    with monkeypatch.context() as patched:
        patched.setattr(stripe_api, "retrieve_session", silent)
        topups.sweep()
    assert len(asked) == 1
    assert books(payer).balance == 0
    later.shift(180)
    topups.sweep()
    assert books(payer) == paid(1_000, 1_000, 1_000)


def test_one_broken_top_up_does_not_stop_the_others(
    payer: Payer, stripe: FakeStripe, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, fine = start(payer, 500), start(payer, 700)
    stripe.pay(broken)
    stripe.pay(fine)
    really = stripe_api.retrieve_session

    def breaks(session_id: str) -> stripe_api.Session:
        if session_id == broken.stripe_session_id:
            raise RuntimeError("a bug")
        return really(session_id)

    monkeypatch.setattr(stripe_api, "retrieve_session", breaks)
    later.shift(61)
    assert topups.sweep() == 2
    assert books(payer).balance == 700


def test_the_sweep_is_bounded(payer: Payer, stripe: FakeStripe, later: Any) -> None:
    for _ in range(3):
        start(payer)
    later.shift(61)
    assert [topups.sweep(most=2), topups.sweep(most=2), topups.sweep(most=2)] == [2, 1, 0]


def test_a_session_that_stripe_forgot_fails(payer: Payer, stripe: FakeStripe, later: Any) -> None:
    topup = start(payer)
    stripe.demo.account.store.tables.sessions.clear()
    later.shift(61)
    topups.sweep()
    topup.refresh_from_db()
    assert (topup.state, topup.failure) == (State.FAILED, topups.NOT_AT_STRIPE)


def test_demo_top_ups_are_given_up_when_payments_become_real(
    payer: Payer, stripe: FakeStripe, settings: Settings, later: Any
) -> None:
    start(payer)
    settings.DEMO_PAYMENTS = False
    later.shift(topups.CHECKOUT_OPEN + timedelta(seconds=1))
    assert topups.sweep() == 0
    assert books(payer) == nothing((State.EXPIRED, 1_000))


def test_healing_leaves_strangers_sessions_alone(payer: Payer, stripe: FakeStripe) -> None:
    topup = start(payer)
    stripe.pay(topup)
    stripe.session(topup)["metadata"]["topup_id"] = str(ids.uuid7())
    assert topups.heal() == 0
    assert topups.reconcile_session(topup.stripe_session_id or "") is None
    assert topups.reconcile_session("cs_test_none") is None
    assert books(payer) == nothing((State.PENDING, 1_000))


# ── Receipts ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_receipt_is_mailed_once(payer: Payer, stripe: FakeStripe, later: Any) -> None:
    topup = start(payer)
    stripe.pay(topup)
    topups.reconcile(topup)
    assert mail.outbox == []  # a worker's work, or the sweep's
    later.shift(61)
    topups.sweep()
    later.shift(3600)
    topups.sweep()
    assert not topups.send_receipt(topup.pk)
    (message,) = mail.outbox
    assert message.to == [payer.user.email]
    assert message.subject == "1,000 credits added to your Hypereal balance"
    topup.refresh_from_db()
    for part in ("no card was charged", "$10.00", "1,000", topup.receipt_url, "http://testserver/billing"):
        assert part in message.body
    assert topup.run_after is None


def test_a_worker_is_woken_for_the_mail(
    payer: Payer, stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    woken: list[tuple[str, Any]] = []
    monkeypatch.setattr("core.background._enqueue", lambda task, arguments, *_: woken.append((task, arguments)))
    topup = start(payer)
    stripe.pay(topup)
    with django_capture_on_commit_callbacks(execute=True):
        topups.reconcile(topup)
    ((task, arguments),) = woken
    import_string(task)(*arguments)
    assert len(mail.outbox) == 1


def test_a_mail_server_that_is_down_costs_no_credits_and_is_tried_again(
    payer: Payer, stripe: FakeStripe, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    topup = start(payer)
    stripe.pay(topup)
    topups.reconcile(topup)

    def down(topup: TopUp, *, to: str) -> None:
        raise OSError("no mail server")

    later.shift(61)
    with monkeypatch.context() as patched:
        patched.setattr(emails, "send_receipt", down)
        topups.sweep()
    assert mail.outbox == []
    assert books(payer) == paid(1_000)
    later.shift(121)
    topups.sweep()
    assert len(mail.outbox) == 1


def test_a_receipt_nobody_can_get_is_not_tried_for_ever(payer: Payer, stripe: FakeStripe, later: Any) -> None:
    topup = start(payer)
    stripe.pay(topup)
    topups.reconcile(topup)
    later.shift(topups.MAIL_FOR + timedelta(seconds=1))
    topups.sweep()
    topup.refresh_from_db()
    assert (mail.outbox, topup.run_after, topup.mailed_at) == ([], None, None)


def test_a_payer_who_left_gets_no_mail(payer: Payer, stripe: FakeStripe) -> None:
    topup = start(payer)
    stripe.pay(topup)
    topups.reconcile(topup)
    TopUp.objects.filter(pk=topup.pk).update(created_by=None)
    assert not topups.send_receipt(topup.pk)
    assert mail.outbox == []


# ── Somebody waits ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_reloading_the_return_page_does_not_ask_stripe_each_time(
    payer: Payer, stripe: FakeStripe, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    topup = start(payer)
    really, asked = stripe_api.retrieve_session, []

    def counted(session_id: str) -> stripe_api.Session:
        asked.append(session_id)
        return really(session_id)

    monkeypatch.setattr(stripe_api, "retrieve_session", counted)
    for _ in range(5):
        topups.look_again(topup)
    assert len(asked) == 1
    stripe.pay(topup)
    later.shift(3)
    assert topups.look_again(topup).state == State.PAID
    topups.look_again(topup)
    assert len(asked) == 2
    assert books(payer) == paid(1_000)


def test_a_silent_stripe_leaves_the_waiting_page_as_it_was(
    payer: Payer, stripe: FakeStripe, settings: Settings
) -> None:
    topup = start(payer)
    settings.STRIPE_SECRET_KEY = KEY + "x"
    assert topups.look_again(topup).state == State.PENDING
    assert clock.now() - (topup.checked_at or clock.now()) < timedelta(minutes=1)
