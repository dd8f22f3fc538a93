"""The receipt on the page of one request, made of the value that the API shows (C-PLUS-2)."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client

from catalog.pricing import TOKENS_PER_MTOK, Line
from core import clock
from tests.support.money import Payer, new_payer
from tests.usage import rows
from usage import receipts
from usage.items import Attempt
from usage.metering import apply_now

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000
LINES = [
    Line("input", 600, 1_000 * CREDIT, TOKENS_PER_MTOK),
    Line("cached_input", 403, 125 * CREDIT, TOKENS_PER_MTOK),
    Line("web_search_call", 2, 5 * CREDIT, 1),
    Line("output", 7, 4_000 * CREDIT, TOKENS_PER_MTOK, model="adviser-1"),
]
CHARGE = 10_678_375
TRACE = [Attempt("alpha/eu/up-1", 120, "server_error", 500), Attempt("beta//up-1", 340)]


@pytest.fixture
def payer() -> Payer:
    return new_payer(balance=10_000 * CREDIT)


def page(payer: Payer, row_id: object, **headers: str) -> str:
    client = Client()
    client.force_login(payer.user, backend="allauth.account.auth_backends.AuthenticationBackend")
    answer = client.get(f"/usage/requests/{row_id}", headers=headers)
    assert answer.status_code == 200
    return re.sub(r"<[^>]+>|\s+", " ", answer.content.decode())


def words(page: str) -> str:
    return re.sub(r"\s+", " ", page)


def test_the_page_shows_what_the_receipt_says(payer: Payer) -> None:
    request_id = rows.call(
        payer, CHARGE, at=clock.now(), saved_microcredits=352_625, attempts=2, charge_lines=LINES, attempt_trace=TRACE
    )
    found = receipts.of_request(payer.workspace.pk, request_id)
    assert found is not None
    assert sum(receipts.exact_credits(line) for line in found.lines) * CREDIT == CHARGE
    told = receipts.as_json(found)
    assert [line["exact_credits"] for line in told["lines"]] == ["0.6", "0.050375", "10", "0.028"]
    assert (told["lines"][2]["credits_each"], told["lines"][3]["model"]) == (5, "adviser-1")
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["server_error", "served"]
    assert (told["attempts"][0]["region"], told["attempts"][1]["region"]) == ("eu", None)
    shown = words(page(payer, request_id))
    for text in (
        "Input tokens 600 1,000 / 1M 0.6",
        "Input read from cache 403 125 / 1M 0.050375",
        "web_search_call 2 5 10",
        "adviser-1",
        "Charged, rounded once 10.678375",
        "Reserved at most 10.678375",
        "Saved by caching 0.352625",
        "1 alpha/eu/up-1 provider error 500 120 ms",
        "2 beta/up-1 served 340 ms",
    ):
        assert text in shown


def test_a_row_from_before_receipts_has_its_sums(payer: Payer) -> None:
    request_id = rows.call(payer, CREDIT, at=clock.now())
    shown = words(page(payer, request_id, HX_Request="true"))
    assert "Charged, rounded once 1.00" in shown
    assert "Attempts" not in shown


def test_a_call_that_was_charged_after_it_was_given_up_has_the_later_receipt(payer: Payer) -> None:
    started = clock.now() - timedelta(minutes=5)
    admit = payer.admit(5 * CREDIT, hold_id=rows.id_at(started))
    apply_now(admit, now=started)
    apply_now(payer.void(admit, error_type="interrupted"), now=started + timedelta(minutes=2))
    apply_now(payer.settle(admit, 3 * CREDIT, charge_lines=LINES[:1]))
    found = receipts.of_request(payer.workspace.pk, admit.hold_id)
    assert found is not None
    assert (found.row.late, found.charged_microcredits, len(found.lines)) == (True, 3 * CREDIT, 1)


def test_a_charge_above_its_hold_gives_nothing_back(payer: Payer) -> None:
    admit = payer.admit(CREDIT, hold_id=rows.id_at(clock.now()))
    apply_now(admit)
    apply_now(payer.settle(admit, 4 * CREDIT))
    found = receipts.of_request(payer.workspace.pk, admit.hold_id)
    assert found is not None
    assert (found.reserved_microcredits, found.released_microcredits) == (CREDIT, 0)
