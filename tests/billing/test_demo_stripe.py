"""The stand-in for Stripe itself: does it refuse, remember, answer and tell as Stripe does?"""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe as library
from stripe import checkout
from stripe.params.checkout import SessionCreateParams

from billing import stripe_api
from billing.demo_stripe import store
from billing.demo_stripe.objects import Object
from billing.demo_stripe.webhooks import RETRY_SECONDS, Mishaps, Sender
from tests.fakes.stripe import SECRET, FakeStripe
from tests.fakes.stripe_types import problems

SPECS = Path(os.environ.get("HYPEREAL_SPECS") or Path(__file__).parents[3] / "shared" / "specs")
SAMPLES = SPECS / "stripe-fixtures-trimmed.json"


def wanted(**changes: Any) -> SessionCreateParams:
    params: dict[str, Any] = {
        "mode": "payment",
        "success_url": "http://shop.test/done?session_id={CHECKOUT_SESSION_ID}",
        "cancel_url": "http://shop.test/basket",
        "line_items": [
            {
                "price_data": {"currency": "usd", "unit_amount": 1000, "product_data": {"name": "1,000 <credits>"}},
                "quantity": 1,
            }
        ],
        "metadata": {"topup_id": "t1"},
        "payment_intent_data": {"metadata": {"topup_id": "t1"}, "description": "1,000 credits"},
        "customer_email": "someone@example.com",
        **changes,
    }
    return {name: value for name, value in params.items() if value is not None}  # type: ignore[return-value]


def pay(fake: FakeStripe, url: str | None, outcome: str) -> str:
    status, headers, _ = fake.browse(url or "", {"outcome": outcome})
    assert status == 303
    return headers["Location"]


def read(fake: FakeStripe, session_id: str) -> checkout.Session:
    expand = ["payment_intent.latest_charge", "invoice"]
    return fake.client().v1.checkout.sessions.retrieve(session_id, {"expand": expand})


def test_our_code_was_written_for_the_version_that_the_library_speaks() -> None:
    assert library.api_version == stripe_api.API_VERSION


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────
PRICE = {"currency": "usd", "unit_amount": 1000, "product_data": {"name": "x"}}


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": None},
        {"mode": "subscription"},
        {"currancy": "usd"},
        {"success_url": None},
        {"success_url": "done"},
        {"cancel_url": "javascript:alert(1)"},
        {"line_items": None},
        {"line_items": [{"price_data": PRICE}]},
        {"line_items": [{"price_data": {**PRICE, "unit_amount": 49}, "quantity": 1}]},
        {"line_items": [{"price_data": {**PRICE, "unit_amount": 100_000_000}, "quantity": 1}]},
        {"line_items": [{"price_data": {**PRICE, "currency": "USD"}, "quantity": 1}]},
        {"line_items": [{"price_data": {"currency": "usd", "product_data": {"name": "x"}}, "quantity": 1}]},
        {"customer": "cus_1"},
        {"customer_email": "nobody"},
        {"client_reference_id": "x" * 201},
        {"expires_at": 5},
        {"metadata": {"k" * 41: "v"}},
        {"metadata": {"k": "v" * 501}},
        {"metadata": {f"k{number}": "v" for number in range(51)}},
        {"payment_intent_data": {"metadata": {"k": "v" * 501}}},
        {"expand": ["line_item"]},
    ],
)
def test_what_stripe_would_refuse_is_refused_and_leaves_nothing(fake: FakeStripe, changes: dict[str, Any]) -> None:
    with pytest.raises(library.InvalidRequestError) as refused:
        fake.client().v1.checkout.sessions.create(wanted(**changes))
    assert refused.value.http_status == 400
    assert fake.sessions == []


def test_strangers_are_not_let_in(fake: FakeStripe) -> None:
    for key in ("sk_test_wrong", "sk_live_" + "k" * 24):
        with pytest.raises(library.AuthenticationError):
            library.StripeClient(key, base_addresses={"api": fake.url}).v1.events.list()


def test_another_version_of_the_api_is_not_played(fake: FakeStripe) -> None:
    with pytest.raises(library.InvalidRequestError):
        fake.client().v1.events.list(options={"stripe_version": "2023-08-16"})


