"""Payments of an organization that is deleted: its open pay pages close, and what is paid all the same goes back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from accounts.models import User
from billing import reversals, stripe_api, topups
from billing.models import Customer, Reversal, TopUp
from core import clock
from events.audit import SYSTEM
from orgs import organizations
from tests import factories
from tests.billing.support import actor_of, books, nothing, paid, proven, start, top_up
from tests.billing.test_pages import text_of
from tests.fakes.stripe import FakeStripe
from tests.support.money import Payer

pytestmark = pytest.mark.django_db

State = TopUp.State


@pytest.fixture
def payer(db: None) -> Payer:
    workspace = factories.organization()
    owner = factories.member(workspace, "owner")
    return Payer(owner, workspace, factories.api_key(workspace, created_by=owner).key)


def delete(payer: Payer) -> None:
    organizations.delete(payer.workspace, actor=actor_of(payer), typed_name=payer.workspace.name)


def came_back(person: User, topup: TopUp, part: str = "return") -> tuple[int, str]:
    """The status of somebody's return page, and its words."""
    client = Client()
    client.force_login(person)
    answer = client.get(f"/billing/topups/{topup.pk}/{part}")
    return answer.status_code, text_of(answer)


def sweep(later: Any) -> None:
    """Everything that happens by itself within the next minutes."""
    later.shift(65)
    topups.sweep()
    reversals.sweep()


