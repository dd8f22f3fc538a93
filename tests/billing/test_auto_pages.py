"""The page of automatic top-ups, the saved card, and what the billing page tells of refunds, disputes and debts."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from accounts import reauth
from billing import auto, reversals
from billing.models import AutoTopUp, Customer, TopUp
from core import clock
from events import audit
from events.models import AuditEvent
from idempotency.models import StoredAnswer
from tests import cast
from tests.billing.support import CENT, actor_of, books, hear, top_up, with_card
from tests.fakes.stripe import FakeStripe
from tests.support.money import Payer, new_payer
from usage.metering import apply_now

pytestmark = pytest.mark.django_db

PAGE, CHANGE = "/billing/auto-topup", "/billing/auto-topup/change"
FORM = {"enabled": "on", "below": "500", "amount": "10", "cap": "50"}


@pytest.fixture
def payer(db: None) -> Payer:
    return new_payer()


@pytest.fixture
def browser(payer: Payer, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Signed in a moment ago."""
    monkeypatch.setattr(reauth, "is_recent", lambda request: True)
    client = Client()
    client.force_login(payer.user)
    return client


def text(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def configure(payer: Payer) -> AutoTopUp:
    return auto.configure(
        payer.workspace,
        actor=actor_of(payer),
        enabled=True,
        below_microcredits=500 * CENT,
        amount_cents=1_000,
        monthly_cap_cents=5_000,
    )


def test_it_works(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    with_card(payer, stripe)
    assert "ending in 4242" in text(browser.get(PAGE))
    answer = browser.post(CHANGE, FORM)
    assert answer["Location"] == PAGE
    rule = AutoTopUp.objects.get()
    assert (rule.enabled, rule.below_microcredits, rule.amount_cents) == (True, 500 * CENT, 1_000)
    assert (rule.monthly_cap_cents, rule.enabled_by) == (5_000, payer.user)
    assert AuditEvent.objects.filter(action="auto_topup.change", actor_id=payer.user.pk).count() == 1
    assert 'value="500"' in text(browser.get(PAGE))
    browser.post(CHANGE, {**FORM, "enabled": ""})
    assert AutoTopUp.objects.get().enabled is False


def test_a_form_of_before_undoes_nothing(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    with_card(payer, stripe)
    seen = text(browser.get(PAGE)).split('name="seen" value="')[1].split('"')[0]
    older = FORM | {"amount": "20", "seen": seen}
    configure(payer)  # somebody else, meanwhile
    for sent in (older, older | {"amount": "nonsense"}):
        assert "Somebody changed this" in text(browser.post(CHANGE, sent, follow=True))
        assert AutoTopUp.objects.get().amount_cents == 1_000
    # A second click, and somebody who wants the same, are no quarrel.
    assert "Somebody changed this" not in text(browser.post(CHANGE, FORM | {"seen": seen}, follow=True))
    fresh = text(browser.get(PAGE)).split('name="seen" value="')[1].split('"')[0]
    browser.post(CHANGE, older | {"seen": fresh})
    assert AutoTopUp.objects.get().amount_cents == 2_000


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"below": "many"}, "below"),
        ({"amount": "1.99"}, "amount"),
        ({"cap": "9.99"}, "cap"),
        ({"amount": ""}, "amount"),
    ],
)
def test_a_wrong_form_comes_back_with_the_complaint_at_its_field(
    browser: Client, payer: Payer, stripe: FakeStripe, wrong: dict[str, str], field: str
) -> None:
    with_card(payer, stripe)
    answer = browser.post(CHANGE, {**FORM, **wrong})
    assert answer.status_code == 422
    assert list(answer.context["form"].errors) == [field]
    assert not AutoTopUp.objects.exists()


