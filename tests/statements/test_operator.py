"""What operators do with money: recorded, once, and only by them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from billing import ledger
from billing.models import Transfer
from catalog import prices
from catalog.models import Model, Provider
from catalog.pricing import Rates, TokenRates, scaled
from core import clock, errors, ids
from events import audit
from events.models import AuditEvent
from statements import adjusting, composing, margins, suspicion
from statements.months import Month
from tests import factories
from tests.support.money import Payer, new_payer
from tests.usage import rows
from usage import verify
from vouchers.models import Voucher

CREDIT = 1_000_000
ADJUST, VOUCHER = "/admin/statements/adjustment/add/", "/admin/vouchers/voucher/add/"
PAGES = [
    "/admin/statements/adjustment/", ADJUST, "/admin/statements/modelmargin/", "/admin/statements/suspiciousworkspace/",
    "/admin/statements/billingprofile/", "/admin/vouchers/voucher/", VOUCHER, "/admin/vouchers/redemption/",
]  # fmt: skip
LIST = Rates(tokens=TokenRates(input=1000 * CREDIT, cached_input=100 * CREDIT, output=4000 * CREDIT))

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff() -> User:
    """Staff without a single permission of Django's own."""
    return factories.user("operator@people.example", is_staff=True)


@pytest.fixture
def operator(client: Client, staff: User) -> Client:
    client.force_login(staff)
    return client


@pytest.fixture
def payer() -> Payer:
    return new_payer(100 * CREDIT)


def token_of(page: Any) -> str:
    found = re.search(r'name="token" value="([^"]+)"', page.content.decode())
    assert found
    return found[1]


@pytest.mark.parametrize("path", PAGES)
def test_the_pages_are_for_operators(operator: Client, path: str) -> None:
    assert operator.get(path).status_code == 200
    stranger = Client()
    stranger.force_login(factories.user())
    assert stranger.get(path, follow=True).status_code in (403, 404)
    assert Client().get(path, follow=True).redirect_chain[-1][0].startswith("/accounts/login/")


@pytest.mark.parametrize("credits", ["12.5", "-30", "-250"])
def test_an_adjustment_is_in_the_ledger_and_in_the_trail(operator: Client, payer: Payer, credits: str) -> None:
    amount = int(float(credits) * CREDIT)
    form = {"workspace": str(payer.workspace.pk), "amount": credits, "reason": "goodwill after the outage"}
    form["token"] = token_of(operator.get(ADJUST))
    for _ in range(2):  # a double click
        assert operator.post(ADJUST, form).status_code == 302
    books = payer.books()
    assert books.balance == 100 * CREDIT + amount
    assert sum(books.lots) == max(0, books.balance)
    moved = Transfer.objects.filter(workspace_id=payer.workspace.pk, kind=Transfer.Kind.ADJUSTMENT)
    assert sum(row.amount_microcredits for row in moved) == abs(amount)
    [event] = AuditEvent.objects.filter(action="credits.adjust")
    assert (event.workspace_id, event.actor_label) == (payer.workspace.pk, "operator@people.example")
    assert event.details["reason"] == "goodwill after the outage"
    assert verify.verify().clean
    listed = operator.get("/admin/statements/adjustment/").content.decode()
    assert "goodwill after the outage" in listed


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": "0"}, {"amount": "much"}, {"amount": "1.2345678"}, {"amount": "1e12"}, {"reason": "hm"},
        {"reason": ""}, {"workspace": "nowhere"}, {"token": "x"},
    ],
    ids=lambda wrong: "-".join(map(str, *wrong.items())),
)  # fmt: skip
def test_a_wrong_adjustment_moves_nothing(operator: Client, payer: Payer, wrong: dict[str, str]) -> None:
    good = {"workspace": payer.workspace.slug, "amount": "5", "reason": "because of that", "token": str(ids.uuid7())}
    assert operator.post(ADJUST, {**good, **wrong}).status_code == 422
    assert payer.books().balance == 100 * CREDIT
    assert operator.post(ADJUST, good).status_code == 302
    assert payer.books().balance == 105 * CREDIT


def test_who_is_no_operator_adjusts_nothing(payer: Payer) -> None:
    client = Client()
    client.force_login(payer.user)
    form = {"workspace": payer.workspace.slug, "amount": "5", "reason": "because of me", "token": str(ids.uuid7())}
    assert client.post(ADJUST, form, follow=True).status_code in (403, 404)
    assert payer.books().balance == 100 * CREDIT


