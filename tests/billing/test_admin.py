"""What operators do with payments in the admin: refund them, decide over those that do not fit, read the comparison."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from billing import mismatches, reconcile, reversals, settling, topups
from billing.models import Reversal, TopUp
from core import errors
from events import audit
from events.models import AuditEvent
from tests import factories
from tests.billing.support import books, hear, proven, start, top_up
from tests.fakes.stripe import FakeStripe
from tests.support.money import Payer, new_payer

pytestmark = pytest.mark.django_db

LIST = "/admin/billing/topup/"
BOSS = audit.operator("test")


@pytest.fixture
def payer(db: None) -> Payer:
    return new_payer()


@pytest.fixture
def operator(db: None) -> Client:
    client = Client()
    client.force_login(factories.user("operator@house.example", is_staff=True, is_superuser=True))
    return client


def mismatched(payer: Payer, stripe: FakeStripe, cents: int = 700) -> TopUp:
    """A top-up of 1,000 for which so many cents came."""
    topup = start(payer)
    session = stripe.session(topup)
    session["amount_subtotal"] = session["amount_total"] = cents
    stripe.pay(topup)
    return topups.reconcile(topup)


def test_a_refund_by_form_happens_once_however_often_it_is_sent(
    operator: Client, payer: Payer, stripe: FakeStripe
) -> None:
    topup = top_up(payer, stripe)
    page = operator.get(f"{LIST}{topup.pk}/refund/")
    assert "$10.00" in page.content.decode()
    form = {"amount": "4.00", "reason": "Double booking", "token": str(uuid4())}
    for _ in range(2):
        answer = operator.post(f"{LIST}{topup.pk}/refund/", form)
        assert answer["Location"] == f"{LIST}{topup.pk}/change/"
    assert ([one["amount"] for one in stripe.refunds], books(payer).balance) == ([400], 600)
    asked = AuditEvent.objects.get(action="refund.request")
    assert (asked.actor_label, asked.details["reason"]) == ("operator@house.example", "Double booking")
    assert "Double booking" in operator.get(f"{LIST}{topup.pk}/change/").content.decode()


@pytest.mark.parametrize("form", [{"amount": "10.01"}, {"amount": "0"}, {"amount": "x"}, {"reason": ""}])
def test_a_wrong_form_sends_nothing(operator: Client, payer: Payer, stripe: FakeStripe, form: dict[str, str]) -> None:
    topup = top_up(payer, stripe)
    sent = {"amount": "1.00", "reason": "why", "token": str(uuid4()), **form}
    assert operator.post(f"{LIST}{topup.pk}/refund/", sent).status_code == 422
    assert (stripe.refunds, books(payer).balance) == ([], 1_000)


def test_others_see_nothing(payer: Payer, stripe: FakeStripe) -> None:
    topup = top_up(payer, stripe)
    client = Client()
    client.force_login(payer.user)
    for path in (LIST, f"{LIST}{topup.pk}/refund/", f"{LIST}{topup.pk}/accept/", "/admin/billing/stripereport/"):
        assert client.get(path).status_code in (302, 403)
        assert client.post(path, {"amount": "1", "reason": "x", "token": str(uuid4())}).status_code in (302, 403)
    assert (stripe.refunds, books(payer).balance) == ([], 1_000)


# ── Payments that do not fit ─────────────────────────────────────────────────────────────────────────────────────────
def test_a_payment_that_does_not_fit_is_found_and_credited_as_it_was_paid(
    operator: Client, payer: Payer, stripe: FakeStripe
) -> None:
    topup = mismatched(payer, stripe)
    assert (topup.failure, books(payer).balance) == (settling.MISMATCH, 0)
    assert str(payer.workspace) in operator.get(f"{LIST}?decision=open").content.decode()
    for _ in range(2):
        answer = operator.post(f"{LIST}{topup.pk}/accept/", {"reason": "they chose less"})
        assert answer.status_code == 302
    topup.refresh_from_db()
    assert (topup.state, topup.amount_cents, books(payer).balance) == (TopUp.State.PAID, 700, 700)
    assert str(payer.workspace) not in operator.get(f"{LIST}?decision=open").content.decode()
    accepted = AuditEvent.objects.get(action="topup.accept")
    assert (accepted.details["wanted_cents"], accepted.details["credited_cents"]) == (1_000, 700)
    hear(stripe.events())
    assert books(payer).balance == 700
    assert proven()


def test_or_it_is_sent_back(payer: Payer, stripe: FakeStripe) -> None:
    topup = mismatched(payer, stripe)
    done = reversals.refund(topup, None, "not what was asked for", BOSS)
    assert (done.state, done.amount_cents, done.taken_microcredits) == (Reversal.State.FINAL, 700, 0)
    assert books(payer).balance == 0
    with pytest.raises(errors.InvalidRequest):
        mismatches.accept(topup.pk, reason="after all", actor=BOSS)
    assert proven()


@pytest.mark.parametrize("wrong", ["currency", "unpaid", "fits"])
def test_what_can_not_be_credited_is_refused(payer: Payer, stripe: FakeStripe, wrong: str) -> None:
    topup = start(payer) if wrong == "fits" else mismatched(payer, stripe)
    if wrong == "currency":
        stripe.payments[0]["currency"] = "eur"
    if wrong == "unpaid":
        stripe.payments[0]["status"] = "requires_payment_method"
    with pytest.raises(errors.InvalidRequest) as refused:
        mismatches.accept(topup.pk, reason="x", actor=BOSS)
    assert (refused.value.param, books(payer).balance) == ("topup", 0)


# ── Reports ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_comparison_can_be_read(operator: Client, payer: Payer, stripe: FakeStripe, later: Any) -> None:
    stripe.pay(start(payer))
    later.shift(reconcile.SETTLING)
    later.shift(5)
    report = reconcile.run()
    listed = operator.get("/admin/billing/stripereport/").content.decode()
    assert f"/admin/billing/stripereport/{report.pk}/change/" in listed
    text = operator.get(f"/admin/billing/stripereport/{report.pk}/change/").content.decode()
    assert "payment_not_credited" in text
    assert re.search(rf"/admin/billing/topup/{TopUp.objects.get().pk}/change/", text)


@pytest.mark.parametrize("model", ["reversal", "autotopup", "stripeevent", "topup"])
def test_every_list_opens(operator: Client, payer: Payer, stripe: FakeStripe, model: str) -> None:
    stripe.refund(top_up(payer, stripe), 100)
    hear(stripe.events())
    assert operator.get(f"/admin/billing/{model}/").status_code == 200
