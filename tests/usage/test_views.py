"""The usage pages as a browser and as htmx ask for them (C-USE-2)."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.test import Client

from accounts.models import User
from catalog import source
from core import clock, errors, ids
from tests.support.money import Payer, new_payer
from tests.usage import rows
from usage import queries, views

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000
BACKEND = "allauth.account.auth_backends.AuthenticationBackend"
HTMX = {"HX-Request": "true"}


@pytest.fixture
def payer() -> Payer:
    return new_payer(balance=10_000 * CREDIT)


@pytest.fixture
def client(payer: Payer) -> Client:
    return signed_in(payer.user)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend=BACKEND)
    return client


def shown(client: Client, path: str = "/usage", status: int = 200, headers: dict[str, str] | None = None) -> str:
    answer = client.get(path, headers=headers)
    assert answer.status_code == status, answer.content
    return answer.content.decode()


def figure(page: str, name: str) -> Any:
    found = re.search(rf'<script id="{name}" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def request_links(page: str) -> list[UUID]:
    return [UUID(found) for found in re.findall(r'href="/usage/requests/([0-9a-f-]{36})"', page)]


def test_the_page_shows_what_calls_cost(payer: Payer, client: Client) -> None:
    one = rows.call(payer, 250 * CREDIT, at=clock.now(), model="gpt-5.5", input_tokens=355_000, output_tokens=8_000)
    rows.call(payer, 50 * CREDIT, at=clock.now() - timedelta(days=1), model="kling-v3", endpoint="videos")
    page = shown(client)
    assert "$3.00" in page
    assert "355k / 8.0k" in page or "355k / 8k" in page
    assert figure(page, "usage-donut")["data"][0]["labels"] == ["gpt-5.5", "kling-v3"]
    assert figure(page, "usage-daily")["data"][0]["y"][-1] == 2.5
    assert request_links(page).count(one) == 2  # among the dearest, and in the log
    assert "/v1/videos/generate" in page
    assert "/api/api-usage/export" in page


def test_a_workspace_without_calls_is_shown_how_to_make_one(client: Client) -> None:
    page = shown(client)
    assert "/api/v1/chat/completions" in page
    assert "data-chart" not in page
    assert "plotly" not in page


def test_the_first_call_asks_for_a_chat_model_of_the_catalog() -> None:
    assert "chat" in source.read().models[views.EXAMPLE_MODEL].endpoints


def test_charts_have_their_figures_as_a_table(payer: Payer, client: Client) -> None:
    rows.call(payer, 250 * CREDIT, at=clock.now(), model="gpt-5.5")
    page = shown(client, "/usage?days=7")
    table = page.partition("Daily cost by model")[2].partition("</table>")[0]
    assert table.count('<th scope="row"') == 7
    assert "$2.50" in table


@pytest.mark.parametrize("query", ["", "?days=90&model=gpt-5.5&status=2xx", "?q=gpt&minCost=0.1&maxLatencyMs=9000"])
def test_filters_select_and_are_named(payer: Payer, client: Client, query: str) -> None:
    wanted = rows.call(payer, CREDIT, at=clock.now(), model="gpt-5.5")
    rows.refused(payer, at=clock.now(), model="kling-v3")
    page = shown(client, f"/usage{query}")
    assert wanted in request_links(page)
    assert page.count("Remove the filter:") == {"": 0}.get(query, query.count("=") - ("days" in query))
    assert ("1 request, the newest first" in page) is bool(query)


def test_links_carry_the_filters_in_force(payer: Payer, client: Client) -> None:
    rows.call(payer, CREDIT, at=clock.now(), model="gpt-5.5")
    page = shown(client, "/usage?model=gpt-5.5&status=2xx&limit=1")
    assert 'href="/usage?days=7&amp;model=gpt-5.5&amp;status=2xx&amp;limit=1"' in page
    assert 'href="/api/api-usage/export?model=gpt-5.5&amp;status=2xx"' in page
    assert 'href="/usage?status=2xx&amp;limit=1"' in page  # the chip of the model


def test_the_header_names_the_key_that_is_meant(payer: Payer, client: Client) -> None:
    rows.call(payer, CREDIT, at=clock.now())
    assert "· all keys ·" in shown(client)
    assert "· test ·" in shown(client, f"/usage?key={payer.key.pk}")


def test_a_search_without_a_match_says_so(payer: Payer, client: Client) -> None:
    rows.call(payer, CREDIT, at=clock.now())
    page = shown(client, "/usage?q=nothing-like-this")
    assert "No request matches" in page
    assert "Remove all filters" in page


def test_calls_that_cost_nothing_have_a_page_without_charts(payer: Payer, client: Client) -> None:
    rows.refused(payer, at=clock.now(), error_type="rate_limit_error")
    page = shown(client)
    assert "Nothing was charged" in page
    assert "100.00%" in page
    assert "data-chart=" not in page


@pytest.mark.parametrize(
    ("query", "word"), [("days=0", "days"), ("minCost=2&maxCost=1", "minCost"), ("status=<b>x</b>", "status")]
)
def test_bad_filters_are_explained(client: Client, query: str, word: str) -> None:
    page = shown(client, f"/usage?{query}", status=400)
    assert 'role="alert"' in page
    assert word in page.partition('role="alert"')[2][:600]
    assert "<b>x</b>" not in page
    assert 'role="alert"' in shown(client, f"/usage?{query}", status=200, headers=HTMX)  # htmx swaps only successes
    assert client.get(f"/usage/requests?{query}").status_code == 400


def test_a_search_over_too_much_says_what_to_do(payer: Payer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    rows.call(payer, CREDIT, at=clock.now())

    def too_long(*_: object) -> None:
        raise errors.TimedOut("Choose fewer days.")

    monkeypatch.setattr(queries, "page", too_long)
    page = shown(client, "/usage?q=x", status=504)
    assert "Choose fewer days." in page


def test_htmx_is_told_the_address_and_what_to_say(payer: Payer, client: Client) -> None:
    rows.call(payer, CREDIT, at=clock.now(), model="gpt-5.5")
    answer = client.get("/usage?days=30&q=&model=gpt-5.5&status=&endpoint=", headers=HTMX)
    assert answer["HX-Push-Url"] == "/usage?model=gpt-5.5"
    assert json.loads(answer["HX-Trigger-After-Settle"]) == {"toast": {"text": "1 request found", "tone": ""}}
    assert "HX-Request" in answer["Vary"]


def test_more_rows_follow_until_there_are_none(payer: Payer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "ROWS", 2)
    made = [rows.call(payer, 1, at=clock.now() - timedelta(seconds=number)) for number in range(5)]
    page = shown(client)
    log = page.partition('id="usage-log"')[2]
    seen = request_links(log)
    while (more := re.search(r'hx-get="(/usage/requests\?[^"]+)"', log)) is not None:
        log = shown(client, more[1].replace("&amp;", "&"), headers=HTMX)
        assert "<html" not in log
        assert log.count("autofocus") == 1
        seen += request_links(log)
    assert seen == made


def test_a_later_page_has_an_address_of_its_own(payer: Payer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "ROWS", 1)
    made = [rows.call(payer, 1, at=clock.now() - timedelta(seconds=number)) for number in range(2)]
    following = re.search(r'href="(/usage\?cursor=[^"]+)"', shown(client))
    assert following is not None
    log = shown(client, following[1]).partition('id="usage-log"')[2]
    assert request_links(log) == [made[1]]
    assert "Back to the newest requests" in log


def test_a_request_tells_everything_the_log_knows(payer: Payer, client: Client) -> None:
    request_id = rows.call(
        payer,
        1_234_567,
        at=clock.now(),
        model="gpt-5.5",
        provider="sandbox",
        target="sandbox/local/gpt-5.5",
        attempts=3,
        stream=True,
        ttfb_ms=321,
        input_tokens=1_000,
        cached_input_tokens=400,
        cache_write_tokens=50,
        user_id=payer.user.pk,
        sandbox=True,
        estimated=True,
        client_disconnected=True,
    )
    page = shown(client, f"/usage/requests/{request_id}")
    for words in (
        str(request_id),
        "1.234567",
        "sandbox/local/gpt-5.5",
        "3 attempts",
        "321 ms",
        payer.user.email,
        "streamed",
        "Sandbox:",
        "Estimated:",
        "Client left:",
    ):
        assert words in page
    dialog = shown(client, f"/usage/requests/{request_id}", headers=HTMX)
    assert "<dialog" in dialog
    assert "<html" not in dialog


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_a_foreign_request_and_an_invented_one_answer_alike(client: Client, headers: dict[str, str]) -> None:
    theirs = rows.call(new_payer(balance=CREDIT), 1, at=clock.now())
    for request_id in (theirs, ids.uuid7()):
        assert client.get(f"/usage/requests/{request_id}", headers=headers).status_code == 404
    assert str(theirs) not in shown(client)


@pytest.mark.parametrize("path", ["/usage", "/usage/requests", "/usage/requests/01900000-0000-7000-8000-000000000000"])
def test_pages_are_for_members_with_the_permission(client: Client, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    away = Client().get(path)
    assert away.status_code == 302
    assert away["Location"].startswith("/accounts/login/")
    assert client.post(path).status_code == 405
    monkeypatch.setattr("orgs.access.ROLE_PERMISSIONS", {})
    assert client.get(path).status_code == 403


def test_names_from_outside_stay_text(payer: Payer, client: Client) -> None:
    nasty = "</script><script>alert(1)</script>\"'{{7*7}}"
    rows.call(payer, CREDIT, at=clock.now(), model=nasty, key_name=nasty, error_type="<i>", provider="<u>")
    page = shown(client, "/usage?q=%3Cscript%3E")
    assert "<script>alert" not in page
    assert "<i>" not in page
    assert figure(page, "usage-donut")["data"][0]["labels"][0].startswith("&lt;/script&gt;")


def test_the_page_keeps_to_the_content_policy(payer: Payer, client: Client) -> None:
    rows.call(payer, CREDIT, at=clock.now())
    answer = client.get("/usage")
    assert "script-src 'self'" in answer["Content-Security-Policy"]
    page = answer.content.decode()
    assert not re.findall(r"<[^>]+\s(?:style|on[a-z]+)=", page)
    for attributes in re.findall(r"<script([^>]*)>", page):
        assert "src=" in attributes or 'type="application/json"' in attributes


def test_the_page_asks_the_database_little(payer: Payer, client: Client, django_assert_max_num_queries: Any) -> None:
    rows.call(payer, CREDIT, at=clock.now())
    shown(client)
    with django_assert_max_num_queries(24):
        shown(client)
