"""What the stand-in remembers: a few bounded tables, kept in one JSON file so that a restarted demo has its history."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from billing.demo_stripe.objects import Object

MAX_SESSIONS: Final = 500
MAX_EVENTS: Final = 1_000
MAX_ANSWERS: Final = 1_000
MAX_CUSTOMERS: Final = 500
MAX_PORTALS: Final = 100
#: Payments without a session, with their charges.
MAX_OWN_PAYMENTS: Final = 1_000


@dataclass(slots=True)
class Tables:
    """Objects by id, oldest first, and what Stripe knows of them but does not show."""

    sessions: dict[str, Object] = field(default_factory=dict)
    payment_intents: dict[str, Object] = field(default_factory=dict)
    charges: dict[str, Object] = field(default_factory=dict)
    customers: dict[str, Object] = field(default_factory=dict)
    payment_methods: dict[str, Object] = field(default_factory=dict)
    refunds: dict[str, Object] = field(default_factory=dict)
    disputes: dict[str, Object] = field(default_factory=dict)
    portals: dict[str, Object] = field(default_factory=dict)
    events: dict[str, Object] = field(default_factory=dict)
    #: Session id → the payment_intent_data and the product's name that it was made with.
    hidden: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Payment id → when a slow payment ends, and how.
    settling: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Idempotency key → what was asked and what was answered.
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)


class Store:
    """The tables, one lock around them, and their file. ``base`` is the address that goes into URLs of objects."""

    def __init__(self, base: str, path: Path | None = None) -> None:
        self.base = base
        self.lock = threading.RLock()
        self._path = path
        self.tables = self._read()

    def _read(self) -> Tables:
        if self._path is None or not self._path.exists():
            return Tables()
        text = self._path.read_text("utf-8")
        before = json.loads(text)["base"]
        # The demo may come back on another port; links in old objects shall lead to where it is now.
        saved = json.loads(text.replace(before, self.base) if before else text)
        return Tables(**saved["tables"])

    def save(self) -> None:
        """Write everything down. Call it with the lock held, after each change."""
        self._trim()
        if self._path is None:
            return
        text = json.dumps({"base": self.base, "tables": asdict(self.tables)})
        beside = self._path.with_name(f".{self._path.name}.new")
        beside.touch(mode=0o600)
        beside.write_text(text, "utf-8")
        os.replace(beside, self._path)

    def _trim(self) -> None:
        """Forget the oldest; a session that may still be paid stays as long as others can go."""
        tables = self.tables
        surplus = len(tables.sessions) - MAX_SESSIONS
        if surplus > 0:
            ended = [one for one in tables.sessions.values() if one["status"] != "open" and not self._is_settling(one)]
            for one in (*ended, *tables.sessions.values())[:surplus]:
                self._forget(one)
        bounds = (
            (tables.events, MAX_EVENTS),
            (tables.answers, MAX_ANSWERS),
            (tables.customers, MAX_CUSTOMERS),
            (tables.payment_methods, MAX_CUSTOMERS),
            (tables.portals, MAX_PORTALS),
        )
        self._forget_own_payments()
        for table, most in bounds:
            for key in list(table)[: max(0, len(table) - most)]:
                del table[key]

    def _is_settling(self, session: Object) -> bool:
        return session["payment_intent"] in self.tables.settling

    def _forget(self, session: Object) -> None:
        tables = self.tables
        intent = session["payment_intent"]
        tables.sessions.pop(session["id"], None)
        tables.hidden.pop(session["id"], None)
        tables.settling.pop(intent, None)
        tables.payment_intents.pop(intent, None)
        self._forget_charges({intent})

    def _forget_own_payments(self) -> None:
        tables = self.tables
        of_sessions = {one["payment_intent"] for one in tables.sessions.values()}
        own = [key for key in tables.payment_intents if key not in of_sessions]
        surplus = set(own[: max(0, len(own) - MAX_OWN_PAYMENTS)])
        if surplus:
            for key in surplus:
                del tables.payment_intents[key]
            self._forget_charges(surplus)

    def _forget_charges(self, intents: Collection[str]) -> None:
        tables = self.tables
        for table in (tables.charges, tables.refunds, tables.disputes):
            for key in [key for key, one in table.items() if one["payment_intent"] in intents]:
                del table[key]
