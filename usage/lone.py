"""A call that comes alone, as the SQL functions of `usage/migrations/0007_lone_calls.py` take it.

One admission or one settlement over remembered rows: every value has its place in one array of texts, which PostgreSQL
takes apart in a fraction of the time that JSON takes. Whatever is not of that form (several lots in one charge, a
stored answer, a refusal) is none of it and goes to hypereal_calls_apply.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

import msgspec

from billing.books import HoldRow, HoldState, MeterState
from usage.items import Admit, Item, Settle
from usage.known import Recalled
from usage.metering import Decision

_encode = msgspec.json.Encoder().encode

_ADMITTED: Final = {"wallets", "meters", "placed"}
_SETTLED: Final = {"wallets", "meters", "holds", "rows"}
_SETTLED_WITH_CHARGE: Final = _SETTLED | {"lots", "transfers"}
#: Of the log row what hypereal_calls_apply_settle does not know by itself, in its order; the two lists come behind.
_logged = attrgetter(
    *("request_id", "endpoint", "model", "status", "latency_ms", "user_id", "key_id", "key_name", "provider", "target"),
    *("attempts", "error_type", "stream", "ttfb_ms", "input_tokens", "cached_input_tokens", "cache_write_tokens"),
    *("output_tokens", "units", "saved_microcredits", "price_id", "estimated", "client_disconnected", "sandbox"),
    "response_id",
)
_ESCAPES: Final = re.compile(r"\\.", re.DOTALL)
#: What JSON and PostgreSQL's arrays both understand behind a backslash.
_COMMON: Final = {r"\"", r"\\"}


@dataclass(frozen=True, slots=True)
class Lone:
    """One visit: the SQL function and its argument, a literal of text[]."""

    function: str
    argument: str


def lone(items: Sequence[Item], recalled: Recalled, decision: Decision) -> Lone | None:
    """What was decided over ``recalled`` as one lone call, or None where it is not of that form."""
    if len(items) != 1:
        return None
    item, changed = items[0], decision.changed
    if isinstance(item, Admit) and changed.keys() == _ADMITTED:
        return _lone("hypereal_calls_apply_admit", _admission(recalled, changed))
    if isinstance(item, Settle) and (changed.keys() == _SETTLED or _is_one_charge(changed)):
        return _lone("hypereal_calls_apply_settle", _settlement(item, recalled, changed))
    return None


def _is_one_charge(changed: dict[str, list[Any]]) -> bool:
    """One lot pays for all of it."""
    return changed.keys() == _SETTLED_WITH_CHARGE and len(changed["lots"]) == len(changed["transfers"]) == 1


def _admission(recalled: Recalled, changed: dict[str, list[Any]]) -> list[Any]:
    row: HoldRow = changed["placed"][0]
    key = recalled.rows.keys[0]
    return [
        *_wallet_and_meters(recalled, changed, row),
        key.name,
        key.created_by_id,
        key.limit,
        _array([above.limit for above in key.above]) if key.above else None,
        row.amount_microcredits,
        row.owner_id,
        row.endpoint,
        row.model,
        row.price_id,
    ]


def _settlement(item: Settle, recalled: Recalled, changed: dict[str, list[Any]]) -> list[Any]:
    lot, transfer = (changed[name][0] if name in changed else None for name in ("lots", "transfers"))
    row = item.log
    return [
        *_wallet_and_meters(recalled, changed, changed["holds"][0]),
        lot.id if lot else None,
        lot.remaining if lot else None,
        item.charge_microcredits,
        transfer.id if transfer else None,
        transfer.credit_account if transfer else None,
        *_logged(row),
        _encode(row.attempt_trace).decode() if row.attempt_trace is not None else None,
        _encode(row.charge_lines).decode() if row.charge_lines is not None else None,
    ]


def _wallet_and_meters(recalled: Recalled, changed: dict[str, list[Any]], hold: HoldRow | HoldState) -> list[Any]:
    """The fifteen places that both functions begin with. The key's meter is the first."""
    wallet = changed["wallets"][0]
    own, *above = changed["meters"]
    return [
        recalled.rows.month,
        recalled.until,
        wallet.id,
        recalled.versions[0],
        wallet.balance,
        wallet.held,
        hold.id,
        hold.key_id,
        hold.month,
        own.spent,
        own.held,
        *(_columns(above) if above else (None, None, None, None)),
    ]


def _columns(meters: Sequence[MeterState]) -> list[str]:
    return [_array([getattr(meter, name) for meter in meters]) for name in ("id", "scope", "spent", "held")]


def _lone(function: str, values: list[Any]) -> Lone | None:
    argument = _array(values)
    if "\\" in argument and not set(_ESCAPES.findall(argument)) <= _COMMON:
        return None  # control characters in a text, which JSON writes in ways of its own
    return Lone(function, argument)


def _array(values: Sequence[Any]) -> str:
    """A literal of a PostgreSQL array: JSON's, in braces. Texts are quoted, null is NULL."""
    return "{" + _encode(values).decode()[1:-1] + "}"
