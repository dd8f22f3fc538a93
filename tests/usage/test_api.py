"""``/api/api-usage`` and its CSV, asked as a browser with a session asks (C-USE-3, C-USE-4)."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.db import connection
from django.test import AsyncClient, Client

from accounts.models import User
from core import clock, ids
from orgs.models import Membership, Workspace
from orgs.permissions import Role
from tests.support.gateway import wait_for
from tests.support.money import Payer, new_payer
from tests.usage import rows
from usage import api, export, queries

CREDIT = 1_000_000
BACKEND = "allauth.account.auth_backends.AuthenticationBackend"
URL = "/api/api-usage"


@pytest.fixture
def payer(db: None) -> Payer:
    return new_payer(balance=10_000 * CREDIT)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend=BACKEND)
    return client


def got(payer: Payer, query: str = "") -> dict[str, Any]:
    answer = signed_in(payer.user).get(f"{URL}?{query}")
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    api.UsageAnswer.model_validate(found)
    return found


def downloaded(user: User, query: str = "") -> tuple[int, Any, bytes]:
    """Status, headers and body of the CSV: asked asynchronously, since Django would warn of a stream made whole."""

    async def get() -> tuple[int, Any, bytes]:
        client = AsyncClient()
        await client.aforce_login(user, backend=BACKEND)
        answer: Any = await client.get(f"{URL}/export?{query}")
        if not answer.streaming:
            return answer.status_code, answer.headers, answer.content
        return answer.status_code, answer.headers, b"".join([piece async for piece in answer.streaming_content])

    return async_to_sync(get)()


def test_an_empty_workspace_has_an_answer(payer: Payer) -> None:
    found = got(payer, "days=3")
    assert {name: value for name, value in found.items() if name != "dailyCost"} == {
        "logs": [],
        "costByModel": [],
        "topExpensiveRequests": [],
        "nextCursor": None,
    }
    assert [day["costCredits"] for day in found["dailyCost"]] == [0, 0, 0]


def test_log_sums_and_dearest_come_by_their_names(payer: Payer) -> None:
    now = clock.now()
    first = rows.call(
        payer,
        12_345_678,
        at=now,
        model="gpt-5.5",
        provider="openai",
        target="openai/us/gpt-5.5",
        latency_ms=900,
        ttfb_ms=120,
        input_tokens=100,
        cached_input_tokens=40,
        cache_write_tokens=10,
        output_tokens=7,
        estimated=True,
    )
    rows.refused(payer, at=now - timedelta(seconds=9), model="gpt-5.5", error_type="rate_limit_error")
    found = got(payer, "days=1&limit=1000")
    assert set(found) == {"logs", "costByModel", "topExpensiveRequests", "dailyCost", "nextCursor"}
    assert [set(entry) for entry in found["logs"]] == [set(export.COLUMNS)] * 2
    newest = found["logs"][0]
    assert newest["createdAt"].startswith(now.strftime("%Y-%m-%dT%H:%M:%S"))
    assert {**newest, "createdAt": ""} == {
        "requestId": str(first),
        "createdAt": "",
        "endpoint": "chat",
        "model": "gpt-5.5",
        "provider": "openai",
        "status": 200,
        "latencyMs": 900,
        "ttfbMs": 120,
        "inputTokens": 100,
        "cachedInputTokens": 40,
        "cacheWriteTokens": 10,
        "outputTokens": 7,
        "units": None,
        "costCredits": 12.345678,
        "estimated": True,
        "errorType": None,
        "keyName": "test",
    }
    assert found["logs"][1]["errorType"] == "rate_limit_error"
    assert found["topExpensiveRequests"] == [newest]
    assert found["costByModel"] == [{"model": "gpt-5.5", "requests": 2, "costCredits": 12.345678}]
    today = {"date": now.date().isoformat(), "requests": 2, "costCredits": 12.345678}
    assert found["dailyCost"] == [today]


def test_costs_are_json_numbers_with_at_most_six_decimals(payer: Payer) -> None:
    for charge in (1, 100_000, 3 * CREDIT, 9_999_999_999):
        rows.call(payer, charge, at=clock.now())
    body = signed_in(payer.user).get(URL).content.decode()
    costs = [entry["costCredits"] for entry in json.loads(body, parse_float=Decimal)["logs"]]
    assert sorted(costs) == [Decimal("0.000001"), Decimal("0.1"), 3, Decimal("9999.999999")]


def test_pages_follow_the_cursor(payer: Payer) -> None:
    made = [str(rows.call(payer, 1, at=clock.now() - timedelta(seconds=number))) for number in range(5)]
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        found = got(payer, f"limit=2&cursor={cursor}")
        seen += [entry["requestId"] for entry in found["logs"]]
        cursor = found["nextCursor"]
    assert seen == made


def test_filters_hold_for_every_part(payer: Payer) -> None:
    rows.call(payer, 5, at=clock.now(), model="alpha")
    rows.call(payer, 7, at=clock.now(), model="beta")
    for query in ("model=alpha", "model=alpha&q=alp", "maxCost=0.000005"):
        found = got(payer, query)
        assert {entry["model"] for entry in found["logs"] + found["topExpensiveRequests"]} == {"alpha"}
        assert [cost["model"] for cost in found["costByModel"]] == ["alpha"]
        assert found["dailyCost"][-1]["costCredits"] == 0.000005


@pytest.mark.parametrize("path", [URL, f"{URL}/export"])
@pytest.mark.parametrize(("query", "param"), [("days=0", "days"), ("limit=1001", "limit"), ("status=x", "status")])
def test_bad_filters_are_named(payer: Payer, path: str, query: str, param: str) -> None:
    answer = signed_in(payer.user).get(f"{path}?{query}")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize("path", [URL, f"{URL}/export"])
def test_only_a_session_opens_it(payer: Payer, path: str) -> None:
    anonymous = Client().get(path)
    with_key = signed_in(payer.user).get(path, headers={"Authorization": "Bearer ck_" + "x" * 40})
    for answer in (anonymous, with_key):
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "authentication_error"


@pytest.fixture
def organization(db: None) -> Workspace:
    return Workspace.objects.create(kind=Workspace.Kind.ORGANIZATION, name="Acme", slug=f"acme-{ids.uuid7()}")


@pytest.mark.parametrize("role", Role.values)
@pytest.mark.parametrize("path", [URL, f"{URL}/export"])
def test_every_role_reads_its_organizations_usage(
    payer: Payer, organization: Workspace, role: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Membership.objects.create(workspace=organization, user=payer.user, role=role)
    client = signed_in(payer.user)
    assert client.get(f"{path}?organizationId={organization.pk}").status_code == 200
    monkeypatch.setattr("orgs.access.ROLE_PERMISSIONS", {})
    assert client.get(f"{path}?organizationId={organization.pk}").status_code == 403


@pytest.mark.parametrize("path", [URL, f"{URL}/export"])
@pytest.mark.parametrize("which", ["foreign", "invented", "not an id"])
def test_another_organization_is_not_there(payer: Payer, organization: Workspace, path: str, which: str) -> None:
    named = {"foreign": str(organization.pk), "invented": str(ids.uuid7()), "not an id": "acme"}[which]
    answer = signed_in(payer.user).get(path, {"organizationId": named})
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")


def test_the_download_is_named_by_its_day_and_bears_all_rows(payer: Payer) -> None:
    charges = [1, 333_333, 12_000_000]
    for charge in charges:
        rows.call(payer, charge, at=clock.now(), model="=cmd()")
    rows.call(payer, 5, at=clock.now() - timedelta(days=9))
    status, headers, body = downloaded(payer.user, "days=7&limit=1&cursor=")
    assert status == 200
    assert headers["Content-Type"] == "text/csv; charset=utf-8"
    assert headers["Content-Disposition"] == f'attachment; filename="hypereal-usage-{clock.now().date()}.csv"'
    lines = list(csv.DictReader(io.StringIO(body.decode(), newline="")))
    assert tuple(lines[0]) == export.COLUMNS
    assert (
        sum(Decimal(line["costCredits"]) for line in lines) * CREDIT == sum(charges) == sum(payer.books().transfers) - 5
    )
    assert {line["model"] for line in lines} == {"'=cmd()"}


def test_the_download_of_nothing_has_a_header(payer: Payer) -> None:
    _, _, body = downloaded(payer.user)
    assert body == (",".join(export.COLUMNS) + "\r\n").encode()


def test_the_parameters_are_described(payer: Payer) -> None:
    described = signed_in(payer.user).get("/api/openapi.json").json()["paths"][URL]["get"]
    assert {one["name"] for one in described["parameters"]} >= {"days", "limit", "cursor", "q", "organizationId"}
    schema = described["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema["$ref"].endswith("UsageAnswer")


@pytest.mark.usefixtures("committed")
@pytest.mark.parametrize("pieces", [1, 2, 3], ids=["after a piece", "after two", "never"])
async def test_a_reader_who_leaves_takes_the_cursor_along(monkeypatch: pytest.MonkeyPatch, pieces: int) -> None:
    """Through the real handler, on connections of its own: whenever the client goes, the database is left alone."""
    monkeypatch.setattr(queries, "STREAM_ROWS", 2)
    monkeypatch.setattr(export, "STREAM_ROWS", 2)
    cookie = await sync_to_async(_session_of_somebody_with_calls)(4)
    sent: list[bytes] = []
    left = asyncio.Event()
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        if message.get("body"):
            sent.append(message["body"])
        if message["type"] == "http.response.body" and len(sent) >= pieces and pieces < 3:
            left.set()
            await asyncio.sleep(0.05)

    await asyncio.wait_for(ASGIHandler()(_scope(cookie), receive, send), 60)
    whole = b"".join(sent).count(b"\r\n") == 5
    assert whole if pieces == 3 else not whole
    await sync_to_async(wait_for)(lambda: _open_transactions() == 0)  # the thread that wrote takes its time to end


def _session_of_somebody_with_calls(number: int) -> str:
    payer = new_payer(balance=CREDIT)
    for _ in range(number):
        rows.call(payer, 1, at=clock.now())
    client = signed_in(payer.user)
    return str(client.cookies[settings.SESSION_COOKIE_NAME].value)


def _scope(cookie: str) -> dict[str, Any]:
    headers = [(b"host", b"127.0.0.1"), (b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie}".encode())]
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": f"{URL}/export",
        "query_string": b"",
        "headers": headers,
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "scheme": "http",
    }


def _open_transactions() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
        )
        return int(cursor.fetchone()[0])
