"""Filters and component tags as rows of input and output; none needs a database."""

from __future__ import annotations

from typing import Any

import pytest
from django import forms
from django.template import Context, Template, TemplateSyntaxError
from django.utils import translation

from core.templatetags import amounts, devices, ui


def shown(source: str, **values: Any) -> str:
    return Template("{% load amounts i18n ui %}" + source).render(Context(values))


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "—"),
        (0, "0"),
        (1, "0.000001"),
        (9_999, "0.009999"),
        (10_000, "0.01"),
        (407_140_000, "407.14"),
        (407_145_000, "407.15"),
        (18_420_000_000, "18,420"),
        (-5_000_000, "-5"),
    ],
)
def test_credits_are_read_in_two_decimals_and_tiny_ones_whole(amount: int | None, text: str) -> None:
    assert amounts.credits_text(amount) == text


@pytest.mark.parametrize(("amount", "text"), [(1, "0.000001"), (407_140_000, "407.14"), (5_000_000, "5.00")])
def test_exact_credits_lose_nothing(amount: int, text: str) -> None:
    assert amounts.credits_exact_text(amount) == text


def test_a_balance_is_never_rounded_up() -> None:
    assert amounts.credits_floor_text(18_420_999_999) == "18,420"


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "$0.00"), (420_000, "$0.0042"), (1_000_000, "$0.01"), (32_375_000_000, "$323.75"), (-100_000_000, "-$1.00")],
)
def test_dollars(amount: int, text: str) -> None:
    assert amounts.usd_text(amount) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1k"),
        (8_240, "8.2k"),
        (9_960, "10k"),
        (355_400, "355k"),
        (999_999, "1M"),
        (1_400_000, "1.4M"),
        (2_000_000_000, "2B"),
    ],
)
def test_compact_counts(value: int, text: str) -> None:
    assert amounts.compact_text(value) == text


def test_numbers_keep_their_direction_and_groups_in_right_to_left_pages() -> None:
    with translation.override("ur"):
        assert amounts.credits(18_420_000_000) == '<bdi dir="ltr" class="tnum">18,420</bdi>'


def test_markup_in_a_value_is_escaped() -> None:
    evil = "<img src=x>"
    for source in (
        "{{ evil|ltr }}",
        "{% badge evil %}",
        "{% tile label=evil value=evil note=evil %}",
        "{% copy_button text=evil %}",
        "{% code_block id='x' %}{{ evil }}{% endcode_block %}",
        "{% card title=evil %}{{ evil }}{% endcard %}",
        "{% dialog id='d' title=evil subtitle=evil %}{{ evil }}{% enddialog %}",
        "{% banner title=evil %}{{ evil }}{% endbanner %}",
    ):
        html = shown(source, evil=evil)
        assert "<img" not in html
        assert "&lt;img" in html
        assert "&amp;lt;" not in html, "escaped twice"


def test_an_icon_is_hidden_from_screen_readers_unless_it_has_a_meaning() -> None:
    assert 'aria-hidden="true"' in ui.icon("check")
    labelled = ui.icon("check", label="Done")
    assert 'role="img" aria-label="Done"' in labelled
    assert "aria-hidden" not in labelled


def test_unknown_icons_and_tones_fail_loudly() -> None:
    with pytest.raises(TemplateSyntaxError, match="no icon"):
        ui.icon("no-such-icon")
    with pytest.raises(TemplateSyntaxError, match="unknown tone"):
        ui.badge("x", tone="purple")


@pytest.mark.parametrize(
    ("used", "limit", "percent", "tone"),
    [(0, 100, 0, "primary"), (79, 100, 79, "primary"), (80, 100, 80, "warning"), (100, 100, 100, "error"),
     (250, 100, 100, "error"), (1, 0, 100, "error")],
)  # fmt: skip
def test_a_meter_warns_before_the_limit(used: int, limit: int, percent: int, tone: str) -> None:
    html = ui.meter(used, limit, "Spent")
    assert f'value="{percent}"' in html
    assert f"tone-{tone}" in html


class Sample(forms.Form):
    name = forms.CharField(help_text="Seen by you.")
    secret = forms.CharField(widget=forms.PasswordInput(attrs={"placeholder": "Secret"}))
    kept = forms.CharField(widget=forms.HiddenInput, required=False)


def test_a_field_ties_its_label_help_and_error_together() -> None:
    html = ui.field(Sample({"name": ""})["name"])
    assert '<label class="field-label " for="id_name">' in html
    assert 'aria-describedby="id_name_helptext id_name_error"' in html
    assert 'aria-invalid="true"' in html
    assert 'id="id_name_helptext"' in html
    assert 'id="id_name_error"' in html


def test_a_field_without_its_help_does_not_point_to_it() -> None:
    html = ui.field(Sample()["name"], no_help=True)
    assert "helptext" not in html


def test_a_placeholder_does_not_repeat_the_label() -> None:
    assert "placeholder" not in ui.field(Sample()["secret"])


def test_a_whole_form_keeps_hidden_fields_bare() -> None:
    html = ui.form_fields(Sample())
    assert html.count('<div class="field">') == 2
    assert '<input type="hidden" name="kept"' in html


@pytest.mark.parametrize(
    ("here", "there", "current"),
    [("/", "/", True), ("/usage", "/", False), ("/usage/", "/usage", True), ("/usage/x", "/usage", True),
     ("/usages", "/usage", False)],
)  # fmt: skip
def test_a_menu_entry_knows_its_pages(here: str, there: str, current: bool) -> None:
    assert ui.is_current(here, there) is current


@pytest.mark.parametrize(
    ("name", "letters"),
    [("Sana Khan", "SK"), ("omar@example.com", "O"), ("a.b_c@x", "AB"), ("", "?"), ("ثنا خان", "ثخ")],
)
def test_initials(name: str, letters: str) -> None:
    assert ui.initials(name) == letters


@pytest.mark.parametrize(
    ("agent", "name", "phone"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) Chrome/130 Safari/537.36", "Chrome on Linux", False),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile Safari/604.1", "Safari on iPhone", True),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/130 Safari/537.36 Edg/130", "Edge on Windows", False),
        ("python-requests/2.32", "python-requests/2.32", False),
        ("", "Unknown device", False),
    ],
)  # fmt: skip
def test_devices_in_words(agent: str, name: str, phone: bool) -> None:
    assert devices.device_name(agent) == name
    assert devices.is_phone(agent) is phone
