"""Which calls are meant: one value, read once from a query string, that page, JSON, charts and CSV all answer to."""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Self
from urllib.parse import urlencode
from uuid import UUID

from django.http import QueryDict
from django.utils.translation import gettext as _

from catalog import endpoints
from core import clock, errors, ids, money

DEFAULT_DAYS: Final = 30
MOST_DAYS: Final = 366
MOST_ROWS: Final = 1_000
MOST_MODELS: Final = 20
MOST_TEXT: Final = 120
MOST_LATENCY_MS: Final = 86_400_000

#: Every parameter and what it means, for the API's documentation. The page's form and links use the same names.
PARAMETERS: Final = {
    "days": "UTC days up to and including today, 1 to 366. Default 30.",
    "model": "Model name. May be repeated.",
    "endpoint": "Endpoint kind such as `chat`, or its path such as `/v1/chat/completions`.",
    "status": "Status code such as `429`, or a class such as `5xx`.",
    "key": "Id of an API key.",
    "minLatencyMs": "Least latency in milliseconds.",
    "maxLatencyMs": "Greatest latency in milliseconds.",
    "minCost": "Least cost of one call in credits.",
    "maxCost": "Greatest cost of one call in credits.",
    "q": "Text in model, endpoint, key name, provider or error type; a status code; a request id or its beginning.",
    "limit": "How many rows of the log, 1 to 1000.",
    "cursor": "`nextCursor` of the answer before: the rows that follow it.",
}

_STATUS = re.compile(r"[1-5]xx|[1-5][0-9]{2}")
_ENDPOINT = re.compile(r"[a-z0-9/._:-]{1,64}")
_KIND_OF_PATH = {path: kind for kind, path in endpoints.PATHS.items()}


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """A selection of calls. Amounts are microcredits, latencies milliseconds; empty and None mean "any"."""

    days: int = DEFAULT_DAYS
    models: tuple[str, ...] = ()
    endpoint: str = ""
    #: "429", or "4xx" for a class.
    status: str = ""
    key_id: UUID | None = None
    min_latency_ms: int | None = None
    max_latency_ms: int | None = None
    min_cost_microcredits: int | None = None
    max_cost_microcredits: int | None = None
    text: str = ""
    #: None leaves the number of rows to the reader.
    limit: int | None = None
    #: Only rows whose id is smaller.
    before: UUID | None = None
    #: The last day of the range: fixed when the query is read, so that all parts of one answer mean the same days.
    today: date = date.min

    @classmethod
    def parse(cls, params: QueryDict, *, today: date | None = None) -> Self:
        """The query in ``params``; blank values count as absent, unknown names are ignored.

        ``today`` stands in for the current UTC day. Raises InvalidRequest, whose ``param`` names what is wrong.
        """
        low, high = (
            _integer(params, "minLatencyMs", 0, MOST_LATENCY_MS),
            _integer(params, "maxLatencyMs", 0, MOST_LATENCY_MS),
        )
        cheap, dear = _cost(params, "minCost"), _cost(params, "maxCost")
        _in_order("minLatencyMs", low, high)
        _in_order("minCost", cheap, dear)
        return cls(
            days=_integer(params, "days", 1, MOST_DAYS) or DEFAULT_DAYS,
            models=_models(params),
            endpoint=_endpoint(params),
            status=_status(params),
            key_id=_key(params),
            min_latency_ms=low,
            max_latency_ms=high,
            min_cost_microcredits=cheap,
            max_cost_microcredits=dear,
            text=_text(params, "q", MOST_TEXT),
            limit=_integer(params, "limit", 1, MOST_ROWS),
            before=_cursor(params),
            today=today or clock.now().date(),
        )

    @property
    def first_day(self) -> date:
        """The first UTC day of the range."""
        return self.today - timedelta(days=self.days - 1)

    @property
    def start(self) -> datetime:
        """The first moment of the range."""
        return _midnight(self.first_day)

    @property
    def end(self) -> datetime:
        """The first moment after the range."""
        return _midnight(self.today + timedelta(days=1))

    @property
    def status_range(self) -> tuple[int, int] | None:
        """The smallest and the greatest status code that are meant."""
        if not self.status:
            return None
        if self.status.endswith("xx"):
            least = int(self.status[0]) * 100
            return least, least + 99
        return int(self.status), int(self.status)

    @property
    def fits_rollup(self) -> bool:
        """Whether the daily sums can answer: they know nothing of a single call's latency, cost and words."""
        bounds = (self.min_latency_ms, self.max_latency_ms, self.min_cost_microcredits, self.max_cost_microcredits)
        return not self.text and all(bound is None for bound in bounds)

    @property
    def is_filtered(self) -> bool:
        """Whether anything but the range of days narrows the selection."""
        return bool(self._narrowing())

    def previous(self) -> Self:
        """The same selection over as many days before this range."""
        return replace(self, today=self.first_day - timedelta(days=1), before=None)

    def but(self, **changes: Any) -> Self:
        """A copy with other values, back on its first page."""
        return replace(self, **{"before": None, **changes})

    def query_string(self) -> str:
        """The query as a URL's query, without what is default: ``parse`` reads it back to an equal value."""
        days = [("days", str(self.days))] if self.days != DEFAULT_DAYS else []
        paging = [("limit", str(self.limit))] if self.limit is not None else []
        if self.before is not None:
            paging.append(("cursor", cursor_of(self.before)))
        return urlencode([*days, *self._narrowing(), *paging])

    def _narrowing(self) -> list[tuple[str, str]]:
        single = {
            "endpoint": self.endpoint,
            "status": self.status,
            "key": str(self.key_id or ""),
            "minLatencyMs": _plain(self.min_latency_ms),
            "maxLatencyMs": _plain(self.max_latency_ms),
            "minCost": _credits(self.min_cost_microcredits),
            "maxCost": _credits(self.max_cost_microcredits),
            "q": self.text,
        }
        return [("model", name) for name in self.models] + [pair for pair in single.items() if pair[1]]


