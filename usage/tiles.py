"""The four figures on top of the usage page, each with a note that compares it. Pure: sums in, words out."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.utils.safestring import SafeString
from django.utils.translation import get_language_bidi
from django.utils.translation import gettext as _

from core.templatetags import amounts
from usage.queries import Summary, Totals
from usage.templatetags.usage_calls import decimal_text


@dataclass(frozen=True, slots=True)
class Tile:
    """What the tile component shows."""

    label: str
    value: SafeString
    note: str
    tone: str
    icon: str


def tiles(summary: Summary, days: int) -> list[Tile]:
    """Spend, requests, cache savings and error rate over ``days`` days."""
    now, before = summary.totals, summary.previous
    return [_spend(now, before, days), _requests(now, before, days), _savings(now), _errors(now, before, days)]


def _spend(now: Totals, before: Totals | None, days: int) -> Tile:
    credits = amounts.credits_text(now.charged_microcredits)
    note, tone = _("%(credits)s credits") % {"credits": _number(credits)}, "neutral"
    if before is not None:
        note = _against(now.charged_microcredits, before.charged_microcredits, days)
        if days == 1:
            note = _("yesterday %(amount)s") % {"amount": _number(amounts.usd_text(before.charged_microcredits))}
        elif now.charged_microcredits < before.charged_microcredits:
            tone = "success"
    return Tile(_("Spend"), amounts.usd(now.charged_microcredits), note, tone, "wallet")


def _requests(now: Totals, before: Totals | None, days: int) -> Tile:
    note = ""
    if before is not None:
        note = _against(now.requests, before.requests, days)
        if days == 1:
            note = _("yesterday %(count)s") % {"count": _number(amounts.count_text(before.requests))}
    return Tile(_("Requests"), amounts.count(now.requests), note, "neutral", "activity")


def _savings(now: Totals) -> Tile:
    cached = _percent(now.cached_input_tokens, now.input_tokens)
    note = _("%(percent)s of input tokens cached") % {"percent": _number(f"{decimal_text(cached, 0)}%")}
    tone = "success" if now.cached_input_tokens else "neutral"
    return Tile(_("Cache savings"), amounts.usd(now.saved_microcredits), note, tone, "database-zap")


def _errors(now: Totals, before: Totals | None, days: int) -> Tile:
    rate = _percent(now.errors, now.requests)
    note, tone = _("%(count)s failed") % {"count": _number(amounts.count_text(now.errors))}, "neutral"
    if before is not None and before.requests:
        points = rate - _percent(before.errors, before.requests)
        change = _("%(points)s pt vs. %(period)s") % {"points": _number(_signed(points, 2)), "period": _period(days)}
        note = f"{note} · {change}"
        tone = "error" if points >= Decimal("0.01") else "success" if points <= Decimal("-0.01") else "neutral"
    value = amounts.isolated(f"{decimal_text(rate, 2)}%")
    return Tile(_("Error rate"), value, note, tone, "triangle-alert")


def _against(now: int, before: int, days: int) -> str:
    """How ``now`` compares with ``before``, in words."""
    if not before:
        return _("none before")
    change = Decimal(100 * (now - before)) / before
    decimals = 0 if abs(change) >= 100 else 1
    return _("%(percent)s vs. %(period)s") % {
        "percent": _number(f"{_signed(change, decimals)}%"),
        "period": _period(days),
    }


def _period(days: int) -> str:
    return _("yesterday") if days == 1 else _("previous %(days)d\u00a0d") % {"days": days}


def _number(text: str) -> str:
    """The text, isolated where the words around it run from right to left: a note is plain text, without markup."""
    return f"\u2066{text}\u2069" if get_language_bidi() else text


def _percent(part: int, whole: int) -> Decimal:
    return Decimal(100 * part) / whole if whole else Decimal(0)


def _signed(value: Decimal, decimals: int) -> str:
    text = decimal_text(abs(value), decimals)
    sign = "±" if text == decimal_text(Decimal(0), decimals) else "+" if value > 0 else "−"
    return f"{sign}{text}"