def test_unknown_objects_and_addresses_are_404(fake: FakeStripe) -> None:
    client = fake.client()
    with pytest.raises(library.InvalidRequestError) as missing:
        client.v1.charges.retrieve("ch_none")
    assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")
    with pytest.raises(library.InvalidRequestError) as unknown:
        client.v1.balance.retrieve()
    assert unknown.value.http_status == 404


# ── Idempotency ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_same_key_gives_the_same_session(fake: FakeStripe) -> None:
    create = fake.client().v1.checkout.sessions.create
    first, again = (create(wanted(), {"idempotency_key": "k1"}) for _ in range(2))
    assert first.id == again.id
    assert len(fake.sessions) == 1


def test_the_same_key_for_something_else_is_an_error(fake: FakeStripe) -> None:
    create = fake.client().v1.checkout.sessions.create
    create(wanted(), {"idempotency_key": "k1"})
    with pytest.raises(library.IdempotencyError):
        create(wanted(cancel_url="http://shop.test/elsewhere"), {"idempotency_key": "k1"})
    assert len(fake.sessions) == 1


def test_a_refused_request_does_not_use_up_its_key(fake: FakeStripe) -> None:
    create = fake.client().v1.checkout.sessions.create
    with pytest.raises(library.InvalidRequestError):
        create(wanted(success_url=None), {"idempotency_key": "k1"})
    assert create(wanted(), {"idempotency_key": "k1"}).status == "open"


# ── Payments ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_card_payment_completes_the_session_at_once(fake: FakeStripe) -> None:
    made = fake.client().v1.checkout.sessions.create(wanted())
    assert pay(fake, made.url, "success") == f"http://shop.test/done?session_id={made.id}"
    session = read(fake, made.id)
    intent = session.payment_intent
    assert isinstance(intent, library.PaymentIntent)
    assert isinstance(intent.latest_charge, library.Charge)
    assert (session.status, session.payment_status, intent.status) == ("complete", "paid", "succeeded")
    assert (session.amount_total, intent.amount_received, intent.latest_charge.amount) == (1000, 1000, 1000)
    assert intent.metadata["topup_id"] == intent.latest_charge.metadata["topup_id"] == "t1"
    assert fake.browse(intent.latest_charge.receipt_url or "")[0] == 200


def test_a_decline_leaves_the_page_open_for_another_card(fake: FakeStripe) -> None:
    made = fake.client().v1.checkout.sessions.create(wanted())
    assert pay(fake, made.url, "decline").endswith(f"/c/pay/{made.id}")
    assert "Your card was declined." in fake.browse(made.url or "")[2]
    session = read(fake, made.id)
    assert (session.status, session.payment_status) == ("open", "unpaid")
    pay(fake, made.url, "success")
    assert read(fake, made.id).payment_status == "paid"
    assert len(fake.demo.account.store.tables.charges) == 2


@pytest.mark.parametrize(
    ("outcome", "payment_status", "intent_status", "told"),
    [
        ("late_success", "paid", "succeeded", "checkout.session.async_payment_succeeded"),
        ("late_failure", "unpaid", "requires_payment_method", "checkout.session.async_payment_failed"),
    ],
)
def test_a_slow_payment_ends_later(
    fake: FakeStripe, later: Any, outcome: str, payment_status: str, intent_status: str, told: str
) -> None:
    made = fake.client().v1.checkout.sessions.create(wanted())
    pay(fake, made.url, outcome)
    fake.tick()
    assert (read(fake, made.id).status, read(fake, made.id).payment_status) == ("complete", "unpaid")
    later.shift(9)
    fake.tick()
    session = read(fake, made.id)
    assert isinstance(session.payment_intent, library.PaymentIntent)
    assert (session.payment_status, session.payment_intent.status) == (payment_status, intent_status)
    assert [event["type"] for event in fake.events()][-1] == told


