"""The component sheet: one page with every component, for the eye and for the browser tests."""

from __future__ import annotations

import random
from datetime import date, timedelta
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

CREDIT = 1_000_000
MODELS = ["claude-sonnet-4-6", "gpt-5.5", "gemini-3.1-pro", "gpt-image-2", "kling-v3", "other (9)"]
CENTS = [12093, 7821, 5118, 3677, 2427, 1239]


class SampleForm(forms.Form):
    """One field of each kind that pages use."""

    name = forms.CharField(max_length=40, help_text="Seen only by you.")
    email = forms.EmailField(label="E-mail address")
    role = forms.ChoiceField(choices=[("admin", "Admin"), ("viewer", "Viewer")], required=False)
    note = forms.CharField(widget=forms.Textarea(attrs={"rows": 2}), required=False)
    agree = forms.BooleanField(label="I have saved the key", help_text="It can't be shown again.")


def _keys() -> list[dict[str, Any]]:
    rows = [
        ("prod-eu", "ck_9fQ2…x7Lm", 41_230, 50_000, "2 minutes ago", "Near limit", "warning"),
        ("prod-us", "ck_Ww81…0pKd", 18_950, 50_000, "Just now", "Active", "success"),
        ("claude-code-laptops", "ck_t6Zb…aa3R", 20_000, 20_000, "Yesterday", "Disabled", "error"),
        ("personal", "ck_Nn4e…q2Tu", 87, 0, "May 2", "Active", "success"),
    ]
    return [
        {
            "name": name, "prefix": prefix, "used": used * CREDIT, "limit": limit * CREDIT, "seen": seen,
            "state": state, "tone": tone, "percent": used * 100 // limit if limit else 0, "menu": f"key-menu-{at}",
        }
        for at, (name, prefix, used, limit, seen, state, tone) in enumerate(rows)
    ]  # fmt: skip


def _daily() -> dict[str, Any]:
    dice = random.Random(7)
    days = [(date(2026, 4, 11) + timedelta(days=at)).isoformat() for at in range(30)]
    bars = [
        {
            "type": "bar",
            "name": name,
            "x": days,
            "y": [round(dice.uniform(0.6, 1.4) * (3.2 - index / 2), 2) for _ in days],
            "hovertemplate": "%{x|%b %-d}: %{y:$.2f}",
        }
        for index, name in enumerate(MODELS)
    ]
    layout = {
        "barmode": "stack",
        "bargap": 0.25,
        "barcornerradius": 3,
        "showlegend": False,
        "meta": {"rest": [MODELS[-1]]},
        "xaxis": {"tickformat": "%b %-d", "showgrid": False},
        "yaxis": {"tickprefix": "$", "nticks": 5},
    }
    return {"data": bars, "layout": layout}


def _share() -> dict[str, Any]:
    pie = {
        "type": "pie",
        "labels": MODELS,
        "values": [cents / 100 for cents in CENTS],
        "hole": 0.66,
        "sort": False,
        "direction": "clockwise",
        "textinfo": "none",
        "hovertemplate": "%{label}: %{value:$.2f}",
    }
    layout = {
        "showlegend": False,
        "meta": {"rest": [MODELS[-1]]},
        "margin": {"t": 4, "b": 4, "l": 4, "r": 4},
        "annotations": [{"text": "$324", "showarrow": False, "font": {"size": 20}}],
    }
    return {"data": [pie], "layout": layout}


def _log() -> list[dict[str, Any]]:
    dice = random.Random(3)
    return [
        {
            "at": f"May {9 - at}, 1{at}:28", "model": MODELS[at % 3], "path": "/v1/chat/completions",
            "input": dice.randint(900, 700_000), "output": dice.randint(80, 27_000),
            "latency": f"{dice.uniform(1, 90):.1f} s", "status": "502" if at == 4 else "200",
            "tone": "error" if at == 4 else "success", "cost": dice.randint(1, 400 * CREDIT),
        }
        for at in range(6)
    ]  # fmt: skip


def sheet(request: HttpRequest) -> HttpResponse:
    """Every component on one page, with a form that has come back with errors."""
    values = {
        "keys": _keys(),
        "log": _log(),
        "form": SampleForm({"name": "prod-eu", "email": "not an address", "agree": ""}),
        "amounts": [(dollars, dollars * 100 * CREDIT) for dollars in (2, 10, 50, 200)],
        "shares": [
            (name, cents * CREDIT, f"{cents / sum(CENTS):.1%}") for name, cents in zip(MODELS, CENTS, strict=True)
        ],
        "daily": _daily(),
        "share": _share(),
    }
    return render(request, "look/sheet.html", values)
