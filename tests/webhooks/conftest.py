"""A workspace, a moved clock, a receiver on loopback that the operator allows, and a sender without a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from pytest_django import Settings

from core import clock
from events import audit, outbox
from orgs.models import Workspace
from tests import factories
from tests.webhooks.receivers import Receiver, receiver
from webhooks import endpoints
from webhooks.endpoints import Made, Terms
from webhooks.sending import Sender

Make = Callable[..., Made]


@pytest.fixture(autouse=True)
def loopback_is_allowed(settings: Settings) -> None:
    settings.EGRESS_ALLOW = ["webhook=127.0.0.1"]
    settings.WEBHOOK_SECONDS = 20.0


class MovedClock:
    """The time of day, standing still until it is moved."""

    def __init__(self) -> None:
        self.moment = clock.now()

    def __call__(self) -> datetime:
        return self.moment

    def move(self, **parts: float) -> None:
        self.moment += timedelta(**parts)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> MovedClock:
    made = MovedClock()
    monkeypatch.setattr(clock, "now", made)
    return made


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def endpoint(workspace: Workspace, url: str, *events: str) -> Made:
    """An endpoint for those events, or for all of them."""
    terms = Terms(url=url, events=list(events or outbox.EVENTS))
    return endpoints.create(workspace, terms, actor=audit.SYSTEM, created_by=None)


def send_all(sender: Sender | None = None) -> int:
    """Send whatever is due at this moment, until nothing is; returns how many attempts were made."""
    sender, made = sender or Sender(), 0
    while (started := sender.round()) or sender.on_wire:
        made += started
        assert sender.collect(30), "an attempt did not come back"
    return made


@pytest.fixture
def workspace(db: None) -> Workspace:
    return factories.organization()