def test_nobody_pays_twice_or_too_late(fake: FakeStripe, later: Any) -> None:
    client = fake.client()
    paid, old = (client.v1.checkout.sessions.create(wanted()) for _ in range(2))
    pay(fake, paid.url, "success")
    pay(fake, paid.url, "success")
    later.shift(24 * 3600 + 1)
    fake.tick()
    assert pay(fake, old.url, "success").endswith(old.id)
    assert len(fake.demo.account.store.tables.charges) == 1
    assert read(fake, old.id).status == "expired"
    assert "expired" in fake.browse(old.url or "")[2]
    with pytest.raises(library.InvalidRequestError):
        client.v1.checkout.sessions.expire(old.id)


# ── Confirmations, saved cards ───────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("answer", "status"), [("approve", "paid"), ("deny", "unpaid")])
def test_a_bank_may_ask_for_a_confirmation(fake: FakeStripe, answer: str, status: str) -> None:
    made = fake.client().v1.checkout.sessions.create(wanted())
    assert pay(fake, made.url, answer).endswith(f"/c/pay/{made.id}")  # nobody was asked yet
    assert read(fake, made.id).payment_status == "unpaid"
    pay(fake, made.url, "authenticate")
    intent = read(fake, made.id).payment_intent
    assert isinstance(intent, library.PaymentIntent)
    assert (intent.status, intent.next_action and intent.next_action.type) == ("requires_action", "redirect_to_url")
    assert "Your bank asks" in fake.browse(made.url or "")[2]
    pay(fake, made.url, answer)
    assert read(fake, made.id).payment_status == status
    if answer == "deny":
        assert "did not confirm" in fake.browse(made.url or "")[2]
        pay(fake, made.url, "success")
        assert read(fake, made.id).payment_status == "paid"


def test_a_saved_card_is_charged_once_under_a_key(fake: FakeStripe) -> None:
    owner, card = saved_card(fake)
    first, again = (charge_card(fake, owner, card) for _ in range(2))
    assert (first.id, first.status, first.amount_received) == (again.id, "succeeded", 500)
    assert [event["type"] for event in fake.events()][-2:] == ["charge.succeeded", "payment_intent.succeeded"]


@pytest.mark.parametrize(
    ("outcome", "code"),
    [("success_then_declines", "card_declined"), ("success_then_asks", "authentication_required")],
)
def test_a_refusal_says_why_and_is_the_answer_to_that_key(fake: FakeStripe, outcome: str, code: str) -> None:
    owner, card = saved_card(fake, outcome)
    attempts = []
    for _ in range(2):
        with pytest.raises(library.CardError) as refused:
            charge_card(fake, owner, card)
        assert (refused.value.http_status, refused.value.code) == (402, code)
        said: Any = refused.value.error
        attempts.append(said.payment_intent.id)
    assert attempts[0] == attempts[1]
    client = fake.client()
    assert client.v1.payment_intents.retrieve(attempts[0]).status == "requires_payment_method"
    assert client.v1.payment_intents.cancel(attempts[0]).status == "canceled"
    with pytest.raises(library.InvalidRequestError):
        client.v1.payment_intents.cancel(attempts[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 49},
        {"currency": "eur"},
        {"customer": None},
        {"customer": "cus_none"},
        {"payment_method": None},
        {"payment_method": "pm_none"},
        {"confirm": None},
        {"off_session": None},
        {"payment_method_types": ["card"]},
    ],
)
def test_a_charge_that_stripe_would_refuse_is_refused(fake: FakeStripe, changes: dict[str, Any]) -> None:
    owner, card = saved_card(fake)
    before = len(fake.payments)
    with pytest.raises(library.InvalidRequestError):
        charge_card(fake, **{"customer": owner, "card": card, **changes})
    assert len(fake.payments) == before


def test_a_card_that_was_taken_away_is_not_charged(fake: FakeStripe) -> None:
    owner, card = saved_card(fake)
    client = fake.client()
    portal = client.v1.billing_portal.sessions.create({"customer": owner, "return_url": "http://shop.test/cards"})
    assert "ending in 4242" in fake.browse(portal.url)[2]
    fake.browse(portal.url, {"card": card})
    assert "No saved cards" in fake.browse(portal.url)[2]
    assert fake.events()[-1]["type"] == "payment_method.detached"
    acts: list[Callable[[], object]] = [
        lambda: charge_card(fake, owner, card),
        lambda: client.v1.payment_methods.detach(card),
    ]
    for act in acts:
        with pytest.raises(library.InvalidRequestError):
            act()


