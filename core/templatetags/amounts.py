"""Amounts for people to read: credits, dollars and plain counts, safe inside right-to-left text.

Every filter here takes an integer of microcredits (or a plain count) and writes an isolated, tabular number. The
``*_text`` twins give the same words without markup, for attributes, titles and ``blocktranslate``.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

from django import template
from django.utils import numberformat
from django.utils.formats import get_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core import money

register = template.Library()

CENTS = Decimal("0.01")
SMALL_STEPS = ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k"))


def isolated(text: str) -> SafeString:
    """The text as a left-to-right island with digits of equal width."""
    return format_html('<bdi dir="ltr" class="tnum">{}</bdi>', text)


def _grouped(value: Decimal, decimals: int | None) -> str:
    # Some locales of Django (Urdu) name no group size; people still read groups of three there.
    return numberformat.format(
        value,
        get_format("DECIMAL_SEPARATOR"),
        decimal_pos=decimals,
        grouping=get_format("NUMBER_GROUPING") or 3,
        thousand_sep=get_format("THOUSAND_SEPARATOR"),
        force_grouping=True,
        use_l10n=True,
    )


@register.filter
def credits_text(amount_microcredits: int | None) -> str:
    """Credits as read in a table: two decimals, whole amounts without, and very small ones to the microcredit."""
    if amount_microcredits is None:
        return "—"
    value = money.credits(amount_microcredits)
    if value == value.to_integral_value():
        return _grouped(value, 0)
    if abs(value) < CENTS:
        return _grouped(value, None)
    return _grouped(value.quantize(CENTS, rounding=ROUND_HALF_UP), 2)


@register.filter
def credits_exact_text(amount_microcredits: int | None) -> str:
    """Credits with every decimal that the ledger holds, at least two."""
    if amount_microcredits is None:
        return "—"
    value = money.credits(amount_microcredits)
    exponent = value.as_tuple().exponent
    return _grouped(value, max(2, -exponent if isinstance(exponent, int) else 2))


@register.filter
def credits_floor_text(amount_microcredits: int | None) -> str:
    """Whole credits, rounded down: a balance never looks larger than it is."""
    if amount_microcredits is None:
        return "—"
    return _grouped(money.credits(amount_microcredits).to_integral_value(rounding=ROUND_DOWN), 0)


@register.filter
def usd_text(amount_microcredits: int | None) -> str:
    """US dollars with two decimals; amounts under one cent keep their significant decimals."""
    if amount_microcredits is None:
        return "—"
    value = money.usd(amount_microcredits)
    sign = "-" if value < 0 else ""
    value = abs(value)
    if value and value < CENTS:
        return f"{sign}${_grouped(value.normalize(), None)}"
    return f"{sign}${_grouped(value.quantize(CENTS, rounding=ROUND_HALF_UP), 2)}"


@register.filter
def count_text(value: int | None) -> str:
    """A count with its thousands grouped."""
    return "—" if value is None else _grouped(Decimal(value), 0)


@register.filter
def compact_text(value: int | None) -> str:
    """A count in three or four characters: 950, 8.2k, 355k, 1.4M."""
    if value is None:
        return "—"
    for step, letter in SMALL_STEPS:
        scaled = Decimal(value) / step
        decimals = 1 if abs(scaled) < Decimal("9.95") else 0
        rounded = scaled.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP)
        # The rounded figure decides, so that 999,999 is read as 1M; below a thousand a count is shown whole.
        if abs(rounded) >= 1 and abs(value) >= 1_000:
            return f"{_grouped(rounded if rounded % 1 else rounded.quantize(Decimal(1)), None)}{letter}"
    return _grouped(Decimal(value), 0)


@register.filter
def credits(amount_microcredits: int | None) -> SafeString:
    """``credits_text``, isolated."""
    return isolated(credits_text(amount_microcredits))


@register.filter
def credits_exact(amount_microcredits: int | None) -> SafeString:
    """``credits_exact_text``, isolated."""
    return isolated(credits_exact_text(amount_microcredits))


@register.filter
def credits_floor(amount_microcredits: int | None) -> SafeString:
    """``credits_floor_text``, isolated."""
    return isolated(credits_floor_text(amount_microcredits))


@register.filter
def usd(amount_microcredits: int | None) -> SafeString:
    """``usd_text``, isolated."""
    return isolated(usd_text(amount_microcredits))


@register.filter
def count(value: int | None) -> SafeString:
    """``count_text``, isolated."""
    return isolated(count_text(value))


@register.filter
def compact(value: int | None) -> SafeString:
    """``compact_text``, isolated."""
    return isolated(compact_text(value))


@register.filter
def ltr(value: object) -> SafeString:
    """Any short text (a model name, an id, "30 d") that must keep its left-to-right order."""
    return format_html('<bdi dir="ltr">{}</bdi>', value)
