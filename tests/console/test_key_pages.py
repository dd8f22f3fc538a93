"""``/manage-api-keys`` over HTTP, with and without htmx."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing.models import SpendMeter
from catalog import source
from console import key_rows, snippets
from core import clock
from events import audit
from events.models import AuditEvent
from keys import issuing, lookup
from keys.models import ApiKey
from tests import cast, factories

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}
CREDIT = 1_000_000


@pytest.fixture
def company() -> cast.Cast:
    return cast.assemble()


@pytest.fixture
def client(company: cast.Cast) -> Client:
    return company.client("developer")


@pytest.fixture
def issued(company: cast.Cast) -> issuing.Issued:
    return factories.api_key(
        company.organization, created_by=company["admin"], spending_limit_microcredits=100 * CREDIT
    )


def text_of(answer: Any) -> str:
    return str(answer.content.decode())


def create(client: Client, headers: dict[str, str] | None = None, **fields: str) -> Any:
    form = {"name": "prod", "form_token": str(uuid4()), **fields}
    return client.post("/manage-api-keys/new", form, headers=headers or {})


def secret_in(answer: Any) -> str:
    found = re.search(r'id="new-key-secret"[^>]*>(ck_[0-9A-Za-z]+)<', text_of(answer))
    assert found, text_of(answer)[:500]
    return found[1]


# ── The list ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_without_keys_it_says_what_they_are_for(client: Client) -> None:
    page = text_of(client.get("/manage-api-keys"))
    assert "No keys yet" in page
    assert "Create your first key" in page


def test_each_key_with_its_month(client: Client, issued: issuing.Issued) -> None:
    SpendMeter.objects.create(
        scope="key", scope_id=issued.key.pk, month=clock.month_of(clock.now()), spent_microcredits=81_500_000
    )
    page = text_of(client.get("/manage-api-keys"))
    assert issued.key.prefix in page
    assert "81.50" in page and "81%" in page
    assert "Near limit" in page
    assert issued.secret not in page


def test_last_month_is_over(client: Client, issued: issuing.Issued) -> None:
    before = (clock.month_of(clock.now()) - timedelta(days=1)).replace(day=1)
    SpendMeter.objects.create(scope="key", scope_id=issued.key.pk, month=before, spent_microcredits=100 * CREDIT)
    assert key_rows.rows_of([issued.key])[0].spent_microcredits == 0


def test_more_keys_take_no_more_queries(client: Client, company: cast.Cast) -> None:
    def asked() -> list[str]:
        with CaptureQueriesContext(connection) as seen:
            client.get("/manage-api-keys")
        asked = [query["sql"] for query in seen]
        return [sql[:60] for sql in asked if "usersession" not in sql and "SAVEPOINT" not in sql]  # now and then

    factories.api_key(company.organization)
    client.get("/manage-api-keys")
    with_one = asked()
    for _ in range(5):
        factories.api_key(company.organization, created_by=company["admin"])
    assert asked() == with_one


def test_who_may_only_read_gets_no_buttons(company: cast.Cast, issued: issuing.Issued) -> None:
    page = text_of(company.client("viewer").get("/manage-api-keys"))
    assert issued.key.prefix in page
    for label in ("Create key", "Edit", "Disable", "Delete"):
        assert label not in page


def test_names_are_shown_as_text(client: Client) -> None:
    answer = create(client, name="<img src=x onerror=alert(1)>")
    assert "<img src=x" not in text_of(answer)
    assert "&lt;img src=x" in text_of(client.get("/manage-api-keys"))


@pytest.mark.parametrize(
    ("columns", "spent", "word"),
    [
        ({}, 0, "Active"),
        ({}, 79_999_999, "Active"),
        ({}, 80_000_000, "Near limit"),
        ({}, 100_000_000, "Limit reached"),
        ({"spending_limit_microcredits": None}, 10**12, "Active"),
        ({"spending_limit_microcredits": 0}, 0, "Limit reached"),
        ({"expires_at": datetime(2029, 1, 1, tzinfo=UTC)}, 100_000_000, "Expired"),
        ({"enabled": False, "disabled_reason": "by_hand"}, 0, "Disabled"),
        ({"enabled": False, "disabled_reason": "spending_limit"}, 100_000_000, "Disabled at its limit"),
        ({"enabled": False, "disabled_reason": "member_left"}, 0, "Disabled: its maker left"),
        ({"enabled": False, "disabled_reason": ""}, 0, "Disabled"),
    ],
)
def test_states(columns: dict[str, Any], spent: int, word: str) -> None:
    key = ApiKey(**{"spending_limit_microcredits": 100_000_000, **columns})
    assert key_rows.state_of(key, spent, datetime(2030, 1, 1, tzinfo=UTC)).word == word


# ── Making ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("headers", [{}, HTMX], ids=["plain", "htmx"])
def test_the_secret_is_shown_once(client: Client, company: cast.Cast, headers: dict[str, str]) -> None:
    answer = create(
        client,
        headers,
        spending_limit="2500.5",
        auto_disable="on",
        expires_on="2040-01-31",
        allowed_networks="10.0.0.0/8",
    )
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    key = lookup.by_secret(secret_in(answer), address="10.1.2.3")
    assert (key.workspace, key.created_by) == (company.organization, company["developer"])
    assert (key.name, key.spending_limit_microcredits, key.auto_disable) == ("prod", 2_500_500_000, True)
    assert key.expires_at == datetime(2040, 2, 1, tzinfo=UTC)  # the whole last day
    assert key.allowed_networks == ["10.0.0.0/8"]
    assert secret_in(answer) not in text_of(client.get("/manage-api-keys"))


def test_htmx_gets_the_list_and_a_fresh_form(client: Client) -> None:
    token = str(uuid4())
    answer = create(client, HTMX, form_token=token)
    page = text_of(answer)
    assert (answer["HX-Retarget"], answer["HX-Reswap"]) == ("#keys", "outerHTML")
    assert page.lstrip().startswith('<div id="keys"')
    assert 'id="new-key-slot" hx-swap-oob="true"' in page
    assert token not in page
    assert "<html" not in page


def test_the_form_is_a_page_without_scripts(client: Client) -> None:
    page = text_of(client.get("/manage-api-keys/new"))
    assert "<html" in page
    assert 'action="/manage-api-keys/new"' in page
    assert "hx-post" not in page.split("<form id=")[1].split("</form>")[0]


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["plain", "htmx"])
def test_the_same_form_twice_makes_one_key(client: Client, headers: dict[str, str]) -> None:
    token = str(uuid4())
    first = secret_in(create(client, headers, form_token=token))
    second = create(client, headers, form_token=token)
    assert "ck_" not in text_of(second).replace(ApiKey.objects.get().prefix, "").replace("ck_...", "")
    said = second.get("HX-Trigger-After-Settle", "") or text_of(client.get("/manage-api-keys"))
    assert "This key was already made" in said
    assert lookup.by_secret(first, address=None)
    assert ApiKey.objects.count() == 1


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"name": "  "}, "This field is required"),
        ({"name": "x" * 81}, "at most 80 characters"),
        ({"spending_limit": "0"}, "A limit is above zero"),
        ({"spending_limit": "-1"}, "A limit is above zero"),
        ({"spending_limit": "0.0000001"}, "6 decimal places"),
        ({"spending_limit": "many"}, "Enter a number"),
        ({"expires_on": "2020-01-01"}, "must lie in the future"),
        ({"allowed_models": "no-such-model"}, "There is no model “no-such-model”"),
        ({"allowed_networks": "10.0.0"}, "“10.0.0” is no IP address"),
    ],
)
def test_a_wrong_field_is_told_and_nothing_is_made(client: Client, fields: dict[str, str], complaint: str) -> None:
    for headers, status in (({}, 422), (HTMX, 200)):
        answer = create(client, headers, **fields)
        assert answer.status_code == status
        assert complaint in text_of(answer)
    assert not ApiKey.objects.exists()
    assert not AuditEvent.objects.exists()


def test_a_full_workspace_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keys.rules.MOST_KEYS", 0)
    answer = create(client)
    assert answer.status_code == 409
    assert "at most 0 keys" in text_of(answer)


# ── Changing ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_editing(client: Client, issued: issuing.Issued) -> None:
    url = f"/manage-api-keys/{issued.key.pk}"
    form = text_of(client.get(url))
    assert 'value="100"' in form
    answer = client.post(url, {"name": "renamed", "spending_limit": "", "auto_disable": ""})
    assert answer["Location"] == "/manage-api-keys"
    issued.key.refresh_from_db()
    assert (issued.key.name, issued.key.spending_limit_microcredits) == ("renamed", None)


def test_who_edits_an_older_state_undoes_nothing(client: Client, issued: issuing.Issued) -> None:
    url = f"/manage-api-keys/{issued.key.pk}"

    def seen(page: str) -> str:
        return page.split('name="seen" value="')[1].split('"')[0]

    older = {"name": "renamed", "spending_limit": "100", "seen": seen(text_of(client.get(url)))}
    issuing.change(issued.key, actor=audit.SYSTEM, spending_limit_microcredits=5_000_000)
    for headers, status in (({}, 409), (HTMX, 200)):
        answer = client.post(url, older, headers=headers)
        assert answer.status_code == status
        page = text_of(answer)
        assert "Somebody changed this key" in page
        assert 'value="5"' in page
    issued.key.refresh_from_db()
    assert (issued.key.name, issued.key.spending_limit_microcredits) != ("renamed", 100_000_000)
    assert issued.key.spending_limit_microcredits == 5_000_000
    for _click in range(2):  # the second one asks for what is there by now
        assert client.post(url, {**older, "spending_limit": "5", "seen": seen(page)}).status_code == 302
    issued.key.refresh_from_db()
    assert issued.key.name == "renamed"


def test_what_is_left_as_it_was_needs_not_be_valid_again(client: Client, issued: issuing.Issued) -> None:
    past = datetime(2020, 5, 1, 15, 30, tzinfo=UTC)
    ApiKey.objects.filter(pk=issued.key.pk).update(expires_at=past, allowed_models=["model-that-is-gone"])
    url = f"/manage-api-keys/{issued.key.pk}"
    assert 'value="2020-05-01"' in text_of(client.get(url))
    form = {"name": "renamed", "expires_on": "2020-05-01", "allowed_models": "model-that-is-gone"}
    assert client.post(url, form).status_code == 302
    issued.key.refresh_from_db()
    assert (issued.key.name, issued.key.expires_at) == ("renamed", past)


def test_dialogs_for_htmx(client: Client, issued: issuing.Issued) -> None:
    url = f"/manage-api-keys/{issued.key.pk}"
    for path in (url, f"{url}/state", f"{url}/delete"):
        page = text_of(client.get(path, headers=HTMX))
        assert "data-dialog-autoopen" in page
        assert "<html" not in page
    wrong = text_of(client.post(url, {"name": ""}, headers=HTMX))
    assert wrong.lstrip().startswith('<form id="edit-key-form"')


def test_disable_enable_delete(client: Client, issued: issuing.Issued) -> None:
    url = f"/manage-api-keys/{issued.key.pk}"
    answer = client.post(f"{url}/state", {"enabled": "0"}, headers=HTMX)
    assert "is disabled" in answer["HX-Trigger-After-Settle"]
    assert "Disabled" in text_of(answer)
    client.post(f"{url}/state", {"enabled": "1"})
    issued.key.refresh_from_db()
    assert issued.key.enabled
    answer = client.post(f"{url}/delete", headers=HTMX)
    assert "No keys yet" in text_of(answer)
    assert client.get(url).status_code == 404


def test_keys_of_another_of_my_workspaces_are_not_on_this_page(client: Client, company: cast.Cast) -> None:
    other = factories.api_key(company["developer"].personal_workspace)
    assert other.key.prefix not in text_of(client.get("/manage-api-keys"))
    assert client.get(f"/manage-api-keys/{other.key.pk}").status_code == 404


# ── Setup ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_client_is_set_up_with_this_site_s_address(settings: Any) -> None:
    settings.SITE_URL = "https://gw.example"
    made = {snippet.id: snippet.code for snippet in snippets.snippets()}
    assert set(made) == {"curl", "python", "node", "claude-code", "codex", "gemini-cli", "cursor"}
    for name, address in {
        "curl": "https://gw.example/api/v1/chat/completions",
        "python": 'base_url="https://gw.example/api/v1"',
        "node": 'baseURL: "https://gw.example/api/v1"',
        "claude-code": "ANTHROPIC_BASE_URL=https://gw.example/api\n",
        "codex": 'base_url = "https://gw.example/api/v1"',
        "gemini-cli": "GOOGLE_GEMINI_BASE_URL=https://gw.example/api/v1/gemini\n",
        "cursor": "https://gw.example/api/v1",
    }.items():
        assert address in made[name]
    assert 'wire_api = "responses"' in made["codex"]


def test_snippets_are_right_in_their_languages() -> None:
    made = {snippet.id: snippet.code for snippet in snippets.snippets("https://gw.example")}
    compile(made["python"], "snippet", "exec")
    assert tomllib.loads(made["codex"])["model_providers"]["hypereal"]["env_key"] == "HYPEREAL_API_KEY"
    written = made["gemini-cli"].split("echo '")[1].split("'")[0]
    assert json.loads(written)["security"]["auth"]["selectedType"] == "gemini-api-key"
    body = made["curl"].split("-d '")[1].rstrip("'")
    assert json.loads(body)["messages"][0]["role"] == "user"


def test_the_models_of_the_snippets_are_in_the_catalog() -> None:
    named = {snippets.CHAT_MODEL, snippets.CODEX_MODEL, snippets.CLAUDE_MODEL, snippets.GEMINI_MODEL}
    assert named <= set(source.read().models)