# ── Refunds and disputes ─────────────────────────────────────────────────────────────────────────────────────────────
def paid_charge(fake: FakeStripe, outcome: str = "success") -> str:
    made = fake.client().v1.checkout.sessions.create(wanted())
    pay(fake, made.url, outcome)
    return str(fake.payments[-1]["latest_charge"])


def test_parts_are_refunded_up_to_the_whole(fake: FakeStripe) -> None:
    charge, refunds = paid_charge(fake), fake.client().v1.refunds
    assert refunds.create({"charge": charge, "amount": 400}).status == "succeeded"
    with pytest.raises(library.InvalidRequestError):
        refunds.create({"charge": charge, "amount": 601})
    assert refunds.create({"payment_intent": fake.payments[-1]["id"]}).amount == 600
    with pytest.raises(library.InvalidRequestError) as over:
        refunds.create({"charge": charge})
    assert over.value.code == "charge_already_refunded"
    found = fake.client().v1.charges.retrieve(charge)
    assert (found.amount_refunded, found.refunded) == (1_000, True)
    wrong: list[Any] = [{}, {"charge": "ch_none"}, {"payment_intent": "pi_none"}, {"charge": charge, "amount": 0}]
    for one in wrong:
        with pytest.raises(library.InvalidRequestError):
            refunds.create(one)


def test_a_bank_debit_is_refunded_slowly_and_may_come_back(fake: FakeStripe, later: Any) -> None:
    charge = paid_charge(fake, "late_success")
    later.shift(9)
    fake.tick()
    refund = fake.client().v1.refunds.create({"charge": charge})
    assert refund.status == "pending"
    later.shift(9)
    fake.tick()
    assert fake.client().v1.refunds.retrieve(refund.id).status == "succeeded"
    fake.reversals.settle_refund(fake.refunds[0], succeeds=False)
    assert fake.client().v1.charges.retrieve(charge).amount_refunded == 0
    told = [event["type"] for event in fake.events()]
    assert told[-3:] == ["refund.updated", "charge.refund.updated", "refund.failed"]


def test_a_cardholder_disputes_and_the_bank_decides(fake: FakeStripe) -> None:
    charge, client = paid_charge(fake), fake.client()
    receipt = client.v1.charges.retrieve(charge).receipt_url or ""
    for _ in range(2):
        fake.browse(receipt, {"act": "dispute"})
    (dispute,) = client.v1.disputes.list({"charge": charge}).data
    assert (dispute.status, dispute.amount) == ("needs_response", 1_000)
    assert client.v1.charges.retrieve(charge).disputed
    with pytest.raises(library.InvalidRequestError) as refused:
        client.v1.refunds.create({"charge": charge})
    assert refused.value.code == "charge_disputed"
    fake.browse(receipt, {"act": "won"})
    fake.browse(receipt, {"act": "lost"})
    assert client.v1.disputes.retrieve(dispute.id).status == "won"
    with pytest.raises(library.InvalidRequestError):
        client.v1.disputes.close(dispute.id)
    assert client.v1.refunds.create({"charge": charge}).amount == 1_000


# ── Objects ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def played(fake: FakeStripe, later: Any) -> FakeStripe:
    """A stand-in with some of everything."""
    for outcome in ("success", "decline", "late_success", "late_failure"):
        pay(fake, fake.client().v1.checkout.sessions.create(wanted()).url, outcome)
    later.shift(9)
    fake.tick()
    fake.client().v1.checkout.sessions.create(wanted(customer_email=None, cancel_url=None))
    return fake


