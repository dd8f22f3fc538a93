"""A browser's user agent in words that its owner knows."""

from __future__ import annotations

from django import template
from django.utils.translation import gettext as _

register = template.Library()

# In this order: later browsers carry the names of earlier ones in theirs.
BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("CrOS", "ChromeOS"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)
PHONES = ("iPhone", "Android", "Mobile")


def _first(user_agent: str, names: tuple[tuple[str, str], ...]) -> str:
    return next((name for mark, name in names if mark in user_agent), "")


@register.filter
def device_name(user_agent: str) -> str:
    """Such as Firefox on Linux; what can't be told is left out, a stranger goes by the start of its own name."""
    browser, system = _first(user_agent, BROWSERS), _first(user_agent, SYSTEMS)
    if browser and system:
        return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system or user_agent[:40] or _("Unknown device")


@register.filter
def is_phone(user_agent: str) -> bool:
    """Whether the device is one that is held in the hand."""
    return any(mark in user_agent for mark in PHONES)