def test_an_adjustment_names_what_is_wrong(payer: Payer) -> None:
    def adjust(amount: int, reason: str = "a good reason") -> bool:
        return adjusting.adjust(
            payer.workspace, amount_microcredits=amount, reason=reason, actor=audit.SYSTEM, form_token=ids.uuid7()
        )

    with pytest.raises(errors.InvalidRequest) as refused:
        adjust(0)
    assert refused.value.param == "amount"
    with pytest.raises(errors.InvalidRequest) as refused:
        adjust(1, "   x   ")
    assert refused.value.param == "reason"
    with pytest.raises(ValueError, match="nothing"):
        ledger.adjust(payer.workspace.pk, amount_microcredits=0, reference=ids.uuid7(), at=clock.now())


def test_a_voucher_s_code_is_shown_once(operator: Client) -> None:
    token = token_of(operator.get(VOUCHER))
    form = {"amount": "250", "redemption_limit": "3", "note": "fair", "token": token}
    pages = [operator.post(VOUCHER, form).content.decode() for _ in range(2)]  # a double click shows it, too
    codes = {re.search(r'id="voucher-code">([^<]+)<', page)[1] for page in pages}  # type: ignore[index]
    assert len(codes) == 1
    voucher = Voucher.objects.get()
    assert (voucher.amount_microcredits, voucher.redemption_limit) == (250 * CREDIT, 3)
    for path in ("/admin/vouchers/voucher/", f"/admin/vouchers/voucher/{voucher.pk}/change/"):
        text = operator.get(path).content.decode()
        assert voucher.ending in text
        assert not codes & {text[at : at + 23] for at in range(len(text))}
    assert AuditEvent.objects.filter(action="voucher.issue", actor_label="operator@people.example").count() == 1


def test_a_voucher_is_withdrawn_in_the_list(operator: Client) -> None:
    operator.post(VOUCHER, {"amount": "1", "redemption_limit": "1", "token": str(ids.uuid7())})
    voucher = Voucher.objects.get()
    act = {"action": "withdraw", "_selected_action": [str(voucher.pk)]}
    for _ in range(2):
        assert operator.post("/admin/vouchers/voucher/", act).status_code == 302
    voucher.refresh_from_db()
    assert voucher.withdrawn_at is not None
    assert AuditEvent.objects.filter(action="voucher.withdraw").count() == 1


@pytest.mark.parametrize(
    "wrong", [{"amount": "0"}, {"redemption_limit": "0"}, {"expires_at_0": "2020-01-01", "expires_at_1": "00:00"}]
)
def test_a_wrong_voucher_is_not_issued(operator: Client, wrong: dict[str, str]) -> None:
    form = {"amount": "1", "redemption_limit": "1", "token": str(ids.uuid7()), **wrong}
    assert operator.post(VOUCHER, form).status_code == 422
    assert not Voucher.objects.exists()


# ── Margins ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def model(slug: str, rates: Rates, list_rates: Rates) -> Model:
    vendor, _ = Provider.objects.get_or_create(
        slug="acme", defaults={"name": "Acme", "adapter": "openai", "kinds": ["chat"]}
    )
    made = Model.objects.create(slug=slug, name=slug, vendor=vendor, endpoints=["chat"])
    since = clock.now() - timedelta(days=400)
    prices.publish(made, rates, list_rates=list_rates, factor_basis_points=10_000, effective_since=since)
    return made


def test_a_margin_is_revenue_less_the_same_usage_at_list_price(payer: Payer) -> None:
    model("below", scaled(LIST, 8_000), LIST)
    model("above", scaled(LIST, 15_000), LIST)
    model("unlisted", LIST, Rates())
    today = clock.now()
    for name, factor in (("below", 8_000), ("above", 15_000), ("unlisted", 10_000)):
        cost = (60 * 1000 + 40 * 100 + 10 * 4000) * factor // 10_000
        tokens: dict[str, Any] = {"input_tokens": 100, "cached_input_tokens": 40, "output_tokens": 10}
        rows.call(payer, cost, at=today, model=name, **tokens)
    found = {margin.model: margin for margin in margins.by_model(today.date(), today.date())}
    assert found["below"].cost_microcredits == 104_000
    assert found["below"].margin_microcredits == 83_200 - 104_000
    assert found["above"].margin_microcredits == 156_000 - 104_000
    assert found["above"].percent == pytest.approx(100 / 3)
    assert (found["unlisted"].cost_microcredits, found["unlisted"].percent) == (None, None)
    half = {m.model: m for m in margins.by_model(today.date(), today.date(), discount_basis_points=5_000)}
    assert half["below"].cost_microcredits == 52_000