@pytest.fixture
def lived_in(played: FakeStripe) -> FakeStripe:
    """The same, with customers, cards, refunds and disputes."""
    client, reversals = played.client(), played.reversals
    owner, card = saved_card(played)
    charge_card(played, owner, card)
    charges = [one for one in played.demo.account.store.tables.charges.values() if one["status"] == "succeeded"]
    client.v1.refunds.create({"charge": charges[0]["id"], "amount": 10, "reason": "duplicate"})
    reversals.close_dispute(reversals.dispute(charges[1]), "won")
    reversals.dispute(charges[2], inquiry=True)
    client.v1.billing_portal.sessions.create({"customer": owner, "return_url": "http://shop.test/cards"})
    return played


def saved_card(fake: FakeStripe, outcome: str = "success") -> tuple[str, str]:
    """A customer and the card that they left with a payment."""
    customer = fake.client().v1.customers.create({"email": "someone@example.com", "name": "Someone"})
    made = fake.client().v1.checkout.sessions.create(
        wanted(
            customer=customer.id,
            customer_email=None,
            payment_intent_data={"setup_future_usage": "off_session", "description": "1,000 credits"},
        )
    )
    pay(fake, made.url, outcome)
    (card,) = fake.client().v1.payment_methods.list({"customer": customer.id}).data
    return customer.id, card.id


def charge_card(fake: FakeStripe, customer: str, card: str, **changes: Any) -> library.PaymentIntent:
    params: dict[str, Any] = {
        "amount": 500,
        "currency": "usd",
        "customer": customer,
        "payment_method": card,
        "off_session": True,
        "confirm": True,
        **changes,
    }
    wish: Any = {name: value for name, value in params.items() if value is not None}
    return fake.client().v1.payment_intents.create(wish, {"idempotency_key": "charge"})


def everything(fake: FakeStripe) -> Iterator[tuple[str, Any, Object]]:
    tables = fake.demo.account.store.tables
    for name, kind, rows in (
        ("checkout.session", checkout.Session, tables.sessions),
        ("payment_intent", library.PaymentIntent, tables.payment_intents),
        ("charge", library.Charge, tables.charges),
        ("customer", library.Customer, tables.customers),
        ("payment_method", library.PaymentMethod, tables.payment_methods),
        ("refund", library.Refund, tables.refunds),
        ("dispute", library.Dispute, tables.disputes),
        ("billing_portal.session", library.billing_portal.Session, tables.portals),
        ("event", library.Event, tables.events),
    ):
        for row in rows.values():
            yield name, kind, row


def test_every_object_has_the_form_of_the_librarys_class(lived_in: FakeStripe) -> None:
    rows = list(everything(lived_in))
    assert {name for name, _, _ in rows} == {
        *("checkout.session", "payment_intent", "charge", "customer", "payment_method", "refund", "dispute"),
        *("billing_portal.session", "event"),
    }
    assert [complaint for name, kind, row in rows for complaint in problems(row, kind, name)] == []


def test_a_wrong_object_would_be_found(played: FakeStripe) -> None:
    session = next(row for name, _, row in everything(played) if name == "checkout.session")
    wrong = [
        {**session, "surprise": 1},
        {**session, "status": "done"},
        {**session, "created": "today"},
        {**session, "created": None},
        {**session, "automatic_tax": {"enabled": None}},
        {name: value for name, value in session.items() if name != "livemode"},
    ]
    assert [len(list(problems(one, checkout.Session))) for one in wrong] == [1, 1, 1, 1, 1, 1]


@pytest.mark.skipif(not SAMPLES.exists(), reason=f"no sample objects at {SAMPLES} (set HYPEREAL_SPECS)")
def test_every_object_has_the_fields_of_stripes_own_samples(lived_in: FakeStripe) -> None:
    samples = json.loads(SAMPLES.read_text())["resources"]
    missing = {(name, field) for name, _, row in everything(lived_in) for field in samples[name].keys() - row.keys()}
    assert missing == set()


def test_ids_are_replaced_by_their_objects_only_where_asked(played: FakeStripe) -> None:
    client = played.client()
    (session,) = client.v1.checkout.sessions.list({"limit": 1, "status": "complete"}).data
    assert isinstance(session.payment_intent, str)
    (session,) = client.v1.checkout.sessions.list(
        {"limit": 1, "status": "complete", "expand": ["data.payment_intent"]}
    ).data
    assert isinstance(session.payment_intent, library.PaymentIntent)
    for wrong in ("payment_intent", "data.nothing", "data.payment_intent.latest_charge.payment_intent.latest_charge"):
        with pytest.raises(library.InvalidRequestError):
            client.v1.checkout.sessions.list({"expand": [wrong]})


