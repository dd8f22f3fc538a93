"""The same flows against the stand-in and, where HYPEREAL_STRIPE_TEST_KEY holds a key of test mode, against Stripe.

What the stand-in plays is thereby held against the real thing; without a key only the stand-in runs. The pay page
needs a person, so cards come to their customer by the API, as Stripe's test cards.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

import pytest
from pytest_django import Settings

from billing import auto, customers, reconcile, reversals, stripe_api, stripe_payments, topups
from billing.models import AutoTopUp, Customer, Reversal, TopUp
from core import clock
from tests.billing.support import CENT, actor_of, books, proven, start
from tests.fakes.stripe import KEY, SECRET, FakeStripe
from tests.support.money import Payer, new_payer
from usage.metering import apply_now

pytestmark = pytest.mark.django_db

TEST_KEY: Final = os.environ.get("HYPEREAL_STRIPE_TEST_KEY", "")
#: Stripe's own test cards, by what they do without their owner.
CARDS: Final = {
    "pays": "pm_card_visa",
    "declines": "pm_card_chargeCustomerFail",
    "asks": "pm_card_authenticationRequired",
    "disputes": "pm_card_createDispute",
}
SECONDS: Final = 30.0

Save = Callable[[str, str], str]


class StandIn:
    """The stand-in as the other side."""

    def __init__(self, fake: FakeStripe) -> None:
        self.fake = fake

    def save_card(self, customer_id: str, behaviour: str) -> str:
        cards = self.fake.demo.account.cards
        plays = "pays" if behaviour == "disputes" else behaviour
        return str(cards.save("pm_demoSaved", customer_id, behaviour=plays, email=None)["id"])

    def dispute_of(self, topup: TopUp) -> str:
        return str(self.fake.dispute(topup)["id"])


class Stripe:
    """Stripe's test mode as the other side."""

    def save_card(self, customer_id: str, behaviour: str) -> str:
        client = stripe_api.client()
        return client.v1.payment_methods.attach(CARDS[behaviour], {"customer": customer_id}).id

    def dispute_of(self, topup: TopUp) -> str:
        """The card itself begins one, a moment after it was charged."""
        limit = time.monotonic() + SECONDS
        while time.monotonic() < limit:
            found = stripe_api.client().v1.disputes.list({"payment_intent": topup.stripe_payment_intent_id}).data
            if found:
                return found[0].id
            time.sleep(1)
        pytest.fail("no dispute came")


@pytest.fixture(params=["stand-in", "stripe"])
def other_side(request: pytest.FixtureRequest, settings: Settings) -> Iterator[StandIn | Stripe]:
    settings.STRIPE_WEBHOOK_SECRETS, settings.SITE_URL = [SECRET], "https://shop.example"
    if request.param == "stripe":
        if not TEST_KEY.startswith("sk_test_"):
            pytest.skip("set HYPEREAL_STRIPE_TEST_KEY to a key of Stripe's test mode")
        settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE, settings.DEMO_PAYMENTS = TEST_KEY, "", False
        yield Stripe()
        return
    fake = FakeStripe()
    settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE, settings.DEMO_PAYMENTS = KEY, fake.url, True
    yield StandIn(fake)
    fake.stop()


@pytest.fixture
def payer(db: None) -> Payer:
    return new_payer(100 * CENT)


def charged(payer: Payer, other_side: StandIn | Stripe, behaviour: str) -> TopUp:
    """An automatic top-up of $10 by a card that behaves like this."""
    customer = customers.ensure(payer.workspace, email=payer.user.email)
    assert customers.save_card(customer, other_side.save_card(customer.stripe_id, behaviour))
    auto.configure(
        payer.workspace,
        actor=actor_of(payer),
        enabled=True,
        below_microcredits=500 * CENT,
        amount_cents=1_000,
        monthly_cap_cents=5_000,
    )
    assert auto.sweep() == 1
    return TopUp.objects.get(wallet_id=payer.workspace.pk, source=TopUp.Source.AUTO)


def agree() -> bool:
    """Both sides have the same, of what was made just now."""
    report = reconcile.run(clock.now() + reconcile.SETTLING + timedelta(minutes=1), since=timedelta(minutes=30))
    known = {str(pk) for pk in TopUp.objects.values_list("pk", flat=True)}
    assert [one for one in report.differences if one["topup_id"] in known] == []
    return True


def test_a_pay_page_opens_once(payer: Payer, other_side: StandIn | Stripe) -> None:
    topup = start(payer, 1_000, saves_card=True)
    assert topup.stripe_session_id is not None
    session = stripe_api.retrieve_session(topup.stripe_session_id)
    assert (session.status, session.payment_status, session.topup_id) == ("open", "unpaid", topup.pk)
    assert (session.amount_subtotal_cents, session.currency) == (1_000, "usd")
    again = topups._ask_for_pay_page(topup)
    assert again.id == session.id
    assert topups.reconcile(topup).state == TopUp.State.PENDING


def test_a_saved_card_is_charged_and_refunded(payer: Payer, other_side: StandIn | Stripe) -> None:
    topup = charged(payer, other_side, "pays")
    assert (topup.state, books(payer).balance) == (TopUp.State.PAID, 1_100)
    assert topup.receipt_url
    parts = [reversals.refund(topup, cents, "test", actor_of(payer)) for cents in (300, None)]
    assert [one.amount_cents for one in parts] == [300, 700]
    assert books(payer).balance == 100
    assert agree()
    assert proven()


def test_the_same_key_charges_once(payer: Payer, other_side: StandIn | Stripe) -> None:
    topup = charged(payer, other_side, "pays")
    customer = Customer.objects.get()
    again = auto.charge(topup)
    assert again.stripe_payment_intent_id == topup.stripe_payment_intent_id
    found = stripe_payments.find_payment(customer.stripe_id, topup.pk, topup.created_at - timedelta(minutes=5))
    assert found is not None
    assert found.id == topup.stripe_payment_intent_id
    assert books(payer).balance == 1_100


@pytest.mark.parametrize(
    ("behaviour", "paused_for"), [("declines", ""), ("asks", AutoTopUp.Pause.AUTHENTICATION.value)]
)
def test_a_bank_that_says_no(payer: Payer, other_side: StandIn | Stripe, behaviour: str, paused_for: str) -> None:
    topup = charged(payer, other_side, behaviour)
    assert (topup.state, books(payer).balance) == (TopUp.State.FAILED, 100)
    assert stripe_payments.retrieve_payment(topup.stripe_payment_intent_id).status == "canceled"
    assert AutoTopUp.objects.get().paused_for == paused_for
    assert agree()


def test_a_dispute_takes_the_credits(payer: Payer, other_side: StandIn | Stripe) -> None:
    topup = charged(payer, other_side, "disputes")
    call = payer.admit(800 * CENT)
    apply_now(call)
    apply_now(payer.settle(call, 800 * CENT))
    reversals.follow_dispute(other_side.dispute_of(topup))
    row = Reversal.objects.get()
    assert (row.kind, row.state, row.amount_cents) == (Reversal.Kind.DISPUTE, Reversal.State.OPEN, 1_000)
    assert books(payer).balance == -700
    assert agree()
    assert proven()


def test_a_card_that_was_removed_is_gone(payer: Payer, other_side: StandIn | Stripe) -> None:
    charged(payer, other_side, "pays")
    card_id = Customer.objects.get().payment_method_id
    auto.remove_card(payer.workspace, actor=actor_of(payer))
    assert stripe_payments.retrieve_card(card_id).customer_id == ""
    stripe_payments.detach_card(card_id)  # once more does no harm
    assert AutoTopUp.objects.get().enabled is False
