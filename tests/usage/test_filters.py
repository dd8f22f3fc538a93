"""One query value: what it reads, what it refuses, and that its address brings it back."""

from __future__ import annotations

from datetime import UTC, date, datetime
from urllib.parse import quote
from uuid import UUID

import pytest
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from core import errors, ids
from usage import filters
from usage.filters import UsageQuery

TODAY = date(2026, 5, 10)
KEY = UUID("0196b000-0000-7000-8000-000000000001")


def parse(text: str) -> UsageQuery:
    return UsageQuery.parse(QueryDict(text), today=TODAY)


def test_nothing_said_means_thirty_days_of_everything() -> None:
    query = parse("")
    assert query == UsageQuery(today=TODAY)
    assert (query.days, query.is_filtered, query.fits_rollup, query.query_string()) == (30, False, True, "")


def test_all_filters_are_read() -> None:
    query = parse(
        "days=7&model=gpt-5.5&model=kling-v3&endpoint=chat&status=5XX&key=0196b000-0000-7000-8000-000000000001"
        "&minLatencyMs=10&maxLatencyMs=20&minCost=0.5&maxCost=1.000001&q=%20prod%20&limit=10"
        f"&cursor={filters.cursor_of(KEY)}"
    )
    assert query == UsageQuery(
        days=7,
        models=("gpt-5.5", "kling-v3"),
        endpoint="chat",
        status="5xx",
        key_id=KEY,
        min_latency_ms=10,
        max_latency_ms=20,
        min_cost_microcredits=500_000,
        max_cost_microcredits=1_000_001,
        text="prod",
        limit=10,
        before=KEY,
        today=TODAY,
    )


def test_blank_values_of_a_form_count_as_absent() -> None:
    blank = "&".join(f"{name}=" for name in filters.PARAMETERS)
    assert parse(blank) == parse("")


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ("days=0", "days"),
        ("days=367", "days"),
        ("days=-1", "days"),
        ("days=7.0", "days"),
        ("days=٧", "days"),
        ("days=9999999999999999999", "days"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("status=600", "status"),
        ("status=4x", "status"),
        ("status=ok", "status"),
        ("endpoint=" + quote("chat' OR 1=1"), "endpoint"),
        ("key=prod", "key"),
        ("minLatencyMs=1e3", "minLatencyMs"),
        ("maxLatencyMs=-5", "maxLatencyMs"),
        ("minLatencyMs=2&maxLatencyMs=1", "minLatencyMs"),
        ("minCost=0.0000001", "minCost"),
        ("maxCost=NaN", "maxCost"),
        ("maxCost=Infinity", "maxCost"),
        ("maxCost=-1", "maxCost"),
        ("minCost=2&maxCost=1", "minCost"),
        ("q=" + "x" * 121, "q"),
        ("q=a%00b", "q"),
        ("model=" + "x" * 121, "model"),
        ("model=a%0Ab", "model"),
        ("&".join(f"model=m{number}" for number in range(21)), "model"),
        ("cursor=!", "cursor"),
        ("cursor=AAAA", "cursor"),
        ("cursor=" + "A" * 65, "cursor"),
    ],
)
def test_bad_values_are_refused_by_name(text: str, param: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        parse(text)
    assert caught.value.param == param
    assert caught.value.message


def test_days_are_utc_days_up_to_and_including_today() -> None:
    query = parse("days=1")
    assert (query.start, query.end) == (datetime(2026, 5, 10, tzinfo=UTC), datetime(2026, 5, 11, tzinfo=UTC))
    assert parse("days=30").first_day == date(2026, 4, 11)


def test_the_previous_range_ends_where_this_one_begins() -> None:
    query = parse("days=7&model=gpt-5.5")
    previous = query.previous()
    assert (previous.end, previous.days, previous.models) == (query.start, 7, ("gpt-5.5",))


def test_the_day_is_that_of_the_clock_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.clock.now", lambda: datetime(2026, 5, 10, 23, 59, 59, tzinfo=UTC))
    assert UsageQuery.parse(QueryDict("")).today == TODAY


@pytest.mark.parametrize(("text", "bounds"), [("", None), ("status=429", (429, 429)), ("status=5xx", (500, 599))])
def test_a_status_is_a_code_or_a_class(text: str, bounds: tuple[int, int] | None) -> None:
    assert parse(text).status_range == bounds


@pytest.mark.parametrize(
    "text", ["endpoint=chat", "endpoint=/v1/chat/completions", "endpoint=/api/v1/chat/completions/"]
)
def test_an_endpoint_may_be_named_by_its_path(text: str) -> None:
    assert parse(text).endpoint == "chat"


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("days=90&model=a&endpoint=chat&status=4xx&key=0196b000-0000-7000-8000-000000000001", True),
        ("q=a", False),
        ("minLatencyMs=0", False),
        ("maxLatencyMs=9", False),
        ("minCost=0", False),
        ("maxCost=9", False),
    ],
)
def test_the_rollup_answers_what_it_knows(text: str, fits: bool) -> None:
    assert parse(text).fits_rollup is fits


def test_a_joiner_inside_a_name_is_no_control_character() -> None:
    assert parse("q=" + quote("می\u200cروم")).text == "می\u200cروم"


def test_changing_a_filter_goes_back_to_the_first_page() -> None:
    assert parse(f"cursor={filters.cursor_of(KEY)}").but(days=7).before is None


_words = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=filters.MOST_TEXT).map(str.strip)
_bounds = st.one_of(st.none(), st.integers(0, 10**6)), st.one_of(st.none(), st.integers(10**6, 86_400_000))


@given(
    query=st.builds(
        UsageQuery,
        days=st.integers(1, filters.MOST_DAYS),
        models=st.sets(_words.filter(bool), max_size=5).map(lambda names: tuple(sorted(names))),
        endpoint=st.sampled_from(["", "chat", "images", "gpu/run"]),
        status=st.sampled_from(["", "200", "429", "2xx", "5xx"]),
        key_id=st.one_of(st.none(), st.uuids()),
        min_latency_ms=_bounds[0],
        max_latency_ms=_bounds[1],
        min_cost_microcredits=_bounds[0],
        max_cost_microcredits=_bounds[1],
        text=_words,
        limit=st.one_of(st.none(), st.integers(1, filters.MOST_ROWS)),
        before=st.one_of(st.none(), st.just(ids.uuid7()), st.uuids()),
        today=st.just(TODAY),
    )
)
def test_an_address_brings_its_query_back(query: UsageQuery) -> None:
    assert parse(query.query_string()) == query