def test_a_price_change_counts_from_its_day(payer: Payer) -> None:
    made = model("changed", LIST, LIST)
    today, before = clock.now(), clock.now() - timedelta(days=2)
    prices.publish(made, scaled(LIST, 20_000), list_rates=LIST, factor_basis_points=20_000, effective_since=today)
    usage: dict[str, Any] = {"model": "changed", "input_tokens": 1000, "output_tokens": 0}
    rows.call(payer, 1_000_000, at=before, **usage)
    rows.call(payer, 2_000_000, at=today, **usage)
    [margin] = margins.by_model(before.date(), today.date())
    assert (margin.revenue_microcredits, margin.cost_microcredits) == (3_000_000, 2_000_000)


def test_the_page_of_margins(operator: Client, payer: Payer) -> None:
    model("below", scaled(LIST, 8_000), LIST)
    rows.call(payer, 83_200, at=clock.now(), model="below", input_tokens=104)
    text = operator.get("/admin/statements/modelmargin/?days=7&discount=10").content.decode()
    assert "below" in text
    assert "All with a list price" in text
    assert operator.get("/admin/statements/modelmargin/?days=x&discount=-1").status_code == 200


# ── Suspicious usage ─────────────────────────────────────────────────────────────────────────────────────────────────
def who(rule: str) -> set[Any]:
    return {suspect.workspace.pk for suspect in suspicion.suspects()[rule]}


def age(payer: Payer, days: int) -> None:
    type(payer.workspace).objects.filter(pk=payer.workspace.pk).update(created_at=clock.now() - timedelta(days=days))


def test_a_spike_is_against_a_workspace_s_own_past() -> None:
    now, calm, wild = clock.now(), new_payer(100_000 * CREDIT), new_payer(100_000 * CREDIT)
    small = new_payer(100_000 * CREDIT)
    for payer in (calm, wild, small):
        age(payer, 90)
    for day in range(2, 16):
        rows.call(calm, 500 * CREDIT, at=now - timedelta(days=day))
        rows.call(wild, 100 * CREDIT, at=now - timedelta(days=day))
    rows.call(calm, 1_500 * CREDIT, at=now)
    rows.call(wild, 1_000 * CREDIT, at=now)
    rows.call(small, 499 * CREDIT, at=now)
    assert who("spike") == {wild.workspace.pk}
    assert who("young") == set()


def test_a_new_workspace_that_spends_much() -> None:
    payer, old = new_payer(100_000 * CREDIT), new_payer(100_000 * CREDIT)
    age(old, 10)
    for each in (payer, old):
        rows.call(each, 5_000 * CREDIT, at=clock.now())
    assert who("young") == {payer.workspace.pk}


def test_many_refusals() -> None:
    refused, busy = new_payer(100 * CREDIT), new_payer(100 * CREDIT)
    for number in range(100):
        rows.refused(refused, at=clock.now(), status=(401, 402, 429)[number % 3])
        rows.refused(busy, at=clock.now())
    for _ in range(300):
        rows.refused(busy, at=clock.now(), status=200)
    assert who("refusals") == {refused.workspace.pk}


def test_many_keys_and_debts(payer: Payer, operator: Client) -> None:
    indebted = new_payer(CREDIT)
    rows.call(indebted, 3 * CREDIT, at=clock.now())
    for number in range(suspicion.KEYS_IN_A_DAY):
        factories.api_key(payer.workspace, name=f"key {number}")
    assert who("keys") == {payer.workspace.pk}
    assert who("debt") == {indebted.workspace.pk}
    text = operator.get("/admin/statements/suspiciousworkspace/").content.decode()
    assert "-2 credits" in text
    assert str(suspicion.RULES[0].meaning) in text


def test_an_adjustment_stands_on_the_statement(operator: Client, payer: Payer) -> None:
    form = {"workspace": payer.workspace.slug, "amount": "5", "reason": "goodwill", "token": str(ids.uuid7())}
    operator.post(ADJUST, form)
    made = composing.compose(payer.workspace.pk, Month.of(clock.now()))
    assert {flow.key: flow.amount_microcredits for flow in made.flows}["adjustment"] == 5 * CREDIT
