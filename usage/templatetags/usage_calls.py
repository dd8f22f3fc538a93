"""Words for one call's facts."""

from __future__ import annotations

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from uuid import UUID

from django import template
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from catalog import endpoints
from core import ids
from core.templatetags.amounts import isolated

register = template.Library()


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
def made_at(identifier: UUID) -> datetime:
    """When the call of this id began."""
    return ids.time_of(identifier)
