"""Words for one call's facts."""

from __future__ import annotations

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Final
from uuid import UUID

from django import template
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from catalog import endpoints
from catalog.pricing import Line
from core import ids
from core.templatetags.amounts import isolated
from usage import receipts

register = template.Library()

_BUCKETS: Final = {
    "input": gettext_lazy("Input tokens"),
    "cached_input": gettext_lazy("Input read from cache"),
    "cache_write_5m": gettext_lazy("Cache writes, 5 minutes"),
    "cache_write_1h": gettext_lazy("Cache writes, 1 hour"),
    "output": gettext_lazy("Output tokens"),
    "audio_input": gettext_lazy("Audio input tokens"),
    "audio_output": gettext_lazy("Audio output tokens"),
    "image": gettext_lazy("Images"),
    "second": gettext_lazy("Seconds"),
    "clip": gettext_lazy("Clips"),
    "request": gettext_lazy("Requests"),
    "character": gettext_lazy("Characters"),
    "byte": gettext_lazy("Bytes of text"),
}
_OUTCOMES: Final = {
    "account": gettext_lazy("our account refused"),
    "bad_answer": gettext_lazy("unreadable answer"),
    "connect": gettext_lazy("no connection"),
    "connect_timeout": gettext_lazy("connection timed out"),
    "cut": gettext_lazy("broken off"),
    "first_byte_timeout": gettext_lazy("no answer in time"),
    "given_up": gettext_lazy("given up"),
    "idle_timeout": gettext_lazy("fell silent"),
    "model_missing": gettext_lazy("model not there"),
    "pool_busy": gettext_lazy("no free connection"),
    "rate_limit": gettext_lazy("rate-limited"),
    "refused": gettext_lazy("request refused"),
    "server_error": gettext_lazy("provider error"),
    "stale": gettext_lazy("connection lost"),
    "too_large": gettext_lazy("answer too large"),
    "total_timeout": gettext_lazy("took too long"),
    "unknown_here": gettext_lazy("not kept there"),
    "unusable": gettext_lazy("can't be used"),
}


def decimal_text(value: Decimal, decimals: int) -> str:
    """``value`` rounded half up to ``decimals``, as people of the language in force write it.

    Django's own formatting cuts off instead of rounding.
    """
    rounded = value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP)
    return number_format(rounded, decimals, force_grouping=True)


@register.filter
def duration_text(milliseconds: int | None) -> str:
    """Milliseconds as people read them: 820 ms, 10.4 s, 1,204 s."""
    if milliseconds is None:
        return "—"
    if milliseconds < 1_000:
        return _("%(number)s ms") % {"number": milliseconds}
    seconds = Decimal(milliseconds) / 1_000
    return _("%(number)s s") % {"number": decimal_text(seconds, 1 if seconds < 1_000 else 0)}


@register.filter
def duration(milliseconds: int | None) -> SafeString:
    """``duration_text``, isolated."""
    return isolated(duration_text(milliseconds))


@register.filter
def endpoint_path(kind: str) -> str:
    """The path that callers of this endpoint kind use; what is no kind stays as it is."""
    return endpoints.PATHS.get(kind, kind)


@register.filter
def target_text(target: str) -> str:
    """provider/region/model of a log row without the empty region."""
    return target.replace("//", "/", 1) or "—"


@register.filter
def status_tone(status: int) -> str:
    """Green for what worked, amber for what the caller can mend, red for what failed on this side."""
    return "success" if status < 400 else "warning" if status < 500 else "error"


@register.filter
def units_text(units: Decimal) -> str:
    """A count of images, seconds or clips without idle zeros."""
    return number_format(units.normalize() if units % 1 else units.to_integral_value(), force_grouping=True)


@register.filter
def bucket_text(bucket: str) -> str:
    """What a line of a receipt counts; tools and units keep their own names."""
    return str(_BUCKETS.get(bucket, bucket))


@register.filter
def outcome_text(error: str) -> str:
    """What went wrong with an attempt, by the word that the log has for it."""
    return str(_OUTCOMES.get(error, error))


@register.filter
def per_million(line: Line) -> bool:
    """Whether the line's price is for a million tokens."""
    return receipts.is_tokens(line)


@register.filter
def exact_cost(line: Line) -> SafeString:
    """A line's credits before rounding, every decimal."""
    cost = receipts.exact_credits(line)
    return isolated(number_format(cost.normalize() if cost % 1 else cost.to_integral_value(), force_grouping=True))


@register.filter
def made_at(identifier: UUID) -> datetime:
    """When the call of this id began."""
    return ids.time_of(identifier)
