"""A calendar month in UTC: what a statement is about. Pure."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Self

from usage.filters import UsageQuery

_TEXT: Final = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])", re.ASCII)
_FIRST_YEAR: Final = 2000


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """``str(month)`` is ``2026-11``."""

    year: int
    number: int

    @classmethod
    def of(cls, moment: datetime | date) -> Self:
        """The month that ``moment`` falls in, UTC."""
        day = moment.astimezone(UTC).date() if isinstance(moment, datetime) else moment
        return cls(day.year, day.month)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The month in ``2026-11``, None for anything else."""
        found = _TEXT.fullmatch(text)
        return cls(int(found[1]), int(found[2])) if found and int(found[1]) >= _FIRST_YEAR else None

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.number:02d}"

    @property
    def first_day(self) -> date:
        return date(self.year, self.number, 1)

    @property
    def last_day(self) -> date:
        return date(self.year, self.number, calendar.monthrange(self.year, self.number)[1])

    @property
    def start(self) -> datetime:
        """The first moment."""
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment of the month after."""
        return self.next.start

    @property
    def next(self) -> Month:
        return Month.of(self.last_day + timedelta(days=1))

    @property
    def previous(self) -> Month:
        return Month.of(self.first_day - timedelta(days=1))

    @property
    def query(self) -> UsageQuery:
        """All calls of the month, as pages and downloads of usage take it."""
        return UsageQuery(days=self.last_day.day, today=self.last_day)