def cursor_of(row_id: UUID) -> str:
    """The opaque form of "the rows after this one"."""
    return base64.urlsafe_b64encode(row_id.bytes).rstrip(b"=").decode()


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


def _plain(value: int | None) -> str:
    return "" if value is None else str(value)


def _credits(amount_microcredits: int | None) -> str:
    return "" if amount_microcredits is None else f"{money.credits(amount_microcredits):f}"


def _readable(text: str) -> bool:
    # Joiners and direction marks belong to names in many scripts; control characters and lone surrogates to none.
    return all(unicodedata.category(letter) not in ("Cc", "Cs") for letter in text)


def _text(params: QueryDict, name: str, most: int) -> str:
    value = (params.get(name) or "").strip()
    if len(value) > most:
        raise errors.InvalidRequest(
            _("%(name)s is longer than %(most)d characters.") % {"name": name, "most": most}, param=name
        )
    if not _readable(value):
        raise errors.InvalidRequest(_("%(name)s holds characters that can't be read.") % {"name": name}, param=name)
    return value


def _integer(params: QueryDict, name: str, least: int, most: int) -> int | None:
    value = _text(params, name, 12)
    if not value:
        return None
    if not (value.isascii() and value.isdigit() and least <= int(value) <= most):
        raise errors.InvalidRequest(
            _("%(name)s must be a whole number from %(least)d to %(most)d.")
            % {"name": name, "least": least, "most": most},
            param=name,
        )
    return int(value)


def _cost(params: QueryDict, name: str) -> int | None:
    value = _text(params, name, 24)
    if not value:
        return None
    try:
        amount = money.parse_credits(value)
    except ValueError:
        amount = -1
    if amount < 0:
        raise errors.InvalidRequest(
            _("%(name)s must be an amount of credits with at most six decimals.") % {"name": name}, param=name
        )
    return amount


def _in_order(name: str, least: int | None, most: int | None) -> None:
    if least is not None and most is not None and least > most:
        raise errors.InvalidRequest(_("%(name)s is above its upper bound.") % {"name": name}, param=name)


def _models(params: QueryDict) -> tuple[str, ...]:
    names = {name.strip() for name in params.getlist("model")} - {""}
    if len(names) > MOST_MODELS:
        raise errors.InvalidRequest(_("At most %(most)d models at once.") % {"most": MOST_MODELS}, param="model")
    if any(len(name) > MOST_TEXT or not _readable(name) for name in names):
        raise errors.InvalidRequest(_("model must be the name of a model."), param="model")
    return tuple(sorted(names))


def _endpoint(params: QueryDict) -> str:
    value = _text(params, "endpoint", 64)
    if value and not _ENDPOINT.fullmatch(value):
        raise errors.InvalidRequest(_("endpoint must be a kind such as chat, or its path."), param="endpoint")
    return _KIND_OF_PATH.get(value.removeprefix("/api").rstrip("/"), value)


def _status(params: QueryDict) -> str:
    value = _text(params, "status", 8).lower()
    if value and not _STATUS.fullmatch(value):
        raise errors.InvalidRequest(_("status must be a code such as 429, or a class such as 5xx."), param="status")
    return value


def _key(params: QueryDict) -> UUID | None:
    value = _text(params, "key", 40)
    key_id = ids.parse(value) if value else None
    if value and key_id is None:
        raise errors.InvalidRequest(_("key must be the id of an API key."), param="key")
    return key_id


def _cursor(params: QueryDict) -> UUID | None:
    value = _text(params, "cursor", 64)
    if not value:
        return None
    try:
        return UUID(bytes=base64.b64decode(f"{value}==", altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        raise errors.InvalidRequest(_("cursor must be the nextCursor of an answer."), param="cursor") from None
