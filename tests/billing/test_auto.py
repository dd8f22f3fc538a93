"""Automatic top-ups: when they charge, when they stop, and that nothing is ever charged twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import IntegrityError, transaction

from accounts import emails as account_emails
from billing import auto, customers, emails, stripe_api, stripe_payments, topups
from billing.models import AutoTopUp, Customer, TopUp
from core import clock, errors
from events.models import AuditEvent
from orgs import organizations
from tests import factories
from tests.billing.support import CENT, actor_of, books, hear, proven, top_up, with_card
from tests.fakes.stripe import FakeStripe
from tests.support.money import Payer, new_payer
from usage.metering import apply_now

pytestmark = pytest.mark.django_db

State = TopUp.State


@pytest.fixture
def payer(db: None) -> Payer:
    return new_payer()


def rule(payer: Payer, *, below: int = 500, amount: int = 1_000, cap: int = 5_000, enabled: bool = True) -> AutoTopUp:
    """Below so many credits charge so many cents, so many a month."""
    return auto.configure(
        payer.workspace,
        actor=actor_of(payer),
        enabled=enabled,
        below_microcredits=below * CENT,
        amount_cents=amount,
        monthly_cap_cents=cap,
    )


def spend(payer: Payer, cents: int) -> None:
    call = payer.admit(cents * CENT)
    apply_now(call)
    apply_now(payer.settle(call, cents * CENT))


def charged(stripe: FakeStripe) -> list[str]:
    """How the payments without a pay page ended."""
    sessions = {one["payment_intent"] for one in stripe.sessions}
    return [one["status"] for one in stripe.payments if one["id"] not in sessions]


def automatic(payer: Payer) -> list[str]:
    return list(
        TopUp.objects.filter(wallet_id=payer.workspace.pk, source="auto").order_by("pk").values_list("state", flat=True)
    )


def test_it_works(payer: Payer, stripe: FakeStripe) -> None:
    with_card(payer, stripe)
    rule(payer)
    assert auto.sweep() == 0  # not below the mark
    spend(payer, 501)
    assert [auto.sweep(), auto.sweep()] == [1, 0]
    assert (automatic(payer), charged(stripe)) == ([State.PAID], ["succeeded"])
    assert books(payer).balance == 1_499
    intent = stripe.payments[-1]
    assert (intent["amount"], intent["customer"]) == (1_000, Customer.objects.get().stripe_id)
    hear(stripe.events())
    assert books(payer).balance == 1_499
    assert proven()


def test_the_receipt_goes_to_who_switched_it_on(payer: Payer, stripe: FakeStripe, later: Any) -> None:
    with_card(payer, stripe)
    rule(payer)
    spend(payer, 900)
    auto.sweep()
    later.shift(65)
    mail.outbox.clear()
    topups.sweep()
    assert [message.to for message in mail.outbox] == [[payer.user.email]]


def test_the_saved_card_is_known_by_its_last_digits(payer: Payer, stripe: FakeStripe) -> None:
    with_card(payer, stripe)
    customer = Customer.objects.get()
    assert (customer.card_brand, customer.card_last4) == ("visa", "4242")
    assert stripe.sessions[0]["customer"] == customer.stripe_id
    assert stripe.payments[0]["setup_future_usage"] == "off_session"


def test_a_card_is_kept_only_where_that_was_asked_for(payer: Payer, stripe: FakeStripe) -> None:
    topups.follow_up(top_up(payer, stripe).pk)
    assert stripe.payments[0]["setup_future_usage"] is None
    assert Customer.objects.get().payment_method_id == ""
    with pytest.raises(errors.InvalidRequest) as refused:
        rule(payer)
    assert (refused.value.param, refused.value.code) == ("enabled", "no_saved_card")
    assert not AutoTopUp.objects.exists()


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"below": 0}, "below_microcredits"),
        ({"amount": 199}, "amount_cents"),
        ({"amount": 2_000_000, "cap": 9_000_000}, "amount_cents"),
        ({"cap": 999}, "monthly_cap_cents"),
    ],
)
def test_nonsense_is_refused(payer: Payer, stripe: FakeStripe, changes: dict[str, Any], param: str) -> None:
    with_card(payer, stripe)
    with pytest.raises(errors.InvalidRequest) as refused:
        rule(payer, **changes)
    assert refused.value.param == param


def test_the_monthly_cap_holds_and_is_told_once(payer: Payer, stripe: FakeStripe, later: Any) -> None:
    later.move_to("2031-03-20T12:00:00+00:00")
    with_card(payer, stripe)
    rule(payer, amount=1_000, cap=2_500)
    for _ in range(4):
        spend(payer, books(payer).balance - 1)
        auto.sweep()
    assert automatic(payer) == [State.PAID] * 2
    mail.outbox.clear()
    assert [emails.sweep_auto_topups(), emails.sweep_auto_topups()] == [1, 0]
    (message,) = mail.outbox
    assert "monthly cap" in message.subject
    later.move_to("2031-04-01T00:00:05+00:00")
    assert auto.sweep() == 1
    assert automatic(payer) == [State.PAID] * 3


def test_one_is_in_flight_at_a_time(payer: Payer, stripe: FakeStripe) -> None:
    with_card(payer, stripe)
    rule(payer)
    spend(payer, 900)
    assert auto.begin(payer.workspace.pk, clock.now()) is not None
    assert auto.begin(payer.workspace.pk, clock.now()) is None
    assert auto.sweep() == 0
    with pytest.raises(IntegrityError), transaction.atomic():
        TopUp.objects.create(wallet_id=payer.workspace.pk, source="auto", amount_cents=1, credits_microcredits=1)


# ── When the bank says no ────────────────────────────────────────────────────────────────────────────────────────────
def test_declines_wait_and_then_pause(payer: Payer, stripe: FakeStripe, later: Any) -> None:
    with_card(payer, stripe, "success_then_declines")
    rule(payer)
    spend(payer, 900)
    for tries in range(1, auto.MOST_DECLINES + 1):
        assert auto.sweep() == 1
        assert automatic(payer) == [State.FAILED] * tries
        assert auto.sweep() == 0
        later.shift(auto.AFTER_A_DECLINE + timedelta(seconds=1))
    assert auto.sweep() == 0
    assert AutoTopUp.objects.get().paused_for == AutoTopUp.Pause.DECLINED
    assert charged(stripe) == ["canceled"] * auto.MOST_DECLINES  # nobody can pay them later
    assert books(payer).balance == 100
    mail.outbox.clear()
    assert emails.sweep_auto_topups() == 1
    assert "/billing/auto-topup" in mail.outbox[0].body
    hear(stripe.events())
    assert automatic(payer) == [State.FAILED] * auto.MOST_DECLINES
    assert proven()


def test_a_bank_that_asks_pauses_at_once_and_paying_oneself_ends_it(payer: Payer, stripe: FakeStripe) -> None:
    with_card(payer, stripe, "success_then_asks")
    rule(payer)
    spend(payer, 900)
    assert auto.sweep() == 1
    assert AutoTopUp.objects.get().paused_for == AutoTopUp.Pause.AUTHENTICATION
    failed = TopUp.objects.get(source="auto")
    assert (failed.state, failed.failure) == (State.FAILED, "authentication_required")
    assert auto.sweep() == 0
    with_card(payer, stripe)
    after = AutoTopUp.objects.get()
    assert (after.paused_for, after.declines, after.mail_due) == ("", 0, "")
    spend(payer, 1_000)
    assert auto.sweep() == 1
    assert books(payer).balance == 1_100
    assert proven()


def test_a_card_taken_away_in_the_portal_pauses(payer: Payer, stripe: FakeStripe) -> None:
    with_card(payer, stripe)
    rule(payer)
    card = stripe.demo.account.store.tables.payment_methods[Customer.objects.get().payment_method_id]
    stripe.demo.account.cards.detach(card)
    hear(stripe.events("payment_method.detached"))
    assert Customer.objects.get().card_last4 == ""
    assert AutoTopUp.objects.get().paused_for == AutoTopUp.Pause.NO_CARD
    spend(payer, 900)
    assert auto.sweep() == 0


def test_a_card_that_is_gone_unheard_pauses_when_it_is_charged(payer: Payer, stripe: FakeStripe) -> None:
    with_card(payer, stripe)
    rule(payer)
    stripe.demo.account.store.tables.payment_methods.clear()
    spend(payer, 900)
    auto.sweep()
    assert automatic(payer) == [State.FAILED]
    assert AutoTopUp.objects.get().paused_for == AutoTopUp.Pause.NO_CARD
    assert charged(stripe) == []


def test_removing_the_card_switches_it_off(payer: Payer, stripe: FakeStripe) -> None:
    with_card(payer, stripe)
    rule(payer)
    card_id = Customer.objects.get().payment_method_id
    auto.remove_card(payer.workspace, actor=actor_of(payer))
    assert stripe.demo.account.store.tables.payment_methods[card_id]["customer"] is None
    assert (Customer.objects.get().payment_method_id, AutoTopUp.objects.get().enabled) == ("", False)
    hear(stripe.events())
    assert AutoTopUp.objects.get().paused_for == ""


# ── When something breaks between two steps ──────────────────────────────────────────────────────────────────────────
def test_a_deleted_organization_is_not_charged(stripe: FakeStripe, later: Any) -> None:
    workspace = factories.organization()
    owner = factories.member(workspace, "owner")
    payer = Payer(owner, workspace, factories.api_key(workspace, created_by=owner).key)
    with_card(payer, stripe)
    rule(payer)
    spend(payer, 900)
    begun = auto.begin(workspace.pk, clock.now())
    assert begun is not None
    organizations.delete(workspace, actor=actor_of(payer), typed_name=workspace.name)
    assert not AutoTopUp.objects.get().enabled
    trail = AuditEvent.objects.filter(workspace_id=workspace.pk, action="auto_topup.change")
    assert trail.latest("pk").details == {"enabled": False}
    AutoTopUp.objects.update(enabled=True)  # as where a workspace is suspended
    assert (auto.sweep(), auto.begin(workspace.pk, clock.now())) == (0, None)
    later.shift(65)
    topups.sweep()
    assert (automatic(payer), charged(stripe), books(payer).balance) == ([State.FAILED], [], 100)


def test_a_charge_whose_answer_got_lost_is_found_again(
    payer: Payer, stripe: FakeStripe, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_card(payer, stripe)
    rule(payer)
    spend(payer, 900)
    charge = stripe_payments.charge_card

    def lost(*arguments: Any, **named: Any) -> Any:
        charge(*arguments, **named)
        raise stripe_api.StripeUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(stripe_payments, "charge_card", lost)
        assert auto.sweep() == 1
    assert automatic(payer) == [State.PENDING]
    stripe.demo.account.store.tables.answers.clear()  # Stripe has forgotten the key
    later.shift(65)
    topups.sweep()
    assert (automatic(payer), charged(stripe)) == ([State.PAID], ["succeeded"])
    assert books(payer).balance == 1_100
    assert proven()


def test_a_row_that_was_never_charged_is_charged_by_the_sweep(payer: Payer, stripe: FakeStripe, later: Any) -> None:
    with_card(payer, stripe)
    rule(payer)
    spend(payer, 900)
    auto.begin(payer.workspace.pk, clock.now())
    later.shift(65)
    topups.sweep()
    assert (automatic(payer), charged(stripe)) == ([State.PAID], ["succeeded"])


def test_a_row_that_was_never_charged_is_given_up_where_nobody_wants_it_any_more(
    payer: Payer, stripe: FakeStripe, later: Any
) -> None:
    with_card(payer, stripe)
    rule(payer)
    spend(payer, 900)
    auto.begin(payer.workspace.pk, clock.now())
    rule(payer, enabled=False)
    later.shift(65)
    topups.sweep()
    assert (automatic(payer), charged(stripe)) == ([State.FAILED], [])
    assert books(payer).balance == 100


def test_an_old_row_is_not_charged_under_a_key_that_is_forgotten(payer: Payer, stripe: FakeStripe, later: Any) -> None:
    with_card(payer, stripe)
    rule(payer)
    spend(payer, 900)
    auto.begin(payer.workspace.pk, clock.now())
    later.shift(auto.KEY_LIVES + timedelta(minutes=1))
    topups.sweep()
    assert (automatic(payer), charged(stripe)) == ([State.FAILED], [])


def test_a_webhook_alone_settles_it(payer: Payer, stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch) -> None:
    with_card(payer, stripe)
    rule(payer)
    spend(payer, 900)
    with monkeypatch.context() as patched:
        patched.setattr(auto, "settle", lambda topup, payment: topup)  # killed before it was written down
        auto.sweep()
    assert automatic(payer) == [State.PENDING]
    hear(stripe.events("payment_intent.succeeded") * 3)
    assert (automatic(payer), books(payer).balance) == ([State.PAID], 1_100)


def test_a_customer_deleted_at_stripe_is_made_anew(payer: Payer, stripe: FakeStripe) -> None:
    with_card(payer, stripe)
    stripe.demo.account.store.tables.customers.clear()
    before = Customer.objects.get().stripe_id
    stripe.demo.account.store.tables.answers.clear()
    top_up(payer, stripe)
    assert Customer.objects.get().stripe_id != before
    assert customers.of(payer.workspace.pk) is not None
    assert books(payer).balance == 2_000


def test_a_mail_that_can_not_be_written_keeps_nobody_elses(
    payer: Payer, stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    payers = [payer, new_payer()]
    for each in payers:
        with_card(each, stripe)
        rule(each)
    AutoTopUp.objects.update(mail_due=AutoTopUp.Mail.CAPPED)
    really, broken = account_emails.message, {each.workspace.pk for each in payers}

    def message(name: str, context: Any, *, to: str) -> Any:
        if context["workspace"].pk in broken:
            raise RuntimeError("a word that no template knows")
        return really(name, context, to=to)

    monkeypatch.setattr(account_emails, "message", message)
    mail.outbox.clear()
    assert (emails.sweep_auto_topups(), mail.outbox) == (0, [])
    for mended in reversed(payers):
        broken.discard(mended.workspace.pk)
        assert emails.sweep_auto_topups() == 1
    assert not AutoTopUp.objects.exclude(mail_due="").exists()
