"""The pages, files and API of statements and vouchers, by the front door."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import Client

from billing import ledger
from billing.models import HOUSE_ACCOUNTS, Account, CreditLot, TopUp, Transfer
from core import clock, ids
from events import audit
from events.models import AuditEvent
from statements import profiles
from statements.models import BillingProfile
from statements.months import Month
from tests import cast
from tests.support.money import Payer, new_payer
from tests.usage import rows
from usage.models import Rollup
from vouchers import issuing
from vouchers.models import Redemption

CREDIT = 1_000_000
NOW = Month.of(clock.now())

pytestmark = pytest.mark.django_db


@pytest.fixture
def payer() -> Payer:
    return new_payer(1_000 * CREDIT)


@pytest.fixture
def page(payer: Payer, client: Client) -> Client:
    client.force_login(payer.user)
    return client


def body(answer: Any) -> str:
    if not answer.streaming:
        return str(answer.content.decode())

    async def whole() -> bytes:
        return b"".join([piece async for piece in answer])

    return async_to_sync(whole)().decode()


def test_a_month_as_page_csv_pdf_and_json(page: Client, payer: Payer) -> None:
    rows.call(payer, 12_345_678, at=clock.now(), model="gpt-5.5", user_id=payer.user.pk)
    text = body(page.get(f"/billing/statements/{NOW}"))
    assert "987.654322" in text  # the closing balance, exact
    for words in ("gpt-5.5", payer.user.email, "Demo credits", "Not final yet"):
        assert words in text
    found = page.get(f"/billing/statements/{NOW}.csv")
    assert found["Content-Type"].startswith("text/csv")
    assert "balance,closing" in body(found)
    assert "987.654322" in body(found)
    printed = page.get(f"/billing/statements/{NOW}.pdf")
    assert (printed["Content-Type"], printed.content[:5]) == ("application/pdf", b"%PDF-")
    assert printed["Content-Disposition"].endswith('.pdf"')
    calls = page.get(f"/billing/statements/{NOW}/calls.csv")
    assert body(calls).count("\r\n") == 2
    told = page.get(f"/api/billing/statements/{NOW}").json()
    assert (told["closingCredits"], told["models"][0]["credits"]) == (987.654322, 12.345678)
    assert told["flows"][-1] == {"kind": "usage:demo", "credits": -12.345678}


def test_the_list_has_every_month_since_the_first(page: Client, payer: Payer) -> None:
    rows.call(payer, 5 * CREDIT, at=NOW.previous.previous.start)
    text = body(page.get("/billing/statements"))
    for month in (NOW, NOW.previous, NOW.previous.previous):
        assert f"/billing/statements/{month}.pdf" in text
    assert f"/billing/statements/{NOW.previous.previous.previous}" not in text


@pytest.mark.parametrize("month", ["2001-01", str(NOW.next), "2026-13", "nonsense", "2026-1"])
@pytest.mark.parametrize("form", ["/billing/statements/{}", "/billing/statements/{}.csv", "/api/billing/statements/{}"])
def test_other_months_are_not_there(page: Client, month: str, form: str) -> None:
    assert page.get(form.format(month)).status_code == 404


def test_a_statement_that_does_not_add_up_is_not_shown(page: Client, payer: Payer) -> None:
    rows.call(payer, CREDIT, at=clock.now())
    Rollup.objects.filter(workspace_id=payer.workspace.pk).update(charged_microcredits=7)
    for address in (f"/billing/statements/{NOW}", f"/billing/statements/{NOW}.pdf"):
        answer = page.get(address)
        assert answer.status_code == 500
        assert "do not agree" in body(answer)


def test_a_receipt_of_the_payment_provider_is_linked(page: Client, payer: Payer) -> None:
    topup = TopUp.objects.create(
        wallet_id=payer.workspace.pk, amount_cents=500, credits_microcredits=500 * CREDIT,
        receipt_url="https://pay.stripe.com/receipts/1",
    )  # fmt: skip
    ledger.grant(
        payer.workspace.pk, kind=CreditLot.Kind.PAID, amount_microcredits=500 * CREDIT,
        transfer_kind=Transfer.Kind.TOPUP, reference=topup.pk, source_account=HOUSE_ACCOUNTS[Account.Kind.STRIPE],
        at=clock.now(),
    )  # fmt: skip
    assert 'href="https://pay.stripe.com/receipts/1"' in body(page.get(f"/billing/statements/{NOW}"))


# ── The billing profile ──────────────────────────────────────────────────────────────────────────────────────────────
def test_the_profile_is_on_the_statement_and_in_the_trail(page: Client, payer: Payer) -> None:
    form = {"legal_name": " Acme   GmbH ", "email": "books@acme.example", "address": "Street 1\r\n\r\n10115 Berlin",
            "tax_id": "DE 123"}  # fmt: skip
    for _ in range(2):
        assert page.post("/billing/profile", form).status_code == 302
    profile = BillingProfile.objects.get()
    assert (profile.legal_name, profile.address) == ("Acme GmbH", "Street 1\n10115 Berlin")
    [event] = AuditEvent.objects.filter(action="billing_profile.change")
    assert event.details["tax_id"] == ["", "DE 123"]
    text = body(page.get(f"/billing/statements/{NOW}"))
    assert "Acme GmbH" in text
    assert "DE 123" in text
    assert page.get(f"/billing/statements/{NOW}.pdf").status_code == 200


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"email": "nobody"}, "email"),
        ({"legal_name": "x" * 161}, "legal_name"),
        ({"address": "\n".join("1234567")}, "address"),
        ({"tax_id": "a\x07b"}, "tax_id"),
    ],
)
def test_a_wrong_profile_is_not_kept(page: Client, wrong: dict[str, str], field: str) -> None:
    answer = page.post("/billing/profile", wrong)
    assert answer.status_code == 422
    assert f'id="id_{field}_error"' in body(answer) or "errorlist" in body(answer)
    told = page.patch("/api/billing/profile", {to_camel(n): v for n, v in wrong.items()}, "application/json")
    assert told.status_code == 400
    assert told.json()["error"]["param"] in (field, to_camel(field))
    assert not BillingProfile.objects.exists()


def to_camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)


def test_a_closed_month_keeps_the_profile_of_its_end(payer: Payer) -> None:
    def give(name: str, at: datetime) -> None:
        profiles.change(payer.workspace, actor=audit.SYSTEM, legal_name=name)
        newest = profiles.newest(payer.workspace.pk)
        BillingProfile.objects.filter(pk=newest.pk).update(created_at=at)

    give("First", datetime(2026, 3, 10, tzinfo=UTC))
    give("Second", datetime(2026, 4, 1, tzinfo=UTC))
    names = [profiles.at(payer.workspace.pk, Month(2026, number).end).legal_name for number in (2, 3, 4, 5)]
    assert names == ["First", "First", "Second", "Second"]


def test_the_api_changes_what_is_named_and_leaves_the_rest(page: Client, payer: Payer) -> None:
    profiles.change(payer.workspace, actor=audit.SYSTEM, legal_name="Acme", tax_id="1")
    told = page.patch("/api/billing/profile", {"taxId": "2"}, "application/json").json()
    assert told == {"legalName": "Acme", "email": "", "address": "", "taxId": "2"}
    assert page.get("/api/billing/profile").json() == told
    assert page.patch("/api/billing/profile", {"taxid": "3"}, "application/json").status_code == 400


def test_one_statement_is_for_the_whole_organization() -> None:
    company = cast.assemble()
    text = body(company.client("billing").get(f"/billing/statements/{NOW}"))
    assert company.organization.name in text
    client = company.client("stranger")
    assert client.get(f"/api/billing/statements/{NOW}?organizationId={company.organization.pk}").status_code == 404


# ── Vouchers ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def voucher(amount: int = 250 * CREDIT) -> str:
    terms = issuing.Terms(amount_microcredits=amount)
    return issuing.issue(terms, actor=audit.SYSTEM, form_token=ids.uuid7()).code


def test_a_code_is_redeemed_on_the_page(page: Client, payer: Payer) -> None:
    code = voucher()
    assert "/billing/voucher" in body(page.get("/billing"))
    for _ in range(2):
        answer = page.post("/billing/voucher", {"code": code.lower()}, follow=True)
        assert answer.status_code == 200
    assert "redeemed here already" in body(answer)
    assert payer.books().balance == 1_250 * CREDIT
    assert "250" in body(page.get("/billing/voucher"))
    assert f"Voucher …{code[-4:]}" in body(page.get(f"/billing/statements/{NOW}"))
    assert "Promotional credits" in body(page.get("/billing"))


def test_a_wrong_code_is_told_at_its_field(page: Client, payer: Payer) -> None:
    answer = page.post("/billing/voucher", {"code": "nope"})
    assert answer.status_code == 404
    assert "There is no voucher with this code." in body(answer)
    assert page.post("/billing/voucher", {"code": ""}).status_code == 422
    assert payer.books().balance == 1_000 * CREDIT


def test_the_api_redeems_once(page: Client, payer: Payer) -> None:
    code = voucher()
    first = page.post("/api/vouchers/redeem", {"code": code}, "application/json")
    again = page.post("/api/vouchers/redeem", {"code": code}, "application/json")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert first.json()["credits"] == 250
    wrong = page.post("/api/vouchers/redeem", {"code": "x"}, "application/json")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (404, "voucher_unknown")
    assert payer.books().balance == 1_250 * CREDIT


def test_the_api_redeems_for_an_organization_where_the_role_allows_it() -> None:
    company = cast.assemble()
    wanted = {"code": voucher(), "organizationId": str(company.organization.pk)}
    for who in ("viewer", "admin", "developer"):
        assert company.client(who).post("/api/vouchers/redeem", wanted, "application/json").status_code == 403
    assert company.client("stranger").post("/api/vouchers/redeem", wanted, "application/json").status_code == 404
    assert not Redemption.objects.exists()
    assert company.client("billing").post("/api/vouchers/redeem", wanted, "application/json").status_code == 201


def test_the_form_waits_after_too_many_codes(page: Client, payer: Payer) -> None:
    answers = [page.post("/billing/voucher", {"code": f"wrong {number}"}).status_code for number in range(11)]
    assert answers == [404] * 10 + [429]