def test_lists_are_paged_newest_first(fake: FakeStripe) -> None:
    client = fake.client()
    ids = [client.v1.checkout.sessions.create(wanted()).id for _ in range(5)]
    first = client.v1.checkout.sessions.list({"limit": 2})
    assert [one.id for one in first.data] == [ids[4], ids[3]]
    assert first.has_more
    assert [one.id for one in first.auto_paging_iter()] == ids[::-1]
    before = client.v1.checkout.sessions.list({"limit": 2, "ending_before": ids[2]})
    assert [one.id for one in before.data] == [ids[4], ids[3]]
    for wrong in (0, 101):
        with pytest.raises(library.InvalidRequestError):
            client.v1.checkout.sessions.list({"limit": wrong})


def test_lists_take_times_and_kinds(played: FakeStripe) -> None:
    client = played.client()
    now = played.demo.account.now
    assert client.v1.checkout.sessions.list({"created": {"gt": now + 60}}).data == []
    assert len(client.v1.checkout.sessions.list({"created": {"gte": now - 60, "lte": now}}).data) == 5
    kinds = {event.type for event in client.v1.events.list({"type": "checkout.session.*", "limit": 100}).data}
    assert kinds == {
        "checkout.session.completed",
        "checkout.session.async_payment_succeeded",
        "checkout.session.async_payment_failed",
    }
    (event,) = client.v1.events.list({"types": ["charge.succeeded"], "limit": 1}).data
    assert client.v1.events.retrieve(event.id).type == "charge.succeeded"


# ── Memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_restart_on_another_port_keeps_the_history(tmp_path: Path) -> None:
    path = tmp_path / "demo-stripe.json"
    before = FakeStripe(state=path)
    made = before.client().v1.checkout.sessions.create(wanted(), {"idempotency_key": "k1"})
    paid = before.client().v1.checkout.sessions.create(wanted())
    pay(before, paid.url, "success")
    before.stop()
    assert path.stat().st_mode & 0o077 == 0
    after = FakeStripe(state=path)
    try:
        assert after.url != before.url
        again = after.client().v1.checkout.sessions.create(wanted(), {"idempotency_key": "k1"})
        assert again.id == made.id
        assert (again.url or "").startswith(after.url)
        intent = read(after, paid.id).payment_intent
        assert isinstance(intent, library.PaymentIntent)
        assert isinstance(intent.latest_charge, library.Charge)
        assert after.browse(intent.latest_charge.receipt_url or "")[0] == 200
        assert pay(after, again.url, "success").startswith("http://shop.test/done")
    finally:
        after.stop()


