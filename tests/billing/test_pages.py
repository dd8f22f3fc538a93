"""``/billing`` and its neighbours over HTTP: what they show, what they take, and to whom they answer."""

from __future__ import annotations

import csv
import io
import re
import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from accounts.models import User
from billing import history, stripe_api, topups, views
from billing.models import CreditLot, TopUp, Wallet
from core import ids
from orgs.models import Membership, Workspace
from orgs.permissions import Role
from tests.billing.support import CENT, books, nothing, paid, start
from tests.fakes.stripe import FakeStripe
from tests.support.money import Payer, new_payer

pytestmark = pytest.mark.django_db

State = TopUp.State


@pytest.fixture
def payer(db: None) -> Payer:
    return new_payer()


@pytest.fixture
def browser(payer: Payer) -> Client:
    """The payer, signed in."""
    client = Client()
    client.force_login(payer.user)
    return client


def text_of(answer: Any) -> str:
    """The visible words of a page, with single spaces."""
    without_tags = re.sub(r"<[^>]+>", " ", answer.content.decode())
    return " ".join(without_tags.split())


def token_of(answer: Any) -> str:
    match = re.search(r'name="token" value="([0-9a-f-]{36})"', answer.content.decode())
    assert match
    return match[1]


def send(browser: Client, amount: object, other: str = "", token: str = "") -> Any:
    return browser.post("/billing/topups", {"amount": amount, "other": other, "token": token or str(uuid.uuid4())})


# ── The page ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_it_works(browser: Client, stripe: FakeStripe) -> None:
    answer = browser.get("/billing")
    assert answer.status_code == 200
    shown = text_of(answer)
    for words in (
        "$5 500 credits",
        "$10 1,000",
        "$25 2,500",
        "$50 5,000",
        "$100 10,000",
        "Other from $2.00",
        "No top-ups yet",
    ):
        assert words in shown
    assert re.search(r'value="1000"[^>]* checked', answer.content.decode())


