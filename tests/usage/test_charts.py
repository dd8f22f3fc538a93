"""Figures, tiles and their words out of sums: pure, and checked by Plotly itself."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import plotly.graph_objects as go
import pytest
from django.utils import translation

from core.money import MICROCREDITS_PER_USD as USD
from usage import charts, tiles
from usage.queries import DayCost, ModelCost, Summary, Totals

ROOT = Path(__file__).resolve().parents[2]
LAST = date(2026, 5, 10)


def summed(costs: dict[str, list[int]], previous: Totals | None = None, **sums: int) -> Summary:
    """A summary of what each model cost a day, in microcredits; the last number is the last day's."""
    length = max((len(amounts) for amounts in costs.values()), default=1)
    days = [
        DayCost(
            LAST - timedelta(days=length - 1 - at),
            Totals(charged_microcredits=sum(amounts[at] for amounts in costs.values())),
            {model: amounts[at] for model, amounts in costs.items()},
        )
        for at in range(length)
    ]
    models = [ModelCost(model, Totals(charged_microcredits=sum(amounts))) for model, amounts in costs.items()]
    models.sort(key=lambda cost: -cost.totals.charged_microcredits)
    total = sum(sum(amounts) for amounts in costs.values())
    return Summary(Totals(charged_microcredits=total, **sums), models, days, previous)


def both(summary: Summary) -> tuple[charts.Figure, charts.Figure]:
    shown = charts.series(summary)
    return charts.daily([cost.day for cost in summary.days], shown), charts.donut(shown)


NINE = {f"model-{number}": [number * USD, (number + 1) * USD] for number in range(1, 10)}


@pytest.mark.parametrize("costs", [NINE, {"one": [3]}, {"one": [0] * 30, "two": [USD] * 30}, {}])
def test_plotly_takes_the_figures(costs: dict[str, list[int]]) -> None:
    for figure in both(summed(costs)):
        checked = go.Figure(figure).to_plotly_json()
        assert len(checked["data"]) == len(figure["data"])
        assert "NaN" not in json.dumps(figure)


def test_the_five_dearest_models_stand_alone_and_the_rest_together() -> None:
    shown = charts.series(summed(NINE))
    assert [one.label for one in shown] == ["model-9", "model-8", "model-7", "model-6", "model-5", "other (4)"]
    assert [one.swatch for one in shown] == [1, 2, 3, 4, 5, 0]
    assert shown[-1].by_day == (10 * USD, 14 * USD)
    assert sum(one.total_microcredits for one in shown) == 99 * USD
    assert round(sum(one.share for one in shown), 3) == 100


def test_a_rest_of_one_model_bears_its_name() -> None:
    six = dict(list(NINE.items())[:6])
    assert [one.label for one in charts.series(summed(six))][-1] == "model-1"


def test_models_that_cost_nothing_are_not_drawn() -> None:
    assert [one.label for one in charts.series(summed({"paid": [5], "free": [0]}))] == ["paid"]
    assert charts.series(summed({"free": [0]})) == []


def test_bars_and_ring_show_the_same_dollars() -> None:
    daily, donut = both(summed(NINE))
    drawn = sum(value for layer in daily["data"] for value in layer["y"] if value is not None)
    assert drawn == sum(donut["data"][0]["values"]) == 99.0
    assert daily["data"][0]["x"] == ["2026-05-09", "2026-05-10"]
    assert donut["layout"]["annotations"][0]["text"] == "$99.00"
    assert daily["layout"]["meta"]["rest"] == donut["layout"]["meta"]["rest"] == ["other (4)"]


@pytest.mark.parametrize(
    ("microcredits", "middle", "hint"),
    [
        (32_375 * USD, "$32,375", "$,.2f"),
        (323_75 * USD // 100, "$324", "$,.2f"),
        (12 * USD, "$12.00", "$,.2f"),
        (USD // 50, "$0.0200", "$,.4f"),
        (USD // 100_000, "$0.0000", "$,.6f"),
    ],
)
def test_small_ranges_show_more_decimals(microcredits: int, middle: str, hint: str) -> None:
    daily, donut = both(summed({"one": [microcredits]}))
    assert donut["layout"]["annotations"][0]["text"] == middle
    assert hint in daily["data"][0]["hovertemplate"]
    assert hint in donut["data"][0]["hovertemplate"]


def test_a_model_name_brings_no_markup_into_a_chart() -> None:
    daily, donut = both(summed({'<a href="//evil">x</a>': [USD]}))
    assert "<a" not in json.dumps([daily, donut])


def test_a_single_day_has_an_axis_of_one_day() -> None:
    daily, _ = both(summed({"one": [USD]}))
    assert daily["layout"]["xaxis"]["range"] == ["2026-05-09 12:00", "2026-05-10 12:00"]


def test_the_product_does_without_plotly_in_memory() -> None:
    code = "import django; django.setup(); import sys, usage.views, usage.api; sys.exit('plotly' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=False).returncode == 0


BEFORE = Totals(requests=100, errors=1, charged_microcredits=200 * USD)


def notes(summary: Summary, days: int = 30) -> list[tuple[str, str, str]]:
    return [(tile.value.split(">")[1].split("<")[0], tile.note, tile.tone) for tile in tiles.tiles(summary, days)]


def test_tiles_compare_with_the_days_before() -> None:
    now = summed(
        {"one": [150 * USD]},
        BEFORE,
        requests=110,
        errors=3,
        input_tokens=1_000,
        cached_input_tokens=410,
        saved_microcredits=96 * USD,
    )
    assert notes(now) == [
        ("$150.00", "−25.0% vs. previous 30\u00a0d", "success"),
        ("110", "+10.0% vs. previous 30\u00a0d", "neutral"),
        ("$96.00", "41% of input tokens cached", "success"),
        ("2.73%", "3 failed · +1.73 pt vs. previous 30\u00a0d", "error"),
    ]


def test_an_unfinished_day_is_not_called_cheaper_than_a_whole_one() -> None:
    spend, requests, *_ = notes(summed({"one": [USD]}, BEFORE, requests=5), days=1)
    assert spend == ("$1.00", "yesterday $200.00", "neutral")
    assert requests == ("5", "yesterday 100", "neutral")


def test_without_a_past_nothing_is_compared() -> None:
    first = notes(summed({"one": [USD]}, Totals(), requests=5))
    assert [note for _, note, _ in first] == ["none before", "none before", "0% of input tokens cached", "0 failed"]
    searched = notes(summed({"one": [USD]}, None, requests=5))
    assert [note for _, note, _ in searched] == ["100 credits", "", "0% of input tokens cached", "0 failed"]


def test_numbers_in_notes_stay_whole_in_right_to_left_text() -> None:
    with translation.override("ur"):
        spend = tiles.tiles(summed({"one": [150 * USD]}, BEFORE), 30)[0]
    assert "\u2066" in spend.note
