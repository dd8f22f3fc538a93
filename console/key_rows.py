"""Keys as the page shows them: with what they spent this month, and in what state they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from billing.models import SpendMeter
from core import clock
from keys.models import ApiKey

_NEAR_PERCENT = 80


@dataclass(frozen=True, slots=True)
class State:
    """What a key is like at the moment, in a word and a tone."""

    word: str | Promise
    tone: str
    icon: str = ""


_ACTIVE = State(_("Active"), "success")
_NEAR = State(_("Near limit"), "warning", "triangle-alert")
_REACHED = State(_("Limit reached"), "error", "circle-alert")
_ORPHAN = State(_("Refused: its maker left"), "warning", "triangle-alert")
_EXPIRED = State(_("Expired"), "neutral", "clock-alert")
_DISABLED = {
    "": State(_("Disabled"), "neutral", "ban"),
    ApiKey.DisabledReason.BY_HAND: State(_("Disabled"), "neutral", "ban"),
    ApiKey.DisabledReason.SPENDING_LIMIT: State(_("Disabled at its limit"), "error", "ban"),
    ApiKey.DisabledReason.MEMBER_LEFT: State(_("Disabled: its maker left"), "neutral", "ban"),
}


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key and its month."""

    key: ApiKey
    spent_microcredits: int
    state: State

    @property
    def percent(self) -> int | None:
        """How much of the limit is used, in whole percent rounded down; None without a limit."""
        limit = self.key.spending_limit_microcredits
        return None if limit is None else 100 if limit == 0 else self.spent_microcredits * 100 // limit


def rows_of(keys: Iterable[ApiKey], orphans: Iterable[ApiKey] = ()) -> list[KeyRow]:
    """The rows of these keys; one query for all their meters of the current month (UTC).

    ``orphans``: those of them whose maker is gone (`keys.leaving`), which are refused although nobody disabled them.
    """
    keys, refused = list(keys), {key.pk for key in orphans}
    spent = spent_this_month(key.pk for key in keys)
    now = clock.now()
    rows = [_row(key, spent.get(key.pk, 0), now) for key in keys]
    return [replace(row, state=_ORPHAN) if row.key.enabled and row.key.pk in refused else row for row in rows]


def spent_this_month(key_ids: Iterable[UUID]) -> dict[UUID, int]:
    """Settled microcredits by key in the current calendar month, UTC."""
    meters = SpendMeter.objects.filter(
        scope=SpendMeter.Scope.KEY, scope_id__in=list(key_ids), month=clock.month_of(clock.now())
    )
    return dict(meters.values_list("scope_id", "spent_microcredits"))


def _row(key: ApiKey, spent_microcredits: int, now: datetime) -> KeyRow:
    return KeyRow(key, spent_microcredits, state_of(key, spent_microcredits, now))


def state_of(key: ApiKey, spent_microcredits: int, now: datetime) -> State:
    """The most important thing to know of the key: what stops it first, then what soon will."""
    limit = key.spending_limit_microcredits
    if not key.enabled:
        return _DISABLED[key.disabled_reason]
    if key.expires_at is not None and key.expires_at <= now:
        return _EXPIRED
    if limit is not None and spent_microcredits >= limit:
        return _REACHED
    if limit is not None and spent_microcredits * 100 >= limit * _NEAR_PERCENT:
        return _NEAR
    return _ACTIVE