def test_without_a_card_it_can_not_be_switched_on(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    answer = browser.post(CHANGE, FORM)
    assert (answer.status_code, "Save a card first" in text(answer)) == (422, True)


def test_changes_ask_for_a_proof_of_who_one_is(payer: Payer, stripe: FakeStripe) -> None:
    with_card(payer, stripe)
    payer.user.set_password("a horse of correct batteries")
    payer.user.save()
    client = Client()
    client.force_login(payer.user)
    for path in (CHANGE, "/billing/card/remove", "/billing/portal"):
        answer = client.post(path, FORM)
        assert answer.status_code == 302
        assert "/accounts/reauthenticate/" in answer["Location"]
    answer = client.put(
        "/api/billing/auto-topup",
        json.dumps({"enabled": True, "belowCredits": 500, "amountCredits": 1000, "monthlyCapCredits": 5000}),
        content_type="application/json",
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "reauthentication_required")
    assert not AutoTopUp.objects.exists()
    assert Customer.objects.get().payment_method_id


def test_a_pause_is_shown_with_the_way_out(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    with_card(payer, stripe, "success_then_asks")
    configure(payer)
    call = payer.admit(900 * CENT)
    apply_now(call)
    apply_now(payer.settle(call, 900 * CENT))
    auto.sweep()
    page = browser.get(PAGE)
    assert "Your bank wants you to confirm" in text(page)
    form = {"amount": "other", "other": "10.00", "save_card": "on", "token": str(page.context["pay_token"])}
    answer = browser.post("/billing/topups", form)
    assert answer.status_code == 303
    assert answer["Location"].startswith(stripe.url)
    assert stripe.demo.account.store.tables.hidden[stripe.sessions[-1]["id"]]["payment_intent_data"][
        "setup_future_usage"
    ] == "off_session"  # fmt: skip


def test_the_card_is_removed_after_a_question(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    with_card(payer, stripe)
    configure(payer)
    assert "switched off with it" in text(browser.get("/billing/card/remove"))
    assert Customer.objects.get().card_last4 == "4242"
    assert browser.post("/billing/card/remove")["Location"] == PAGE
    assert (Customer.objects.get().card_last4, AutoTopUp.objects.get().enabled) == ("", False)
    assert browser.post("/billing/card/remove").status_code == 302


def test_the_portal_is_the_payment_providers(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    assert browser.post("/billing/portal")["Location"] == PAGE  # nobody there knows them yet
    with_card(payer, stripe)
    answer = browser.post("/billing/portal")
    assert answer.status_code == 303
    assert answer["Location"].startswith(f"{stripe.url}/p/session/")
    assert stripe.browse(answer["Location"])[0] == 200


def test_refunds_disputes_and_debts_are_told(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    topup = top_up(payer, stripe)
    call = payer.admit(800 * CENT)
    apply_now(call)
    apply_now(payer.settle(call, 800 * CENT))
    reversals.refund(topup, 300, "asked for", audit.operator("test"))
    assert "$3.00 refunded" in text(browser.get("/billing"))
    stripe.dispute(topup, amount=700)
    hear(stripe.events("charge.dispute.created"))
    page = text(browser.get("/billing"))
    assert books(payer).balance == -800
    assert "$7.00 disputed" in page
    assert "The balance is below zero" in page
    lines = browser.get("/billing/topups.csv?mode=demo").content.decode().splitlines()
    assert lines[1].split(",")[7:12] == ["10.00", "10.00", "10.00", "1000", "1000"]


def test_lots_with_an_end_are_named(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    end = clock.now() + timedelta(days=10)
    payer.give(5 * CENT, "promotional", end)
    assert f"expires {end:%Y-%m-%d %H:%M} UTC" in text(browser.get("/billing"))


# ── The API ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def send(browser: Client, path: str, body: dict[str, Any], *, method: str = "post", key: str = "") -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    call = getattr(browser, method)
    return call(f"/api/billing{path}", json.dumps(body), content_type="application/json", headers=headers)


def test_a_top_up_over_the_api_is_begun_once_for_a_key(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    first, again = (send(browser, "/topups", {"credits": 1000}, key="k1") for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert again["Idempotency-Replayed"] == "true"
    assert first.json()["checkoutUrl"].startswith(stripe.url)
    assert len(stripe.sessions) == 1
    assert send(browser, "/topups", {"credits": 2000}, key="k1").status_code == 409
    stripe.browse(first.json()["checkoutUrl"], {"outcome": "success"})
    one = browser.get(f"/api/billing/topups/{first.json()['id']}").json()
    assert (one["state"], one["credits"], one["checkoutUrl"]) == ("paid", 1000, None)
    whole = browser.get("/api/billing").json()
    assert (whole["balanceCredits"], whole["autoTopup"], whole["demo"]) == (1000, None, True)
    assert [row["state"] for row in browser.get("/api/billing/topups").json()["topups"]] == ["paid"]


def test_a_key_whose_top_up_is_over_can_not_pay_any_more(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    made = send(browser, "/topups", {"credits": 1000}, key="k1").json()
    StoredAnswer.objects.all().delete()
    TopUp.objects.filter(pk=made["id"]).update(state=TopUp.State.EXPIRED)
    again = send(browser, "/topups", {"credits": 1000}, key="k1")
    assert (again.status_code, again.json()["error"]["param"]) == (409, "Idempotency-Key")
    assert len(stripe.sessions) == 1


@pytest.mark.parametrize("credits", [0, -5, 10.5, "x", True, 199, None])
def test_amounts_that_nobody_can_pay_are_refused(browser: Client, stripe: FakeStripe, credits: Any) -> None:
    answer = send(browser, "/topups", {"credits": credits})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in ("credits", "amount")
    assert stripe.sessions == []


def test_the_rule_over_the_api(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    with_card(payer, stripe)
    rule = {"enabled": True, "belowCredits": 500, "amountCredits": 1000, "monthlyCapCredits": 5000}
    answer = send(browser, "/auto-topup", rule, method="put")
    assert answer.json() == {**rule, "chargedThisMonthCredits": 0, "pausedFor": None}
    wrong = send(browser, "/auto-topup", {**rule, "monthlyCapCredits": 999}, method="put")
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "monthlyCapCredits")
    assert browser.get("/api/billing").json()["savedCard"]["last4"] == "4242"
    assert browser.delete("/api/billing/card").status_code == 204
    assert browser.get("/api/billing").json()["savedCard"] is None


def test_an_organizations_bill_is_not_a_strangers(stripe: FakeStripe) -> None:
    company = cast.assemble()
    stranger = Client()
    stranger.force_login(company["stranger"])
    path = f"/api/billing?organizationId={company.organization.pk}"
    assert stranger.get(path).status_code == 404
    assert company.client("billing").get(path).status_code == 200
    assert company.client("developer").get(path).status_code == 403
