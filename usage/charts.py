"""The figures of the usage page as plain data in Plotly's own form.

Importing Plotly costs half a second and 35 MB in every process, so a figure is a dict here and a test has
plotly.graph_objects check it. Colours come from the style sheet: static/js/charts.js gives them out in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

from django.utils.html import escape
from django.utils.translation import gettext as _

from core import money
from usage.queries import Summary
from usage.templatetags.usage_calls import decimal_text

#: So many models get a colour of their own; the rest is summed up.
TOP_MODELS: Final = 5

#: Plotly measures time axes in milliseconds.
_DAY_MS: Final = 86_400_000

Figure = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Series:
    """The cost of one model, or of all the rest, in all and by day of the range. Amounts are microcredits."""

    label: str
    #: Its place among the chart's colours from 1 on; 0 is the quiet colour of the rest.
    swatch: int
    total_microcredits: int
    by_day: tuple[int, ...]
    #: Of the whole, in percent.
    share: Decimal

    @property
    def share_text(self) -> str:
        """The share as people read it: 37.4%."""
        return f"{decimal_text(self.share, 1)}%"


def series(summary: Summary) -> list[Series]:
    """The dearest models of ``summary`` that cost anything, and one series for the rest of them."""
    names = [cost.model for cost in summary.models if cost.totals.charged_microcredits]
    own = names if len(names) == TOP_MODELS + 1 else names[:TOP_MODELS]
    rest = names[len(own) :]
    found = [_series(summary, [name], name, place) for place, name in enumerate(own, 1)]
    if rest:
        found.append(_series(summary, rest, _("other (%(count)d)") % {"count": len(rest)}, 0))
    return found


def daily(days: Sequence[date], shown: Sequence[Series]) -> Figure:
    """Stacked bars of cost in US dollars: a bar a day, a layer a model."""
    highest = max((sum(amounts) for amounts in zip(*(one.by_day for one in shown), strict=True)), default=0)
    layers = [
        {
            "type": "bar",
            "name": escape(one.label),
            "x": [day.isoformat() for day in days],
            "y": [_dollars(amount) if amount else None for amount in one.by_day],
            "width": _DAY_MS * (0.75 if len(days) > 3 else 0.3),
            "hovertemplate": f"%{{y:{_format(highest)}}}",
        }
        for one in shown
    ]
    layout = {
        "barmode": "stack",
        "barcornerradius": 3,
        "hovermode": "x unified",
        "showlegend": False,
        "margin": {"l": 48, "r": 4, "t": 8, "b": 28},
        "xaxis": {
            "type": "date",
            "tickformat": "%b %-d",
            "hoverformat": "%a, %b %-d",
            # Whole days where the axis is short: left alone it would name the same day twice.
            **({"dtick": _DAY_MS * (1 if len(days) <= 4 else 2)} if len(days) <= 8 else {"nticks": 7}),
            "showgrid": False,
            "range": _half_a_day_around(days),
            "fixedrange": True,
        },
        "yaxis": {"tickprefix": "$", "nticks": 5, "zeroline": False, "rangemode": "tozero", "fixedrange": True},
        "meta": _rest(shown),
    }
    return {"data": layers, "layout": layout}


def donut(shown: Sequence[Series]) -> Figure:
    """The same cost as shares of a ring, its sum in the middle."""
    total = sum(one.total_microcredits for one in shown)
    greatest = max((one.total_microcredits for one in shown), default=0)
    ring = {
        "type": "pie",
        "labels": [escape(one.label) for one in shown],
        "values": [_dollars(one.total_microcredits) for one in shown],
        "hole": 0.68,
        "sort": False,
        "direction": "clockwise",
        "textinfo": "none",
        "hovertemplate": f"%{{label}} · %{{value:{_format(greatest)}}} · %{{percent}}<extra></extra>",
    }
    layout = {
        "showlegend": False,
        "margin": {"l": 4, "r": 4, "t": 4, "b": 4},
        "annotations": [{"text": _in_the_middle(total), "showarrow": False, "font": {"size": 22}}],
        "meta": _rest(shown),
    }
    return {"data": [ring], "layout": layout}


def _series(summary: Summary, names: Sequence[str], label: str, swatch: int) -> Series:
    by_day = tuple(sum(day.by_model.get(name, 0) for name in names) for day in summary.days)
    total = sum(by_day)
    whole = summary.totals.charged_microcredits
    return Series(label, swatch, total, by_day, Decimal(100 * total) / whole if whole else Decimal(0))


def _rest(shown: Sequence[Series]) -> dict[str, list[str]]:
    return {"rest": [escape(one.label) for one in shown if not one.swatch]}


def _dollars(amount_microcredits: int) -> float:
    """Only drawn, never added up again: a double is exact enough for a pixel and a hint."""
    return float(money.usd(amount_microcredits))


def _format(greatest_microcredits: int) -> str:
    """Two decimals where cents matter, more where a whole range costs less than a few of them."""
    if greatest_microcredits >= money.MICROCREDITS_PER_USD // 10:
        return "$,.2f"
    return "$,.4f" if greatest_microcredits >= money.MICROCREDITS_PER_USD // 1000 else "$,.6f"


def _in_the_middle(total_microcredits: int) -> str:
    amount = money.usd(total_microcredits)
    if amount >= 100:
        return f"${decimal_text(amount, 0)}"
    decimals = 2 if total_microcredits >= money.MICROCREDITS_PER_USD // 10 else 4
    return f"${decimal_text(amount, decimals)}"


def _half_a_day_around(days: Sequence[date]) -> list[str]:
    # Bars stand on midnight: without a range of our own the axis of a single day would be a millisecond wide.
    first, last = days[0], days[-1]
    return [f"{date.fromordinal(first.toordinal() - 1)} 12:00", f"{last} 12:00"]
