"""Does a change let a key do more than before? More is asked of whoever does that than of whoever takes power away:
in an emergency a key must be stopped at once, by whoever sits at the browser."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from keys import leaving
from keys.models import ApiKey


def widens(key: ApiKey, fields: Mapping[str, Any], *, enabled: bool | None = None) -> bool:
    """Whether ``fields`` (those of `keys.issuing.Terms`, checked) or ``enabled`` give ``key`` more than it has.

    Also where a key comes back to life that nobody answers for any more. A name says nothing.
    """
    if enabled and (not key.enabled or leaving.is_orphan(key)):
        return True
    return any(rule(getattr(key, name), fields[name]) for name, rule in _RULES.items() if name in fields)


def _limit(before: int | None, after: int | None) -> bool:
    return before is not None and (after is None or after > before)


def _stays_on(before: bool, after: bool) -> bool:
    return before and not after


def _lives_longer(before: datetime | None, after: datetime | None) -> bool:
    return before is not None and (after is None or after > before)


def _models(before: Iterable[str], after: Iterable[str]) -> bool:
    had, has = set(before), set(after)
    return bool(had) and (not has or not has <= had)


def _networks(before: Iterable[str], after: Iterable[str]) -> bool:
    had = [ipaddress.ip_network(text) for text in before]
    has = [ipaddress.ip_network(text) for text in after]
    return bool(had) and (not has or not all(any(_lies_in(one, other) for other in had) for one in has))


def _lies_in(one: Any, other: Any) -> bool:
    """Whether every address of network ``one`` is one of ``other``."""
    return bool(one.version == other.version and one.subnet_of(other))


_RULES: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "spending_limit_microcredits": _limit,
    "auto_disable": _stays_on,
    "expires_at": _lives_longer,
    "allowed_models": _models,
    "allowed_networks": _networks,
}