def test_it_shows_balance_held_available_and_lots(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    payer.give(1_234 * CENT, CreditLot.Kind.DEMO)
    payer.give(500 * CENT, CreditLot.Kind.PROMOTIONAL)
    payer.give(99 * CENT + 500_000, CreditLot.Kind.PAID)
    Wallet.objects.filter(pk=payer.workspace.pk).update(held_microcredits=33 * CENT)
    shown = text_of(browser.get("/billing"))
    assert "1,833 credits, worth $18.34" in shown
    assert "Held by running calls 33 " in shown
    assert "Available 1,800 " in shown
    assert "Paid credits 99.50 Promotional credits 500 Demo credits 1,234" in shown


def test_a_debt_is_said(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    Wallet.objects.filter(pk=payer.workspace.pk).update(balance_microcredits=-5 * CENT)
    assert "-5 Below zero" in text_of(browser.get("/billing"))


def test_demo_payments_are_named_on_every_page(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    topup = start(payer)
    for path in ("/billing", f"/billing/topups/{topup.pk}/return"):
        assert "Demo payments: no card is charged" in text_of(browser.get(path))


def test_real_payments_are_not_called_a_demo(
    browser: Client, payer: Payer, stripe: FakeStripe, settings: Settings
) -> None:
    settings.DEMO_PAYMENTS = False
    stripe.pay(topup := start(payer))
    topups.reconcile(topup)
    for path in ("/billing", f"/billing/topups/{topup.pk}/return"):
        assert "emo" not in text_of(browser.get(path))


def test_without_a_payment_provider_the_page_says_so(browser: Client, settings: Settings) -> None:
    settings.STRIPE_SECRET_KEY = ""
    answer = browser.get("/billing")
    assert "Payments are not set up" in text_of(answer)
    assert "<form" not in answer.content.decode().partition("<main")[2].partition("</main>")[0]
    assert send(browser, 1_000).status_code == 502


def test_pages_are_not_kept_by_browsers(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    for path in ("/billing", f"/billing/topups/{start(payer).pk}/return", "/billing/topups.csv"):
        assert "no-store" in browser.get(path)["Cache-Control"]


def test_the_form_may_lead_to_the_pay_page(browser: Client, stripe: FakeStripe) -> None:
    for answer in (browser.get("/billing"), send(browser, 1_000), send(browser, "")):
        directives = answer["Content-Security-Policy"].split("; ")
        assert next(one for one in directives if one.startswith("form-action")).endswith(f" {stripe.url}")


# ── The form ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("amount", "other", "cents"),
    [
        (500, "", 500),
        (10_000, "", 10_000),
        ("other", "2", 200),
        ("other", "12.5", 1_250),
        ("other", " 12.50 ", 1_250),
        ("other", "10000", 1_000_000),
        (500, "77", 500),
        (500, "rubbish", 500),
    ],
)
def test_the_form_leads_to_the_pay_page(
    browser: Client, payer: Payer, stripe: FakeStripe, amount: object, other: str, cents: int
) -> None:
    answer = send(browser, amount, other)
    assert answer.status_code == 303
    topup = TopUp.objects.get(wallet_id=payer.workspace.pk)
    assert answer["Location"] == topup.checkout_url == stripe.session(topup)["url"]
    assert topup.amount_cents == stripe.session(topup)["amount_total"] == cents
    assert topup.created_by == payer.user


@pytest.mark.parametrize(
    ("amount", "other", "complaint"),
    [
        ("", "", "Choose an amount."),
        ("123", "", "Choose an amount."),
        ("other", "", "Enter an amount."),
        ("other", "1.99", "The least amount is $2.00."),
        ("other", "-5", "The least amount is $2.00."),
        ("other", "0", "The least amount is $2.00."),
        ("other", "10000.01", "The most at once is $10,000.00."),
        ("other", "2.001", "at most two decimals"),
        ("other", "ten", "Enter an amount like 25 or 12.50."),
        ("other", "12,50", "Enter an amount like 25 or 12.50."),
        ("other", "NaN", "Enter an amount like 25 or 12.50."),
        ("other", "1e3", ""),
        ("other", "9" * 30, "no more than"),
    ],
)
def test_what_is_wrong_stands_at_its_field(
    browser: Client, payer: Payer, stripe: FakeStripe, amount: str, other: str, complaint: str
) -> None:
    answer = send(browser, amount, other)
    if not complaint:
        assert answer.status_code == 303
        return
    assert answer.status_code == 422
    field = "other" if amount == "other" else "amount"
    assert f'id="topup-{field}_error"' in answer.content.decode()
    assert complaint in text_of(answer)
    assert books(payer) == nothing()
    assert stripe.sessions == []


def test_a_form_without_its_token_is_refused(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    assert browser.post("/billing/topups", {"amount": "1000"}).status_code == 422
    assert browser.post("/billing/topups", {"amount": "1000", "token": "x"}).status_code == 422
    assert books(payer) == nothing()


def test_a_double_click_pays_once(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    token = token_of(browser.get("/billing"))
    first, second = send(browser, 1_000, token=token), send(browser, 1_000, token=token)
    assert first["Location"] == second["Location"]
    topup = TopUp.objects.get(wallet_id=payer.workspace.pk)
    stripe.pay(topup)
    topups.reconcile(topup)
    third = send(browser, 1_000, token=token)
    assert third.status_code == 303
    assert third["Location"] == f"/billing/topups/{topup.pk}/return"
    assert books(payer) == paid(1_000)
    assert token_of(browser.get("/billing")) != token


def test_the_form_needs_its_csrf_token(payer: Payer, stripe: FakeStripe) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(payer.user)
    assert send(strict, 1_000).status_code == 403
    assert books(payer) == nothing()


def test_a_silent_provider_is_said_and_the_form_can_be_sent_again(
    browser: Client, payer: Payer, stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = str(uuid.uuid4())

    def silent(wanted: Any) -> Any:
        raise stripe_api.StripeUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(stripe_api, "create_checkout", silent)
        answer = send(browser, 2_500, token=token)
    assert answer.status_code == 502
    assert "The payment page did not open" in text_of(answer)
    assert re.search(r'value="2500"[^>]* checked', answer.content.decode())
    assert token_of(answer) == token
    assert send(browser, 2_500, token=token)["Location"] == stripe.sessions[0]["url"]
    assert books(payer) == nothing((State.PENDING, 2_500))


def test_a_provider_that_refuses_is_said_and_the_next_try_is_new(
    browser: Client, payer: Payer, stripe: FakeStripe, settings: Settings
) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_wrong"
    token = str(uuid.uuid4())
    answer = send(browser, 1_000, token=token)
    assert answer.status_code == 502
    assert "sk_test" not in answer.content.decode()
    assert token_of(answer) != token
    assert books(payer) == nothing((State.FAILED, 1_000))


# ── Coming back ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_return_page_credits_by_itself(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    send(browser, 1_000)
    topup = TopUp.objects.get(wallet_id=payer.workspace.pk)
    answer = browser.get(stripe.pay(topup))
    shown = text_of(answer)
    assert "1,000 credits added" in shown
    assert "Your balance is 1,000 credits." in shown
    assert "hx-trigger" not in answer.content.decode()
    assert books(payer) == paid(1_000)
    assert browser.get(answer.request["PATH_INFO"]).status_code == 200
    assert books(payer) == paid(1_000)


def test_cancelled(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    topup = start(payer)
    answer = browser.get(stripe.session(topup)["cancel_url"])
    assert "You left the payment page Nothing was charged." in text_of(answer)
    assert f'href="{topup.checkout_url}"' in answer.content.decode()
    assert books(payer) == nothing((State.PENDING, 1_000))


def test_cancelled_in_one_tab_and_paid_in_another_is_paid(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    topup = start(payer)
    stripe.pay(topup)
    assert "1,000 credits added" in text_of(browser.get(stripe.session(topup)["cancel_url"]))
    assert books(payer) == paid(1_000)


def test_a_slow_payment_is_watched_until_it_ends(browser: Client, payer: Payer, stripe: FakeStripe, later: Any) -> None:
    topup = start(payer)
    answer = browser.get(stripe.pay(topup, "late_success"))
    assert "The payment is under way" in text_of(answer)
    state = f"/billing/topups/{topup.pk}/state"
    assert f'hx-get="{state}?poll=1"' in answer.content.decode()
    assert "HX-Refresh" not in browser.get(f"{state}?poll=1")
    later.shift(10)
    stripe.tick()
    fragment = browser.get(f"{state}?poll=1")
    assert "1,000 credits added" in text_of(fragment)
    assert "hx-get" not in fragment.content.decode()
    assert "<html" not in fragment.content.decode()
    assert fragment["HX-Refresh"] == "true"
    assert books(payer) == paid(1_000)


def test_the_watch_ends(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    topup = start(payer)
    state = f"/billing/topups/{topup.pk}/state"
    assert f"poll={views.MOST_POLLS}" in browser.get(f"{state}?poll={views.MOST_POLLS - 1}").content.decode()
    for last in (str(views.MOST_POLLS), "999"):
        fragment = browser.get(f"{state}?poll={last}")
        assert "hx-get" not in fragment.content.decode()
        assert "It is still not paid" in text_of(fragment)
    for odd in ("-1", "x", "²", "9" * 50):
        assert browser.get(state, {"poll": odd}).status_code == 200


@pytest.mark.parametrize(
    ("outcome", "seconds", "words"),
    [
        ("late_failure", 10, "There was not enough money on the account."),
        ("", topups.CHECKOUT_OPEN.total_seconds() + 1, "The payment page has expired"),
    ],
)
def test_what_went_wrong_is_said(
    browser: Client, payer: Payer, stripe: FakeStripe, later: Any, outcome: str, seconds: float, words: str
) -> None:
    topup = start(payer)
    if outcome:
        stripe.pay(topup, outcome)
    later.shift(seconds)
    stripe.tick()
    browser.force_login(payer.user)
    assert words in text_of(browser.get(f"/billing/topups/{topup.pk}/return"))
    assert books(payer).balance == 0


# ── History ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_history_shows_state_amount_credits_and_receipt(
    browser: Client, payer: Payer, stripe: FakeStripe, later: Any
) -> None:
    stripe.pay(done := start(payer, 2_500))
    topups.reconcile(done)
    stripe.pay(slow := start(payer, 500), "late_failure")
    later.shift(10)
    stripe.tick()
    topups.reconcile(slow)
    start(payer, 700)
    browser.force_login(payer.user)
    answer = browser.get("/billing")
    rows = re.findall(r"<tr>.*?</tr>", answer.content.decode().partition("<tbody>")[2], re.DOTALL)
    shown = [" ".join(re.sub(r"<[^>]+>", " ", row).split())[17:] for row in rows]
    assert [row.partition(" Details")[0] for row in shown] == [
        "Not paid yet Demo $7.00 — —",
        "Failed Demo $5.00 — — —",
        f"Paid Demo $25.00 2,500 — Receipt for $25.00 of {done.created_at:%Y-%m-%d}, opens a new tab",
    ]
    assert f'href="{done.receipt_url or TopUp.objects.get(pk=done.pk).receipt_url}"' in answer.content.decode()


def test_the_history_is_paged(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    total = history.PAGE_LENGTH * 2 + 3
    rows = [
        TopUp(wallet_id=payer.workspace.pk, amount_cents=200 + number, credits_microcredits=(200 + number) * CENT)
        for number in range(total)
    ]
    TopUp.objects.bulk_create(rows)

    def amounts(path: str) -> list[str]:
        body = browser.get(path).content.decode()
        return re.findall(r'data-label="Amount"><bdi[^>]*>\$([\d.]+)<', body)

    def link(path: str, rel: str) -> str:
        match = re.search(rf'rel="{rel}" href="([^"]+)"', browser.get(path).content.decode())
        return f"/billing{match[1]}" if match else ""

    newest_first = [f"{(200 + number) / 100:.2f}" for number in reversed(range(total))]
    assert link("/billing", "prev") == ""
    second = link("/billing", "next")
    third = link(second, "next")
    seen = [amounts(path) for path in ("/billing", second, third)]
    assert [len(page) for page in seen] == [history.PAGE_LENGTH, history.PAGE_LENGTH, 3]
    assert [amount for page in seen for amount in page] == newest_first
    assert link(third, "next") == ""
    assert amounts(link(third, "prev")) == seen[1]
    assert link(link(second, "prev"), "prev") == ""
    assert "Nothing on this page" in text_of(browser.get(f"/billing?before={uuid.UUID(int=1)}"))
    assert browser.get("/billing?before=x").status_code == 200


def test_receipts_follow_the_demos_server_to_its_new_port(
    browser: Client, payer: Payer, stripe: FakeStripe, settings: Settings
) -> None:
    stripe.pay(topup := start(payer))
    topup = topups.reconcile(topup)
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    assert f'href="http://127.0.0.1:9/receipts/{topup.stripe_charge_id}"' in browser.get("/billing").content.decode()


# ── Export ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_export_never_mixes_demo_and_live(
    browser: Client, payer: Payer, stripe: FakeStripe, settings: Settings
) -> None:
    settings.DEMO_PAYMENTS = False
    stripe.pay(real := start(payer, 2_500))
    topups.reconcile(real)
    settings.DEMO_PAYMENTS = True
    stripe.pay(demo := start(payer, 500))
    topups.reconcile(demo)
    start(payer, 700)

    def rows(query: str) -> list[tuple[str, str, str, str]]:
        answer = browser.get(f"/billing/topups.csv{query}")
        assert answer.status_code == 200
        read = csv.DictReader(io.StringIO(answer.content.decode()))
        return [(row["mode"], row["state"], row["amount"], row["credits"]) for row in read]

    assert rows("?mode=live") == [("live", "paid", "25.00", "2500")]
    assert rows("?mode=demo") == [("demo", "paid", "5.00", "500"), ("demo", "pending", "7.00", "0")]
    assert rows("") == rows("?mode=demo")
    settings.DEMO_PAYMENTS = False
    assert rows("") == rows("?mode=live")
    assert browser.get("/billing/topups.csv?mode=all").status_code == 400
    assert 'filename="hypereal-topups-demo.csv"' in browser.get("/billing/topups.csv?mode=demo")["Content-Disposition"]


# ── Who may ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def colleague(workspace: Workspace, role: str) -> Client:
    user = User.objects.create_user(f"{ids.uuid7()}@example.com", None)
    Membership.objects.create(workspace=workspace, user=user, role=role)
    client = Client()
    client.force_login(user)
    session = client.session
    session["workspace"] = str(workspace.pk)
    session.save()
    return client


@pytest.mark.parametrize(
    ("role", "sees", "pays"),
    [
        (Role.OWNER, True, True),
        (Role.ADMIN, True, False),
        (Role.BILLING, True, True),
        (Role.VIEWER, True, False),
        (Role.DEVELOPER, False, False),
    ],
)
def test_roles(stripe: FakeStripe, role: str, sees: bool, pays: bool) -> None:
    company = Workspace.objects.create(kind=Workspace.Kind.ORGANIZATION, name="Company", slug="company")
    topup = TopUp.objects.create(wallet_id=company.pk, amount_cents=900, credits_microcredits=900 * CENT)
    client = colleague(company, role)
    for path in (
        "/billing",
        "/billing/topups.csv",
        f"/billing/topups/{topup.pk}/return",
        f"/billing/topups/{topup.pk}/state",
    ):
        assert client.get(path).status_code == (200 if sees else 403), path
    assert send(client, 1_000).status_code == (303 if pays else 403)
    assert TopUp.objects.filter(wallet_id=company.pk).count() == (2 if pays else 1)
    if sees:
        assert ("Continue to payment" in text_of(client.get("/billing"))) == pays


def test_strangers_see_nothing_of_it(browser: Client, stripe: FakeStripe) -> None:
    theirs = start(new_payer())
    for part in ("return", "state"):
        answers = [browser.get(f"/billing/topups/{pk}/{part}") for pk in (theirs.pk, ids.uuid7())]
        assert [answer.status_code for answer in answers] == [404, 404]
    assert "$10.00 —" not in text_of(browser.get("/billing"))
    assert browser.get("/billing/topups.csv").content.count(b"\n") == 1


def test_somebody_who_switched_workspaces_while_paying_still_comes_back(
    browser: Client, payer: Payer, stripe: FakeStripe
) -> None:
    company = Workspace.objects.create(kind=Workspace.Kind.ORGANIZATION, name="Company", slug="company")
    Membership.objects.create(workspace=company, user=payer.user, role=Role.DEVELOPER)
    topup = start(payer)
    back = stripe.pay(topup)
    session = browser.session
    session["workspace"] = str(company.pk)
    session.save()
    assert browser.get("/billing").status_code == 403
    assert "1,000 credits added" in text_of(browser.get(back))


def test_anonymous_people_sign_in_first(stripe: FakeStripe) -> None:
    client = Client()
    topup = start(new_payer())
    for path in ("/billing", "/billing/topups.csv", f"/billing/topups/{topup.pk}/return"):
        answer = client.get(path)
        assert answer.status_code == 302
        assert answer["Location"].startswith(reverse("account_login"))
    assert send(client, 1_000).status_code == 302
    assert len(stripe.sessions) == 1


def test_wrong_methods_are_refused(browser: Client, payer: Payer, stripe: FakeStripe) -> None:
    assert browser.get("/billing/topups").status_code == 405
    assert browser.post("/billing").status_code == 405