def test_its_open_pay_pages_are_closed_and_nobody_elses(
    payer: Payer, stripe: FakeStripe, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = factories.organization()
    owner = factories.member(stranger, "owner")
    other = start(Payer(owner, stranger, factories.api_key(stranger, created_by=owner).key))
    topup = start(payer)
    delete(payer)

    def silent(session_id: str) -> None:
        raise stripe_api.StripeUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(stripe_api, "expire_session", silent)
        assert topups.sweep() == 1  # at once, and only the one that was to be closed
    assert stripe.session(topup)["status"] == "open"
    sweep(later)
    sweep(later)
    assert (stripe.session(topup)["status"], stripe.session(other)["status"]) == ("expired", "open")
    assert books(payer) == nothing((State.EXPIRED, 1_000))
    assert TopUp.objects.get(pk=other.pk).state == State.PENDING


def test_a_page_that_is_paid_while_it_is_to_be_closed_is_refunded_once(
    payer: Payer, stripe: FakeStripe, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = top_up(payer, stripe, 700)
    later.shift(1)
    topup = start(payer, saves_card=True)
    delete(payer)
    really = stripe_api.expire_session

    def a_moment_late(session_id: str) -> None:
        stripe.pay(topup)
        really(session_id)

    monkeypatch.setattr(stripe_api, "expire_session", a_moment_late)
    topups.sweep()
    assert books(payer) == paid(700, 1_000)  # it came: the books say so before it goes back
    sweep(later)
    sweep(later)
    refund = Reversal.objects.get()
    assert (refund.topup_id, refund.state, refund.amount_cents) == (topup.pk, Reversal.State.FINAL, 1_000)
    assert "deleted" in refund.reason
    assert [one["amount"] for one in stripe.refunds] == [1_000]
    # What was paid before stays where it is, and no card is kept.
    assert (books(payer).balance, earlier.reversals.count(), Customer.objects.get().payment_method_id) == (700, 0, "")
    subjects = [one.subject for one in mail.outbox if "goes back" in one.subject]
    assert len(subjects) == 1
    assert TopUp.objects.filter(run_after__isnull=False).count() == 0
    assert proven()


def test_a_refund_that_stripe_refuses_leaves_the_credits_and_holds_nobody_up(
    payer: Payer, stripe: FakeStripe, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    topup = start(payer)
    delete(payer)
    stripe.pay(topup)
    topups.reconcile(topup)

    def refused(*_: Any, **__: Any) -> Any:
        raise stripe_api.StripeRefused

    with monkeypatch.context() as patched:
        patched.setattr("billing.stripe_payments.create_refund", refused)
        for _ in range(3):
            sweep(later)
    assert books(payer).balance == 1_000
    refund = Reversal.objects.get()
    assert (refund.state, refund.failure) == (Reversal.State.UNDONE, "refused")
    assert not [one for one in mail.outbox if "goes back" in one.subject]
    assert TopUp.objects.filter(run_after__isnull=False).count() == 0  # it is the operator's now, who can refund it
    reversals.refund(topup, None, "by hand", SYSTEM)
    assert [one["amount"] for one in stripe.refunds] == [1_000]
    assert proven()


def test_a_slow_payment_that_comes_later_is_refunded_although_stripe_is_silent_at_first(
    payer: Payer, stripe: FakeStripe, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    topup = start(payer)
    stripe.pay(topup, "late_success")
    topups.reconcile(topup)
    delete(payer)
    later.shift(10)
    stripe.tick()
    topups.reconcile(TopUp.objects.get(pk=topup.pk))

    def silent(*_: Any, **__: Any) -> Any:
        raise stripe_api.StripeUnavailable

    with monkeypatch.context() as patched:
        patched.setattr("billing.stripe_payments.create_refund", silent)
        with pytest.raises(stripe_api.StripeUnavailable):
            topups.follow_up(topup.pk)
    assert (stripe.refunds, books(payer).balance) == ([], 0)  # nobody can spend what is on its way back
    for _ in range(3):
        sweep(later)
    assert [one["amount"] for one in stripe.refunds] == [1_000]
    assert Reversal.objects.get().state == Reversal.State.OPEN  # a bank takes its time
    assert clock.now() - Reversal.objects.get().created_at < timedelta(hours=1)
    assert proven()


def test_whoever_paid_comes_back_to_a_page_that_says_so_and_nobody_else_does(
    payer: Payer, stripe: FakeStripe, later: Any
) -> None:
    colleague = factories.member(payer.workspace, "owner")
    topup = start(payer)
    payer.give(77_000_000)
    delete(payer)
    stripe.pay(topup)
    for _ in range(3):  # before the refund, while it is made, and after it
        status, words = came_back(payer.user, topup)
        assert status == 200
        name = payer.workspace.name
        assert f"The organization “{name}” was deleted before your payment of $10.00 came, so all of it is" in words
        assert "77" not in words.replace(str(topup.pk), "")  # what the organization has left is not shown any more
        assert "credits added" not in words
        sweep(later)
    assert [one["amount"] for one in stripe.refunds] == [1_000]
    for part in ("return", "state"):
        assert came_back(payer.user, topup, part)[0] == 200
        assert came_back(colleague, topup, part)[0] == came_back(factories.user(), topup, part)[0] == 404


def test_the_page_says_what_became_of_a_payment_that_is_not_refunded(
    payer: Payer, stripe: FakeStripe, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = top_up(payer, stripe, 700)
    later.shift(1)
    slow, unpaid, refused = start(payer), start(payer, 300), start(payer, 500)
    stripe.pay(slow, "late_failure")
    topups.reconcile(slow)
    delete(payer)
    stripe.pay(refused)
    topups.reconcile(refused)

    def refuse(*_: Any, **__: Any) -> Any:
        raise stripe_api.StripeRefused

    assert "$10.00" in came_back(payer.user, slow)[1]
    assert "if it still comes, all of it is refunded" in came_back(payer.user, slow)[1]
    with monkeypatch.context() as patched:
        patched.setattr("billing.stripe_payments.create_refund", refuse)
        sweep(later)
    stripe.tick()
    sweep(later)
    said = {topup.pk: came_back(payer.user, topup)[1] for topup in (before, slow, unpaid, refused)}
    assert "was credited to" in said[before.pk]
    assert "There was not enough money on the account." in said[slow.pk]
    assert "nothing was charged" in said[unpaid.pk]
    assert f"please write to support, with the number of this top-up, {refused.pk}" in said[refused.pk]
    assert not any("goes back" in words for words in said.values())


def test_who_had_an_automatic_top_up_made_was_not_paying(payer: Payer, stripe: FakeStripe) -> None:
    topup = top_up(payer, stripe)
    TopUp.objects.filter(pk=topup.pk).update(source=TopUp.Source.AUTO)
    delete(payer)
    assert came_back(payer.user, topup)[0] == 404
