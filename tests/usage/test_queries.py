"""Sums and rows: out of rollup or log, they say the same, of this workspace alone, by the day of the bill."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core import errors, ids
from tests.support.money import Payer, new_payer
from tests.usage import rows
from usage import queries
from usage.filters import UsageQuery
from usage.metering import apply_now
from usage.models import RequestLog
from usage.queries import Totals

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000
NOW = datetime(2026, 5, 10, 12, tzinfo=UTC)
TODAY = NOW.date()


@pytest.fixture
def payer() -> Payer:
    return new_payer(balance=10_000 * CREDIT)


def asked(**fields: object) -> UsageQuery:
    return UsageQuery(**{"today": TODAY, **fields})  # type: ignore[arg-type]


def ids_of(payer: Payer, **fields: object) -> list[UUID]:
    return [row.request_id for row in queries.page(payer.workspace.pk, asked(**fields), 50).rows]


def mixed(payer: Payer) -> None:
    """Calls of three models on two endpoints over forty days, some of them failed."""
    for number in range(40):
        rows.call(
            payer,
            1_000 * number + 7,
            at=NOW - timedelta(days=number),
            model=("alpha", "beta", "gamma")[number % 3],
            endpoint=("chat", "images")[number % 2],
            input_tokens=100 + number,
            cached_input_tokens=number,
            output_tokens=2 * number,
            saved_microcredits=3 * number,
            latency_ms=10 * number,
        )
        rows.refused(payer, at=NOW - timedelta(days=number, hours=1), model="alpha", status=(429, 502)[number % 2])


def test_totals_models_and_days_add_up(payer: Payer) -> None:
    mixed(payer)
    found = queries.summary(payer.workspace.pk, asked(days=30))
    assert found.totals == Totals(
        requests=60,
        errors=30,
        input_tokens=sum(100 + number for number in range(30)),
        cached_input_tokens=sum(range(30)),
        output_tokens=2 * sum(range(30)),
        charged_microcredits=sum(1_000 * number + 7 for number in range(30)),
        saved_microcredits=3 * sum(range(30)),
    )
    assert [cost.model for cost in found.models] == ["gamma", "beta", "alpha"]
    assert sum(cost.totals.charged_microcredits for cost in found.models) == found.totals.charged_microcredits
    assert [found.days[0].day, found.days[-1].day, len(found.days)] == [date(2026, 4, 11), TODAY, 30]
    assert found.days[-1].by_model == {"alpha": 7}
    assert found.days[-2].totals.charged_microcredits == 1_007
    assert found.previous is not None
    assert found.previous.charged_microcredits == sum(1_000 * number + 7 for number in range(30, 40))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"days": 1},
        {"models": ("alpha", "gamma")},
        {"endpoint": "images"},
        {"status": "429"},
        {"status": "5xx"},
        {"models": ("beta",), "endpoint": "chat", "status": "2xx", "days": 12},
    ],
)
def test_rollup_and_log_say_the_same(payer: Payer, fields: dict[str, object]) -> None:
    mixed(payer)
    rolled_up = queries.summary(payer.workspace.pk, asked(**fields))
    read = queries.summary(payer.workspace.pk, asked(**fields, min_cost_microcredits=0))
    assert (read.totals, read.models, read.days) == (rolled_up.totals, rolled_up.models, rolled_up.days)
    assert read.previous is None
    listed = queries.page(payer.workspace.pk, asked(**fields), 1_000).rows
    assert len(listed) == rolled_up.totals.requests
    assert sum(row.charged_microcredits for row in listed) == rolled_up.totals.charged_microcredits


def test_sums_that_the_rollup_knows_never_read_the_log(payer: Payer) -> None:
    mixed(payer)
    query = asked(days=90, models=("alpha",), endpoint="chat", status="2xx", key_id=payer.key.pk)
    with CaptureQueriesContext(connection) as captured:
        assert queries.summary(payer.workspace.pk, query).totals.requests
        queries.facets(payer.workspace.pk, query)
        queries.has_any(payer.workspace.pk)
    assert not [sql["sql"] for sql in captured if "usage_requestlog" in sql["sql"]]


def test_a_filter_that_matches_nothing_never_reads_the_log(payer: Payer) -> None:
    mixed(payer)
    with CaptureQueriesContext(connection) as captured:
        assert queries.page(payer.workspace.pk, asked(models=("none",)), 50).rows == []
        assert queries.dearest(payer.workspace.pk, asked(status="429")) == []
    assert not [sql["sql"] for sql in captured if "usage_requestlog" in sql["sql"]]


def test_a_call_stands_in_the_day_of_its_bill(payer: Payer) -> None:
    midnight = datetime(2026, 5, 10, tzinfo=UTC)
    over = rows.call(payer, 5, at=midnight + timedelta(seconds=1), lasted=timedelta(hours=20))
    before = rows.call(payer, 7, at=midnight - timedelta(microseconds=1))
    today, yesterday = asked(days=1), asked(days=1, today=TODAY - timedelta(days=1))
    for query, request_id, charge in ((today, over, 5), (yesterday, before, 7)):
        assert [row.request_id for row in queries.page(payer.workspace.pk, query, 50).rows] == [request_id]
        assert [row.request_id for row in queries.dearest(payer.workspace.pk, query)] == [request_id]
        assert queries.summary(payer.workspace.pk, query).totals.charged_microcredits == charge
        logged = queries.summary(payer.workspace.pk, query.but(min_cost_microcredits=0))
        assert logged.days[0].totals.charged_microcredits == charge
        with queries.stream(payer.workspace.pk, query) as found:
            assert [row.request_id for row in found] == [request_id]


def test_no_call_may_live_longer_than_the_search_looks_back() -> None:
    assert 2 * timedelta(seconds=settings.GATEWAY_TOTAL_SECONDS) < queries.LONGEST_CALL
    assert 2 * timedelta(days=1) <= queries.LONGEST_CALL  # the most that the setting takes


def test_pages_give_every_row_once_newest_first(payer: Payer) -> None:
    made = [rows.call(payer, 1, at=NOW - timedelta(minutes=number)) for number in range(7)]
    seen: list[UUID] = []
    before = None
    for _ in range(4):
        page = queries.page(payer.workspace.pk, asked(before=before), 2)
        seen += [row.request_id for row in page.rows]
        before = page.next_before
    assert seen == made
    assert before is None


def test_a_last_page_that_is_full_names_no_next_one(payer: Payer) -> None:
    rows.call(payer, 1, at=NOW)
    rows.call(payer, 1, at=NOW)
    assert queries.page(payer.workspace.pk, asked(), 2).next_before is None


def test_the_querys_own_limit_goes_first(payer: Payer) -> None:
    for _ in range(3):
        rows.call(payer, 1, at=NOW)
    assert len(queries.page(payer.workspace.pk, asked(limit=1), 50).rows) == 1


def test_the_ten_dearest_of_the_days(payer: Payer) -> None:
    for number in range(12):
        rows.call(payer, number, at=NOW - timedelta(minutes=number))
    rows.call(payer, 10**9, at=NOW - timedelta(days=40))
    found = queries.dearest(payer.workspace.pk, asked())
    assert [row.charged_microcredits for row in found] == list(range(11, 1, -1))


def test_calls_of_other_workspaces_are_never_there(payer: Payer) -> None:
    other = new_payer(balance=CREDIT)
    theirs = rows.call(other, 5, at=NOW)
    mine = payer.workspace.pk
    assert queries.summary(mine, asked()).totals == Totals()
    assert queries.page(mine, asked(), 50).rows == []
    assert queries.page(mine, asked(key_id=other.key.pk), 50).rows == []
    assert queries.page(mine, asked(text=str(theirs)), 50).rows == []
    assert queries.dearest(mine, asked()) == []
    assert queries.call(mine, theirs) is None
    assert queries.call(other.workspace.pk, theirs) is not None
    assert not queries.has_any(mine)
    with queries.stream(mine, asked()) as found:
        assert list(found) == []
    assert queries.facets(mine, asked()) == queries.Facets([], [], [], [])


def test_latency_and_cost_are_bounds_of_a_single_call(payer: Payer) -> None:
    cheap = rows.call(payer, 10, at=NOW - timedelta(minutes=1), latency_ms=100)
    dear = rows.call(payer, 20, at=NOW, latency_ms=200)
    assert ids_of(payer, min_latency_ms=101) == [dear]
    assert ids_of(payer, max_latency_ms=199) == [cheap]
    assert ids_of(payer, min_latency_ms=100, max_latency_ms=200) == [dear, cheap]
    assert ids_of(payer, min_cost_microcredits=11) == [dear]
    assert ids_of(payer, max_cost_microcredits=10) == [cheap]


@pytest.mark.parametrize(
    "text", ["CLAUDE", "sonnet-4", "produc", "anthrop", "upstream_err", "/v1/mess", "messages", "502", "%", "_err"]
)
def test_words_are_looked_for_in_all_that_is_named(payer: Payer, text: str) -> None:
    fields: dict[str, Any] = {
        "model": "claude-sonnet-4-6",
        "endpoint": "messages",
        "provider": "anthropic",
        "status": 502,
    }
    wanted = rows.call(payer, 1, at=NOW, key_name="production 100%", error_type="upstream_error", **fields)
    rows.call(payer, 1, at=NOW, model="gpt-5.5", endpoint="chat", provider="openai")
    assert ids_of(payer, text=text) == [wanted]


def test_a_request_is_found_by_its_id_and_by_the_beginning_of_it(payer: Payer) -> None:
    wanted = rows.call(payer, 1, at=NOW)
    rows.call(payer, 1, at=NOW - timedelta(hours=3))
    text = str(wanted)
    assert ids_of(payer, text=text) == ids_of(payer, text=text.upper().replace("-", "")) == [wanted]
    assert ids_of(payer, text=text[:13]) == ids_of(payer, text=text[:30]) == [wanted]
    assert ids_of(payer, text=str(ids.uuid7())) == []


def test_a_late_charge_stands_beside_the_interrupted_row(payer: Payer) -> None:
    admit = payer.admit(5, hold_id=rows.id_at(NOW - timedelta(minutes=5)))
    apply_now(admit, now=NOW - timedelta(minutes=5))
    apply_now(payer.void(admit, error_type="interrupted"), now=NOW - timedelta(minutes=4))
    late_id = ids.beside(admit.hold_id)
    apply_now(payer.settle(admit, 5), now=NOW)
    assert [row.late for row in RequestLog.objects.filter(request_id=admit.hold_id).order_by("id")] == [False, True]
    found = queries.page(payer.workspace.pk, asked(text=str(admit.hold_id)), 50).rows
    assert [(row.id, row.charged_microcredits) for row in found] == [(late_id, 5), (admit.hold_id, 0)]


def test_choices_are_what_occurs_in_the_days(payer: Payer) -> None:
    rows.call(payer, 1, at=NOW, model="alpha")
    rows.refused(payer, at=NOW, model="beta", status=429, endpoint="images", key_id=None, key_name="")
    rows.call(payer, 1, at=NOW - timedelta(days=50), model="old")
    found = queries.facets(payer.workspace.pk, asked(models=("alpha",), text="x"))
    assert found == queries.Facets(["alpha", "beta"], ["chat", "images"], [200, 429], [(payer.key.pk, "test")])


def test_a_search_that_takes_too_long_is_given_up(payer: Payer, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as brief, pytest.raises(errors.TimedOut):
        brief.setattr(queries, "SCAN_SECONDS", 0.05)
        with queries._bounded(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(60)")
    assert queries.page(payer.workspace.pk, asked(), 50).rows == []


def test_no_reader_scans_the_whole_log(payer: Payer) -> None:
    workspaces = [payer.workspace.pk, *(ids.uuid7() for _ in range(19))]
    RequestLog.objects.bulk_create(rows.plain(workspaces[n % 20], NOW - timedelta(minutes=n), n) for n in range(4_000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE usage_requestlog")
    with CaptureQueriesContext(connection) as captured:
        one = queries.page(payer.workspace.pk, asked(), 50).rows[-1]
        queries.page(payer.workspace.pk, asked(before=one.id, min_latency_ms=1), 50)
        queries.page(payer.workspace.pk, asked(text=str(one.id)), 50)
        queries.dearest(payer.workspace.pk, asked())
        queries.summary(payer.workspace.pk, asked(days=1, text="gpt"))
        queries.call(payer.workspace.pk, one.id)
    read = [query["sql"] for query in captured if 'FROM "usage_requestlog"' in query["sql"]]
    assert len(read) == 6
    for sql in read:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {sql}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert "Seq Scan" not in plan, plan
