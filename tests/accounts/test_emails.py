"""Mails of sweeps at a mail server that refuses addresses, or that is away."""

from __future__ import annotations

import smtplib
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMessage

from accounts import emails


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Codes by address that the server answers instead of taking a mail."""
    codes: dict[str, int] = {}
    taken = EmailMessage.send

    def send(self: EmailMessage, *args: Any, **more: Any) -> int:
        [address] = self.to
        if codes.get(address) == 0:
            raise ConnectionRefusedError
        if address in codes:
            raise smtplib.SMTPRecipientsRefused({address: (codes[address], b"no")})
        return taken(self, *args, **more)

    monkeypatch.setattr(EmailMessage, "send", send)
    return codes


def told(*people: str) -> list[str]:
    """Who gets a mail that goes to those."""
    mail.outbox.clear()
    emails.deliver(EmailMessage("Subject", "Text", to=[person]) for person in people)
    return [sent.to[0] for sent in mail.outbox]


def test_an_address_that_is_refused_keeps_nobody_elses_mail(refused: dict[str, int]) -> None:
    refused.update({"gone@x.example": 550, "later@x.example": 450})
    assert told("gone@x.example", "a@x.example", "later@x.example", "b@x.example") == ["a@x.example", "b@x.example"]
    assert told("gone@x.example") == [], "for good, so there is nothing to come again for"
    assert told() == []


def test_where_nobody_can_be_told_for_now_it_is_tried_again(refused: dict[str, int]) -> None:
    refused.update({"later@x.example": 450, "gone@x.example": 550})
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        told("later@x.example", "gone@x.example")
    refused["away@x.example"] = 0
    with pytest.raises(ConnectionRefusedError):
        told("a@x.example", "away@x.example")
