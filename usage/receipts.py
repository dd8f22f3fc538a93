"""The receipt of a call: what was counted, at which price, what was reserved and charged, and who was asked.

Made of what was written when the call was settled, never computed anew; `as_json` is the API's form of the very value
that the page shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from billing.models import Hold
from catalog import endpoints
from catalog.models import Price
from catalog.pricing import TOKENS_PER_MTOK, Line
from core import ids, money
from usage import queries
from usage.items import Attempt
from usage.models import RequestLog

_MICRO: Final = Decimal(TOKENS_PER_MTOK)


@dataclass(frozen=True, slots=True)
class Receipt:
    """One call. ``hold`` is None where nothing was reserved, ``price`` where no model was found."""

    row: RequestLog
    hold: Hold | None
    price: Price | None
    lines: tuple[Line, ...]
    attempts: tuple[Attempt, ...]

    @property
    def charged_microcredits(self) -> int:
        """What the wallet paid."""
        return self.row.charged_microcredits

    @property
    def reserved_microcredits(self) -> int:
        """The hold at its largest, growth included."""
        return self.hold.amount_microcredits if self.hold is not None else 0

    @property
    def released_microcredits(self) -> int:
        """What of the hold went back. A charge above its hold leaves nothing to go back."""
        return max(0, self.reserved_microcredits - self.charged_microcredits)

    @property
    def saved_microcredits(self) -> int:
        """What the prompt cache saved."""
        return self.row.saved_microcredits


def of_request(workspace_id: UUID, request_id: UUID) -> Receipt | None:
    """The receipt of the call that was answered under this id, None where this workspace has no such call, or not yet.

    Of a call that was logged as interrupted and charged later it is the later one's. Raises TimedOut.
    """
    row = queries.logged_as(workspace_id, request_id)
    return of_row(row) if row is not None else None


def of_row(row: RequestLog) -> Receipt:
    """The receipt of a row of the log."""
    return Receipt(
        row=row,
        hold=Hold.objects.filter(pk=row.request_id, wallet_id=row.workspace_id).first(),
        price=Price.objects.filter(pk=row.price_id).first() if row.price_id is not None else None,
        lines=tuple(msgspec.convert(line, Line) for line in row.charge_lines or ()),
        attempts=tuple(msgspec.convert(attempt, Attempt) for attempt in row.attempt_trace or ()),
    )


def as_json(receipt: Receipt) -> dict[str, Any]:
    """The receipt as the gateway's callers get it. Amounts are credits; ``exact_credits`` are before rounding."""
    row = receipt.row
    return {
        "object": "receipt",
        "request_id": str(row.request_id),
        "created_at": _moment(ids.time_of(row.request_id)),
        "billed_at": _moment(row.billed_at),
        "endpoint": endpoints.PATHS.get(row.endpoint, row.endpoint),
        "model": row.model,
        "provider": row.provider,
        "status": row.status,
        "error_type": row.error_type or None,
        "stream": row.stream,
        "key_name": row.key_name,
        "usage": {
            "input_tokens": row.input_tokens,
            "cached_input_tokens": row.cached_input_tokens,
            "cache_write_tokens": row.cache_write_tokens,
            "output_tokens": row.output_tokens,
            "units": None if row.units is None else float(row.units),
            "estimated": row.estimated,
        },
        "price": None if receipt.price is None else _price(receipt.price),
        "lines": [_line(line) for line in receipt.lines],
        "reserved_credits": money.credits_json(receipt.reserved_microcredits),
        "charged_credits": money.credits_json(receipt.charged_microcredits),
        "released_credits": money.credits_json(receipt.released_microcredits),
        "saved_credits": money.credits_json(receipt.saved_microcredits),
        "hold": None if receipt.hold is None else receipt.hold.state,
        "attempts": [_attempt(number, attempt) for number, attempt in enumerate(receipt.attempts, 1)],
        "latency_ms": row.latency_ms,
        "ttfb_ms": row.ttfb_ms,
        "late": row.late,
        "client_disconnected": row.client_disconnected,
        "sandbox": row.sandbox,
    }


def exact_credits(line: Line) -> Decimal:
    """What one line costs, before the call's one rounding."""
    return money.credits(1) * line.numerator / _MICRO


def is_tokens(line: Line) -> bool:
    """Whether the line's rate is for a million tokens rather than for one unit."""
    return line.per == TOKENS_PER_MTOK


def _price(price: Price) -> dict[str, Any]:
    rates = price.rates
    return {
        "id": str(price.pk),
        "version": price.version,
        "effective_since": _moment(price.effective_since),
        "credits_per_million_tokens": {bucket: money.credits_json(rate) for bucket, rate in rates.tokens.items()},
        "unit": rates.unit or None,
        "credits_per_unit": {tier: money.credits_json(each) for tier, each in rates.unit_prices},
    }


def _line(line: Line) -> dict[str, Any]:
    rate = "credits_per_million_tokens" if is_tokens(line) else "credits_each"
    told: dict[str, Any] = {
        "bucket": line.bucket,
        "quantity": line.quantity,
        rate: money.credits_json(line.price_microcredits),
        "exact_credits": _plain(exact_credits(line)),
    }
    return {**told, "model": line.model} if line.model else told


def _attempt(number: int, attempt: Attempt) -> Mapping[str, Any]:
    return {
        "attempt": number,
        **{name: word or None for name, word in zip(("provider", "region", "model"), places(attempt), strict=True)},
        "outcome": attempt.error or "served",
        "status": attempt.status,
        "ms": attempt.ms,
    }


def places(attempt: Attempt) -> tuple[str, str, str]:
    """Provider, region and the provider's name of the model."""
    provider, region, model = (*attempt.target.split("/", 2), "", "")[:3]
    return provider, region, model


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