def test_memory_is_bounded_and_what_can_still_be_paid_stays_longest(
    fake: FakeStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_SESSIONS", 3)
    monkeypatch.setattr(store, "MAX_EVENTS", 4)
    monkeypatch.setattr(store, "MAX_ANSWERS", 2)
    create = fake.client().v1.checkout.sessions.create
    made = [create(wanted(), {"idempotency_key": f"k{number}"}) for number in range(2)]
    pay(fake, made[1].url, "success")
    for number in range(2, 5):
        create(wanted(), {"idempotency_key": f"k{number}"})
    tables = fake.demo.account.store.tables
    assert made[1].id not in tables.sessions
    assert (len(tables.sessions), len(tables.charges), len(tables.hidden)) == (3, 0, 3)
    assert (len(tables.events), len(tables.answers)) == (4, 2)


# ── Pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_pay_page_says_what_it_is_and_allows_nothing_from_elsewhere(fake: FakeStripe) -> None:
    made = fake.client().v1.checkout.sessions.create(wanted())
    status, headers, page = fake.browse(made.url or "")
    assert status == 200
    assert "No card is charged" in page
    assert "1,000 &lt;credits&gt;" in page
    assert "<script" not in page
    assert " style=" not in page
    assert headers["Content-Security-Policy"] == (
        "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none';"
        " form-action 'self' http://shop.test"
    )
    assert headers["Cache-Control"] == "no-store"
    assert fake.browse(fake.url + "/assets/pay.css")[0] == 200
    assert fake.browse(fake.url + "/c/pay/cs_none")[0] == 404
    assert fake.browse(fake.url + "/c/pay/cs_none", {"outcome": "success"})[0] == 404
    assert fake.browse(made.url or "", {"outcome": "free"})[0] == 400


# ── Webhooks ─────────────────────────────────────────────────────────────────────────────────────────────────────────
class Receiver:
    """A small real server that takes webhooks, or does not."""

    def __init__(self) -> None:
        self.status = 200
        self.got: list[tuple[bytes, str]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((body, self.headers["Stripe-Signature"]))
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def types(self) -> list[str]:
        return [library.Webhook.construct_event(body, signature, SECRET).type for body, signature in self.got]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.stop()


@pytest.fixture
def clock() -> list[float]:
    return [1_800_000_000.0]


def sender(receiver: Receiver, clock: list[float], mishaps: Mishaps | None = None) -> Sender:
    return Sender(receiver.url, SECRET, clock=lambda: clock[0], mishaps=mishaps)


def event(number: int, type_: str = "charge.succeeded") -> Object:
    return {"id": f"evt_{number}", "object": "event", "type": type_, "data": {"object": {"id": "ch_1"}}}


def ids(receiver: Receiver) -> list[str]:
    return [json.loads(body)["id"] for body, _ in receiver.got]


def test_webhooks_come_signed(fake: FakeStripe, receiver: Receiver) -> None:
    fake.demo.sender.url, fake.demo.sender.secret = receiver.url, SECRET
    pay(fake, fake.client().v1.checkout.sessions.create(wanted()).url, "success")
    assert fake.demo.sender.tick() == 4
    assert receiver.types() == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]
    assert fake.demo.sender.pending() == []


def test_what_is_not_taken_comes_again_and_at_last_no_more(receiver: Receiver, clock: list[float]) -> None:
    out = sender(receiver, clock)
    receiver.status = 500
    out.add(event(1))
    for pause in (0.0, *RETRY_SECONDS):
        clock[0] += pause
        assert out.tick() == 0
        assert out.tick() == 0  # not before its time
    assert len(receiver.got) == 1 + len(RETRY_SECONDS)
    assert out.pending() == []


def test_a_product_that_is_down_gets_it_when_it_is_up_again(clock: list[float]) -> None:
    sent: list[int] = []
    answers = iter([0, 200])

    def send(url: str, body: bytes, signature: str) -> int:
        sent.append(next(answers))
        return sent[-1]

    out = Sender("http://product.test", SECRET, clock=lambda: clock[0], send=send)
    out.add(event(1))
    out.tick()
    clock[0] += RETRY_SECONDS[0]
    out.tick()
    assert sent == [0, 200]
    assert out.pending() == []


def test_mishaps(receiver: Receiver, clock: list[float]) -> None:
    doubled = sender(receiver, clock, Mishaps(copies=2))
    doubled.add(event(1))
    doubled.tick()
    assert ids(receiver) == ["evt_1", "evt_1"]

    receiver.got.clear()
    shuffled = sender(receiver, clock, Mishaps(shuffle_of=3))
    for number in range(4):
        shuffled.add(event(number))
    shuffled.tick()
    assert ids(receiver) == ["evt_2", "evt_1", "evt_0"]
    shuffled.release()
    shuffled.tick()
    assert ids(receiver)[-1] == "evt_3"

    receiver.got.clear()
    late = sender(receiver, clock, Mishaps(delay_seconds=5))
    late.add(event(1))
    assert late.tick() == 0
    clock[0] += 5
    assert late.tick() == 1

    receiver.got.clear()
    lossy = sender(receiver, clock, Mishaps(lose=lambda type_: type_.startswith("checkout")))
    lossy.add(event(1, "checkout.session.completed"))
    lossy.add(event(2))
    lossy.tick()
    assert ids(receiver) == ["evt_2"]
